//! The end of the log: appending, and closing one segment for the next.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};

use super::rolled::{Rolled, Snapshot, UNSYNCED_MARK};
use super::{Log, LogConfig, LogError, is_no_space};
use crate::files::{File, Open};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::segment::{RELATIVE_MAX, Segment, segment_path};

impl Log {
    /// Appends one batch: `header.base_offset` is [`Log::end_offset`] (or above, where a compacted leader has a gap), its
    /// epoch is set; `payload` is what follows the 61 bytes. One positioned write. The batch was checked before.
    ///
    /// # Errors
    /// `NoSpace` (the log is as before), `InvalidAppend` (nothing was written), `Failed`.
    pub fn append(&mut self, header: &BatchHeader, payload: &[u8], now_ms: i64) -> Result<(), LogError> {
        self.append_within(self.config.segment_bytes, header, payload, now_ms)
    }

    /// Like [`Log::append`], for a batch that a leader has taken already: `segment.bytes`, which may have been larger then, does
    /// not bound it. Notes durably that there is a gap, if there is one before it; further gaps below `gaps_below` need no note.
    ///
    /// # Errors
    /// As [`Log::append`], and `Io`.
    pub fn append_fetched(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        gaps_below: Offset,
        now_ms: i64,
    ) -> Result<(), LogError> {
        if header.base_offset > self.end_offset && !self.segments.is_empty() {
            self.allow_gaps(header.base_offset, gaps_below)?;
        }
        self.append_within(u64::MAX, header, payload, now_ms)
    }

    fn append_within(
        &mut self,
        bytes_max: u64,
        header: &BatchHeader,
        payload: &[u8],
        now_ms: i64,
    ) -> Result<(), LogError> {
        self.check_usable()?;
        self.check_batch(bytes_max, header, payload)?;
        match self.segments.back() {
            None => self.begin_first_segment(header.base_offset)?,
            Some(active) if self.is_roll_due(active, header)? => self.roll_at(header.base_offset, now_ms)?,
            Some(_) => {}
        }
        self.write_batch(header, payload)?;
        if let Some(active) = self.segments.back_mut() {
            active.note(header, self.config.index_interval_bytes);
        }
        self.epochs_changed |= self.epochs.assign(header.partition_leader_epoch, header.base_offset);
        self.producers.replay(header, now_ms);
        self.end_offset = header.next_offset();
        Ok(())
    }

    fn check_batch(&self, bytes_max: u64, header: &BatchHeader, payload: &[u8]) -> Result<(), LogError> {
        let invalid = |why: String| Err(LogError::InvalidAppend(why));
        if header.base_offset < self.end_offset || header.last_offset_delta < 0 {
            return invalid(format!(
                "it holds offsets {} to {}, the log ends at {}",
                header.base_offset,
                header.last_offset(),
                self.end_offset
            ));
        }
        if header.size_bytes() != HEADER_BYTES + payload.len() {
            return invalid(format!("its length says {} bytes", header.size_bytes()));
        }
        if header.size_bytes() as u64 > bytes_max.min(RELATIVE_MAX as u64) {
            return invalid(format!("{} bytes do not fit a segment", header.size_bytes()));
        }
        Ok(())
    }

    fn write_batch(&mut self, header: &BatchHeader, payload: &[u8]) -> Result<(), LogError> {
        let Some(active) = self.segments.back() else {
            return Err(LogError::InvalidAppend("there is no segment".into()));
        };
        let position = active.size_bytes;
        let file = match &self.unsynced.data {
            Some((file, _)) => Arc::clone(file),
            None => {
                let pinned = active.log.pin();
                let file = pinned.map_err(|error| LogError::io("cannot open the active segment", error))?;
                self.unsynced.data = Some((Arc::clone(&file), Arc::clone(&active.log)));
                file
            }
        };
        let head = header.encode();
        let written = file.write_all_at(&mut [IoSlice::new(&head), IoSlice::new(payload)], position);
        self.is_changed = true;
        match written {
            Ok(()) => Ok(()),
            Err(error) if is_no_space(&error) => self.cut_partial_write(&*file, position),
            Err(error) => Err(self.fence("write failed", &error)),
        }
    }

    fn cut_partial_write(&mut self, file: &dyn File, position: u64) -> Result<(), LogError> {
        match file.set_len(position) {
            Ok(()) => Err(LogError::NoSpace),
            Err(error) => Err(self.fence("cannot cut off a partial write", &error)),
        }
    }

    /// Kafka's rules: size, time by the batches' own timestamps, a full index, offsets that do not fit its 31 bits.
    fn is_roll_due(&self, active: &Segment, header: &BatchHeader) -> Result<bool, LogError> {
        if active.size_bytes == 0 {
            // An empty segment can take any batch whose offsets fit.
            return Ok(header.last_offset().0 - active.base_offset.0 > RELATIVE_MAX);
        }
        let size_bytes = active.size_bytes + header.size_bytes() as u64;
        if size_bytes > self.config.segment_bytes.min(RELATIVE_MAX as u64)
            || header.last_offset().0 - active.base_offset.0 > RELATIVE_MAX
        {
            return Ok(true);
        }
        if let Some(first) = active.first_timestamp
            && first >= 0
            && header.max_timestamp.saturating_sub(first) > self.segment_ms() - self.jitter_ms()
        {
            return Ok(true);
        }
        let index_bytes = usize::try_from(self.config.segment_index_bytes).unwrap_or(usize::MAX);
        let is_full = |len: io::Result<usize>, entry_bytes: usize, spare: usize| {
            len.map(|len| len + spare >= (index_bytes / entry_bytes).max(1 + spare))
                .map_err(|error| LogError::io("cannot read an index", error))
        };
        Ok(is_full(active.offsets.len(), OffsetEntry::BYTES, 0)?
            || is_full(active.times.len(), TimeEntry::BYTES, 1)?)
    }

    /// As in Kafka, a compacted log closes its segments early enough to be cleaned in time.
    fn segment_ms(&self) -> i64 {
        let LogConfig { segment_ms, max_compaction_lag_ms, compact_enabled, .. } = self.config;
        if compact_enabled { segment_ms.min(max_compaction_lag_ms) } else { segment_ms }
    }

    /// A share of `segment.jitter.ms` that differs from log to log and from segment to segment.
    fn jitter_ms(&self) -> i64 {
        let jitter = self.config.segment_jitter_ms.min(self.segment_ms());
        if jitter <= 0 {
            return 0;
        }
        let base = self.segments.back().map_or(0, |active| active.base_offset.0);
        let name = self.dir.as_os_str().as_encoded_bytes();
        i64::from(crc32c::crc32c_append(crc32c::crc32c(name), &base.to_be_bytes())) % jitter
    }

    fn begin_first_segment(&mut self, base_offset: Offset) -> Result<(), LogError> {
        if !self.files().exists(&self.dir).map_err(|error| LogError::io("cannot look for the log", error))? {
            self.unsynced.parent = true;
            if let Err(error) = self.files().create_dir_all(&self.dir) {
                return Err(self.creation_error("cannot make the log's directory", error));
            }
        }
        self.add_segment(base_offset)?;
        if self.end_offset != base_offset || self.start_offset > base_offset {
            self.start_offset = base_offset;
        }
        Ok(())
    }

    fn creation_error(&self, what: &str, error: io::Error) -> LogError {
        if is_no_space(&error) {
            LogError::NoSpace
        } else {
            LogError::io(format!("{what} {}", self.dir.display()), error)
        }
    }

    pub(super) fn add_segment(&mut self, base_offset: Offset) -> Result<(), LogError> {
        let segment = Segment::new(&self.descriptors, &self.dir, base_offset, true);
        if let Err(error) = segment.log.get() {
            return Err(self.creation_error("cannot make a segment in", error));
        }
        self.unsynced.dir = true;
        self.is_changed = true;
        self.segments.push_back(segment);
        Ok(())
    }

    /// Closes the active segment and begins a new one; nothing when the active one is empty.
    ///
    /// # Errors
    /// `NoSpace` (the active segment stays), `Failed`, `Io`.
    pub fn roll(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.check_usable()?;
        self.roll_at(self.end_offset, now_ms)
    }

    fn roll_at(&mut self, base_offset: Offset, _now_ms: i64) -> Result<(), LogError> {
        if self
            .segments
            .back()
            .is_none_or(|active| active.size_bytes == 0 && active.base_offset == base_offset)
        {
            return Ok(());
        }
        let is_synced = self.unsynced.data.is_none() && self.in_flight.is_empty();
        let mark = if is_synced { None } else { self.make_mark(base_offset)? };
        if let Err(error) = self.add_segment(base_offset) {
            self.unmake_mark(mark.as_deref())?;
            return Err(error);
        }
        let is_noted = self.snapshot_at.replace(self.end_offset) == Some(self.end_offset);
        let snapshot = (!is_noted).then(|| Snapshot::of(&self.producers, &self.dir, self.end_offset));
        let data = self.unsynced.data.take();
        if let Some(closed) = self.segments.iter_mut().nth_back(1) {
            closed.complete();
            let rolled = Rolled::new(base_offset, data, &closed.offsets, &closed.times, mark, snapshot);
            self.unsynced.rolled.push(Arc::new(rolled));
        }
        self.unsynced.epochs |= std::mem::take(&mut self.epochs_changed);
        Ok(())
    }

    /// Before the segment that it stands for. On a full disk there is none: recovery is more careful then.
    fn make_mark(&mut self, base_offset: Offset) -> Result<Option<PathBuf>, LogError> {
        let mark = segment_path(&self.dir, base_offset, UNSYNCED_MARK);
        match self.files().open(&mark, Open::Create) {
            Err(error) if is_no_space(&error) => Ok(None),
            Err(error) => Err(self.creation_error("cannot mark a segment in", error)),
            Ok(_) => Ok(Some(mark)),
        }
    }

    /// There is no such segment after all: a later one must not find the mark.
    fn unmake_mark(&mut self, mark: Option<&Path>) -> Result<(), LogError> {
        let Some(mark) = mark else { return Ok(()) };
        // Durable with the next ticket.
        self.unsynced.dir = true;
        self.files().remove_file(mark).map_err(|error| self.fence("cannot remove a mark", &error))
    }

    /// What is in the segments is on disk after this, though their names may not be.
    pub(super) fn sync_all_data(&mut self) -> Result<(), LogError> {
        let rolled = self.rolled();
        let active = self.in_flight.data.iter().chain(self.unsynced.data.iter().map(|(file, _)| file));
        let sync = || {
            // Also what a ticket has begun to sync: nobody knows how far it is.
            rolled.iter().try_for_each(|rolled| rolled.sync_data())?;
            active.cloned().try_for_each(|file| file.sync_data())?;
            rolled.iter().try_for_each(|rolled| rolled.remove_mark(self.files()))
        };
        if let Err(error) = sync() {
            return Err(self.fence("sync failed", &error));
        }
        if let Some((_, slot)) = self.unsynced.data.take() {
            slot.unpin();
        }
        Ok(())
    }

    /// The closed segments that no ticket has brought to disk yet, the oldest first.
    pub(super) fn rolled(&self) -> Vec<Arc<Rolled>> {
        self.in_flight.rolled.iter().chain(&self.unsynced.rolled).cloned().collect()
    }

    fn seal_active(&mut self) -> Result<(), LogError> {
        let Some(active) = self.segments.back_mut() else { return Ok(()) };
        active.seal().map_err(|error| self.fence("cannot write an index", &error))
    }

    /// Writes the producers' snapshot at the end of the log.
    fn write_snapshot(&mut self) -> io::Result<()> {
        if self.snapshot_at != Some(self.end_offset) {
            let snapshot = Snapshot::of(&self.producers, &self.dir, self.end_offset);
            if snapshot.write(self.files())? {
                self.snapshot_at = Some(self.end_offset);
            }
        }
        Ok(())
    }

    /// Syncs everything and writes indexes and snapshot, so that the log can be opened as clean. Nothing is appended after.
    ///
    /// # Errors
    /// `Failed`.
    pub fn close(&mut self, _now_ms: i64) -> Result<(), LogError> {
        self.check_usable()?;
        if self.is_changed && !self.segments.is_empty() {
            self.seal_active()?;
            if let Err(error) = self.write_snapshot() {
                return Err(self.fence("cannot write a producer snapshot", &error));
            }
            self.unsynced.epochs |= std::mem::take(&mut self.epochs_changed);
        }
        if self.is_dirty() {
            self.sync()?;
        }
        self.fenced = Some("it is closed".into());
        Ok(())
    }
}
