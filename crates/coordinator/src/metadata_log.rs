//! The metadata log on disk: entries in, entries out.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::Files;
use ottla_storage::log::{Log, LogConfig, LogError, OpenFrom};

use crate::entry::{EntryError, LogEntry};
use crate::error::OpenError;
use crate::hard_state::HardState;
use crate::limits::{READ_BYTES, ROLL_BYTES, SEGMENT_BYTES};

/// Files of the metadata log that stay open.
const DESCRIPTORS_MAX: usize = 16;

/// The log; offset is index, leader epoch is term.
pub(crate) struct MetadataLog {
    log: Log,
    /// Bytes appended to the last segment, as far as this process knows.
    segment_bytes: u64,
}

impl MetadataLog {
    /// Opens it and makes durable what is there. Everything that `state` says is committed must be whole; what is torn above is
    /// cut. What it says is purged is not there.
    pub(crate) fn open(
        files: &Arc<dyn Files>,
        dir: PathBuf,
        state: &HardState,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        let descriptors = Descriptors::new(files.clone(), DESCRIPTORS_MAX);
        // Entries are never dropped by age or size: only a snapshot may take their place, and then they go at once.
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            retention_ms: -1,
            retention_bytes: -1,
            delete_enabled: false,
            file_delete_delay_ms: 0,
            ..LogConfig::default()
        };
        let start = state.purged.map_or(0, |purged| purged.index + 1);
        let from = OpenFrom {
            log_start_offset: Offset(start),
            recovery_point: Offset(state.committed + 1),
            ..OpenFrom::default()
        };
        let (mut log, report) = Log::open(&descriptors, dir, config, from, now_ms)?;
        if let Some(at) = report.cut_at {
            tracing::warn!(index = at.0, bytes = report.cut_bytes, "cut a torn end off the metadata log");
        }
        // Entries below the start are in a snapshot, whether they were ever here or not.
        let (end, committed) = (log.end_offset().0, state.committed);
        if end <= committed && committed >= start {
            return Err(OpenError::LogTooShort { end, committed });
        }
        // What survived a crash may be in the page cache only, and is about to count as committed.
        log.sync()?;
        let segment_bytes = if log.segment_count() == 1 { log.size_bytes() } else { 0 };
        Ok(Self { log, segment_bytes })
    }

    /// Index of the first entry.
    pub(crate) fn start(&self) -> i64 {
        self.log.start_offset().0
    }

    /// Index of the next entry.
    pub(crate) fn end(&self) -> i64 {
        self.log.end_offset().0
    }

    /// Appends an entry. It is not on disk before [`MetadataLog::sync`].
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        now_ms: i64,
    ) -> Result<(), LogError> {
        if self.segment_bytes >= ROLL_BYTES {
            // So that a purge finds whole segments to remove.
            self.log.roll(now_ms)?;
            self.segment_bytes = 0;
        }
        self.log.append(header, payload, now_ms)?;
        self.segment_bytes += header.size_bytes() as u64;
        Ok(())
    }

    /// Brings everything to disk. Blocks.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync().map(|_| ())
    }

    /// Removes the entry at `index` and all behind it, durably.
    pub(crate) fn truncate_to(&mut self, index: i64, now_ms: i64) -> Result<(), LogError> {
        self.segment_bytes = 0;
        self.log.truncate_to(Offset(index), now_ms)
    }

    /// Lets go of the entries before `start`, which the caller has written down. Beyond the end the log goes on from there.
    pub(crate) fn purge_to(&mut self, start: i64, now_ms: i64) -> Result<(), LogError> {
        if start > self.end() {
            self.segment_bytes = 0;
            self.log.truncate_all_and_start_at(Offset(start), now_ms)?;
        } else {
            self.log.advance_start_offset(Offset(start), now_ms)?;
        }
        if let Err(error) = self.log.remove_deleted(now_ms) {
            tracing::warn!(%error, "purged segments of the metadata log could not be removed");
        }
        Ok(())
    }

    /// Entries from `from` on, about a megabyte of them; none at the end.
    pub(crate) fn read(&self, from: i64) -> Result<Vec<LogEntry>, OpenError> {
        self.read_below(from, self.end())
    }

    /// [`MetadataLog::read`], but none at or above `end`.
    pub(crate) fn read_below(&self, from: i64, end: i64) -> Result<Vec<LogEntry>, OpenError> {
        if from >= end.min(self.end()) {
            return Ok(Vec::new());
        }
        let slice = self.log.read(Offset(from), self.log.end_offset(), READ_BYTES, true)?;
        let mut bytes = vec![0; slice.len_bytes()];
        let mut at = 0;
        while at < bytes.len() {
            match slice.read_at(&mut bytes[at..], at).map_err(OpenError::Io)? {
                0 => break,
                count => at += count,
            }
        }
        let mut entries = Vec::new();
        let mut rest = &bytes[..at];
        let mut index = from;
        // The last batch of a slice may be cut off.
        while rest.len() >= HEADER_BYTES && index < end {
            let damaged = |error: EntryError| OpenError::Entry { index, error };
            let size = BatchHeader::parse(rest).map_err(|error| damaged(error.into()))?.size_bytes();
            let Some(batch) = rest.get(..size) else { break };
            entries.push(LogEntry::decode(batch).map_err(damaged)?);
            rest = &rest[size..];
            index += 1;
        }
        Ok(entries)
    }

    /// Ends in order.
    pub(crate) fn close(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.log.close(now_ms)
    }
}
