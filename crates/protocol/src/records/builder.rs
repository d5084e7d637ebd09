//! Writing a batch from records.

use std::io;

use thiserror::Error;

use super::compression::{Compression, Encoder};
use super::header::{
    Attributes, BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, NO_TIMESTAMP, TimestampType,
};
use super::record::{RecordHeader, write_record};
use crate::ids::{LeaderEpoch, Offset, ProducerId};

/// Largest payload whose batch still has an `i32` length.
pub(super) const PAYLOAD_BYTES_MAX: usize = i32::MAX as usize - (HEADER_BYTES - LENGTH_PREFIX_BYTES);

/// Why a batch cannot be written.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The batch would take more than the given bytes.
    #[error("the record batch is larger than {0} bytes")]
    TooLarge(usize),
    /// The offset is not above the one before, or too far from the first.
    #[error("offset delta {0} does not follow {1}")]
    Offset(i64, i32),
    /// The codec refuses.
    #[error("cannot compress records: {0}")]
    Compress(#[source] io::Error),
}

/// Collects records and encodes them as one batch. The first record's timestamp is the base timestamp.
#[derive(Clone, Debug)]
pub struct Builder {
    compression: Compression,
    header: BatchHeader,
    records: Vec<u8>,
}

impl Builder {
    /// An empty batch at offset 0 without leader epoch and producer id, as a producer sends it.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        let attributes = Attributes::default().with_compression(compression.codec());
        Self {
            compression,
            header: BatchHeader { attributes, ..BatchHeader::default() },
            records: Vec::new(),
        }
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Sets the producer's id, epoch and the first record's sequence number.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(true);
        self
    }

    /// Marks the batch as one of markers.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_control(true);
        self
    }

    /// Gives every record the time of appending.
    #[must_use]
    pub fn log_append_time(mut self, now_ms: i64) -> Self {
        self.header.attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = now_ms;
        self
    }

    /// Adds a record at the next offset.
    ///
    /// # Errors
    /// `TooLarge` when the batch's length overflows; the builder is as before.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BuildError> {
        self.append_at(i64::from(self.header.last_offset_delta) + 1, timestamp, key, value, headers)
    }

    /// Adds a record at a distance from the base offset that is larger than the one before.
    ///
    /// # Errors
    /// `Offset`; `TooLarge` when the batch's length overflows. The builder is as before.
    pub fn append_at(
        &mut self,
        offset_delta: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> Result<(), BuildError> {
        let last = self.header.last_offset_delta;
        let Some(delta) = i32::try_from(offset_delta).ok().filter(|delta| *delta > last) else {
            return Err(BuildError::Offset(offset_delta, last));
        };
        let before = self.records.len();
        let first = self.header.records_count == 0;
        let base = if first { timestamp } else { self.header.base_timestamp };
        write_record(&mut self.records, (timestamp.wrapping_sub(base), delta), key, value, headers);
        if self.records.len() > PAYLOAD_BYTES_MAX {
            self.records.truncate(before);
            return Err(BuildError::TooLarge(i32::MAX as usize));
        }
        self.header.base_timestamp = base;
        self.header.last_offset_delta = delta;
        self.header.records_count += 1;
        if self.header.attributes.timestamp_type() == TimestampType::CreateTime {
            self.header.max_timestamp = self.header.max_timestamp.max(timestamp).max(NO_TIMESTAMP);
        }
        Ok(())
    }

    /// Records added so far.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.header.records_count
    }

    /// Bytes of the batch if it were not compressed.
    #[must_use]
    pub fn uncompressed_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Encodes the batch.
    ///
    /// # Errors
    /// `Compress`; `TooLarge` when compression makes it so.
    pub fn finish(mut self) -> Result<Vec<u8>, BuildError> {
        let mut batch = vec![0; HEADER_BYTES];
        let payload = if self.compression == Compression::None {
            std::mem::take(&mut self.records)
        } else {
            let mut encoder =
                Encoder::new(self.compression, PAYLOAD_BYTES_MAX).map_err(BuildError::from_encoder)?;
            encoder.write(&self.records).map_err(BuildError::from_encoder)?;
            encoder.finish().map_err(BuildError::from_encoder)?
        };
        seal(&mut self.header, &payload);
        batch[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        batch.extend_from_slice(&payload);
        Ok(batch)
    }
}

impl BuildError {
    pub(super) fn from_encoder(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge(i32::MAX as usize),
            _ => Self::Compress(error),
        }
    }
}

/// Sets length and checksum for `payload`, which fits an `i32`.
pub(super) fn seal(header: &mut BatchHeader, payload: &[u8]) {
    let length = payload.len() + HEADER_BYTES - LENGTH_PREFIX_BYTES;
    header.batch_length = i32::try_from(length).expect("payloads are bounded to what the length can hold");
    header.crc = header.crc_with(payload);
}
