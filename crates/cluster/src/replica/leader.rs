//! The leader's side: followers' progress, the high watermark that follows from it, and the ISR that the leader asks for.

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};

use crate::planted::{Bug, planted};

use super::{Durability, EpochEnd, Leadership, Progress, Replica, Role, Serving};

/// A follower outside the ISR that was caught up this recently holds the high watermark back until it is in: under load it would
/// otherwise run after it for ever.
const JOIN_MS_MAX: i64 = 1000;
/// After the controller refused a proposal, the next one waits for that long.
const REFUSED_MS: i64 = 500;
/// The leader's end is remembered in steps of this length for [`RECENT_STEPS`] steps, before that in coarser ones.
const RECENT_STEP_MS: i64 = 125;
/// So many steps make up [`JOIN_MS_MAX`].
const RECENT_STEPS: usize = 8;
/// A follower's lag is measured in steps of at least this fraction of the limit.
const LAG_STEPS: i64 = 16;

/// A fetch by a follower, which says what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The follower.
    pub id: BrokerId,
    /// Epoch of its registration; -1 when it does not say.
    pub broker_epoch: i64,
    /// The leader epoch it knows; -1 when it does not say.
    pub leader_epoch: LeaderEpoch,
    /// First offset that it lacks: it has all before.
    pub offset: Offset,
    /// Epoch of the last record before that; -1 when its log is empty.
    pub last_epoch: LeaderEpoch,
}

/// What a follower has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableReport {
    /// The follower.
    pub id: BrokerId,
    /// Epoch of its registration.
    pub broker_epoch: i64,
    /// The leader epoch in which it fetched.
    pub leader_epoch: LeaderEpoch,
    /// First offset that it may lose.
    pub durable: Offset,
}

/// What becomes of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchAnswer {
    /// Records from its offset on may be sent.
    Serve(Vec<Action>),
    /// The logs part: the follower is told where (`DivergingEpoch`), and cuts.
    Diverging(EpochEnd),
    /// The offset is beyond the leader's log, or of an epoch that the leader never saw.
    OutOfRange,
    /// Not served.
    Refused(FetchRefusal),
}

/// Why a fetch or report is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchRefusal {
    /// This replica does not lead, or the follower is no replica.
    NotLeader,
    /// The follower knows of an older leader epoch (FENCED_LEADER_EPOCH).
    FencedLeaderEpoch,
    /// The follower knows of a newer one (UNKNOWN_LEADER_EPOCH).
    UnknownLeaderEpoch,
    /// An earlier life of the broker sent it (STALE_BROKER_EPOCH).
    StaleBrokerEpoch,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The high watermark is there now: answer who waits.
    Committed(Offset),
    /// Send AlterPartition and hand the answer to [`Replica::handle_proposal_answer`].
    Propose(Proposal),
}

/// An ISR that the leader asks the controller for. At most one is in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Epoch of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// Epoch of the partition on which it is based.
    pub partition_epoch: i32,
    /// The members with the epochs of their brokers; -1 where unknown.
    pub isr: Vec<(BrokerId, i64)>,
}

/// What the controller made of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalAnswer {
    /// Epoch of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// The new epoch of the partition.
    pub partition_epoch: i32,
    /// The ISR that is committed.
    pub isr: Vec<BrokerId>,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalError {
    /// It certainly had and will have no effect: INELIGIBLE_REPLICA, OPERATION_NOT_ATTEMPTED.
    Refused,
    /// The leader is behind: FENCED_LEADER_EPOCH, INVALID_UPDATE_VERSION, NEW_LEADER_ELECTED, UNKNOWN_TOPIC_ID and the like. The
    /// metadata will tell; until then the proposal may have been committed.
    Stale,
    /// Nobody knows: no answer, NOT_CONTROLLER, a timeout. It is sent again as it was.
    Unknown,
}

/// What is known of a follower.
#[derive(Clone, Debug)]
struct Follower {
    broker_epoch: i64,
    progress: Progress,
    /// Whether it has fetched in this leadership, so that its log is known to match up to where it fetched.
    matches: bool,
    /// Until when it had all that the leader had then; `None` when never.
    caught_up_ms: Option<i64>,
    /// Whether it lacked something when it was last looked at.
    lags: bool,
    /// Whether it is outside the ISR and about to be proposed.
    joins: bool,
}

/// The leader's side of a replica.
#[derive(Debug)]
pub(super) struct LeaderSide {
    me: BrokerId,
    leadership: Leadership,
    /// Where the log ended when this leadership began.
    epoch_start: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    /// Where the leader's log ended at some times, while a follower lags.
    ends: VecDeque<(i64, Offset)>,
    proposal: Option<Proposal>,
    no_proposal_before_ms: Option<i64>,
}

impl LeaderSide {
    pub(super) fn new(me: BrokerId, leadership: Leadership, epoch_start: Offset) -> Self {
        Self {
            me,
            leadership,
            epoch_start,
            followers: BTreeMap::new(),
            ends: VecDeque::new(),
            proposal: None,
            no_proposal_before_ms: None,
        }
    }

    pub(super) fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    pub(super) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// The log is known only now.
    pub(super) fn begin_at(&mut self, epoch_start: Offset) {
        self.epoch_start = epoch_start;
    }

    /// The metadata says something about this leadership again.
    pub(super) fn renew(&mut self, leadership: Leadership) {
        if leadership.partition_epoch < self.leadership.partition_epoch {
            self.leadership.min_insync_replicas = leadership.min_insync_replicas;
            return;
        }
        let is_settled = |proposal: &Proposal| proposal.partition_epoch < leadership.partition_epoch;
        if self.proposal.as_ref().is_some_and(is_settled) {
            self.proposal = None;
        }
        self.followers.retain(|id, _| leadership.replicas.contains(id));
        self.leadership = leadership;
        for (id, follower) in &mut self.followers {
            follower.joins &= !self.leadership.isr.contains(id);
        }
    }

    /// What all of the maximal ISR have. `None` while the committed ISR is smaller than `min.insync.replicas` (KIP-966).
    pub(super) fn committed(&self, local: Progress, durability: Durability) -> Option<Offset> {
        if !self.leadership.has_enough_replicas() {
            return None;
        }
        let progress = |id: BrokerId| {
            let known = if id == self.me { Some(local) } else { self.followers.get(&id).map(|f| f.progress) };
            known.unwrap_or_default().counted(durability)
        };
        let proposed = self
            .proposal
            .iter()
            .filter(|_| !planted(Bug::CommittedIsrOnly))
            .flat_map(|proposal| proposal.isr.iter().map(|(id, _)| *id));
        let joining = self.followers.iter().filter(|(_, follower)| follower.joins).map(|(id, _)| *id);
        let isr = self.leadership.isr.iter().copied();
        isr.chain(proposed).chain(joining).map(progress).min()
    }

    /// The follower as it is known in this life of its broker.
    fn follower(
        &mut self,
        id: BrokerId,
        broker_epoch: i64,
        now_ms: i64,
    ) -> Result<&mut Follower, FetchRefusal> {
        if id == self.me || !self.leadership.replicas.contains(&id) {
            return Err(FetchRefusal::NotLeader);
        }
        // A member of the ISR had everything when this leadership began.
        let caught_up_ms = self.leadership.isr.contains(&id).then_some(now_ms);
        let new = Follower {
            broker_epoch,
            progress: Progress::default(),
            matches: false,
            caught_up_ms,
            lags: true,
            joins: false,
        };
        let known = self.followers.entry(id).or_insert_with(|| new.clone());
        if broker_epoch >= 0 && known.broker_epoch >= 0 && broker_epoch < known.broker_epoch {
            return Err(FetchRefusal::StaleBrokerEpoch);
        }
        if broker_epoch > known.broker_epoch {
            // Another life: nothing that the last one had is known to be there still.
            let first_heard = known.broker_epoch < 0 && !known.matches;
            *known = if first_heard { Follower { broker_epoch, ..known.clone() } } else { new };
        }
        Ok(known)
    }

    /// Brings lags up to date. Called after every input that has a time.
    fn measure(&mut self, now_ms: i64, context: &Measure<'_>) {
        for id in self.leadership.isr.clone() {
            // Who was never heard of in this leadership has begun to lag now.
            if id != self.me {
                self.follower(id, -1, now_ms).ok();
            }
        }
        let (end, ends) = (context.local.end, &self.ends);
        let mut any_lags = false;
        for (id, follower) in &mut self.followers {
            let counted = follower.progress.counted(context.durability);
            if follower.matches && counted >= end {
                (follower.lags, follower.caught_up_ms) = (false, Some(now_ms));
            } else {
                if !follower.lags {
                    // Nobody looked since it had everything: it is behind from now on.
                    follower.caught_up_ms = Some(now_ms);
                }
                follower.lags = true;
                let reached = ends.iter().rev().find(|(_, end)| follower.matches && counted >= *end);
                let reached_ms = reached.map(|(at_ms, _)| *at_ms);
                follower.caught_up_ms = follower.caught_up_ms.max(reached_ms);
                any_lags = true;
            }
            let recent = follower.caught_up_ms.is_some_and(|at_ms| now_ms - at_ms <= context.join_ms());
            let is_member = self.leadership.isr.contains(id);
            follower.joins = !is_member && recent && follower.matches && context.serves(*id, follower);
        }
        if any_lags {
            self.remember_end(now_ms, end, context.lag_ms_max);
        } else {
            self.ends.clear();
        }
    }

    fn remember_end(&mut self, now_ms: i64, end: Offset, lag_ms_max: i64) {
        let coarse_ms = (lag_ms_max / LAG_STEPS).max(1);
        let fine_ms = RECENT_STEP_MS.min(coarse_ms);
        if self.ends.back().is_some_and(|(at_ms, _)| now_ms - at_ms < fine_ms) {
            return;
        }
        self.ends.push_back((now_ms, end));
        // One has just become old: it stays when the one before it is far enough away.
        if let Some(old) = self.ends.len().checked_sub(RECENT_STEPS + 1).filter(|old| *old > 0)
            && self.ends[old].0 - self.ends[old - 1].0 < coarse_ms
        {
            self.ends.remove(old);
        }
        while self.ends.front().is_some_and(|(at_ms, _)| now_ms - at_ms > 2 * lag_ms_max) {
            self.ends.pop_front();
        }
    }

    /// The ISR that should be, when it is another than the one that is.
    fn wanted_isr(
        &self,
        now_ms: i64,
        high_watermark: Offset,
        context: &Measure<'_>,
    ) -> Option<Vec<BrokerId>> {
        let is_late = |id: &BrokerId| {
            let follower = self.followers.get(id);
            let since = follower.filter(|follower| follower.lags).and_then(|follower| follower.caught_up_ms);
            since.is_some_and(|since| now_ms - since > context.lag_ms_max)
        };
        let mut isr: Vec<_> =
            self.leadership.isr.iter().copied().filter(|id| *id == self.me || !is_late(id)).collect();
        let from = high_watermark.max(self.epoch_start);
        let joins = self.followers.iter().filter(|(_, follower)| follower.joins);
        isr.extend(
            joins
                .filter(|(_, f)| f.progress.counted(context.durability) >= from || planted(Bug::JoinsBehind))
                .map(|(id, _)| *id),
        );
        (isr != self.leadership.isr).then_some(isr)
    }

    fn propose(&mut self, now_ms: i64, high_watermark: Offset, context: &Measure<'_>) -> Option<Action> {
        if self.proposal.is_some() || self.no_proposal_before_ms.is_some_and(|before| now_ms < before) {
            return None;
        }
        let isr = self.wanted_isr(now_ms, high_watermark, context)?;
        let epoch_of = |id: BrokerId| {
            let told =
                self.followers.get(&id).map(|follower| follower.broker_epoch).filter(|epoch| *epoch >= 0);
            told.or_else(|| (context.serving)(id)).unwrap_or(-1)
        };
        let proposal = Proposal {
            leader_epoch: self.leadership.epoch,
            partition_epoch: self.leadership.partition_epoch,
            isr: isr.into_iter().map(|id| (id, epoch_of(id))).collect(),
        };
        self.proposal = Some(proposal.clone());
        Some(Action::Propose(proposal))
    }

    fn next_deadline_ms(&self, lag_ms_max: i64) -> Option<i64> {
        let lagging = self.followers.iter().filter(|(_, follower)| follower.lags);
        let deadlines = lagging.filter_map(|(id, follower)| {
            let since_ms = follower.caught_up_ms?;
            if follower.joins {
                // It is let go whether anything can be proposed or not.
                return Some(since_ms + JOIN_MS_MAX.min(lag_ms_max) + 1);
            }
            // With a proposal in flight its answer comes first.
            let can_leave = self.leadership.isr.contains(id) && self.proposal.is_none();
            let late_ms = since_ms + lag_ms_max + 1;
            can_leave.then(|| self.no_proposal_before_ms.map_or(late_ms, |before| late_ms.max(before)))
        });
        deadlines.min()
    }
}

/// What lags are measured by.
struct Measure<'a> {
    local: Progress,
    durability: Durability,
    lag_ms_max: i64,
    serving: Serving<'a>,
}

impl Measure<'_> {
    fn join_ms(&self) -> i64 {
        JOIN_MS_MAX.min(self.lag_ms_max)
    }

    /// Whether a follower's broker serves, in the life in which the follower caught up.
    fn serves(&self, id: BrokerId, follower: &Follower) -> bool {
        let registered = (self.serving)(id);
        registered.is_some_and(|epoch| follower.broker_epoch < 0 || follower.broker_epoch == epoch)
    }
}

/// What only a leader is asked. On other replicas these do nothing.
impl Replica {
    /// A follower fetches. `local_end` says where `fetch.last_epoch` ends in the leader's own log, `None` when it does not know that
    /// epoch; the log must name the leader's own epoch from its first moment on.
    pub fn handle_fetch(
        &mut self,
        now_ms: i64,
        fetch: &FollowerFetch,
        local_end: Option<EpochEnd>,
        serving: Serving<'_>,
    ) -> FetchAnswer {
        let end = self.local.end;
        let Role::Leader(side) = &mut self.role else {
            return FetchAnswer::Refused(FetchRefusal::NotLeader);
        };
        if let Err(refusal) = check_epoch(side.leadership.epoch, fetch.leader_epoch) {
            return FetchAnswer::Refused(refusal);
        }
        let follower = match side.follower(fetch.id, fetch.broker_epoch, now_ms) {
            Ok(follower) => follower,
            Err(refusal) => return FetchAnswer::Refused(refusal),
        };
        if fetch.last_epoch >= LeaderEpoch(0) {
            let Some(known) = local_end else { return FetchAnswer::OutOfRange };
            if known.epoch < fetch.last_epoch || known.end < fetch.offset {
                return FetchAnswer::Diverging(known);
            }
        }
        if fetch.offset > end {
            return FetchAnswer::OutOfRange;
        }
        let offset = fetch.offset;
        if fetch.broker_epoch < 0 {
            // It may be another life, which has less.
            follower.progress.end = offset;
            follower.progress.durable = follower.progress.durable.min(offset);
        } else {
            // Within a life and a leadership a log that matches is never cut: what says less is an older request.
            follower.progress.end = follower.progress.end.max(offset);
        }
        follower.matches = true;
        FetchAnswer::Serve(self.judge(now_ms, serving))
    }

    /// A follower tells what it has on disk. It is believed once a fetch has shown that its log matches.
    pub fn handle_durable_report(
        &mut self,
        now_ms: i64,
        report: &DurableReport,
        serving: Serving<'_>,
    ) -> Result<Vec<Action>, FetchRefusal> {
        let end = self.local.end;
        let Role::Leader(side) = &mut self.role else { return Err(FetchRefusal::NotLeader) };
        check_epoch(side.leadership.epoch, report.leader_epoch)?;
        let follower = side.follower(report.id, report.broker_epoch, now_ms)?;
        if !follower.matches && !planted(Bug::ReportBeforeMatch) {
            return Ok(Vec::new());
        }
        // What it wrote since its last fetch came from here, too. Reports may overtake each other.
        let durable = report.durable.min(end);
        follower.progress.durable = follower.progress.durable.max(durable);
        follower.progress.end = follower.progress.end.max(durable);
        Ok(self.judge(now_ms, serving))
    }

    /// Time has passed: to be called at [`Replica::next_deadline_ms`], and at leisure on partitions whose high watermark is behind.
    pub fn tick(&mut self, now_ms: i64, serving: Serving<'_>) -> Vec<Action> {
        self.judge(now_ms, serving)
    }

    /// When a follower that lags becomes too late; `None` when none does or nothing is to be decided before an answer.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(side) => side.next_deadline_ms(self.lag_ms_max),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// Whether a follower is about to join the ISR: until it is in, or falls behind, ticks are wanted, for what keeps it out may be over
    /// without anybody telling. One whose broker does not serve is not about to: a tick is wanted when it does again.
    #[must_use]
    pub fn is_being_joined(&self) -> bool {
        match &self.role {
            Role::Leader(side) => side.followers.values().any(|follower| follower.joins),
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// The controller answered `proposal`, or could not be asked.
    pub fn handle_proposal_answer(
        &mut self,
        now_ms: i64,
        proposal: &Proposal,
        answer: Result<ProposalAnswer, ProposalError>,
        serving: Serving<'_>,
    ) -> Vec<Action> {
        let Role::Leader(side) = &mut self.role else { return Vec::new() };
        let in_flight = side.proposal.as_ref() == Some(proposal);
        match answer {
            Ok(answer) if answer.leader_epoch == side.leadership.epoch => {
                if in_flight {
                    side.proposal = None;
                }
                if answer.partition_epoch >= side.leadership.partition_epoch {
                    let ProposalAnswer { partition_epoch, isr, .. } = answer;
                    side.renew(Leadership { partition_epoch, isr, ..side.leadership.clone() });
                }
            }
            Err(ProposalError::Unknown) if in_flight => return vec![Action::Propose(proposal.clone())],
            Err(ProposalError::Refused) if in_flight => {
                side.proposal = None;
                side.no_proposal_before_ms = Some(now_ms + REFUSED_MS);
            }
            Ok(_) | Err(ProposalError::Unknown | ProposalError::Refused | ProposalError::Stale) => {}
        }
        self.judge(now_ms, serving)
    }

    /// The proposal whose answer is awaited.
    #[must_use]
    pub fn proposal(&self) -> Option<&Proposal> {
        match &self.role {
            Role::Leader(side) => side.proposal.as_ref(),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    fn judge(&mut self, now_ms: i64, serving: Serving<'_>) -> Vec<Action> {
        let context =
            Measure { local: self.local, durability: self.durability, lag_ms_max: self.lag_ms_max, serving };
        let Role::Leader(side) = &mut self.role else { return Vec::new() };
        side.measure(now_ms, &context);
        let proposed = side.propose(now_ms, self.high_watermark, &context);
        let committed = self.advance().then_some(Action::Committed(self.high_watermark));
        committed.into_iter().chain(proposed).collect()
    }
}

/// Whether a follower speaks of the present leadership.
fn check_epoch(mine: LeaderEpoch, told: LeaderEpoch) -> Result<(), FetchRefusal> {
    if told == LeaderEpoch::NONE || told == mine {
        return Ok(());
    }
    Err(if told < mine { FetchRefusal::FencedLeaderEpoch } else { FetchRefusal::UnknownLeaderEpoch })
}
