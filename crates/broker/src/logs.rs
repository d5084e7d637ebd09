//! The broker's log directories: which partition lies where, opening logs, syncing them in groups, writing down how far they
//! are, removing what is deleted.

mod placing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ottla_cluster::replica::{Following, Proposal};
use ottla_partition::error::Fault;
use ottla_partition::partition::{Observer, OpenLog, OpenedLog, SyncWish};
use ottla_partition::{Partition, PartitionKey};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{LogDirectory, Progress};
use ottla_storage::flusher::{Flusher, FlusherConfig, Urgency};
use ottla_storage::log::is_no_space;
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::meta::{MetaError, PartitionMetadata};
use ottla_storage::names::TopicPartition;
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::replication::Outbox;
use crate::topics::Topics;

/// Files that are synced at once, over all directories.
const FLUSH_THREADS: usize = 2;
/// How long a sync that nobody waits for gathers. Longer costs consumers of acks=1 data latency, shorter costs CPU.
const FLUSH_GATHER: Duration = Duration::from_millis(10);

/// Logs that are closed at once at the stop: each waits for the disk, and syncs at the same time share its journal.
const CLOSE_THREADS: usize = 16;
/// A full directory takes writes again when there is so much room at least, beside its reserve.
const ROOM_BYTES_MIN: u64 = 1 << 20;

/// All log directories.
pub struct Logs {
    directories: Vec<Place>,
    descriptors: Arc<Descriptors>,
    flusher: Flusher,
    metrics: Arc<Metrics>,
    /// What partitions want of other brokers and of the controller.
    pub outbox: Arc<Outbox>,
    /// Where partitions lie that have a directory, or got one assigned. Guards nothing else.
    places: Mutex<HashMap<TopicPartition, usize>>,
    /// Partitions with bytes to sync for which nobody waits, each once.
    later: Mutex<Vec<Arc<Partition>>>,
    /// Told when the first partition comes into `later`.
    noted: Notify,
    /// Held while checkpoints are gathered and written and while directories are renamed: a deleted partition's progress must
    /// not be noted for the next one of its name. Taken before `places` and before any partition's lock.
    upkeep: Mutex<()>,
    /// Told when a directory gets full or fails; see [`crate::disks`].
    trouble: Notify,
    /// Flushes under way: as many as there are threads that flush. Guards nothing else.
    flushes: Mutex<Vec<(PartitionKey, Instant)>>,
}

/// One log directory and what is known of it.
struct Place {
    directory: Arc<LogDirectory>,
    /// Partitions that lie there.
    partitions: AtomicUsize,
    /// A log in it could not be opened or closed: the stop is not marked as clean, so that the next start looks again.
    is_unclean: AtomicBool,
    /// Size of the largest write that found no room since the directory got full.
    refused_bytes: AtomicU64,
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
        let places =
            found.iter().enumerate().flat_map(|(i, found)| found.iter().map(move |p| (p.clone(), i)));
        let directories = directories.into_iter().zip(found).map(|(directory, found)| Place {
            directory: Arc::new(directory),
            partitions: AtomicUsize::new(found.len()),
            is_unclean: AtomicBool::new(false),
            refused_bytes: AtomicU64::new(0),
        });
        Ok(Self {
            places: Mutex::new(places.collect()),
            directories: directories.collect(),
            descriptors,
            flusher: Flusher::start("flush", config)?,
            metrics,
            outbox: Arc::default(),
            later: Mutex::default(),
            noted: Notify::new(),
            upkeep: Mutex::new(()),
            trouble: Notify::new(),
            flushes: Mutex::default(),
        })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<TopicPartition, usize>> {
        self.places.lock().expect("no code panics while it holds the places")
    }

    /// Names of partitions that have a directory.
    #[must_use]
    pub fn known(&self) -> Vec<TopicPartition> {
        self.places().keys().cloned().collect()
    }

    /// The directories as DescribeLogDirs shows them.
    pub fn directories(&self) -> impl Iterator<Item = DirectoryView> {
        self.directories.iter().map(|Place { directory, .. }| {
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

    /// Per directory: the partitions that need recovery because its last stop was not an orderly one.
    #[must_use]
    pub fn unclean(&self) -> Vec<Vec<TopicPartition>> {
        let mut unclean = vec![Vec::new(); self.directories.len()];
        for (name, &place) in self.places().iter() {
            if !self.directories[place].directory.was_clean() {
                unclean[place].push(name.clone());
            }
        }
        unclean
    }

    /// Whether the partition's directory names another topic id: a topic of that name was deleted and made again, and a crash
    /// came before the deletion had reached the files. Not asked of directories that were closed in order.
    #[must_use]
    pub fn is_of_another_topic(&self, name: &TopicPartition, topic_id: Uuid) -> bool {
        let Some(place) = self.places().get(name).copied() else { return false };
        let directory = &self.directories[place].directory;
        if directory.was_clean() {
            return false;
        }
        // What cannot be read is met again, and told, when the log is opened.
        let found = PartitionMetadata::read(&**directory.files(), &directory.partition_dir(name));
        found.is_ok_and(|found| found.is_some_and(|found| found.topic_id != topic_id))
    }

    /// Writes down how far every open log is. False when a directory could not be written.
    pub fn checkpoint(&self, topics: &Topics) -> bool {
        let _upkeep = self.upkeep.lock().expect("no code panics during upkeep");
        let stamps: Vec<_> = self.directories.iter().map(|place| place.directory.begin_gathering()).collect();
        let mut per_directory: Vec<Vec<(TopicPartition, Progress)>> =
            vec![Vec::new(); self.directories.len()];
        for topic in topics.all() {
            for (_, partition) in topic.partitions() {
                let Some(place) = self.directory_of(partition.key()) else { continue };
                let high_watermark = Some(partition.high_watermark()).filter(|known| known.0 > 0);
                let progress = partition.with_open_log(|log| Progress {
                    high_watermark,
                    recovery_point: log.recovery_point(),
                    log_start_offset: Some(log.start_offset()).filter(|start| start.0 > 0),
                    cleaned_to: Some(log.cleaned_to()).filter(|cleaned_to| cleaned_to.0 > 0),
                });
                if let Some(progress) = progress {
                    per_directory[place].push((name_of(partition.key()), progress));
                }
            }
        }
        let mut all_written = true;
        for ((place, progress), stamp) in self.directories.iter().zip(per_directory).zip(stamps) {
            if place.directory.fenced().is_some() {
                continue;
            }
            if let Err(error) = place.directory.write_gathered(stamp, progress) {
                let directory = place.directory.path().display();
                tracing::error!(%directory, %error, "could not write the checkpoints");
                self.blame(&place.directory, &format!("cannot write the checkpoints: {error}"), &error);
                all_written = false;
            }
        }
        all_written
    }

    /// Takes deleted partitions out of sight and removes their files. The logs must be closed.
    pub fn delete(&self, keys: &[PartitionKey]) {
        let _upkeep = self.upkeep.lock().expect("no code panics during upkeep");
        let mut per_directory: Vec<Vec<TopicPartition>> = vec![Vec::new(); self.directories.len()];
        {
            let mut places = self.places();
            for name in keys.iter().map(name_of) {
                if let Some(place) = places.remove(&name) {
                    self.directories[place].partitions.fetch_sub(1, Ordering::Relaxed);
                    per_directory[place].push(name);
                }
            }
        }
        for (Place { directory, is_unclean, .. }, names) in self.directories.iter().zip(per_directory) {
            if names.is_empty() {
                continue;
            }
            if directory.fenced().is_some() {
                // The next start finds partitions there that the metadata does not know, and sets them aside.
                tracing::warn!(directory = %directory.path().display(), partitions = names.len(), "deleted partitions stay in an offline log directory");
                continue;
            }
            match directory.rename_for_deletion(&names) {
                Ok(renamed) => remove(directory.clone(), renamed),
                Err(error) => {
                    tracing::error!(directory = %directory.path().display(), %error, "could not delete partitions");
                    // What lies there still was perhaps never opened.
                    is_unclean.store(true, Ordering::Relaxed);
                    self.blame(directory, &format!("cannot rename deleted partitions: {error}"), &error);
                }
            }
        }
    }

    /// Removes what earlier deletions left behind.
    pub fn remove_leftovers(&self, leftovers: Vec<Vec<PathBuf>>) {
        for (Place { directory, .. }, paths) in self.directories.iter().zip(leftovers) {
            remove(directory.clone(), paths);
        }
    }

    /// Sets aside directories of partitions that the metadata does not know, so that a new topic of that name starts empty.
    /// Nothing is removed: an operator decides.
    pub fn set_aside(&self, name: &TopicPartition) {
        let Some(place) = self.places().remove(name) else { return };
        let place = &self.directories[place];
        place.partitions.fetch_sub(1, Ordering::Relaxed);
        match place.directory.set_aside(std::slice::from_ref(name)) {
            Ok(moved) => tracing::warn!(
                partition = %name,
                moved_to = ?moved,
                "set aside a partition that the metadata does not know; remove it if its data are not needed"
            ),
            Err(error) => {
                // What lies there still was perhaps never opened.
                place.is_unclean.store(true, Ordering::Relaxed);
                tracing::error!(partition = %name, %error, "could not set a partition aside");
            }
        }
    }

    /// Ends everything in order: what is in memory is synced, logs are closed, directories marked as clean.
    pub fn close(&self, topics: &Topics, broker_epoch: i64, now_ms: i64) {
        self.flusher.stop();
        // They are flushed below with all others; a partition kept here would keep its directory's lock.
        self.later.lock().expect("no code panics while it holds the list").clear();
        let topics_here = topics.all();
        let partitions: Vec<_> = topics_here.iter().flat_map(|topic| topic.partitions()).collect();
        let next = AtomicUsize::new(0);
        let close_some = || {
            while let Some((_, partition)) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
                partition.flush_now();
                if let Some(Err(error)) = partition.with_open_log(|log| log.close(now_ms)) {
                    tracing::error!(partition = %partition.key(), %error, "could not close a log");
                    self.note_unclean(partition.key());
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..CLOSE_THREADS.min(partitions.len()) {
                scope.spawn(close_some);
            }
        });
        self.checkpoint(topics);
        for Place { directory, is_unclean, .. } in &self.directories {
            let path = directory.path().display();
            if is_unclean.load(Ordering::Relaxed) || directory.fenced().is_some() {
                tracing::warn!(directory = %path, "the stop is not marked as clean: the next start will recover the logs");
            } else if let Err(error) = directory.close_clean(broker_epoch) {
                tracing::error!(directory = %path, %error, "could not mark the stop as clean");
            }
        }
    }

    /// A failed write or sync takes the directory offline, unless it was for want of space.
    fn blame(&self, directory: &LogDirectory, why: &str, error: &std::io::Error) {
        if !is_no_space(error) {
            directory.fence(why);
            self.trouble.notify_one();
        }
    }

    /// The partition's directory is not marked as clean at the stop.
    fn note_unclean(&self, key: &PartitionKey) {
        if let Some(place) = self.directory_of(key) {
            self.directories[place].is_unclean.store(true, Ordering::Relaxed);
        }
    }

    fn flushes(&self) -> MutexGuard<'_, Vec<(PartitionKey, Instant)>> {
        self.flushes.lock().expect("no code panics while it holds the flushes")
    }

    /// Takes directories offline in which a write or sync has not come back for `limit`: a leader that cannot write must not lead, and
    /// what is on a disk that hangs may never be known. True when there was one.
    pub fn fence_hung(&self, limit: Duration) -> bool {
        let late = |(_, since): &&(PartitionKey, Instant)| since.elapsed() >= limit;
        let hung: Vec<_> = self.flushes().iter().filter(late).map(|(key, _)| key.clone()).collect();
        let mut fenced = false;
        for key in hung {
            let Some(place) = self.directory_of(&key) else { continue };
            let directory = &self.directories[place].directory;
            if directory.fenced().is_none() {
                let why = format!("a write or sync of {key} has not come back for {} s", limit.as_secs());
                tracing::error!(directory = %directory.path().display(), why, "log directory is offline: the disk hangs");
                directory.fence(&why);
                fenced = true;
            }
        }
        fenced
    }

    /// Waits until a directory got full or failed. Cancel-safe.
    pub async fn trouble(&self) {
        self.trouble.notified().await;
    }

    /// Path and reason of the directories that are offline, with their index.
    pub fn offline(&self) -> impl Iterator<Item = (usize, &Path, &str)> {
        self.directories
            .iter()
            .enumerate()
            .filter_map(|(i, place)| Some((i, place.directory.path(), place.directory.fenced()?)))
    }

    /// Ids of the directories that are offline.
    pub fn offline_ids(&self) -> Vec<Uuid> {
        let offline = self.directories.iter().filter(|place| place.directory.fenced().is_some());
        offline.map(|place| place.directory.meta().directory_id).collect()
    }

    /// Paths of the directories without room.
    pub fn full(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().filter(|place| place.directory.is_full()).map(|place| place.directory.path())
    }

    /// Number of log directories.
    #[must_use]
    pub fn directory_count(&self) -> usize {
        self.directories.len()
    }

    /// Looks whether full directories have room again, for what was refused at least; there, writes are taken again.
    pub fn look_for_room(&self) {
        for Place { directory, refused_bytes, .. } in &self.directories {
            if !directory.is_full() || directory.fenced().is_some() {
                continue;
            }
            let path = directory.path().display();
            match directory.has_room_again(refused_bytes.load(Ordering::Relaxed).max(ROOM_BYTES_MIN)) {
                Ok(true) => {
                    refused_bytes.store(0, Ordering::Relaxed);
                    tracing::info!(directory = %path, "there is room again: writes are taken");
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(directory = %path, %error, "cannot learn how much room there is")
                }
            }
        }
    }

    /// Asks for a sync of `partition` with what gathers.
    pub fn flush_soon(&self, partition: &Arc<Partition>) {
        self.request(partition, Urgency::Soon);
    }

    /// Notes that `partition` has bytes to sync for which nobody waits.
    fn flush_later(&self, partition: &Arc<Partition>) {
        if !partition.note_for_flush() {
            return;
        }
        let mut later = self.later.lock().expect("no code panics while it holds the list");
        later.push(partition.clone());
        if later.len() == 1 {
            self.noted.notify_one();
        }
    }

    /// Waits until a partition is noted for a sync. Cancel-safe.
    pub async fn flush_wanted_later(&self) {
        self.noted.notified().await;
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
        self.flusher.request_of(partition, urgency);
    }

    /// A new or foreign directory of the partition gets its topic's id.
    fn check_identity(&self, key: &PartitionKey, place: usize) -> Result<(), LogError> {
        let directory = &self.directories[place].directory;
        let dir = directory.partition_dir(&name_of(key));
        let files = &**directory.files();
        let failed = |source| {
            let what = format!("cannot look into or name {}", dir.display());
            LogError::Io { what, source: Arc::new(source) }
        };
        if !files.exists(&dir).map_err(failed)? {
            return Ok(());
        }
        match PartitionMetadata::read(files, &dir) {
            Ok(Some(found)) if found.topic_id == key.topic_id => Ok(()),
            Ok(Some(found)) => Err(failed(std::io::Error::other(format!(
                "it belongs to topic id {}, this topic has id {}: move the directory away and restart",
                found.topic_id, key.topic_id
            )))),
            Ok(None) => match (PartitionMetadata { topic_id: key.topic_id }).write(files, &dir) {
                Err(error) if is_no_space(&error) => Err(LogError::NoSpace),
                written => written.map_err(failed),
            },
            Err(MetaError::Io { source, .. }) => Err(failed(source)),
            Err(error) => Err(failed(std::io::Error::other(error.to_string()))),
        }
    }
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

    fn open_log(&self, key: &PartitionKey, config: &LogConfig, now_ms: i64) -> Result<OpenedLog, LogError> {
        let name = name_of(key);
        let place = self.place(&name);
        let directory = self.directories[place].directory.clone();
        if let Some(why) = directory.fenced() {
            return Err(LogError::Failed(format!("the log directory is offline: {why}")));
        }
        match self.check_identity(key, place) {
            // Noted with the first flush, when there is room.
            Ok(()) | Err(LogError::NoSpace) => {}
            Err(error) => return Err(error),
        }
        let dir = directory.partition_dir(&name);
        let from = directory.open_from(&name);
        let (log, report) = Log::open(&self.descriptors, dir, config.clone(), from, now_ms)?;
        let high_watermark = directory.high_watermark(&name);
        Ok(OpenedLog { log, report, directory, high_watermark })
    }
}

impl Observer for Logs {
    fn flush_begins(&self, key: &PartitionKey) {
        self.flushes().push((key.clone(), Instant::now()));
    }

    fn flush_ends(&self, key: &PartitionKey) {
        self.flushes().retain(|(flushed, _)| flushed != key);
    }

    fn propose(&self, partition: &Arc<Partition>, proposal: Proposal) {
        self.outbox.propose(partition, proposal);
    }

    fn wants_ticks(&self, partition: &Arc<Partition>) {
        self.outbox.tick(partition);
    }

    fn report_due(&self, key: &PartitionKey, following: Following, durable: Offset) {
        self.outbox.report(key, following, durable);
    }

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

    fn failed(&self, key: &PartitionKey, fault: Fault, reason: &str) {
        self.note_unclean(key);
        match fault {
            Fault::Open => tracing::error!(
                partition = %key,
                reason,
                "partition is offline, the others go on; repair its directory or move it away, then restart"
            ),
            Fault::Write => {
                tracing::error!(partition = %key, reason, "partition is offline: a write failed");
                if let Some(place) = self.directory_of(key) {
                    self.directories[place].directory.fence(reason);
                }
            }
        }
        self.trouble.notify_one();
    }

    fn no_room(&self, directory: &Arc<LogDirectory>, size_bytes: usize) {
        if let Some(place) = self.directories.iter().find(|place| Arc::ptr_eq(&place.directory, directory)) {
            place.refused_bytes.fetch_max(size_bytes as u64, Ordering::Relaxed);
        }
        if directory.mark_full() {
            let path = directory.path().display();
            tracing::error!(directory = %path, "no space left: writes are refused until there is room; reads and deletions go on");
            if let Err(error) = directory.release_reserve() {
                tracing::error!(directory = %path, %error, "cannot give the reserve free");
            }
            self.trouble.notify_one();
        }
    }
}
