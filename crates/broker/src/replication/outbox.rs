//! What partitions want of their broker, gathered until a task takes it: proposals, reports, ticks. Each list is a leaf lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_cluster::replica::{Following, Proposal};
use ottla_partition::{Partition, PartitionKey};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};
use tokio::sync::Notify;

/// What is on disk here of one partition, in which leadership.
pub type Report = (LeaderEpoch, Offset);
/// Reports for one leader, by topic id and partition: the last of each.
pub type Reports = HashMap<(Uuid, i32), Report>;

/// Gathers what partitions want.
#[derive(Debug, Default)]
pub struct Outbox {
    proposals: Mutex<Vec<(Arc<Partition>, Proposal)>>,
    proposed: Notify,
    ticking: Mutex<Vec<Arc<Partition>>>,
    ticks_wanted: Notify,
    reports: Mutex<HashMap<BrokerId, ForLeader>>,
}

#[derive(Debug, Default)]
struct ForLeader {
    reports: Reports,
    told: Arc<Notify>,
}

impl Outbox {
    /// A leader wants another ISR.
    pub fn propose(&self, partition: &Arc<Partition>, proposal: Proposal) {
        lock(&self.proposals).push((partition.clone(), proposal));
        self.proposed.notify_one();
    }

    /// What was proposed since the last call.
    #[must_use]
    pub fn take_proposals(&self) -> Vec<(Arc<Partition>, Proposal)> {
        std::mem::take(&mut lock(&self.proposals))
    }

    /// Waits for a proposal. Cancel-safe.
    pub async fn proposed(&self) {
        self.proposed.notified().await;
    }

    /// A partition is to be ticked until it has enough.
    pub fn tick(&self, partition: &Arc<Partition>) {
        let mut ticking = lock(&self.ticking);
        ticking.push(partition.clone());
        if ticking.len() == 1 {
            self.ticks_wanted.notify_one();
        }
    }

    /// The partitions that are to be ticked.
    #[must_use]
    pub fn take_ticking(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut lock(&self.ticking))
    }

    /// Waits until a partition is to be ticked. Cancel-safe.
    pub async fn ticks_wanted(&self) {
        self.ticks_wanted.notified().await;
    }

    /// A leader is to be told what is on disk here.
    pub fn report(&self, key: &PartitionKey, following: Following, durable: Offset) {
        let mut reports = lock(&self.reports);
        let for_leader = reports.entry(following.leader).or_default();
        for_leader.reports.insert((key.topic_id, key.index), (following.epoch, durable));
        for_leader.told.notify_one();
    }

    /// What is to be told to `leader` since the last call.
    #[must_use]
    pub fn take_reports(&self, leader: BrokerId) -> Reports {
        lock(&self.reports)
            .get_mut(&leader)
            .map(|for_leader| std::mem::take(&mut for_leader.reports))
            .unwrap_or_default()
    }

    /// Notified when there is something to tell `leader`.
    #[must_use]
    pub fn reports_told(&self, leader: BrokerId) -> Arc<Notify> {
        lock(&self.reports).entry(leader).or_default().told.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds a list of the outbox")
}
