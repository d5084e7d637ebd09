//! What a broker gives its partitions: logs on its disk, and an ear for what they want.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla_cluster::replica::{Following, Proposal};
use ottla_partition::error::Fault;
use ottla_partition::partition::{Observer, OpenLog, OpenedLog, SyncWish};
use ottla_partition::{Partition, PartitionKey};
use ottla_protocol::ids::Offset;
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::LogDirectory;
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::names::TopicPartition;

use crate::message::Tp;

/// Descriptors that a broker keeps open.
const DESCRIPTORS: usize = 64;

/// What a partition said.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Flush(Tp, SyncWish),
    Opened(Tp, RecoveryReport),
    Failed(Tp, Fault, String),
    NoRoom,
    Cut(Tp, String),
    Propose(Tp, Proposal),
    Ticks(Tp),
    Report(Tp, Following, Offset),
}

/// The owner of a broker's partitions.
pub(super) struct Owner {
    descriptors: Arc<Descriptors>,
    pub(super) directory: Arc<LogDirectory>,
    told: Mutex<Vec<Told>>,
}

impl Owner {
    pub(super) fn new(directory: LogDirectory) -> Arc<Self> {
        let descriptors = Descriptors::new(directory.files().clone(), DESCRIPTORS);
        Arc::new(Self { descriptors, directory: Arc::new(directory), told: Mutex::default() })
    }

    /// What was said since the last time.
    pub(super) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, told: Told) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }
}

fn tp(key: &PartitionKey) -> Tp {
    (key.topic_id, key.index)
}

impl OpenLog for Owner {
    fn stamp(&self, _: &PartitionKey) -> Result<(), LogError> {
        Ok(())
    }

    fn open_log(&self, key: &PartitionKey, config: &LogConfig, now_ms: i64) -> Result<OpenedLog, LogError> {
        let name = TopicPartition::new(&key.topic, key.index);
        let (dir, from) = (self.directory.partition_dir(&name), self.directory.open_from(&name));
        let opened = match Log::open(&self.descriptors, dir.clone(), config.clone(), from, now_ms) {
            // Whole pages behind a hole: what was not synced when the power failed. An operator, or a leader to fetch from, says so;
            // here the invariants tell whether it was more than that.
            Err(LogError::Damaged(damage)) => {
                self.say(Told::Cut(tp(key), damage.to_string()));
                Log::open_cutting_damage(&self.descriptors, dir, config.clone(), from, now_ms)
            }
            opened => opened,
        };
        let (log, report) = opened?;
        Ok(OpenedLog {
            log,
            report,
            directory: self.directory.clone(),
            high_watermark: self.directory.high_watermark(&name),
        })
    }
}

impl Observer for Owner {
    fn wants_flush(&self, partition: &Arc<Partition>, wish: SyncWish) {
        self.say(Told::Flush(tp(partition.key()), wish));
    }

    fn synced(&self, _: Duration) {}

    fn opened(&self, key: &PartitionKey, report: &RecoveryReport) {
        self.say(Told::Opened(tp(key), report.clone()));
    }

    fn failed(&self, key: &PartitionKey, fault: Fault, reason: &str) {
        self.say(Told::Failed(tp(key), fault, reason.to_owned()));
    }

    fn no_room(&self, directory: &Arc<LogDirectory>, _: usize) {
        directory.mark_full();
        self.say(Told::NoRoom);
    }

    fn propose(&self, partition: &Arc<Partition>, proposal: Proposal) {
        self.say(Told::Propose(tp(partition.key()), proposal));
    }

    fn wants_ticks(&self, partition: &Arc<Partition>) {
        self.say(Told::Ticks(tp(partition.key())));
    }

    fn report_due(&self, key: &PartitionKey, following: Following, durable: Offset) {
        self.say(Told::Report(tp(key), following, durable));
    }
}
