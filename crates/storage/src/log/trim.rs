//! Taking away from a log: retention and DeleteRecords at its start, truncation at its end. Files are renamed first and
//! removed later, by a call of the owner's.

use std::io;
use std::path::PathBuf;

use ottla_protocol::ids::Offset;

use super::rolled::UNSYNCED_MARK;
use super::{Log, LogError, is_no_space};
use crate::producers::snapshot_offset;
use crate::segment::{Segment, SegmentError, segment_path};

/// What a segment's files are called once they are out of the log.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
/// A segment's files beside its `.log`.
pub(crate) const SIDE_EXTENSIONS: [&str; 5] = ["index", "timeindex", "txnindex", "snapshot", UNSYNCED_MARK];

/// A segment that went out of the log; its files are removed after the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedSegment {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// Bytes of its `.log`.
    pub size_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Deleted {
    due_ms: i64,
    path: PathBuf,
}

impl Log {
    /// DeleteRecords: the log starts at `offset`, which is at most its end; segments wholly below go. The owner writes the
    /// new [`Log::start_offset`] down durably before anybody is told. An offset at or below the start changes nothing.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the end; `Io`.
    pub fn advance_start_offset(
        &mut self,
        offset: Offset,
        now_ms: i64,
    ) -> Result<Vec<RemovedSegment>, LogError> {
        if offset > self.end_offset {
            let (start, end) = (self.start_offset, self.end_offset);
            return Err(LogError::OffsetOutOfRange { asked: offset, start, end });
        }
        if offset > self.start_offset {
            self.set_start(offset);
        }
        self.remove_below_start(now_ms)
    }

    fn remove_below_start(&mut self, now_ms: i64) -> Result<Vec<RemovedSegment>, LogError> {
        let start = self.start_offset;
        let count = self.segments.iter().skip(1).take_while(|next| next.base_offset <= start).count();
        self.remove_first(count, now_ms)
    }

    /// Deletes what `retention.ms` and `retention.bytes` let go and what lies below the start, but nothing at or above
    /// `high_watermark`. When everything has expired the active segment is closed and goes too.
    ///
    /// # Errors
    /// `Io`, `Damaged` (what cannot be read has no age), `Failed`.
    pub fn apply_retention(
        &mut self,
        now_ms: i64,
        high_watermark: Offset,
    ) -> Result<Vec<RemovedSegment>, LogError> {
        let mut removed = self.remove_below_start(now_ms)?;
        if !self.config.delete_enabled {
            return Ok(removed);
        }
        let mut count = self.expired_count(now_ms, high_watermark)?.max(self.excess_count(high_watermark));
        if count > 0 && count == self.segments.len() {
            match self.roll(now_ms) {
                Ok(()) => {}
                // Without room for a new segment the last one stays.
                Err(LogError::NoSpace) => count -= 1,
                Err(error) => return Err(error),
            }
        }
        removed.extend(self.remove_first(count, now_ms)?);
        Ok(removed)
    }

    /// How many segments from the start may go as far as the high watermark is concerned. An empty one never.
    fn removable_count(&self, high_watermark: Offset) -> usize {
        let ends = self.segments.iter().skip(1).map(|next| next.base_offset).chain([self.end_offset]);
        let is_removable =
            |(segment, end): &(&Segment, Offset)| segment.size_bytes > 0 && *end <= high_watermark;
        self.segments.iter().zip(ends).take_while(is_removable).count()
    }

    fn expired_count(&self, now_ms: i64, high_watermark: Offset) -> Result<usize, LogError> {
        if self.config.retention_ms < 0 {
            return Ok(0);
        }
        for (index, segment) in self.segments.iter().take(self.removable_count(high_watermark)).enumerate() {
            let newest =
                newest_ms(segment).map_err(|e| self.segment_error(segment, segment.base_offset, e))?;
            if now_ms.saturating_sub(newest) <= self.config.retention_ms {
                return Ok(index);
            }
        }
        Ok(self.removable_count(high_watermark))
    }

    /// As many as can go while at least `retention.bytes` stay.
    fn excess_count(&self, high_watermark: Offset) -> usize {
        let Ok(retention_bytes) = u64::try_from(self.config.retention_bytes) else { return 0 };
        let mut excess = self.size_bytes().saturating_sub(retention_bytes);
        let fits = |segment: &&Segment| {
            let goes = segment.size_bytes <= excess;
            excess = excess.saturating_sub(segment.size_bytes);
            goes
        };
        self.segments.iter().take(self.removable_count(high_watermark)).take_while(fits).count()
    }

    /// Takes the first `count` segments out, oldest first, but never the last one.
    fn remove_first(&mut self, count: usize, now_ms: i64) -> Result<Vec<RemovedSegment>, LogError> {
        let mut removed = Vec::new();
        let count = count.min(self.segments.len().saturating_sub(1));
        if count == 0 {
            return Ok(removed);
        }
        // Names that stand for what follows must be on disk before those go.
        self.sync_names()?;
        self.write_snapshots_below(count)?;
        for _ in 0..count {
            let Some(segment) = self.segments.pop_front() else { break };
            if let Err(error) = self.rename_deleted(&segment, now_ms) {
                self.segments.push_front(segment);
                return Err(LogError::io("cannot take a segment out of the log", error));
            }
            removed.push(RemovedSegment { base_offset: segment.base_offset, size_bytes: segment.size_bytes });
        }
        if let Some(first) = self.segments.front() {
            let start = self.start_offset.max(first.base_offset);
            self.set_start(start);
        }
        Ok(removed)
    }

    /// What only the first `count` segments say about producers is on disk after this, in snapshots. Nothing to do unless
    /// one of them was closed since the last ticket.
    fn write_snapshots_below(&mut self, count: usize) -> Result<(), LogError> {
        let first_kept = self.segments.get(count).map_or(self.end_offset, |segment| segment.base_offset);
        let rolled = self.rolled();
        if rolled.iter().any(|rolled| rolled.end <= first_kept) {
            self.sync_all_data()?;
            for rolled in rolled {
                let written = rolled.write_side_files(self.files());
                written.map_err(|error| self.fence("cannot write a producer snapshot", &error))?;
            }
        }
        Ok(())
    }

    /// Notes of producers at a place that is cut off are never written.
    fn cancel_snapshots_above(&self, end: Offset) {
        self.rolled().iter().filter(|rolled| rolled.end > end).for_each(|rolled| rolled.cancel_snapshot());
    }

    fn set_start(&mut self, start: Offset) {
        self.start_offset = start;
        self.epochs_changed |= self.epochs.truncate_from_start(start);
        self.is_changed = true;
    }

    fn sync_names(&mut self) -> Result<(), LogError> {
        if self.unsynced.dir {
            self.files()
                .sync_dir(&self.dir)
                .map_err(|error| LogError::io(format!("cannot sync {}", self.dir.display()), error))?;
            self.unsynced.dir = false;
        }
        Ok(())
    }

    /// Renames a segment's files, the `.log` first: without it the others mean nothing.
    pub(super) fn rename_deleted(&mut self, segment: &Segment, now_ms: i64) -> io::Result<()> {
        segment.retire();
        let due_ms = now_ms.saturating_add(self.config.file_delete_delay_ms);
        for extension in std::iter::once("log").chain(SIDE_EXTENSIONS) {
            let path = segment_path(&self.dir, segment.base_offset, extension);
            let mut renamed = path.clone().into_os_string();
            renamed.push(DELETED_SUFFIX);
            match self.files().rename(&path, renamed.as_ref()) {
                Ok(()) => self.deleted.push(Deleted { due_ms, path: renamed.into() }),
                Err(error) if extension == "log" => return Err(error),
                // Side files may be absent; what stays is an orphan that the next opening removes.
                Err(_) => {}
            }
        }
        self.unsynced.dir = true;
        Ok(())
    }

    /// For what is durable when it returns, whatever an outstanding ticket has taken over.
    fn sync_all_names(&mut self) -> io::Result<()> {
        self.files().sync_dir(&self.dir)?;
        if let Some(parent) = self.dir.parent() {
            self.files().sync_dir(parent)?;
        }
        self.unsynced.dir = false;
        self.unsynced.parent = false;
        Ok(())
    }

    /// When [`Log::remove_deleted`] has something to do next, in ms.
    #[must_use]
    pub fn next_removal_ms(&self) -> Option<i64> {
        self.deleted.iter().map(|deleted| deleted.due_ms).min()
    }

    /// Removes the files of segments that went out of the log long enough ago.
    ///
    /// # Errors
    /// What the file system says first; the rest is removed nevertheless, and what failed is tried again next time.
    pub fn remove_deleted(&mut self, now_ms: i64) -> io::Result<()> {
        let mut outcome = Ok(());
        let deleted = std::mem::take(&mut self.deleted);
        for item in deleted {
            if item.due_ms > now_ms {
                self.deleted.push(item);
                continue;
            }
            match self.files().remove_file(&item.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.deleted.push(item);
                    outcome = outcome.and(Err(error));
                }
                _ => {}
            }
        }
        outcome
    }

    /// Where the log ends after [`Log::truncate_to`]: at `offset`, or before the batch that it lies in.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub fn truncation_point(&self, offset: Offset) -> Result<Offset, LogError> {
        if offset >= self.end_offset || self.segments.is_empty() {
            return Ok(offset.min(self.end_offset));
        }
        let point = self.batch_boundary(offset)?;
        // Below the start nothing counts: the log is empty at the start, or at `offset` if that is lower.
        Ok(if point < self.start_offset { offset.min(self.start_offset) } else { point })
    }

    fn batch_boundary(&self, offset: Offset) -> Result<Offset, LogError> {
        let segment = &self.segments[self.segment_index(offset)];
        let located = segment.locate(offset).map_err(|error| self.segment_error(segment, offset, error))?;
        Ok(located.map_or(offset, |batch| batch.base_offset.min(offset)))
    }

    /// Cuts everything at and above `offset`, durably; an offset inside a batch cuts the whole batch. Leader epochs that began at the
    /// new end or above go, also where there is nothing else to cut. If the recovery point
    /// that is written down lies above [`Log::truncation_point`], the owner lowers it before, so that a crash in between
    /// does not look like a loss.
    ///
    /// # Errors
    /// `Failed`: after an error in the middle the log is fenced.
    pub fn truncate_to(&mut self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        self.check_usable()?;
        if offset >= self.end_offset {
            self.epochs_changed |= self.epochs.truncate_from_end(self.end_offset);
            return Ok(());
        }
        if offset < self.start_offset || self.batch_boundary(offset)? < self.start_offset {
            return self.truncate_all_and_start_at(offset.min(self.start_offset), now_ms);
        }
        self.truncations += 1;
        self.is_changed = true;
        self.sync_all_data()?;
        let truncated = self.cut_files(offset, now_ms);
        self.after_truncation(truncated, now_ms)
    }

    fn cut_files(&mut self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        let index = self.segment_index(offset);
        let what = |error| LogError::io("cannot truncate the log", error);
        let segment = &self.segments[index];
        let located = segment.locate(offset).map_err(|error| self.segment_error(segment, offset, error))?;
        let end = located.as_ref().map_or(offset, |batch| batch.base_offset.min(offset));
        self.cancel_snapshots_above(end);
        self.remove_snapshots(|at| at > end).map_err(what)?;
        while self.segments.len() > index + 1 {
            let Some(segment) = self.segments.pop_back() else { break };
            self.rename_deleted(&segment, now_ms).map_err(what)?;
        }
        // The order on disk: names first, so that no cut segment is followed by another.
        self.sync_all_names().map_err(what)?;
        if let Some(mut segment) = self.segments.pop_back() {
            let cut = match located {
                Some(batch) => segment.cut(batch.position),
                // The offset lies in a gap behind this segment's last batch.
                None => segment.load_end(segment.size_bytes),
            };
            cut.map_err(|error| self.segment_error(&segment, offset, error))?;
            self.segments.push_back(segment);
        }
        self.end_offset = end;
        self.cleaned_to = self.cleaned_to.min(end);
        Ok(())
    }

    fn after_truncation(&mut self, truncated: Result<(), LogError>, now_ms: i64) -> Result<(), LogError> {
        let outcome = truncated.and_then(|()| {
            self.epochs.truncate_from_end(self.end_offset);
            if self.segments.is_empty() {
                return Ok(());
            }
            match self.epochs.write(self.files(), &self.dir) {
                Ok(()) => self.epochs_on_disk = self.epochs.clone(),
                Err(error) if is_no_space(&error) => {}
                Err(error) => return Err(LogError::io("cannot write leader epochs", error)),
            }
            self.unsynced.epochs = false;
            self.epochs_changed = false;
            self.snapshot_at = None;
            crate::recovery::rebuild_producers(self, now_ms)
        });
        // All that is left was synced.
        self.durable_offset = self.end_offset;
        outcome.map_err(|error| self.fence("truncation failed", &io::Error::other(error.to_string())))
    }

    /// Removes the producers' snapshots whose offsets are like that.
    fn remove_snapshots(&mut self, goes: impl Fn(Offset) -> bool) -> io::Result<()> {
        for entry in self.files().list(&self.dir)? {
            if snapshot_offset(&entry.name).is_some_and(&goes) {
                self.files().remove_file(&self.dir.join(&entry.name))?;
                self.unsynced.dir = true;
            }
        }
        Ok(())
    }

    /// Empties the log, durably: it starts and ends at `offset`. For a replica whose leader has nothing that it has.
    ///
    /// # Errors
    /// `Failed`: after an error in the middle the log is fenced.
    pub fn truncate_all_and_start_at(&mut self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        self.check_usable()?;
        self.truncations += 1;
        let emptied = self.empty_files(offset, now_ms);
        self.start_offset = offset;
        self.end_offset = offset;
        self.cleaned_to = offset;
        self.epochs.clear();
        self.producers.clear();
        self.after_truncation(emptied, now_ms)
    }

    fn empty_files(&mut self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        let what = |error| LogError::io("cannot empty the log", error);
        if self.segments.is_empty() {
            return Ok(());
        }
        self.sync_all_data()?;
        // From the end, so that what a crash leaves has no gap.
        while let Some(segment) = self.segments.pop_back() {
            self.rename_deleted(&segment, now_ms).map_err(what)?;
        }
        self.cancel_snapshots_above(Offset(-1));
        self.remove_snapshots(|_| true).map_err(what)?;
        self.sync_all_names().map_err(what)?;
        // The new segment may bear the name of one that just went: its indexes begin anew.
        self.add_segment(offset)?;
        self.sync_names()
    }
}

/// What a segment's age counts from: its highest timestamp. Records without one are as old as the file, as in Kafka.
pub(super) fn newest_ms(segment: &Segment) -> Result<i64, SegmentError> {
    let timestamp = segment.largest()?.timestamp;
    if timestamp < 0 { Ok(segment.log.get()?.modified_ms()?) } else { Ok(timestamp) }
}
