//! The broker's log directories: which partition lies where, opening logs, syncing them in groups, writing down how far they
//! are, removing what is deleted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_partition::partition::{Observer, OpenLog, SyncWish};
use ottla_partition::{Partition, PartitionKey};
use ottla_protocol::ids::Uuid;
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{LogDirectory, Progress};
use ottla_storage::flusher::{Flushable, Flusher, FlusherConfig, Urgency};
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::meta::PartitionMetadata;
use ottla_storage::names::TopicPartition;

use crate::metrics::Metrics;
use crate::topics::Topics;

/// Files that are synced at once, over all directories.
const FLUSH_THREADS: usize = 2;
/// How long a sync that nobody waits for gathers. Longer costs consumers of acks=1 data latency, shorter costs CPU.
const FLUSH_GATHER: Duration = Duration::from_millis(10);

/// All log directories.
pub struct Logs {
    directories: Vec<Arc<LogDirectory>>,
    descriptors: Arc<Descriptors>,
    flusher: Flusher,
    metrics: Arc<Metrics>,
    /// Where partitions lie that have a directory, or got one assigned. Guards nothing else.
    places: Mutex<HashMap<TopicPartition, usize>>,
    per_directory: Vec<AtomicUsize>,
    /// Partitions with bytes to sync for which nobody waits, each once.
    later: Mutex<Vec<Arc<Partition>>>,
    /// False once any directory failed: the stop is then not marked as clean.
    healthy: AtomicBool,
}

/// What a directory looks like from outside.
#[derive(Clone, Debug)]
pub struct DirectoryView {
    /// Its path.
    pub path: PathBuf,
    /// It is fenced.
    pub failed: bool,
    /// Size of its file system, -1 when unknown.
    pub total_bytes: i64,
    /// What can still be written, -1 when unknown.
    pub usable_bytes: i64,
}

impl Logs {
    /// Takes over opened directories. `found` are the partitions that have a directory, by directory.
    ///
    /// # Errors
    /// When the flusher's threads cannot be started.
    pub fn new(
        directories: Vec<LogDirectory>,
        found: &[Vec<TopicPartition>],
        descriptors: Arc<Descriptors>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let config = FlusherConfig { threads: FLUSH_THREADS, gather: FLUSH_GATHER };
        let per_directory = found.iter().map(|found| AtomicUsize::new(found.len())).collect();
        let places =
            found.iter().enumerate().flat_map(|(i, found)| found.iter().map(move |p| (p.clone(), i)));
        Ok(Self {
            places: Mutex::new(places.collect()),
            directories: directories.into_iter().map(Arc::new).collect(),
            descriptors,
            flusher: Flusher::start("flush", config)?,
            metrics,
            per_directory,
            later: Mutex::default(),
            healthy: AtomicBool::new(true),
        })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<TopicPartition, usize>> {
        self.places.lock().expect("no code panics while it holds the places")
    }

    /// Index of the directory in which the partition lies; `None` while it has none.
    #[must_use]
    pub fn directory_of(&self, key: &PartitionKey) -> Option<usize> {
        self.places().get(&name_of(key)).copied()
    }

    /// Names of partitions that have a directory.
    #[must_use]
    pub fn known(&self) -> Vec<TopicPartition> {
        self.places().keys().cloned().collect()
    }

    /// The directory for a partition: where it lies, else the healthy one with the fewest.
    fn place(&self, name: &TopicPartition) -> usize {
        let mut places = self.places();
        if let Some(&place) = places.get(name) {
            return place;
        }
        let healthy = (0..self.directories.len()).filter(|&i| self.directories[i].fenced().is_none());
        let place = healthy.min_by_key(|&i| self.per_directory[i].load(Ordering::Relaxed)).unwrap_or(0);
        self.per_directory[place].fetch_add(1, Ordering::Relaxed);
        places.insert(name.clone(), place);
        place
    }

    /// The directories as DescribeLogDirs shows them.
    pub fn directories(&self) -> impl Iterator<Item = DirectoryView> {
        self.directories.iter().map(|directory| {
            let space = rustix::fs::statvfs(directory.path()).ok();
            let bytes =
                |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
            DirectoryView {
                path: directory.path().to_owned(),
                failed: directory.fenced().is_some(),
                total_bytes: space.as_ref().map_or(-1, |s| bytes(s.f_blocks, s.f_frsize)),
                usable_bytes: space.as_ref().map_or(-1, |s| bytes(s.f_bavail, s.f_frsize)),
            }
        })
    }

    /// Whether any directory needs recovery: its last stop was not an orderly one.
    #[must_use]
    pub fn needs_recovery(&self) -> bool {
        self.directories.iter().any(|directory| !directory.was_clean())
    }

    /// Writes down how far every open log is. False when a directory could not be written.
    pub fn checkpoint(&self, topics: &Topics) -> bool {
        let mut per_directory: Vec<Vec<(TopicPartition, Progress)>> =
            vec![Vec::new(); self.directories.len()];
        for topic in topics.all() {
            for (_, partition) in topic.partitions() {
                let Some(place) = self.directory_of(partition.key()) else { continue };
                let progress = partition.with_open_log(|log| Progress {
                    recovery_point: log.durable_offset(),
                    log_start_offset: Some(log.start_offset()).filter(|start| start.0 > 0),
                });
                if let Some(progress) = progress {
                    per_directory[place].push((name_of(partition.key()), progress));
                }
            }
        }
        let mut all_written = true;
        for (directory, progress) in self.directories.iter().zip(per_directory) {
            if let Err(error) = directory.write_checkpoints(progress) {
                tracing::error!(directory = %directory.path().display(), %error, "could not write the checkpoints");
                all_written = false;
            }
        }
        all_written
    }

    /// Takes deleted partitions out of sight and removes their files. The logs must be closed.
    pub fn delete(&self, keys: &[PartitionKey]) {
        let mut per_directory: Vec<Vec<TopicPartition>> = vec![Vec::new(); self.directories.len()];
        {
            let mut places = self.places();
            for name in keys.iter().map(name_of) {
                if let Some(place) = places.remove(&name) {
                    self.per_directory[place].fetch_sub(1, Ordering::Relaxed);
                    per_directory[place].push(name);
                }
            }
        }
        for (directory, names) in self.directories.iter().zip(per_directory) {
            if names.is_empty() {
                continue;
            }
            match directory.rename_for_deletion(&names) {
                Ok(renamed) => remove(directory.clone(), renamed),
                Err(error) => {
                    tracing::error!(directory = %directory.path().display(), %error, "could not delete partitions");
                }
            }
        }
    }

    /// Removes what earlier deletions left behind.
    pub fn remove_leftovers(&self, leftovers: Vec<Vec<PathBuf>>) {
        for (directory, paths) in self.directories.iter().zip(leftovers) {
            remove(directory.clone(), paths);
        }
    }

    /// Sets aside directories of partitions that the metadata does not know, so that a new topic of that name starts empty.
    /// Nothing is removed: an operator decides.
    pub fn set_aside(&self, name: &TopicPartition) {
        let Some(place) = self.places().remove(name) else { return };
        let directory = &self.directories[place];
        let from = directory.partition_dir(name);
        let unique = crate::state::now_ms();
        let to = directory.path().join(format!("{}.{unique:032x}-stray", name.dir_name()));
        let files = directory.files();
        match files.rename(&from, &to).and_then(|()| files.sync_dir(directory.path())) {
            Ok(()) => tracing::warn!(
                partition = %name.dir_name(),
                moved_to = %to.display(),
                "set aside a partition that the metadata does not know; remove it if its data are not needed"
            ),
            Err(error) => {
                tracing::error!(partition = %name.dir_name(), %error, "could not set a partition aside")
            }
        }
    }

    /// Ends everything in order: what is in memory is synced, logs are closed, directories marked as clean.
    pub fn close(&self, topics: &Topics, broker_epoch: i64, now_ms: i64) {
        self.flusher.stop();
        let mut clean = self.healthy.load(Ordering::Relaxed);
        for topic in topics.all() {
            for (_, partition) in topic.partitions() {
                partition.flush_now();
                if let Some(Err(error)) = partition.with_open_log(|log| log.close(now_ms)) {
                    tracing::error!(partition = %partition.key(), %error, "could not close a log");
                    clean = false;
                }
            }
        }
        clean &= self.checkpoint(topics);
        if !clean {
            tracing::warn!("the stop is not marked as clean: the next start will recover the logs");
            return;
        }
        for directory in &self.directories {
            if let Err(error) = directory.close_clean(broker_epoch) {
                tracing::error!(directory = %directory.path().display(), %error, "could not mark the stop as clean");
            }
        }
    }

    /// Asks for a sync of `partition` with what gathers.
    pub fn flush_soon(&self, partition: &Arc<Partition>) {
        self.request(partition, Urgency::Soon);
    }

    /// Notes that `partition` has bytes to sync for which nobody waits.
    fn flush_later(&self, partition: &Arc<Partition>) {
        if partition.is_noted_for_flush() {
            return;
        }
        self.later.lock().expect("no code panics while it holds the list").push(partition.clone());
    }

    /// Asks for a sync of all that were noted since the last call.
    pub fn flush_noted(&self) {
        let noted = std::mem::take(&mut *self.later.lock().expect("no code panics while it holds the list"));
        for partition in noted {
            partition.forget_note_for_flush();
            self.flush_soon(&partition);
        }
    }

    fn request(&self, partition: &Arc<Partition>, urgency: Urgency) {
        let item: Arc<dyn Flushable> = partition.clone();
        self.flusher.request(&item, urgency);
    }

    /// A new or foreign directory of the partition gets its topic's id.
    fn check_identity(&self, key: &PartitionKey, place: usize) -> Result<(), LogError> {
        let directory = &self.directories[place];
        let dir = directory.partition_dir(&name_of(key));
        let files = &**directory.files();
        let failed = |error: &dyn std::fmt::Display| LogError::Failed(error.to_string());
        if !files.exists(&dir).map_err(|error| failed(&error))? {
            return Ok(());
        }
        match PartitionMetadata::read(files, &dir).map_err(|error| failed(&error))? {
            Some(found) if found.topic_id == key.topic_id => Ok(()),
            Some(found) => Err(LogError::Failed(format!(
                "{} belongs to topic id {}, this topic has id {}: move the directory away and restart",
                dir.display(),
                found.topic_id,
                key.topic_id
            ))),
            None => write_identity(files, &dir, key.topic_id).map_err(|error| failed(&error)),
        }
    }
}

fn write_identity(
    files: &dyn ottla_storage::files::Files,
    dir: &std::path::Path,
    topic_id: Uuid,
) -> std::io::Result<()> {
    PartitionMetadata { topic_id }.write(files, dir)
}

/// Removes directories on a thread of its own: large files take the file system a while.
fn remove(directory: Arc<LogDirectory>, paths: Vec<PathBuf>) {
    if paths.is_empty() {
        return;
    }
    tokio::task::spawn_blocking(move || {
        for path in paths {
            if let Err(error) = directory.remove_deleted(&path) {
                tracing::error!(path = %path.display(), %error, "could not remove a deleted partition");
            }
        }
    });
}

fn name_of(key: &PartitionKey) -> TopicPartition {
    TopicPartition::new(&key.topic, key.index)
}

impl OpenLog for Logs {
    fn stamp(&self, key: &PartitionKey) -> Result<(), LogError> {
        self.check_identity(key, self.place(&name_of(key)))
    }

    fn open_log(
        &self,
        key: &PartitionKey,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<(Log, RecoveryReport), LogError> {
        let name = name_of(key);
        let place = self.place(&name);
        self.check_identity(key, place)?;
        let directory = &self.directories[place];
        let dir = directory.partition_dir(&name);
        Log::open(&self.descriptors, dir, config.clone(), directory.open_from(&name), now_ms)
    }
}

impl Observer for Logs {
    fn wants_flush(&self, partition: &Arc<Partition>, wish: SyncWish) {
        match wish {
            SyncWish::Now => self.request(partition, Urgency::Now),
            SyncWish::Soon => self.request(partition, Urgency::Soon),
            SyncWish::Later => self.flush_later(partition),
        }
    }

    fn synced(&self, took: Duration) {
        self.metrics.fdatasync.observe(took);
    }

    fn opened(&self, key: &PartitionKey, report: &RecoveryReport) {
        if report.cut_bytes > 0 {
            tracing::warn!(
                partition = %key,
                cut_bytes = report.cut_bytes,
                cut_at = ?report.cut_at,
                "cut a torn end off a log; nothing of it had been acknowledged as durable"
            );
        }
    }

    fn failed(&self, key: &PartitionKey, reason: &str) {
        self.healthy.store(false, Ordering::Relaxed);
        tracing::error!(partition = %key, reason, "partition is offline");
    }
}
