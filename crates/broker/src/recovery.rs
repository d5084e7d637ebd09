//! At the start: what the metadata does not know is set aside, and logs that were not closed in order are recovered, some
//! of each directory at once (`num.recovery.threads.per.data.dir`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_cluster::image::MetadataImage;
use ottla_partition::Partition;
use ottla_storage::names::TopicPartition;

use crate::logs::Logs;
use crate::state::now_ms;
use crate::topics::Topics;

/// How often a long recovery says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Sets aside the directories of partitions that the metadata does not know, or of a topic that was deleted and made again.
pub fn set_aside_strangers(logs: &Logs, image: &MetadataImage) {
    for name in logs.known() {
        let slot = usize::try_from(name.partition).unwrap_or(usize::MAX);
        let topic = image.topic_by_name(&name.topic).filter(|topic| slot < topic.partitions.len());
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
        for partitions in &per_directory {
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
