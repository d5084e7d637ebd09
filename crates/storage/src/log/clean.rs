//! The log's side of compaction: what may be cleaned, and the swap of cleaned segments for those that they replace. The work
//! between the two is done beside the log, without its owner's lock; see [`crate::compaction`].
//!
//! The names, as Kafka gives them: the new segment is written as `.log.cleaned`, synced, renamed to `.log.swap`, and that
//! decides: until then a crash leaves the old segments, from then on opening the log finishes the swap. Its last batch is
//! where the replaced segments ended, so that the file alone says which ones those are. `.log.swap` becomes `.log` last.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::ids::{Offset, ProducerId};

use super::trim::newest_ms;
use super::{Log, LogConfig, LogError, is_no_space};
use crate::checkpoint;
use crate::descriptors::{DescriptorSlot, Descriptors};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::segment::{Segment, segment_path};

/// What follows the names of a segment that is being written, and of one that waits for its place.
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";
pub(crate) const SWAP_SUFFIX: &str = ".swap";
/// The file that says below which offset a log may have gaps. It is durable before the first gap is, and stays when the
/// topic is not compacted any more: elsewhere a gap is a loss, and opening the log must tell the two apart.
pub(crate) const GAPS_FILE: &str = "compacted-below";
/// A segment's files that are swapped; the one that decides is the last.
pub(crate) const SWAPPED_EXTENSIONS: [&str; 3] = ["index", "timeindex", "log"];

/// What of a log a cleaning would look at, as Kafka counts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    /// Where the dirty part begins.
    pub first_dirty: Offset,
    /// Where what can be cleaned ends (exclusive): the end of a closed segment.
    pub end: Offset,
    /// Bytes of segments below the dirty part.
    pub clean_bytes: u64,
    /// Bytes of dirty segments that can be cleaned.
    pub dirty_bytes: u64,
    /// Something in it is older than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Cleanable {
    /// Dirty bytes among all, 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}

/// A segment that is read for a cleaning.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) size_bytes: u64,
    /// Of the larger of its indexes.
    pub(crate) index_bytes: u64,
    pub(crate) log: Arc<DescriptorSlot>,
}

impl Source {
    fn of(segment: &Segment, next_offset: Offset) -> io::Result<Self> {
        let offsets = segment.offsets.len()? * OffsetEntry::BYTES;
        let times = segment.times.len()? * TimeEntry::BYTES;
        Ok(Self {
            base_offset: segment.base_offset,
            next_offset,
            size_bytes: segment.size_bytes,
            index_bytes: offsets.max(times) as u64,
            log: Arc::clone(&segment.log),
        })
    }

    /// Whether `segment` is still what this was made of.
    fn is(&self, segment: &Segment) -> bool {
        Arc::ptr_eq(&self.log, &segment.log) && self.size_bytes == segment.size_bytes
    }
}

/// What one cleaning of a log works on; made under the owner's lock, used without it.
#[derive(Debug)]
pub struct CleaningPlan {
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    /// Closed segments from the log's first on, that end at or below `end`.
    pub(crate) sources: Vec<Source>,
    /// What follows, for the ends of transactions.
    pub(crate) rest: Vec<Source>,
    pub(crate) first_dirty: Offset,
    pub(crate) end: Offset,
    /// Of each producer its epoch and the last offset of its last batch.
    pub(crate) last_batches: HashMap<ProducerId, (i16, Option<Offset>)>,
    gaps_below: Offset,
    truncations: u64,
}

/// When a plan was made, as counted in truncations of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanStamp(u64);

impl CleaningPlan {
    /// When it was made; see [`Log::is_cut_since`].
    #[must_use]
    pub fn stamp(&self) -> PlanStamp {
        PlanStamp(self.truncations)
    }

    /// Writes down, durably, where gaps are lawful. Before the first swap.
    pub(crate) fn allow_gaps(&self) -> io::Result<()> {
        if self.gaps_below >= self.end {
            return Ok(());
        }
        let text = format!("{}\n", self.end);
        checkpoint::write_atomically(&**self.descriptors.files(), &self.dir.join(GAPS_FILE), text.as_bytes())
    }
}

/// How a swap went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The log has the cleaned segment.
    Done,
    /// The log has changed meanwhile (truncation, retention): it stays as it is.
    Stale,
}

impl Log {
    /// What compaction has to look at next, for the checkpoint.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.cleaned_to
    }

    /// What could be cleaned of what lies below `upper` (the high watermark). Cheap where nothing can.
    ///
    /// # Errors
    /// `Io`, `Damaged` when a segment's age cannot be read.
    pub fn cleanable(&self, upper: Offset, now_ms: i64) -> Result<Cleanable, LogError> {
        let first_dirty = self.cleaned_to.max(self.start_offset);
        let mut found =
            Cleanable { first_dirty, end: first_dirty, clean_bytes: 0, dirty_bytes: 0, is_overdue: false };
        if self.segments.back().is_none_or(|active| active.base_offset <= first_dirty) {
            return Ok(found);
        }
        let limit = self.cleaning_limit(upper);
        let LogConfig { min_compaction_lag_ms, max_compaction_lag_ms, .. } = self.config;
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            if next.base_offset > limit {
                break;
            }
            if next.base_offset <= first_dirty {
                found.clean_bytes += segment.size_bytes;
                continue;
            }
            let damaged = |error| self.segment_error(segment, segment.base_offset, error);
            if min_compaction_lag_ms > 0
                && newest_ms(segment).map_err(damaged)? > now_ms.saturating_sub(min_compaction_lag_ms)
            {
                break;
            }
            found.dirty_bytes += segment.size_bytes;
            found.end = next.base_offset;
            if max_compaction_lag_ms < i64::MAX
                && let Some(first) = segment.read_first_timestamp().map_err(damaged)?
            {
                found.is_overdue |= first >= 0 && now_ms.saturating_sub(first) > max_compaction_lag_ms;
            }
        }
        Ok(found)
    }

    /// Nothing from here on is cleaned: not durable, in an open transaction, or in a segment that waits for its first sync.
    fn cleaning_limit(&self, upper: Offset) -> Offset {
        let unsynced =
            self.rolled().iter().find(|rolled| rolled.is_unsynced()).map(|rolled| rolled.end.plus(-1));
        let open = self.producers.first_open_offset();
        upper.min(self.durable_offset).min(unsynced.unwrap_or(upper)).min(open.unwrap_or(upper))
    }

    /// Closes the active segment of a compacted log when its first record is older than `max.compaction.lag.ms`, so that it
    /// can be cleaned though nothing is appended any more. True when it did.
    ///
    /// # Errors
    /// As [`Log::roll`].
    pub fn roll_overdue(&mut self, now_ms: i64) -> Result<bool, LogError> {
        let LogConfig { compact_enabled, max_compaction_lag_ms, .. } = self.config;
        let Some(active) = self.segments.back().filter(|active| active.size_bytes > 0) else {
            return Ok(false);
        };
        let first = active.first_timestamp.filter(|&first| first >= 0);
        let age_ms = first.map_or(0, |first| now_ms.saturating_sub(first));
        if !compact_enabled || age_ms <= max_compaction_lag_ms {
            return Ok(false);
        }
        self.roll(now_ms).map(|()| true)
    }

    /// A cleaning of what [`Log::cleanable`] says; `None` when there is nothing.
    ///
    /// # Errors
    /// As [`Log::cleanable`]; `Failed`.
    pub fn plan_cleaning(&self, upper: Offset, now_ms: i64) -> Result<Option<CleaningPlan>, LogError> {
        self.check_usable()?;
        let cleanable = self.cleanable(upper, now_ms)?;
        if cleanable.dirty_bytes == 0 || !self.config.compact_enabled {
            return Ok(None);
        }
        let nexts = self.segments.iter().skip(1).map(|next| next.base_offset).chain([self.end_offset]);
        let sources: io::Result<Vec<Source>> =
            self.segments.iter().zip(nexts).map(|(segment, next)| Source::of(segment, next)).collect();
        let mut sources = sources.map_err(|error| LogError::io("cannot read an index", error))?;
        let count = sources.iter().take_while(|source| source.next_offset <= cleanable.end).count();
        let rest = sources.split_off(count);
        let last_batches = self.producers.last_batches().map(|(id, epoch, last)| (id, (epoch, last)));
        Ok(Some(CleaningPlan {
            descriptors: Arc::clone(&self.descriptors),
            dir: self.dir.clone(),
            config: self.config.clone(),
            sources,
            rest,
            first_dirty: cleanable.first_dirty,
            end: cleanable.end,
            last_batches: last_batches.collect(),
            gaps_below: self.gaps_below,
            truncations: self.truncations,
        }))
    }

    /// Whether the log was cut since the plan was made: what was read since means nothing.
    pub(crate) fn is_stale(&self, plan: &CleaningPlan) -> bool {
        self.is_cut_since(plan.stamp())
    }

    /// Whether the log was cut since the plan of that stamp was made.
    #[must_use]
    pub fn is_cut_since(&self, stamp: PlanStamp) -> bool {
        self.truncations != stamp.0
    }

    /// Puts `cleaned` in the place of the segments in `group`, whose offsets it covers. Renames only; the names are durable
    /// with the next sync of the directory.
    ///
    /// # Errors
    /// `Io` before anything has changed, `Failed` after.
    pub(crate) fn swap(
        &mut self,
        plan: &CleaningPlan,
        group: &[Source],
        cleaned: Segment,
        now_ms: i64,
    ) -> Result<Swapped, LogError> {
        self.check_usable()?;
        let first = self.segments.iter().position(|segment| group.first().is_some_and(|s| s.is(segment)));
        let is_same = |first: usize| {
            let here = self.segments.iter().skip(first).take(group.len());
            first + group.len() < self.segments.len()
                && group.iter().zip(here).all(|(source, segment)| source.is(segment))
        };
        let Some(first) = first.filter(|&first| !self.is_stale(plan) && is_same(first)) else {
            return Ok(Swapped::Stale);
        };
        let base_offset = cleaned.base_offset;
        for extension in SWAPPED_EXTENSIONS {
            let renamed = self.rename_suffixed(base_offset, extension, CLEANED_SUFFIX, SWAP_SUFFIX);
            renamed.map_err(|error| LogError::io("cannot rename a cleaned segment", error))?;
        }
        if let Err(error) = self.replace(first, group.len(), &cleaned, now_ms) {
            return Err(self.fence("cannot put a cleaned segment in its place", &error));
        }
        cleaned.moved_to(&self.dir);
        self.segments.drain(first..first + group.len());
        self.segments.insert(first, cleaned);
        self.gaps_below = self.gaps_below.max(plan.end);
        self.is_changed = true;
        self.unsynced.dir = true;
        Ok(Swapped::Done)
    }

    fn replace(&mut self, first: usize, count: usize, cleaned: &Segment, now_ms: i64) -> io::Result<()> {
        // Descriptors of files that are about to be replaced are not opened again under their names.
        self.segments[first].retire();
        for index in (first + 1..first + count).rev() {
            let Some(segment) = self.segments.remove(index) else { break };
            let renamed = self.rename_deleted(&segment, now_ms);
            self.segments.insert(index, segment);
            renamed?;
        }
        SWAPPED_EXTENSIONS
            .iter()
            .try_for_each(|extension| self.rename_suffixed(cleaned.base_offset, extension, SWAP_SUFFIX, ""))
    }

    fn rename_suffixed(&self, base_offset: Offset, extension: &str, from: &str, to: &str) -> io::Result<()> {
        let path = |suffix: &str| segment_path(&self.dir, base_offset, &format!("{extension}{suffix}"));
        self.files().rename(&path(from), &path(to))
    }

    /// A cleaning has come up to `offset`.
    pub(crate) fn note_cleaned(&mut self, plan: &CleaningPlan, offset: Offset) {
        if !self.is_stale(plan) {
            self.cleaned_to = self.cleaned_to.max(offset);
        }
    }

    /// Writes down, durably, that there may be gaps below `offset`, if that is not known; `further`, if higher, is noted instead.
    pub(super) fn allow_gaps(&mut self, offset: Offset, further: Offset) -> Result<(), LogError> {
        if offset <= self.gaps_below {
            return Ok(());
        }
        let below = offset.max(further);
        let text = format!("{below}\n");
        match checkpoint::write_atomically(self.files(), &self.dir.join(GAPS_FILE), text.as_bytes()) {
            Ok(()) => self.gaps_below = below,
            Err(error) if is_no_space(&error) => return Err(LogError::NoSpace),
            Err(error) => return Err(LogError::io(format!("cannot write {GAPS_FILE}"), error)),
        }
        Ok(())
    }

    /// Whether nothing need stand between what ends before `offset` and what begins there.
    pub(crate) fn may_have_gap_before(&self, offset: Offset) -> bool {
        self.config.compact_enabled || offset <= self.gaps_below
    }
}

/// Reads the file that says where gaps are lawful. One that cannot be understood allows them everywhere: opening a log must
/// not call lawful gaps a loss.
pub(crate) fn read_gaps_below(log: &Log) -> io::Result<Offset> {
    let Some(bytes) = checkpoint::read_whole(log.files(), &log.dir.join(GAPS_FILE))? else {
        return Ok(Offset(0));
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().parse().map_or(Offset(i64::MAX), Offset))
}
