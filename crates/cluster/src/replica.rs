//! What one replica of a partition knows about itself and its followers, and the high watermark that follows from it.
//! Pure: progress in, new high watermark out. The durability contract is the one in `ARCHITECTURE.md`.

use std::collections::BTreeMap;

use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};

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

/// What the metadata image says of a partition when this broker leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Epoch of this leadership.
    pub epoch: LeaderEpoch,
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

/// State of one replica.
#[derive(Debug)]
pub struct Replica {
    me: BrokerId,
    durability: Durability,
    leadership: Option<Leadership>,
    local: Progress,
    followers: BTreeMap<BrokerId, Progress>,
    high_watermark: Offset,
}

impl Replica {
    /// A replica on broker `me` that leads nothing yet; `high_watermark` is what a checkpoint remembered, else the log's start.
    #[must_use]
    pub fn new(me: BrokerId, durability: Durability, local: Progress, high_watermark: Offset) -> Self {
        let followers = BTreeMap::new();
        Self { me, durability, leadership: None, local, followers, high_watermark }
    }

    /// The current leadership, when this replica leads.
    #[must_use]
    pub fn leadership(&self) -> Option<&Leadership> {
        self.leadership.as_ref()
    }

    /// First offset that consumers may not see yet.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The topic's durability.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Starts or renews leadership. Progress of followers is kept for those that stay replicas.
    pub fn handle_lead(&mut self, leadership: Leadership) {
        self.followers.retain(|id, _| leadership.replicas.contains(id));
        self.leadership = Some(leadership);
        self.advance();
    }

    /// Ends leadership.
    pub fn handle_unlead(&mut self) {
        self.leadership = None;
        self.followers.clear();
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

    /// The high watermark is the lowest progress of the ISR that counts under the topic's durability; it does not move while
    /// the ISR is smaller than `min.insync.replicas` (KIP-966) and never goes back.
    fn advance(&mut self) -> bool {
        let Some(leadership) = &self.leadership else { return false };
        if !leadership.has_enough_replicas() {
            return false;
        }
        let progress = |id: &BrokerId| {
            let of_id = if *id == self.me { Some(self.local) } else { self.followers.get(id).copied() };
            of_id.unwrap_or_default().counted(self.durability)
        };
        let Some(lowest) = leadership.isr.iter().map(progress).min() else { return false };
        let moved = lowest > self.high_watermark;
        if moved {
            self.high_watermark = lowest;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership(isr: &[i32], min_insync_replicas: usize) -> Leadership {
        let ids: Vec<_> = isr.iter().map(|&id| BrokerId(id)).collect();
        Leadership { epoch: LeaderEpoch(0), replicas: ids.clone(), isr: ids, min_insync_replicas }
    }

    fn progress(end: i64, durable: i64) -> Progress {
        Progress { end: Offset(end), durable: Offset(durable) }
    }

    #[test]
    fn high_watermark_follows_what_the_durability_counts() {
        let mut replica = Replica::new(BrokerId(1), Durability::Durable, progress(0, 0), Offset(0));
        replica.handle_lead(leadership(&[1], 1));
        assert!(!replica.handle_local_progress(progress(5, 0)));
        assert!(replica.handle_local_progress(progress(5, 3)));
        assert_eq!(replica.high_watermark(), Offset(3));
        replica.handle_durability(Durability::Replicated);
        assert_eq!(replica.high_watermark(), Offset(5));
        replica.handle_durability(Durability::Durable);
        assert_eq!(replica.high_watermark(), Offset(5), "never back");
    }

    #[test]
    fn a_single_replica_is_enough_whatever_the_topic_asks_for() {
        let mut replica = Replica::new(BrokerId(1), Durability::Replicated, progress(0, 0), Offset(0));
        replica.handle_lead(leadership(&[1], 2));
        assert!(replica.handle_local_progress(progress(1, 0)));
    }

    #[test]
    fn no_advance_below_min_insync_replicas_or_without_leadership() {
        let mut replica = Replica::new(BrokerId(1), Durability::Replicated, progress(0, 0), Offset(0));
        assert!(!replica.handle_local_progress(progress(4, 4)), "not the leader");
        let mut short = leadership(&[1, 2], 2);
        short.isr = vec![BrokerId(1)];
        replica.handle_lead(short);
        assert!(!replica.handle_local_progress(progress(5, 5)));
        assert_eq!(replica.high_watermark(), Offset(0));
    }
}
