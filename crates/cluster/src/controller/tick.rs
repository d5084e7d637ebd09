//! What the controller does unasked: it fences brokers that are silent, gives leadership back to preferred leaders, and raises
//! internal topics to their replication factor.

use std::fmt;

use ottla_protocol::ids::BrokerId;

use super::partition_change::PartitionChange;
use super::placement::{Loads, active_count};
use super::reassignment::{is_in_progress, start};
use super::tenure::Tenure;
use super::{Context, Controller, Outcome};
use crate::config::Layers;
use crate::image::{MetadataRecord, PartitionImage};

/// Something that was done, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TickEvent {
    /// A broker was not heard of any more.
    Fenced(BrokerId),
    /// That many partitions are led by their preferred leader again.
    Rebalanced(usize),
    /// That many partitions of an internal topic get more replicas.
    Raised(String, usize),
}

impl fmt::Display for TickEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(id) => write!(f, "broker {id} is fenced: it was not heard of any more"),
            Self::Rebalanced(count) => write!(f, "{count} partition(s) go back to their preferred leader"),
            Self::Raised(topic, count) => write!(f, "{count} partition(s) of {topic} get more replicas"),
        }
    }
}

/// Internal topics with the broker key of their replication factor.
const REPLICATION_KEYS: &[(&str, &str)] = &[
    ("__consumer_offsets", "offsets.topic.replication.factor"),
    ("__share_group_state", "share.coordinator.state.topic.replication.factor"),
    ("__transaction_state", "transaction.state.log.replication.factor"),
];

impl Controller<'_> {
    /// To be called when [`Tenure::next_deadline_ms`] is reached; earlier does no harm.
    pub fn tick(
        &mut self,
        tenure: &mut Tenure,
        now_ms: i64,
        context: &mut Context<'_>,
    ) -> Outcome<Vec<TickEvent>> {
        let (mut records, mut response) = (Vec::new(), Vec::new());
        for id in tenure.expired(&self.image, now_ms) {
            if let Some(broker) = self.image.broker(id).cloned() {
                records.extend(self.fence(&broker));
                tenure.forget(id);
                response.push(TickEvent::Fenced(id));
            }
        }
        let mut rebalance_again = false;
        if tenure.rebalance_due_ms.is_some_and(|due| due <= now_ms) {
            let (new, more) = self.rebalance_leaders();
            rebalance_again = more;
            if !new.is_empty() {
                response.push(TickEvent::Rebalanced(new.len()));
            }
            records.extend(new);
        }
        if tenure.raise_due_ms <= now_ms {
            for (name, key) in REPLICATION_KEYS {
                let new = self.raise(name, key, context);
                if !new.is_empty() {
                    response.push(TickEvent::Raised((*name).to_owned(), new.len()));
                }
                records.extend(new);
            }
        }
        tenure.schedule(now_ms, rebalance_again);
        Outcome { records, response }
    }

    /// Adds replicas to the partitions of a topic that has fewer than its configured factor, as far as there are brokers, and
    /// spreads the preferred leaders over them all.
    fn raise(&mut self, name: &str, key: &str, context: &mut Context<'_>) -> Vec<MetadataRecord> {
        let Some(topic) = self.image.topic_by_name(name).cloned() else { return Vec::new() };
        let layers = Layers { fixed: &self.settings.fixed, ..Layers::default() };
        let configured = layers.broker_value(key).and_then(|value| value.trim().parse::<usize>().ok());
        let factor = configured.unwrap_or(1).min(active_count(&self.image));
        let low =
            |partition: &PartitionImage| partition.replicas.len() < factor && !is_in_progress(partition);
        let mut records: Vec<MetadataRecord> = Vec::new();
        if topic.partitions.iter().any(|partition| low(partition)) {
            let mut loads = Loads::count(&self.image, Some(&topic), context.entropy);
            for (number, partition) in topic.partitions().filter(|(_, partition)| low(partition)) {
                let target = more_replicas(&mut loads, partition, factor);
                let mut change = PartitionChange::new(&self.image, topic.id, number, partition);
                change.set_replicas(start(partition, &target));
                records.extend(change.record().map(MetadataRecord::from));
            }
        }
        self.decided(&records);
        records
    }
}

/// The replicas of a partition and new ones up to `factor`, the one first that leads least.
fn more_replicas(loads: &mut Loads<'_>, partition: &PartitionImage, factor: usize) -> Vec<BrokerId> {
    let mut target = partition.replicas.clone();
    let first = target.first().copied();
    while target.len() < factor {
        let Some(next) = loads.next_follower(&target) else { break };
        loads.add_replica(first.unwrap_or(next), next);
        target.push(next);
    }
    if let Some(first) = first {
        loads.remove_leader(first);
    }
    if let Some(leader) = loads.next_leader(&target) {
        loads.add_leader(leader);
        target.retain(|id| *id != leader);
        target.insert(0, leader);
    }
    target
}
