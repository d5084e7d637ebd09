//! Reading as the leader: fetches, offset lookups, epochs, and raising the log's start.

use std::sync::Arc;

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_storage::log::{LogSlice, TimestampOffset};

use crate::error::PartitionError;
use crate::partition::Partition;

/// What a fetch found.
#[derive(Debug)]
pub struct Read {
    /// The batches, as they were stored; `None` where there are none for this reader.
    pub slice: Option<LogSlice>,
    /// First offset that consumers may not see.
    pub high_watermark: Offset,
    /// First offset of the log.
    pub log_start_offset: Offset,
}

/// The log's bounds as a consumer sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// First offset that consumers may not see.
    pub high_watermark: Offset,
    /// Epoch of the current leadership.
    pub epoch: LeaderEpoch,
    /// Epoch of the first record; that of the leadership when there is none.
    pub start_epoch: LeaderEpoch,
    /// Whether the high watermark is at least what any leader before told anybody; see [`Replica::is_high_watermark_settled`].
    ///
    /// [`Replica::is_high_watermark_settled`]: ottla_cluster::replica::Replica::is_high_watermark_settled
    pub is_settled: bool,
}

/// Limits of one read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Most bytes.
    pub max_bytes: usize,
    /// Give the first batch even when it is larger than `max_bytes`.
    pub at_least_one_batch: bool,
}

impl Partition {
    /// Batches from the one that holds `from` up to the high watermark.
    ///
    /// # Errors
    /// Not the leader, another epoch, an offset outside of the log, a failed log.
    pub fn read(
        self: &Arc<Self>,
        from: Offset,
        limits: ReadLimits,
        asked_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Read, PartitionError> {
        let mut inner = self.lock();
        Self::check_leader(&inner, asked_epoch)?;
        self.log(&mut inner, now_ms)?;
        let high_watermark = inner.replica.high_watermark();
        let log = self.log(&mut inner, now_ms)?;
        let log_start_offset = log.start_offset();
        // Kafka refuses only what is beyond the log's end; a client that knows more than the high watermark just waits.
        if from < log_start_offset || from > log.end_offset() {
            let (asked, start, end) = (from, log_start_offset, high_watermark);
            return Err(PartitionError::OffsetOutOfRange { asked, start, end });
        }
        let slice = if from >= high_watermark {
            None
        } else {
            let slice = log.read(from, high_watermark, limits.max_bytes, limits.at_least_one_batch)?;
            Some(slice).filter(|slice| slice.len_bytes() > 0)
        };
        Ok(Read { slice, high_watermark, log_start_offset })
    }

    /// Bounds of the log.
    ///
    /// # Errors
    /// Not the leader, another epoch, a failed log.
    pub fn bounds(self: &Arc<Self>, asked_epoch: LeaderEpoch, now_ms: i64) -> Result<Bounds, PartitionError> {
        let mut inner = self.lock();
        let epoch = Self::check_leader(&inner, asked_epoch)?;
        self.log(&mut inner, now_ms)?;
        let high_watermark = inner.replica.high_watermark();
        let is_settled = inner.replica.is_high_watermark_settled();
        let log = self.log(&mut inner, now_ms)?;
        let log_start_offset = log.start_offset();
        let start_epoch = log.epochs().epoch_at(log_start_offset).unwrap_or(epoch);
        Ok(Bounds { log_start_offset, high_watermark, epoch, start_epoch, is_settled })
    }

    /// The first visible record whose timestamp is at least `timestamp` (ms), or, for `None`, the one with the highest.
    ///
    /// # Errors
    /// Not the leader, another epoch, a failed log or read.
    pub fn find_by_time(
        self: &Arc<Self>,
        timestamp: Option<i64>,
        asked_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Option<TimestampOffset>, PartitionError> {
        let mut inner = self.lock();
        Self::check_leader(&inner, asked_epoch)?;
        let high_watermark = inner.replica.high_watermark();
        let log = self.log(&mut inner, now_ms)?;
        let found = match timestamp {
            Some(timestamp) => log.find_by_timestamp(timestamp)?,
            None => log.find_max_timestamp(high_watermark)?,
        };
        Ok(found.filter(|found| found.offset < high_watermark))
    }

    /// End of `epoch` in this log: the largest epoch not above it that has records, and the offset after its last one.
    ///
    /// # Errors
    /// Not the leader, another epoch, a failed log.
    pub fn end_of_epoch(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        asked_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Option<(LeaderEpoch, Offset)>, PartitionError> {
        let mut inner = self.lock();
        let current = Self::check_leader(&inner, asked_epoch)?;
        let log = self.log(&mut inner, now_ms)?;
        let end = log.end_offset();
        if epoch == current {
            return Ok(Some((current, end)));
        }
        let found = log.epochs().end_offset_for(epoch, end);
        Ok(found.map(|found| (found.epoch, found.end_offset)))
    }

    /// Raises the log's start to `offset`, or to the high watermark for -1 (DeleteRecords). Returns the new start.
    ///
    /// # Errors
    /// Not the leader, an offset above the high watermark or below 0, a failed log.
    pub fn delete_records(self: &Arc<Self>, offset: Offset, now_ms: i64) -> Result<Offset, PartitionError> {
        let mut inner = self.lock();
        Self::check_leader(&inner, LeaderEpoch::NONE)?;
        self.log(&mut inner, now_ms)?;
        let high_watermark = inner.replica.high_watermark();
        let log = self.log(&mut inner, now_ms)?;
        let to = if offset == Offset(-1) { high_watermark } else { offset };
        if to.0 < 0 || to > high_watermark {
            let (asked, start, end) = (offset, log.start_offset(), high_watermark);
            return Err(PartitionError::OffsetOutOfRange { asked, start, end });
        }
        let advanced = log.advance_start_offset(to, now_ms).map(|_| log.start_offset());
        inner.end_waiters.wake_all();
        advanced.map_err(|error| self.write_error(&mut inner, error))
    }
}
