//! At the start: what the metadata does not know is set aside, and logs that were not closed in order are recovered, some
//! of each directory at once (`num.recovery.threads.per.data.dir`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_cluster::image::{MetadataImage, TopicImage};
use ottla_partition::Partition;
use ottla_protocol::ids::BrokerId;
use ottla_storage::names::TopicPartition;

use crate::logs::Logs;
use crate::state::now_ms;
use crate::topics::Topics;

/// How often a long recovery says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Sets aside the directories of partitions that the metadata does not know, or of a topic that was deleted and made again, or that other
/// brokers have by now.
pub fn set_aside_strangers(logs: &Logs, image: &MetadataImage, me: BrokerId) {
    for name in logs.known() {
        let slot = usize::try_from(name.partition).unwrap_or(usize::MAX);
        let is_here = |topic: &&Arc<TopicImage>| {
            topic.partitions.get(slot).is_some_and(|partition| partition.replicas.contains(&me))
        };
        let topic = image.topic_by_name(&name.topic).filter(is_here);
        if topic.is_none_or(|topic| logs.is_of_another_topic(&name, topic.id)) {
            logs.set_aside(&name);
        }
    }
}

/// Opens every log of the directories that were not closed in order. A log that cannot be opened is reported by its
/// partition and stays offline; the others go on. Blocks until all are done.
pub fn run(topics: &Topics, logs: &Logs, image: &MetadataImage, threads_per_directory: usize) {
    let per_directory: Vec<Vec<Arc<Partition>>> = logs
        .unclean()
        .into_iter()
        .map(|names| names.iter().filter_map(|name| served(topics, image, name)).collect())
        .collect();
    open_all(&per_directory, threads_per_directory);
}

fn open_all(per_directory: &[Vec<Arc<Partition>>], threads_per_directory: usize) {
    let total: usize = per_directory.iter().map(Vec::len).sum();
    if total == 0 {
        return;
    }
    tracing::info!(partitions = total, "recovering logs: the last stop was not an orderly one");
    let started = Instant::now();
    let done = AtomicUsize::new(0);
    let told = Mutex::new(started);
    let recover = |partition: &Partition| {
        if let Err(error) = partition.open_now(now_ms()) {
            tracing::debug!(partition = %partition.key(), %error, "not recovered");
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = told.lock().expect("nobody panics while it is held");
        if told.elapsed() >= PROGRESS {
            *told = Instant::now();
            tracing::info!(done, total, "recovering logs");
        }
    };
    std::thread::scope(|scope| {
        for partitions in per_directory {
            let next = Arc::new(AtomicUsize::new(0));
            for _ in 0..threads_per_directory.clamp(1, partitions.len().max(1)) {
                let (next, recover) = (next.clone(), &recover);
                scope.spawn(move || {
                    while let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
                        recover(partition);
                    }
                });
            }
        }
    });
    tracing::info!(partitions = total, took_ms = started.elapsed().as_millis(), "logs are recovered");
}

fn served(topics: &Topics, image: &MetadataImage, name: &TopicPartition) -> Option<Arc<Partition>> {
    let topic = image.topic_by_name(&name.topic)?;
    topics.get(topic.id)?.partition(name.partition).ok().cloned()
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use ottla_cluster::replica::{Following, Proposal};
    use ottla_partition::error::Fault;
    use ottla_partition::partition::{Observer, OpenLog, OpenedLog, SyncWish};
    use ottla_partition::{PartitionKey, TopicSettings};
    use ottla_protocol::ids::{BrokerId, Offset, Uuid};
    use ottla_storage::directory::LogDirectory;
    use ottla_storage::log::{LogConfig, LogError, RecoveryReport};

    use super::*;

    /// Opens nothing; each opening waits until as many as expected are there at once.
    struct Meeting {
        expected: usize,
        /// How many are there, and how many were there at once at most.
        present: Mutex<(usize, usize)>,
        changed: Condvar,
    }

    impl OpenLog for Meeting {
        fn stamp(&self, _: &PartitionKey) -> Result<(), LogError> {
            Ok(())
        }

        fn open_log(&self, _: &PartitionKey, _: &LogConfig, _: i64) -> Result<OpenedLog, LogError> {
            let mut present = self.present.lock().unwrap();
            *present = (present.0 + 1, present.1.max(present.0 + 1));
            self.changed.notify_all();
            let patience = Duration::from_secs(20);
            let is_short = |present: &mut (usize, usize)| present.1 < self.expected;
            let (mut present, _) = self.changed.wait_timeout_while(present, patience, is_short).unwrap();
            present.0 -= 1;
            Err(LogError::Failed("as told".to_owned()))
        }
    }

    impl Observer for Meeting {
        fn propose(&self, _: &Arc<Partition>, _: Proposal) {}
        fn wants_ticks(&self, _: &Arc<Partition>) {}
        fn report_due(&self, _: &PartitionKey, _: Following, _: Offset) {}
        fn wants_flush(&self, _: &Arc<Partition>, _: SyncWish) {}
        fn synced(&self, _: Duration) {}
        fn opened(&self, _: &PartitionKey, _: &RecoveryReport) {}
        fn failed(&self, _: &PartitionKey, _: Fault, _: &str) {}
        fn no_room(&self, _: &Arc<LogDirectory>, _: usize) {}
    }

    #[test]
    fn so_many_logs_of_each_directory_are_opened_at_once() {
        for (directories, threads) in [(1, 1), (1, 3), (2, 2)] {
            let meeting = Arc::new(Meeting {
                expected: directories * threads,
                present: Mutex::default(),
                changed: Condvar::new(),
            });
            let settings = Arc::new(TopicSettings {
                log: LogConfig::default(),
                durability: ottla_cluster::config::Durability::Durable,
                flush_messages: i64::MAX,
                flush_ms: i64::MAX,
            });
            let partition = |index| {
                let key = PartitionKey { topic: "t".into(), topic_id: Uuid([1; 16]), index };
                Partition::new(key, BrokerId(1), settings.clone(), meeting.clone(), meeting.clone())
            };
            let all: Vec<Vec<_>> = (0..directories).map(|_| (0..5).map(partition).collect()).collect();
            open_all(&all, threads);
            assert_eq!(*meeting.present.lock().unwrap(), (0, directories * threads));
            assert!(all.iter().flatten().all(|partition| partition.failure().is_some()));
        }
    }
}
