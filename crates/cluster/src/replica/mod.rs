//! What one replica of a partition knows about itself and, when it leads, about its followers, and the high watermark that follows
//! from it. Pure: progress and answers in, actions out. The durability contract is the one in `ARCHITECTURE.md`.
//!
//! A leader counts every follower's progress by the topic's durability. The high watermark is the lowest progress that counts in
//! the *maximal* ISR: the members that are committed, those a proposal in flight would add (KIP-497), and followers about to be
//! proposed. A follower takes what its leader sends, after cutting what does not match the leader's log (KIP-595's diverging epoch).

mod follower;
mod leader;

use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};

use crate::planted::{Bug, planted};
use follower::FollowerSide;
use leader::LeaderSide;

pub use follower::{Fetched, Following, Step};
pub use leader::{
    Action, DurableReport, FetchAnswer, FetchRefusal, FollowerFetch, Proposal, ProposalAnswer, ProposalError,
};

/// What an acknowledgement by all replicas means for a topic (`ottla.durability`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On disk (fdatasynced) on every member of the ISR.
    #[default]
    Durable,
    /// In the memory of every member of the ISR: Kafka's rule.
    Replicated,
}

/// How far one replica's log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Offset after the last record in memory.
    pub end: Offset,
    /// Offset after the last record known to be on disk.
    pub durable: Offset,
}

impl Progress {
    fn counted(self, durability: Durability) -> Offset {
        match durability {
            Durability::Durable => self.durable,
            Durability::Replicated => self.end,
        }
    }
}

/// Where an epoch ends in a log: an answer of OffsetForLeaderEpoch, or a fetch response's diverging epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch known there that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// First offset after that epoch.
    pub end: Offset,
}

/// What the metadata image says of a partition when this broker leads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Epoch of this leadership.
    pub epoch: LeaderEpoch,
    /// Rises with every change of the partition, also within a leadership.
    pub partition_epoch: i32,
    /// All replicas, this one included.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas, this one included.
    pub isr: Vec<BrokerId>,
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: usize,
}

impl Leadership {
    /// The bound that counts: a topic with fewer replicas than `min.insync.replicas` asks for all of them (as Kafka does).
    #[must_use]
    pub fn min_insync_effective(&self) -> usize {
        self.min_insync_replicas.min(self.replicas.len())
    }

    /// Whether acks=all may be accepted now.
    #[must_use]
    pub fn has_enough_replicas(&self) -> bool {
        self.isr.len() >= self.min_insync_effective()
    }
}

/// Tells the epoch of a broker that is registered and serves: neither fenced nor about to stop.
pub type Serving<'a> = &'a dyn Fn(BrokerId) -> Option<i64>;

/// `replica.lag.time.max.ms` unless it is set.
const LAG_MS_MAX: i64 = 30_000;

/// State of one replica.
#[derive(Debug)]
pub struct Replica {
    me: BrokerId,
    durability: Durability,
    lag_ms_max: i64,
    local: Progress,
    high_watermark: Offset,
    /// The highest leader epoch heard of.
    epoch: LeaderEpoch,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Idle,
    Leader(Box<LeaderSide>),
    Follower(FollowerSide),
}

impl Replica {
    /// A replica on broker `me` that leads nothing yet; `high_watermark` is what a checkpoint remembered, else the log's start.
    #[must_use]
    pub fn new(me: BrokerId, durability: Durability, local: Progress, high_watermark: Offset) -> Self {
        let (lag_ms_max, epoch, role) = (LAG_MS_MAX, LeaderEpoch::NONE, Role::Idle);
        Self { me, durability, lag_ms_max, local, high_watermark, epoch, role }
    }

    /// The current leadership, when this replica leads.
    #[must_use]
    pub fn leadership(&self) -> Option<&Leadership> {
        match &self.role {
            Role::Leader(side) => Some(side.leadership()),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// Whom it follows, when it does.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        match &self.role {
            Role::Follower(side) => Some(side.following()),
            Role::Idle | Role::Leader(_) => None,
        }
    }

    /// First offset that consumers may not see yet.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether the high watermark is at least what any leader before told anybody. A new leader knows it only once all that it had
    /// at its start is committed again; until then it cannot tell consumers where the log ends (KIP-207).
    #[must_use]
    pub fn is_high_watermark_settled(&self) -> bool {
        match &self.role {
            Role::Leader(side) => self.high_watermark >= side.epoch_start(),
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// The topic's durability.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// How far the local log has come.
    #[must_use]
    pub fn local(&self) -> Progress {
        self.local
    }

    /// The log was opened only now: how far it has come, and what a checkpoint remembered of the high watermark.
    pub fn handle_opened(&mut self, local: Progress, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        if let Role::Leader(side) = &mut self.role {
            side.begin_at(local.end);
        }
        self.handle_local_progress(local);
    }

    /// `replica.lag.time.max.ms`: how long a follower may lack what the leader has before it leaves the ISR.
    pub fn handle_lag_limit(&mut self, lag_ms_max: i64) {
        self.lag_ms_max = lag_ms_max;
    }

    /// Starts or renews leadership. Progress of followers is kept for those that stay replicas. What is older than what is known
    /// already changes nothing but `min.insync.replicas`: an answer to a proposal may be faster than the metadata.
    pub fn handle_lead(&mut self, leadership: Leadership) {
        if leadership.epoch < self.epoch {
            return;
        }
        self.epoch = leadership.epoch;
        match &mut self.role {
            Role::Leader(side) if side.leadership().epoch == leadership.epoch => side.renew(leadership),
            Role::Idle | Role::Leader(_) | Role::Follower(_) => {
                self.role = Role::Leader(Box::new(LeaderSide::new(self.me, leadership, self.local.end)));
                if planted(Bug::WatermarkOnLeaderChange) {
                    self.high_watermark = self.local.end;
                }
            }
        }
        self.advance();
    }

    /// Follows another broker's leadership.
    pub fn handle_follow(&mut self, following: Following) {
        let known = self.following().is_some_and(|now| now.epoch == following.epoch);
        if following.epoch < self.epoch || known {
            return;
        }
        self.epoch = following.epoch;
        self.role = Role::Follower(FollowerSide::new(following));
    }

    /// Ends leadership, or stops following.
    pub fn handle_unlead(&mut self) {
        self.role = Role::Idle;
    }

    /// The topic's durability changed. The high watermark never goes back.
    pub fn handle_durability(&mut self, durability: Durability) {
        self.durability = durability;
        self.advance();
    }

    /// The local log moved. Returns whether the high watermark did.
    pub fn handle_local_progress(&mut self, local: Progress) -> bool {
        assert!(local.durable <= local.end, "durable {} is beyond the end {}", local.durable, local.end);
        self.local = local;
        self.advance()
    }

    fn advance(&mut self) -> bool {
        let Role::Leader(side) = &self.role else { return false };
        let Some(lowest) = side.committed(self.local, self.durability) else { return false };
        let moved = lowest > self.high_watermark;
        if moved {
            self.high_watermark = lowest;
        }
        moved
    }
}

#[cfg(test)]
mod tests;
