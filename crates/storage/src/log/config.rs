//! What a log is told: its configuration, where it opens from, and the errors it answers with.

use std::fmt;
use std::io;
use std::sync::Arc;

use ottla_protocol::ids::Offset;
use thiserror::Error;

/// A log's settings, with Kafka's meaning of the topic configuration of the same name; -1 means "none" where Kafka says so.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it would grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is closed when a batch is this much younger than its first.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, so that segments do not all close at once.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: about one index entry per so many bytes of log.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`: a segment is closed when its index would grow beyond this.
    pub segment_index_bytes: u64,
    /// `retention.ms`; -1: forever.
    pub retention_ms: i64,
    /// `retention.bytes`; -1: unlimited.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`: a deleted segment's files stay, renamed, this long.
    pub file_delete_delay_ms: i64,
    /// `cleanup.policy` contains `delete`: retention applies.
    pub delete_enabled: bool,
    /// `cleanup.policy` contains `compact`: the log is cleaned, offsets may have gaps between batches.
    pub compact_enabled: bool,
    /// `min.cleanable.dirty.ratio`: a log is cleaned when more than this share of it is dirty.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: what is younger is not cleaned.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: what is older is cleaned whatever the ratio says; also a bound of `segment_ms` when compacted.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: tombstones stay so long after the cleaning that first reached them.
    pub delete_retention_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            delete_enabled: true,
            compact_enabled: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3600 * 1000,
        }
    }
}

/// What is known about a log before its files are looked at: from the log directory's checkpoints and its clean mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFrom {
    /// Of `log-start-offset-checkpoint`; 0 when there is none.
    pub log_start_offset: Offset,
    /// Of `recovery-point-offset-checkpoint`: everything below was on disk; 0 when there is none.
    pub recovery_point: Offset,
    /// Of `cleaner-offset-checkpoint`: what compaction has to look at next; 0 when there is none.
    pub cleaned_to: Offset,
    /// The directory was closed in order: nothing is scanned.
    pub clean: bool,
}

/// What opening a log had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes of log that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes cut off at the end.
    pub cut_bytes: u64,
    /// Where the log was cut: the end offset since then.
    pub cut_at: Option<Offset>,
    /// Index files that were written anew.
    pub indexes_rebuilt: u32,
    /// Whether producers came from a snapshot (false: from the log alone).
    pub producers_from_snapshot: bool,
}

/// A part of a log that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment's `.log` file.
    pub file: String,
    /// Byte position of the first bad batch.
    pub position: u64,
    /// First offset that cannot be read.
    pub from: Offset,
    /// Where the next whole batch begins, if there is one.
    pub until: Option<Offset>,
    /// What is wrong at `position`.
    pub why: String,
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {} (offset {}", self.file, self.position, self.from)?;
        match self.until {
            Some(until) => write!(f, ", whole batches follow from offset {until}")?,
            None => write!(f, ", below the recovery point")?,
        }
        write!(f, "): {}", self.why)
    }
}

/// Why a log could not do it.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    /// The offset is not in the log.
    #[error("offset {asked} is out of range: the log holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        asked: Offset,
        /// The log's first offset.
        start: Offset,
        /// The log's end (exclusive).
        end: Offset,
    },
    /// No space left on the device; what was written in part has been cut off and the log can be used on.
    #[error("no space left for the log")]
    NoSpace,
    /// The log holds something that it should not, or lacks something; nothing was changed.
    #[error("{0}")]
    Damaged(Box<DamagedRange>),
    /// A write or sync failed earlier: what is on disk is unknown, nothing is appended any more.
    #[error("the log is fenced: {0}")]
    Failed(String),
    /// A read or an operation on files failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A batch that does not continue the log, or does not fit a segment.
    #[error("batch cannot be appended: {0}")]
    InvalidAppend(String),
}

impl LogError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }
}
