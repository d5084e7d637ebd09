//! The partition itself: what is behind its lock, how it is led, configured and closed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_cluster::replica::{Durability, Following, Leadership, Progress, Proposal, Replica};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};
use ottla_storage::directory::LogDirectory;
use ottla_storage::flusher::FlushState;
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::names::TopicPartition;

use crate::append::is_disk_error;
use crate::clean::Gate;
use crate::error::{Fault, PartitionError};
use crate::wait::{EndWaiters, Waiter, Waiters};

/// Which partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// Index of the partition in its topic.
    pub index: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// What a topic's configuration says to its partitions.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Shape and retention of the log.
    pub log: LogConfig,
    /// What acks=all and the high watermark wait for.
    pub durability: Durability,
    /// `flush.messages`: records that may be in memory only before a sync is asked for.
    pub flush_messages: i64,
    /// `flush.ms`: how long bytes may be in memory only before a sync is asked for.
    pub flush_ms: i64,
}

/// Opens the log of a partition on first use. `Err` is remembered: a damaged log stays closed until the broker restarts.
pub trait OpenLog: Send + Sync {
    /// Notes in the partition's directory, which may be new, to which topic it belongs.
    ///
    /// # Errors
    /// It belongs to another topic, or cannot be written.
    fn stamp(&self, key: &PartitionKey) -> Result<(), LogError>;

    /// Opens `dir_name` (`topic-index`), recovering what the clean-shutdown mark does not vouch for.
    fn open_log(&self, key: &PartitionKey, config: &LogConfig, now_ms: i64) -> Result<OpenedLog, LogError>;
}

/// A log that was opened.
#[derive(Debug)]
pub struct OpenedLog {
    /// The log.
    pub log: Log,
    /// What opening it had to do.
    pub report: RecoveryReport,
    /// Where it lies: says at every append whether writes are taken.
    pub directory: Arc<LogDirectory>,
    /// What was written down of the high watermark; 0 when nothing was.
    pub high_watermark: Offset,
}

/// When a sync of a partition is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncWish {
    /// A reply waits for it.
    Now,
    /// A consumer waits for what is not yet visible, or enough has gathered.
    Soon,
    /// Nobody waits: within a second will do.
    Later,
}

/// Bytes that gather on a durable topic for which nobody waits, before a sync is wanted soon.
const UNSYNCED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What a partition tells its owner; calls come with the partition's lock held and must be short.
pub trait Observer: Send + Sync {
    /// Bytes are in memory that nobody may see before they are synced: have `partition` flushed.
    fn wants_flush(&self, partition: &Arc<Partition>, wish: SyncWish);
    /// A flush of the partition begins: it waits for the partition's lock first, and so for a write that hangs.
    fn flush_begins(&self, _key: &PartitionKey) {}
    /// That flush has ended, well or not.
    fn flush_ends(&self, _key: &PartitionKey) {}
    /// A sync was done.
    fn synced(&self, took: Duration);
    /// The log was opened.
    fn opened(&self, key: &PartitionKey, report: &RecoveryReport);
    /// The partition is offline here.
    fn failed(&self, key: &PartitionKey, fault: Fault, reason: &str);
    /// An append of `size_bytes` found no room in `directory`, which takes no more of them until there is.
    fn no_room(&self, directory: &Arc<LogDirectory>, size_bytes: usize);
    /// Send `proposal` to the controller (AlterPartition), and hand what becomes of it to [`Partition::handle_proposal_answer`]. One
    /// that comes again is to be sent after a pause.
    fn propose(&self, partition: &Arc<Partition>, proposal: Proposal);
    /// Call [`Partition::tick`] now and then (some times a second) until it says that it is enough. Not told again before that.
    fn wants_ticks(&self, partition: &Arc<Partition>);
    /// Send the leader that is followed what is on disk here: everything below `durable` (ReportDurable).
    fn report_due(&self, key: &PartitionKey, following: Following, durable: Offset);
}

/// One replica of one partition.
pub struct Partition {
    key: PartitionKey,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) opener: Arc<dyn OpenLog>,
    pub(crate) flush_state: FlushState,
    /// Whether this process has seen to it that the directory names the topic's id.
    pub(crate) stamped: AtomicBool,
    /// Whether the owner has noted this partition for a later sync.
    noted_for_flush: AtomicBool,
    /// Whether the owner knows that ticks are wanted.
    pub(crate) ticks: AtomicBool,
    /// Guards the log, the replica machine and the waiters together: what is appended, synced and acknowledged is one order.
    inner: Mutex<Inner>,
    /// Held during a flush, taken before `inner`: once [`Partition::retire`] has had it, nothing touches the files any more.
    pub(crate) flushing: Mutex<()>,
    pub(crate) cleaning: Gate,
}

/// What the lock guards.
pub(crate) struct Inner {
    log: Slot,
    /// Where the log lies, once it was opened.
    pub(crate) directory: Option<Arc<LogDirectory>>,
    pub(crate) replica: Replica,
    /// Who waits for the high watermark.
    pub(crate) waiters: Waiters,
    /// Followers that wait for the end of the log.
    pub(crate) end_waiters: EndWaiters,
    pub(crate) settings: Arc<TopicSettings>,
    /// When the oldest bytes that wait for a sync were appended.
    unsynced_since_ms: Option<i64>,
    /// Bytes that were appended since the last sync began.
    pub(crate) unsynced_bytes: u64,
    /// A leadership has begun, and no tick has come since.
    pub(crate) is_untold: bool,
}

impl Inner {
    /// The log if it is open; a closed one stays closed.
    pub(crate) fn open_log(&mut self) -> Option<&mut Log> {
        match &mut self.log {
            Slot::Open(log) => Some(log),
            Slot::Closed | Slot::Failed(_) | Slot::Retired => None,
        }
    }

    /// Feeds the log's ends to the replica machine and wakes whom the new high watermark releases. Gives the number of records
    /// that wait for a sync; `None` when the log is not open.
    pub(crate) fn progressed(&mut self) -> Option<i64> {
        let log = self.open_log()?;
        let progress = Progress { end: log.end_offset(), durable: log.durable_offset() };
        if progress.end == progress.durable {
            self.unsynced_since_ms = None;
            self.unsynced_bytes = 0;
        }
        if self.replica.handle_local_progress(progress) {
            self.release();
        }
        Some(progress.end.0 - progress.durable.0)
    }

    /// Wakes whom the high watermark releases.
    pub(crate) fn release(&mut self) {
        let high_watermark = self.replica.high_watermark();
        self.waiters.wake_below(high_watermark);
    }

    /// Everybody who waits looks again.
    pub(crate) fn wake_all(&mut self) {
        self.waiters.wake_all();
        self.end_waiters.wake_all();
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.log {
            Slot::Failed(reason) => Some(reason),
            Slot::Open(_) | Slot::Closed | Slot::Retired => None,
        }
    }
}

enum Slot {
    Closed,
    Open(Box<Log>),
    Failed(String),
    /// The partition is not served here any more.
    Retired,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({})", self.key)
    }
}

impl Partition {
    /// A partition whose log is opened on first use.
    #[must_use]
    pub fn new(
        key: PartitionKey,
        me: BrokerId,
        settings: Arc<TopicSettings>,
        opener: Arc<dyn OpenLog>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        let replica = Replica::new(me, settings.durability, Progress::default(), Offset(0));
        let inner = Inner {
            log: Slot::Closed,
            directory: None,
            replica,
            waiters: Waiters::default(),
            end_waiters: EndWaiters::default(),
            settings,
            unsynced_since_ms: None,
            unsynced_bytes: 0,
            is_untold: false,
        };
        let flush_state = FlushState::default();
        Arc::new(Self {
            key,
            observer,
            opener,
            flush_state,
            stamped: AtomicBool::new(false),
            noted_for_flush: AtomicBool::new(false),
            ticks: AtomicBool::new(false),
            inner: Mutex::new(inner),
            flushing: Mutex::new(()),
            cleaning: Gate::default(),
        })
    }

    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> &PartitionKey {
        &self.key
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a panic under the partition's lock ends the process")
    }

    pub(crate) fn flush_lock(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock().expect("a panic during a flush ends the process")
    }

    /// The log, opened if it was not. The first call of a partition reads its directory.
    pub(crate) fn log<'a>(&self, inner: &'a mut Inner, now_ms: i64) -> Result<&'a mut Log, PartitionError> {
        if matches!(inner.log, Slot::Closed) {
            self.open(inner, now_ms);
        }
        match &mut inner.log {
            Slot::Open(log) => Ok(log),
            Slot::Failed(reason) => Err(PartitionError::Failed(reason.clone())),
            Slot::Retired => Err(PartitionError::NotLeader),
            Slot::Closed => unreachable!("open() leaves the slot open or failed"),
        }
    }

    fn open(&self, inner: &mut Inner, now_ms: i64) {
        match self.opener.open_log(&self.key, &inner.settings.log, now_ms) {
            Ok(OpenedLog { mut log, report, directory, high_watermark }) => {
                self.observer.opened(&self.key, &report);
                let progress = Progress { end: log.end_offset(), durable: log.durable_offset() };
                let known = high_watermark.min(progress.end).max(log.start_offset());
                inner.replica.handle_opened(progress, known);
                if let Some(leadership) = inner.replica.leadership() {
                    log.begin_epoch(leadership.epoch);
                }
                inner.directory = Some(directory);
                inner.log = Slot::Open(Box::new(log));
            }
            Err(error) => {
                let fault = if is_disk_error(&error) { Fault::Write } else { Fault::Open };
                self.fail(inner, fault, &error.to_string());
            }
        }
    }

    /// Takes the partition offline here. Whoever waits learns it; nothing is retried.
    pub(crate) fn fail(&self, inner: &mut Inner, fault: Fault, reason: &str) {
        self.observer.failed(&self.key, fault, reason);
        Self::close_for_good(inner, reason);
    }

    fn close_for_good(inner: &mut Inner, reason: &str) {
        inner.log = Slot::Failed(reason.to_owned());
        inner.unsynced_since_ms = None;
        inner.wake_all();
    }

    /// The log directory of the partition cannot be used any more: the owner says so of all that lie in it.
    pub fn take_offline(&self, reason: &str) {
        let mut inner = self.lock();
        if !matches!(inner.log, Slot::Failed(_) | Slot::Retired) {
            Self::close_for_good(&mut inner, reason);
        }
    }

    /// This broker leads the partition from now on, or its ISR or configuration changed.
    pub fn lead(self: &Arc<Self>, leadership: Leadership, now_ms: i64) {
        let mut inner = self.lock();
        let epoch = leadership.epoch;
        let renewed = inner.replica.leadership().is_some_and(|old| old.epoch == epoch);
        inner.replica.handle_lead(leadership);
        if inner.replica.leadership().is_none_or(|now| now.epoch != epoch) {
            // Older than what is known.
            return;
        }
        if let Slot::Open(log) = &mut inner.log {
            if !renewed {
                // Before anything is appended or a follower asks: whoever has records of another leadership finds out where to cut.
                log.begin_epoch(epoch);
            }
            self.after_progress(&mut inner, false, now_ms);
        }
        if renewed {
            self.after_isr_change(&mut inner);
        } else {
            inner.wake_all();
            // Members of the ISR that were not heard of in this leadership are late some day.
            inner.is_untold = true;
        }
        self.want_ticks(&inner);
    }

    /// Nobody leads the partition, as far as is known: whoever waits learns it.
    pub fn unlead(&self) {
        let mut inner = self.lock();
        if inner.replica.leadership().is_some() || inner.replica.following().is_some() {
            inner.replica.handle_unlead();
            inner.wake_all();
        }
    }

    /// Marks this partition as noted for a later sync. False when it was already.
    #[must_use]
    pub fn note_for_flush(&self) -> bool {
        !self.noted_for_flush.swap(true, Ordering::AcqRel)
    }

    /// The owner has taken the note up.
    pub fn forget_note_for_flush(&self) {
        self.noted_for_flush.store(false, Ordering::Release);
    }

    /// For how long bytes have been waiting for a sync, in ms; `None` when none wait.
    #[must_use]
    pub fn unsynced_for_ms(&self, now_ms: i64) -> Option<i64> {
        self.lock().unsynced_since_ms.map(|since| now_ms - since)
    }

    /// This broker no longer serves the partition: every waiter learns it and the log is given back for removal or rest. Waits
    /// for a sync that is under way, and for a cleaning to notice; after this nothing writes into the partition's directory, so that it can be renamed
    /// and another partition of that name can be made.
    pub fn retire(&self) -> Option<Box<Log>> {
        let _cleaned = self.cleaning.close();
        let _flushed = self.flush_lock();
        let mut inner = self.lock();
        inner.replica.handle_unlead();
        inner.wake_all();
        match std::mem::replace(&mut inner.log, Slot::Retired) {
            Slot::Open(log) => Some(log),
            Slot::Closed | Slot::Failed(_) | Slot::Retired => None,
        }
    }

    /// The topic's configuration changed.
    pub fn configure(&self, settings: Arc<TopicSettings>) {
        let mut inner = self.lock();
        inner.replica.handle_durability(settings.durability);
        if let Slot::Open(log) = &mut inner.log {
            log.set_config(settings.log.clone());
        }
        inner.settings = settings;
        inner.release();
    }

    /// Asks for a sync where bytes wait for one after the log has grown: at once where a reply waits for it (`eager`), soon
    /// where a consumer waits or much has gathered.
    pub(crate) fn after_progress(self: &Arc<Self>, inner: &mut Inner, eager: bool, now_ms: i64) {
        let unsynced = inner.progressed();
        self.want_ticks(inner);
        let Some(unsynced) = unsynced.filter(|unsynced| *unsynced > 0) else { return };
        inner.unsynced_since_ms.get_or_insert(now_ms);
        let durable = inner.replica.durability() == Durability::Durable;
        let awaited = !inner.waiters.is_empty() || inner.unsynced_bytes >= UNSYNCED_BYTES_MAX;
        let wish = if durable && eager {
            SyncWish::Now
        } else if unsynced >= inner.settings.flush_messages || (durable && awaited) {
            SyncWish::Soon
        } else if durable {
            SyncWish::Later
        } else {
            return;
        };
        self.observer.wants_flush(self, wish);
    }

    /// Leader epoch that a request must match. -1 from a client means that it does not care.
    pub(crate) fn check_leader(inner: &Inner, asked: LeaderEpoch) -> Result<LeaderEpoch, PartitionError> {
        let current = inner.replica.leadership().ok_or(PartitionError::NotLeader)?.epoch;
        if asked == LeaderEpoch::NONE || asked == current {
            Ok(current)
        } else if asked < current {
            Err(PartitionError::FencedEpoch { asked, current })
        } else {
            Err(PartitionError::UnknownEpoch { asked, current })
        }
    }

    /// Wakes `waiter` when the high watermark passes `beyond` or the partition stops being led or goes offline
    /// here.
    pub fn watch(self: &Arc<Self>, beyond: Offset, waiter: &Arc<Waiter>) {
        let mut inner = self.lock();
        let is_over = inner.replica.leadership().is_none() || inner.failure().is_some();
        if is_over || inner.replica.high_watermark() > beyond {
            waiter.wake();
            return;
        }
        inner.waiters.add(beyond, waiter);
        let durable = inner.replica.durability() == Durability::Durable;
        if durable && inner.open_log().is_some_and(|log| log.is_dirty()) {
            self.observer.wants_flush(self, SyncWish::Soon);
        }
    }

    /// Runs the log's own housekeeping: retention, roll by time, removal of files whose delay is over.
    /// Returns the paths that may now be deleted, and whether the start offset moved.
    pub fn maintain(self: &Arc<Self>, now_ms: i64) -> Result<Maintained, PartitionError> {
        let mut inner = self.lock();
        let high_watermark = inner.replica.high_watermark();
        if matches!(inner.log, Slot::Failed(_) | Slot::Retired) {
            return Ok(Maintained::default());
        }
        let log = self.log(&mut inner, now_ms)?;
        let before = log.start_offset();
        let removed = log.apply_retention(now_ms, high_watermark);
        let removed = removed.map_err(|error| self.write_error(&mut inner, error))?;
        let Some(log) = inner.open_log() else { return Ok(Maintained::default()) };
        let start_moved = log.start_offset() > before;
        if log.next_removal_ms().is_some_and(|due| due <= now_ms) {
            log.remove_deleted(now_ms).map_err(|error| PartitionError::Storage(error.to_string()))?;
        }
        Ok(Maintained { start_moved, removed_segments: removed.len() })
    }

    /// Bytes of the log.
    ///
    /// # Errors
    /// The log failed or cannot be opened.
    pub fn size_bytes(&self, now_ms: i64) -> Result<u64, PartitionError> {
        let mut inner = self.lock();
        Ok(self.log(&mut inner, now_ms)?.size_bytes())
    }

    /// Opens the log if it is closed, recovering it where needed.
    ///
    /// # Errors
    /// The log failed or cannot be opened.
    pub fn open_now(&self, now_ms: i64) -> Result<(), PartitionError> {
        let mut inner = self.lock();
        self.log(&mut inner, now_ms).map(|_| ())
    }

    /// Its name in the checkpoints of its log directory.
    pub(crate) fn name(&self) -> TopicPartition {
        TopicPartition::new(&self.key.topic, self.key.index)
    }

    /// Runs `f` on the log if it is open; a closed log stays closed.
    pub fn with_open_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        match &mut self.lock().log {
            Slot::Open(log) => Some(f(log)),
            Slot::Closed | Slot::Failed(_) | Slot::Retired => None,
        }
    }

    /// Why the partition is offline here, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.lock().failure().map(str::to_owned)
    }
}

/// What [`Partition::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The log's start offset moved: the checkpoint is out of date.
    pub start_moved: bool,
    /// Segments that retention gave up.
    pub removed_segments: usize,
}
