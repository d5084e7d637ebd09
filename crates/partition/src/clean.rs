//! Compaction of a partition's log: planned and swapped under the partition's lock, copied without it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_protocol::ids::Offset;
use ottla_storage::compaction::{Cleaning, CleaningError, CleaningOptions, CleaningStats, Pace};
use ottla_storage::log::{Cleanable, LogError};

use crate::error::Fault;
use crate::partition::{Inner, Partition};

/// Lets one cleaning in at a time, and none once the partition is retired.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Held during a cleaning, taken before the flush lock and the partition's.
    running: Mutex<()>,
    is_closed: AtomicBool,
    /// Guards nothing; `closing` needs it.
    waiting: Mutex<()>,
    closing: Condvar,
}

impl Gate {
    /// No cleaning begins any more; comes back when the one under way has ended.
    pub(crate) fn close(&self) -> MutexGuard<'_, ()> {
        {
            let _waiting = lock(&self.waiting);
            self.is_closed.store(true, Ordering::Release);
        }
        self.closing.notify_all();
        lock(&self.running)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

/// Nothing is behind these locks that could be left half changed.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a partition has for the cleaner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirty {
    /// Bytes and offsets.
    pub cleanable: Cleanable,
    /// The log's `min.cleanable.dirty.ratio`.
    pub min_ratio: f64,
}

impl Dirty {
    /// Whether it is to be cleaned: Kafka's rule.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.cleanable.dirty_bytes > 0
            && (self.cleanable.is_overdue || self.cleanable.dirty_ratio() > self.min_ratio)
    }
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Bytes read, written and replaced.
    pub stats: CleaningStats,
    /// What is to be looked at next.
    pub cleaned_to: Offset,
}

impl Partition {
    /// What of the log could be cleaned; `None` when the log is not open, or is not compacted. Closes a segment that is older than
    /// `max.compaction.lag.ms`.
    ///
    /// # Errors
    /// What of the log cannot be read.
    pub fn dirty(&self, now_ms: i64) -> Result<Option<Dirty>, LogError> {
        let mut inner = self.lock();
        let high_watermark = inner.replica.high_watermark();
        let Some(log) = inner.open_log().filter(|log| log.config().compact_enabled) else { return Ok(None) };
        match log.roll_overdue(now_ms) {
            Ok(_) | Err(LogError::NoSpace) => {}
            Err(error) => {
                self.write_error(&mut inner, error.clone());
                return Err(error);
            }
        }
        let Some(log) = inner.open_log() else { return Ok(None) };
        let cleanable = log.cleanable(high_watermark, now_ms)?;
        Ok(Some(Dirty { cleanable, min_ratio: log.config().min_cleanable_dirty_ratio }))
    }

    /// Cleans the log once; `None` when there is nothing to clean. Appends, fetches and flushes go on meanwhile. `pace` is told of
    /// the bytes that are read and written and may wait (see [`Partition::wait_unless_retired`]); false: stop.
    ///
    /// # Errors
    /// See [`CleaningError`]; `Stale` and `Stopped` are no fault of the log's.
    pub fn clean(
        &self,
        options: &CleaningOptions,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Cleaned>, CleaningError> {
        let _running = lock(&self.cleaning.running);
        if self.cleaning.is_closed() {
            return Err(CleaningError::Stopped);
        }
        let plan = {
            let mut inner = self.lock();
            let high_watermark = inner.replica.high_watermark();
            let Some(log) = inner.open_log() else { return Err(CleaningError::Stopped) };
            log.plan_cleaning(high_watermark, options.now_ms)?
        };
        let Some(plan) = plan else { return Ok(None) };
        let mut pace = |bytes| pace(bytes) && !self.cleaning.is_closed();
        let stamp = plan.stamp();
        let cleaned = Cleaning::prepare(plan, options, &mut pace).and_then(|mut cleaning| {
            self.clean_groups(&mut cleaning, &mut pace)?;
            let mut inner = self.lock();
            let Some(log) = inner.open_log() else { return Err(CleaningError::Stopped) };
            let cleaned_to = cleaning.finish(log);
            Ok(Cleaned { stats: cleaning.stats(), cleaned_to })
        });
        match cleaned {
            Ok(cleaned) => Ok(Some(cleaned)),
            // What was read of a log that was cut meanwhile may look like damage.
            Err(_) if self.lock().open_log().is_some_and(|log| log.is_cut_since(stamp)) => {
                Err(CleaningError::Stale)
            }
            Err(error) => Err(error),
        }
    }

    fn clean_groups(&self, cleaning: &mut Cleaning, pace: &mut Pace<'_>) -> Result<(), CleaningError> {
        for index in 0..cleaning.group_count() {
            let copied = cleaning.copy(index, pace)?;
            {
                let mut inner = self.lock();
                if !can_write(&inner) {
                    cleaning.discard(copied);
                    return Err(CleaningError::Stopped);
                }
                let Some(log) = inner.open_log() else {
                    cleaning.discard(copied);
                    return Err(CleaningError::Stopped);
                };
                let swapped = cleaning.swap(log, index, copied);
                if let Some(why) = log.fenced().filter(|_| swapped.is_err()).map(str::to_owned) {
                    self.fail(&mut inner, Fault::Write, &why);
                }
                swapped?;
            }
            cleaning.sync_names()?;
        }
        Ok(())
    }

    /// Waits so long; false at once when the partition is retired.
    pub fn wait_unless_retired(&self, pause: Duration) -> bool {
        let waiting = lock(&self.cleaning.waiting);
        let open = |_: &mut ()| !self.cleaning.is_closed();
        drop(self.cleaning.closing.wait_timeout_while(waiting, pause, open));
        !self.cleaning.is_closed()
    }
}

/// Nothing is changed in a log directory that is offline.
fn can_write(inner: &Inner) -> bool {
    inner.directory.as_ref().is_none_or(|directory| directory.fenced().is_none())
}
