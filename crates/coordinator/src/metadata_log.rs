//! The metadata log on disk: entries in, entries out.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::Files;
use ottla_storage::log::{Log, LogConfig, LogError, OpenFrom};

use crate::entry::{EntryError, LogEntry};
use crate::error::OpenError;
use crate::limits::{READ_BYTES, SEGMENT_BYTES};

/// Files of the metadata log that stay open.
const DESCRIPTORS_MAX: usize = 16;

/// The log; offset is index, leader epoch is term.
pub(crate) struct MetadataLog {
    log: Log,
}

impl MetadataLog {
    /// Opens it and makes durable what is there. Everything below `committed` must be whole; what is torn above is cut.
    pub(crate) fn open(
        files: &Arc<dyn Files>,
        dir: PathBuf,
        committed: i64,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        let descriptors = Descriptors::new(files.clone(), DESCRIPTORS_MAX);
        // Entries are never dropped by age or size: only a snapshot may take their place.
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            retention_ms: -1,
            retention_bytes: -1,
            delete_enabled: false,
            ..LogConfig::default()
        };
        let from = OpenFrom {
            log_start_offset: Offset(0),
            recovery_point: Offset(committed + 1),
            ..OpenFrom::default()
        };
        let (mut log, report) = Log::open(&descriptors, dir, config, from, now_ms)?;
        if let Some(at) = report.cut_at {
            tracing::warn!(index = at.0, bytes = report.cut_bytes, "cut a torn end off the metadata log");
        }
        if log.end_offset().0 <= committed {
            return Err(OpenError::LogTooShort { end: log.end_offset().0, committed });
        }
        // What survived a crash may be in the page cache only, and is about to count as committed.
        log.sync()?;
        Ok(Self { log })
    }

    /// Index of the next entry.
    pub(crate) fn end(&self) -> i64 {
        self.log.end_offset().0
    }

    /// Appends an entry and brings it to disk. Blocks.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        now_ms: i64,
    ) -> Result<(), LogError> {
        self.log.append(header, payload, now_ms)?;
        self.log.sync().map(|_| ())
    }

    /// Appends entries and brings them to disk together.
    pub(crate) fn append_all(
        &mut self,
        batches: &[(BatchHeader, Bytes)],
        now_ms: i64,
    ) -> Result<(), LogError> {
        if batches.is_empty() {
            return Ok(());
        }
        for (header, payload) in batches {
            self.log.append(header, payload, now_ms)?;
        }
        self.log.sync().map(|_| ())
    }

    /// Entries from `from` on, about a megabyte of them; none at the end.
    pub(crate) fn read(&self, from: i64) -> Result<Vec<LogEntry>, OpenError> {
        if from >= self.end() {
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
        while rest.len() >= HEADER_BYTES {
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
