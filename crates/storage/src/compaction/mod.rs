//! Compaction: the last record of every key stays, the others go, offsets never change. One cleaning of one log: the dirty
//! part is read into a table of keys, of bounded size; then all segments up to there are copied without what is out of date,
//! several small ones into one, and swapped in one after the other, from the start of the log on. A value is out of date only
//! when a later record of its key stands in the log, and that one (a tombstone too) goes only in this or a later cleaning, in
//! this or a later swap: so a crash between two swaps never brings a deleted key back.
//!
//! Knows no clock and no lock: time is an argument, the log's owner plans and swaps under its lock, and a callback told of all
//! bytes read and written throttles or stops it.

mod batches;
mod filter;
pub mod keys;
mod transactions;
mod writer;

use std::collections::HashSet;
use std::io;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchError, DecompressLimit, HEADER_BYTES, rewrite::RewriteError};

use crate::log::{CleaningPlan, DamagedRange, Log, LogError, Source, Swapped, is_no_space};
use crate::segment::{RELATIVE_MAX, Segment, SegmentError, segment_path};

use batches::SegmentBatches;
use filter::{Filter, Outcome};
pub use keys::KeyHash;
use keys::OffsetMap;
use transactions::{Fate, Transactions};
use writer::Writer;

/// What a cleaning may use, and its time.
#[derive(Clone, Debug)]
pub struct CleaningOptions {
    /// `log.cleaner.dedupe.buffer.size`: bytes of the table of keys.
    pub dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`: how full that table gets.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`: half of it is read at once and half written; more where a batch is larger.
    pub io_buffer_bytes: usize,
    /// Hashes the keys.
    pub hash: KeyHash,
    /// Now, in ms since 1970.
    pub now_ms: i64,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleaningStats {
    /// Bytes read, by both passes.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes of the segments that were replaced.
    pub replaced_bytes: u64,
    /// Bytes of those in their place.
    pub kept_bytes: u64,
}

/// Why a cleaning ended early. The log is as before, or has some of its first segments cleaned.
#[derive(Debug, thiserror::Error)]
pub enum CleaningError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// The log was truncated or retention took a segment: a new cleaning may follow.
    #[error("the log has changed meanwhile")]
    Stale,
    /// No space for the new segment.
    #[error("no space left for cleaned segments")]
    NoSpace,
    /// A batch cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A batch's records.
    #[error("a batch cannot be cleaned: {0}")]
    Batch(#[from] RewriteError),
}

impl From<BatchError> for CleaningError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error.into())
    }
}

/// Told of bytes read and written; false: stop. It may wait.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// A cleaning under way. Made by [`Cleaning::prepare`]; then for each of [`Cleaning::group_count`]: [`Cleaning::copy`] without
/// the log's lock and [`Cleaning::swap`] under it; then [`Cleaning::finish`].
pub struct Cleaning {
    plan: CleaningPlan,
    filter: Filter,
    groups: Vec<Vec<Source>>,
    io_bytes: usize,
    stats: CleaningStats,
}

/// A segment that waits to be swapped in; `None` where all stays as it is.
#[derive(Debug)]
#[must_use = "hand it to Cleaning::swap"]
pub struct Copied(Option<Segment>);

impl std::fmt::Debug for Cleaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cleaning({}, {} groups)", self.plan.dir.display(), self.groups.len())
    }
}

impl Cleaning {
    /// Reads the dirty part: which transactions were aborted, and the last offset of each key, as far as the table holds them.
    ///
    /// # Errors
    /// See [`CleaningError`].
    pub fn prepare(
        plan: CleaningPlan,
        options: &CleaningOptions,
        pace: &mut Pace<'_>,
    ) -> Result<Self, CleaningError> {
        let io_bytes = (options.io_buffer_bytes / 2).max(HEADER_BYTES);
        let (transactions, records) = read_transactions(&plan)?;
        let hash = options.hash.clone();
        let map = OffsetMap::new(hash, options.dedupe_buffer_bytes, options.load_factor, records);
        let mut cleaning = Self {
            filter: Filter {
                map,
                map_end: plan.end,
                transactions,
                last_batches: plan.last_batches.clone(),
                now_ms: options.now_ms,
                delete_retention_ms: plan.config.delete_retention_ms,
                in_transaction: HashSet::new(),
            },
            groups: Vec::new(),
            io_bytes,
            stats: CleaningStats::default(),
            plan,
        };
        cleaning.fill_map(pace)?;
        cleaning.groups = group(&cleaning.plan, cleaning.filter.map_end);
        cleaning.plan.allow_gaps().map_err(|error| write_error(error, "cannot note where gaps are"))?;
        Ok(cleaning)
    }

    fn fill_map(&mut self, pace: &mut Pace<'_>) -> Result<(), CleaningError> {
        let Self { plan, filter, .. } = self;
        for source in plan.sources.iter().filter(|source| source.next_offset > plan.first_dirty) {
            let mut batches =
                SegmentBatches::new(source, self.io_bytes).map_err(|e| error_in(plan, source, e))?;
            loop {
                let batch = batches.next_batch().map_err(|error| error_in(plan, source, error))?;
                let Some(batch) = batch else { break };
                let header = &batch.header;
                if header.last_offset() >= plan.first_dirty
                    && !header.attributes.is_control()
                    && filter.transactions.fate(header) == Fate::Settled
                {
                    let mut records = batch.batch().records(DecompressLimit::default())?;
                    while let Some(record) = records.next_record()? {
                        let offset = header.offset_of_delta(record.offset_delta);
                        let Some(key) = record.key.filter(|_| offset >= plan.first_dirty) else { continue };
                        if !filter.map.put(key, offset) {
                            filter.map_end = offset;
                            return Ok(());
                        }
                    }
                }
                let read_bytes = batches.take_read_bytes();
                self.stats.read_bytes += read_bytes;
                if !pace(read_bytes) {
                    return Err(CleaningError::Stopped);
                }
            }
        }
        Ok(())
    }

    /// How many segments will be written.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Writes the segment that is to replace the group of that index, durably.
    ///
    /// # Errors
    /// See [`CleaningError`]; nothing is left behind then.
    pub fn copy(&mut self, index: usize, pace: &mut Pace<'_>) -> Result<Copied, CleaningError> {
        let group = self.groups[index].clone();
        let new_error = |error| write_error(error, "cannot begin a cleaned segment");
        let mut writer = Writer::new(&self.plan, group[0].base_offset, self.io_bytes).map_err(new_error)?;
        match self.copy_group(&group, &mut writer, pace) {
            Ok(is_changed) if is_changed || group.len() > 1 => {
                self.stats.replaced_bytes += group.iter().map(|source| source.size_bytes).sum::<u64>();
                self.stats.kept_bytes += writer.size_bytes();
                let finished = writer.finish();
                let segment = finished.map_err(|e| write_error(e, "cannot write a cleaned segment"))?;
                Ok(Copied(Some(segment)))
            }
            Ok(_) => {
                writer.discard();
                Ok(Copied(None))
            }
            Err(error) => {
                writer.discard();
                Err(error)
            }
        }
    }

    /// Whether anything differs.
    fn copy_group(
        &mut self,
        group: &[Source],
        writer: &mut Writer,
        pace: &mut Pace<'_>,
    ) -> Result<bool, CleaningError> {
        let Self { plan, filter, stats, .. } = self;
        let mut is_changed = false;
        // What a delete horizon may add before positions no longer fit the index.
        let mut room = RELATIVE_MAX as u64 - group.iter().map(|source| source.size_bytes).sum::<u64>();
        let last_with_data = group.iter().rposition(|source| source.size_bytes > 0);
        for (index, source) in group.iter().enumerate() {
            let mut batches =
                SegmentBatches::new(source, self.io_bytes).map_err(|e| error_in(plan, source, e))?;
            loop {
                let batch = batches.next_batch().map_err(|error| error_in(plan, source, error))?;
                let Some(batch) = batch else { break };
                let before = writer.size_bytes();
                let ends_group = batch.is_last && Some(index) == last_with_data;
                let outcome = match filter.judge(&batch, ends_group)? {
                    Outcome::Changed(header, _) if !takes_room(&mut room, &header, batch.bytes.len()) => {
                        Outcome::Whole
                    }
                    other => other,
                };
                is_changed |= !matches!(outcome, Outcome::Whole);
                let pushed = match &outcome {
                    Outcome::Whole => writer.push(&batch.header, batch.payload()),
                    Outcome::Changed(header, payload) => writer.push(header, payload),
                    Outcome::Gone => Ok(()),
                };
                pushed.map_err(|error| write_error(error, "cannot write a cleaned segment"))?;
                let read_bytes = batches.take_read_bytes();
                let written_bytes = writer.size_bytes() - before;
                stats.read_bytes += read_bytes;
                stats.written_bytes += written_bytes;
                if !pace(read_bytes + written_bytes) {
                    return Err(CleaningError::Stopped);
                }
            }
        }
        Ok(is_changed)
    }

    /// Puts what was copied in its place.
    ///
    /// # Errors
    /// `Stale` when the log changed meanwhile, `Log`.
    pub fn swap(&mut self, log: &mut Log, index: usize, copied: Copied) -> Result<(), CleaningError> {
        let Some(segment) = copied.0 else {
            return if log.is_stale(&self.plan) { Err(CleaningError::Stale) } else { Ok(()) };
        };
        let base_offset = segment.base_offset;
        let swapped = log.swap(&self.plan, &self.groups[index], segment, self.filter.now_ms);
        if !matches!(swapped, Ok(Swapped::Done)) {
            writer::remove(log.files(), &self.plan.dir, base_offset);
        }
        match swapped? {
            Swapped::Done => Ok(()),
            Swapped::Stale => Err(CleaningError::Stale),
        }
    }

    /// Makes the new names durable. Without the log's lock.
    ///
    /// # Errors
    /// `Log`.
    pub fn sync_names(&self) -> Result<(), CleaningError> {
        let synced = self.plan.descriptors.files().sync_dir(&self.plan.dir);
        synced.map_err(|error| write_error(error, "cannot sync the names of cleaned segments"))
    }

    /// All groups are swapped: the log is clean up to what comes back.
    pub fn finish(&self, log: &mut Log) -> Offset {
        log.note_cleaned(&self.plan, self.filter.map_end);
        log.cleaned_to()
    }

    /// A copy that is not swapped in after all, as when the log was closed meanwhile.
    pub fn discard(&self, copied: Copied) {
        if let Some(segment) = copied.0 {
            segment.retire();
            writer::remove(&**self.plan.descriptors.files(), &self.plan.dir, segment.base_offset);
        }
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> CleaningStats {
        self.stats
    }
}

/// Whether a batch of `len` bytes may become one of `header`; what it grows by is taken from `room`.
fn takes_room(room: &mut u64, header: &ottla_protocol::records::BatchHeader, len: usize) -> bool {
    let growth = header.size_bytes().saturating_sub(len) as u64;
    let left = room.checked_sub(growth);
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// The aborted transactions of the dirty part, and how many records it has. Below, earlier cleanings have seen to them.
fn read_transactions(plan: &CleaningPlan) -> Result<(Transactions, u64), CleaningError> {
    let mut transactions = Transactions::default();
    let mut records = 0;
    for source in plan.sources.iter().filter(|source| source.next_offset > plan.first_dirty) {
        let walked =
            transactions.walk(source, |header| records += u64::from(header.records_count.unsigned_abs()));
        walked.map_err(|error| error_in(plan, source, error))?;
    }
    for source in &plan.rest {
        if !transactions.is_open() {
            break;
        }
        transactions.walk(source, |_| {}).map_err(|error| error_in(plan, source, error))?;
    }
    transactions.close();
    Ok((transactions, records))
}

/// Segments that go into one, as many as `segment.bytes`, its index and 31 bits allow; none that begins at or above `end`.
fn group(plan: &CleaningPlan, end: Offset) -> Vec<Vec<Source>> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    let segment_bytes = plan.config.segment_bytes.min(RELATIVE_MAX as u64);
    for source in plan.sources.iter().filter(|source| source.base_offset < end) {
        let fits = groups.last().is_some_and(|group| {
            let sum = |of: fn(&Source) -> u64| group.iter().map(of).sum::<u64>() + of(source);
            sum(|source| source.size_bytes) <= segment_bytes
                && sum(|source| source.index_bytes) <= plan.config.segment_index_bytes
                && source.next_offset.0 - group[0].base_offset.0 <= RELATIVE_MAX
        });
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.push(source.clone()),
            None => groups.push(vec![source.clone()]),
        }
    }
    groups.retain(|group| group.iter().any(|source| source.size_bytes > 0));
    groups
}

fn error_in(plan: &CleaningPlan, source: &Source, error: impl Into<SegmentError>) -> CleaningError {
    let path = segment_path(&plan.dir, source.base_offset, "log").display().to_string();
    CleaningError::Log(match error.into() {
        SegmentError::Io(error) => LogError::io(format!("cannot read {path}"), error),
        SegmentError::Bad { position, why } => LogError::Damaged(Box::new(DamagedRange {
            file: path,
            position,
            from: source.base_offset,
            until: None,
            why: why.to_string(),
        })),
    })
}

fn write_error(error: io::Error, what: &str) -> CleaningError {
    if is_no_space(&error) { CleaningError::NoSpace } else { CleaningError::Log(LogError::io(what, error)) }
}
