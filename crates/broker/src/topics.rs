//! What this broker serves: topics with their rules and partitions. Changed by the reconciler alone; readers take an `Arc`
//! of a topic that is swapped whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashMap;
use ottla_partition::{Partition, TopicSettings};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::Uuid;
use tokio::sync::Notify;

use crate::produce_rules::ProduceRules;

/// A topic as this broker serves it.
#[derive(Debug)]
pub struct ServedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// What its configuration asks of produced batches.
    pub rules: ProduceRules,
    /// What its configuration says to its partitions.
    pub settings: Arc<TopicSettings>,
    /// By index; `None` for partitions that have no replica here.
    pub replicas: Vec<Option<Arc<Partition>>>,
}

impl ServedTopic {
    /// The partition of that index.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION when the topic has no such partition, NOT_LEADER_OR_FOLLOWER when it is elsewhere.
    pub fn partition(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let slot = usize::try_from(index).ok().and_then(|index| self.replicas.get(index));
        match slot {
            Some(Some(partition)) => Ok(partition),
            Some(None) => Err(ErrorCode::NotLeaderOrFollower),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }

    /// The partitions that have a replica here.
    pub fn partitions(&self) -> impl Iterator<Item = (i32, &Arc<Partition>)> {
        (0..).zip(&self.replicas).filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Topics {
    by_id: DashMap<Uuid, Arc<ServedTopic>>,
    partition_count: AtomicUsize,
    /// Those with `flush.ms`, so that nobody looks for them among all.
    with_flush_ms: Mutex<BTreeMap<Uuid, Arc<ServedTopic>>>,
    flush_ms_changed: Notify,
    /// Those whose logs are compacted, for the cleaner.
    compacted: Mutex<BTreeMap<Uuid, Arc<ServedTopic>>>,
}

impl Topics {
    /// The topic with that id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<ServedTopic>> {
        self.by_id.get(&id).map(|entry| entry.value().clone())
    }

    /// A copy of the list of topics.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ServedTopic>> {
        self.by_id.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Replicas on this broker.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count.load(Ordering::Relaxed)
    }

    /// Puts a topic in the place of what was there.
    pub fn put(&self, topic: Arc<ServedTopic>) {
        let count = topic.partitions().count();
        self.note_flush_ms(topic.id, Some(&topic));
        self.note_compacted(topic.id, Some(&topic));
        let old = self.by_id.insert(topic.id, topic);
        let before = old.map_or(0, |old| old.partitions().count());
        self.partition_count.fetch_add(count, Ordering::Relaxed);
        self.partition_count.fetch_sub(before, Ordering::Relaxed);
    }

    fn note_flush_ms(&self, id: Uuid, topic: Option<&Arc<ServedTopic>>) {
        let mut with = self.timed();
        let before = with.remove(&id).is_some();
        if let Some(topic) = topic.filter(|topic| topic.settings.flush_ms < i64::MAX) {
            with.insert(id, topic.clone());
            self.flush_ms_changed.notify_one();
        } else if before {
            self.flush_ms_changed.notify_one();
        }
    }

    fn timed(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<ServedTopic>>> {
        self.with_flush_ms.lock().expect("no code panics while it holds this list")
    }

    /// The topics that have `flush.ms`.
    #[must_use]
    pub fn with_flush_ms(&self) -> Vec<Arc<ServedTopic>> {
        self.timed().values().cloned().collect()
    }

    /// The smallest `flush.ms` of all topics, if any has it.
    #[must_use]
    pub fn flush_ms_min(&self) -> Option<i64> {
        self.timed().values().map(|topic| topic.settings.flush_ms).min()
    }

    /// Waits until a topic with `flush.ms` came, went or changed. Cancel-safe.
    pub async fn flush_ms_changed(&self) {
        self.flush_ms_changed.notified().await;
    }

    fn note_compacted(&self, id: Uuid, topic: Option<&Arc<ServedTopic>>) {
        let mut compacted = self.compacted.lock().expect("no code panics while it holds this list");
        match topic.filter(|topic| topic.settings.log.compact_enabled) {
            Some(topic) => drop(compacted.insert(id, topic.clone())),
            None => drop(compacted.remove(&id)),
        }
    }

    /// The topics whose logs are compacted.
    #[must_use]
    pub fn compacted(&self) -> Vec<Arc<ServedTopic>> {
        let compacted = self.compacted.lock().expect("no code panics while it holds this list");
        compacted.values().cloned().collect()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_compacted(&self) -> bool {
        !self.compacted.lock().expect("no code panics while it holds this list").is_empty()
    }

    /// Takes a topic away.
    pub fn remove(&self, id: Uuid) -> Option<Arc<ServedTopic>> {
        let (_, old) = self.by_id.remove(&id)?;
        self.note_flush_ms(id, None);
        self.note_compacted(id, None);
        self.partition_count.fetch_sub(old.partitions().count(), Ordering::Relaxed);
        Some(old)
    }
}
