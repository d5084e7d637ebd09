//! One partition's log: segments in a directory. One owner, no locks of its own for writing, no clock, no thread.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::BatchHeader;

use crate::descriptors::Descriptors;
use crate::epochs::LeaderEpochs;
use crate::files::File;

mod config;
pub use config::{DamagedRange, LogConfig, LogError, OpenFrom, RecoveryReport};

/// A segment that retention or DeleteRecords took out of the log; its files are removed after the delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedSegment {
    /// First offset of the segment.
    pub base_offset: Offset,
    /// Bytes of its `.log`.
    pub size_bytes: u64,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp in ms.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// Part of one segment, whole batches but for the last, as stored. Holds its file, so deletion does not shorten it.
#[derive(Clone, Debug)]
pub struct LogSlice {
    file: Option<Arc<dyn File>>,
    position: u64,
    len_bytes: usize,
}

impl LogSlice {
    /// Bytes of the slice; 0 when there was nothing to give.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Reads up to `buf.len()` bytes from byte `at` of the slice. May be short; `UnexpectedEof` when the log was truncated below.
    pub fn read_at(&self, _buf: &mut [u8], _at: usize) -> io::Result<usize> {
        todo!()
    }

    /// Like `read_at`, but only what is cached: `WouldBlock` else.
    pub fn read_at_nowait(&self, _buf: &mut [u8], _at: usize) -> io::Result<usize> {
        todo!()
    }
}

/// What a flush has to bring to disk; made under the log's lock, done without it.
#[derive(Debug)]
#[must_use]
pub struct SyncTicket {
    up_to: Offset,
}

impl SyncTicket {
    /// Brings it to disk. Blocks. Hand the ticket back to [`Log::sync_end`] whatever comes out.
    pub fn sync(&self) -> io::Result<()> {
        todo!()
    }

    /// The log is durable up to here once the sync succeeds (exclusive).
    #[must_use]
    pub fn up_to(&self) -> Offset {
        self.up_to
    }
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    config: LogConfig,
    epochs: LeaderEpochs,
}

impl Log {
    /// Opens the log in `dir`, which may be absent (it is made at the first append).
    pub fn open(
        _descriptors: &Arc<Descriptors>,
        _dir: PathBuf,
        _config: LogConfig,
        _from: OpenFrom,
        _now_ms: i64,
    ) -> Result<(Self, RecoveryReport), LogError> {
        todo!()
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset that can be read.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        todo!()
    }

    /// The next record's offset.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        todo!()
    }

    /// Everything below is on disk. Also the recovery point to write down.
    #[must_use]
    pub fn durable_offset(&self) -> Offset {
        todo!()
    }

    /// Whether something waits for a sync.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        todo!()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Appends one batch: `header.base_offset` is `end_offset()`, epoch set; `payload` is what follows the 61 bytes.
    pub fn append(&mut self, _header: &BatchHeader, _payload: &[u8], _now_ms: i64) -> Result<(), LogError> {
        todo!()
    }

    /// Batches from the one that holds `from`, all below `upper`, about `max_bytes` (the last may be cut), never across segments;
    /// `at_least_one_batch`: the first whole even if larger.
    pub fn read(
        &self,
        _from: Offset,
        _upper: Offset,
        _max_bytes: usize,
        _at_least_one_batch: bool,
    ) -> Result<LogSlice, LogError> {
        todo!()
    }

    /// What is to be synced now.
    pub fn sync_begin(&mut self) -> SyncTicket {
        todo!()
    }

    /// Takes the ticket back; the new durable offset, or `Failed` (now and for ever) when its sync failed or was not run.
    pub fn sync_end(&mut self, _ticket: SyncTicket) -> Result<Offset, LogError> {
        todo!()
    }

    /// begin, sync and end in one.
    pub fn sync(&mut self) -> Result<Offset, LogError> {
        todo!()
    }

    /// Cuts everything at and above `offset`, durably. An offset inside a batch cuts the whole batch.
    pub fn truncate_to(&mut self, _offset: Offset) -> Result<(), LogError> {
        todo!()
    }

    /// Empties the log; it starts and ends at `offset`, durably.
    pub fn truncate_all_and_start_at(&mut self, _offset: Offset, _now_ms: i64) -> Result<(), LogError> {
        todo!()
    }

    /// DeleteRecords: the log starts at `offset` (at most the end); segments wholly below go. True when it moved. The owner
    /// writes the start offset down.
    pub fn advance_start_offset(
        &mut self,
        _offset: Offset,
        _now_ms: i64,
    ) -> Result<Vec<RemovedSegment>, LogError> {
        todo!()
    }

    /// Deletes what retention lets go, below `high_watermark` only.
    pub fn apply_retention(
        &mut self,
        _now_ms: i64,
        _high_watermark: Offset,
    ) -> Result<Vec<RemovedSegment>, LogError> {
        todo!()
    }

    /// When [`Log::remove_deleted`] has something to do next, in ms.
    #[must_use]
    pub fn next_removal_ms(&self) -> Option<i64> {
        todo!()
    }

    /// Removes the files of segments that were deleted long enough ago.
    pub fn remove_deleted(&mut self, _now_ms: i64) -> io::Result<()> {
        todo!()
    }

    /// Closes the active segment and begins a new one, unless it is empty.
    pub fn roll(&mut self, _now_ms: i64) -> Result<(), LogError> {
        todo!()
    }

    /// The first record at or after `start_offset()` whose timestamp is at least `timestamp`.
    pub fn find_by_timestamp(&self, _timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }

    /// The first record with the log's highest timestamp.
    pub fn find_max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }

    /// Where leader epochs began.
    #[must_use]
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings, from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Syncs, writes indexes and a producer snapshot: the log can be opened as clean.
    pub fn close(&mut self, _now_ms: i64) -> Result<(), LogError> {
        todo!()
    }
}
