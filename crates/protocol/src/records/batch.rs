//! A batch in memory: its records, those that a timestamp asks for, and the walk over several batches in a row.

use super::compression::{Decoder, DecompressLimit};
use super::header::{
    BatchError, BatchHeader, CompressionType, HEADER_BYTES, TimestampType, check_crc, compute_crc,
};
use super::record::{Record, Sketch, at_record, record_length, skim};
use super::source::{Fault, SliceSource, Source, StreamSource};
use crate::ids::Offset;

/// A whole batch: a parsed header and the records' bytes, compressed as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    header: BatchHeader,
    payload: &'a [u8],
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp in milliseconds since 1970.
    pub timestamp: i64,
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`; what follows its length is not looked at. The checksum is not verified.
    ///
    /// # Errors
    /// What `BatchHeader::parse` refuses; `Truncated` when the batch is not all there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let need = header.size_bytes();
        let payload =
            bytes.get(HEADER_BYTES..need).ok_or(BatchError::Truncated { have: bytes.len(), need })?;
        Ok(Self { header, payload })
    }

    /// A batch of a header and the bytes that follow it.
    #[must_use]
    pub fn from_parts(header: BatchHeader, payload: &'a [u8]) -> Self {
        Self { header, payload }
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What follows the header: the records, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the stored checksum.
    ///
    /// # Errors
    /// `Crc`.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header.verify_crc(self.payload)
    }

    /// An iterator over the records. Nothing is decompressed yet, but the codec's own buffers are made.
    ///
    /// # Errors
    /// `UnknownCompression`, `Decompress`.
    pub fn records(&self, limit: DecompressLimit) -> Result<Records<'a>, BatchError> {
        let source = match self.header.attributes.compression()? {
            CompressionType::None => AnySource::Slice(SliceSource::new(self.payload)),
            codec => AnySource::Stream(StreamSource::new(Decoder::new(codec, self.payload, limit)?)),
        };
        Ok(Records { source, index: 0, count: self.header.records_count, failed: false })
    }

    /// The first record in the batch whose timestamp is at least `timestamp`; `None` when there is none.
    ///
    /// # Errors
    /// When the records do not parse or decompress up to there.
    pub fn first_at_or_after(
        &self,
        timestamp: i64,
        limit: DecompressLimit,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        if self.header.max_timestamp < timestamp {
            return Ok(None);
        }
        self.find(limit, |found| found >= timestamp)
    }

    /// The first record in the batch that has the header's max timestamp; `None` when the batch has no timestamps (-1)
    /// or no record that the header speaks of.
    ///
    /// # Errors
    /// When the records do not parse or decompress up to there.
    pub fn max_timestamp_record(
        &self,
        limit: DecompressLimit,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        let highest = self.header.max_timestamp;
        if highest < 0 {
            return Ok(None);
        }
        self.find(limit, |found| found == highest)
    }

    fn find(
        &self,
        limit: DecompressLimit,
        mut wanted: impl FnMut(i64) -> bool,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        let mut found = None;
        self.walk(limit, |_, sketch| {
            let timestamp = self.header.timestamp_of_delta(sketch.timestamp_delta);
            if wanted(timestamp) {
                let offset = self.header.offset_of_delta(sketch.offset_delta);
                found = Some(TimestampedOffset { offset, timestamp });
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Skims the records in order, without their contents in memory, until `visit` returns false. When it never does,
    /// the records must end where the batch ends.
    pub(super) fn walk(
        &self,
        limit: DecompressLimit,
        visit: impl FnMut(u32, Sketch) -> bool,
    ) -> Result<(), BatchError> {
        let count = self.header.records_count;
        match self.header.attributes.compression()? {
            CompressionType::None => walk_source(&mut SliceSource::new(self.payload), count, visit),
            codec => {
                walk_source(&mut StreamSource::new(Decoder::new(codec, self.payload, limit)?), count, visit)
            }
        }
    }
}

fn walk_source<S: Source>(
    source: &mut S,
    count: i32,
    mut visit: impl FnMut(u32, Sketch) -> bool,
) -> Result<(), BatchError> {
    let records = u32::try_from(count).unwrap_or(0);
    for index in 0..records {
        let sketch = skim(source).map_err(|fault| at_record(fault, index))?;
        if !visit(index, sketch) {
            return Ok(());
        }
    }
    if source.is_at_end().map_err(|fault| at_record(fault, records))? {
        Ok(())
    } else {
        Err(BatchError::TrailingBytes(count))
    }
}

impl BatchHeader {
    /// The offset of a record with that delta.
    #[must_use]
    pub fn offset_of_delta(&self, offset_delta: i32) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(offset_delta)))
    }

    /// The timestamp of a record with that delta: the append time where the broker's clock counts.
    #[must_use]
    pub fn timestamp_of_delta(&self, timestamp_delta: i64) -> i64 {
        match self.attributes.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

/// The records of a batch one after the other. Of a compressed batch, 32 KiB or one record are in memory at a time, so
/// a record borrows from the iterator.
pub struct Records<'a> {
    source: AnySource<'a>,
    index: u32,
    count: i32,
    failed: bool,
}

enum AnySource<'a> {
    Slice(SliceSource<'a>),
    Stream(StreamSource<'a>),
}

impl Records<'_> {
    /// The next record, or `None` after the last. After an error there are no more.
    ///
    /// # Errors
    /// `Record` for one that does not parse; `TrailingBytes` after the last; `Decompress`, `DecompressLimit`.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, BatchError> {
        let records = u32::try_from(self.count).unwrap_or(0);
        if self.failed || self.index > records {
            return Ok(None);
        }
        let index = self.index;
        self.index += 1;
        if index == records {
            return match self.source.is_at_end() {
                Ok(true) => Ok(None),
                Ok(false) => Err(BatchError::TrailingBytes(self.count)),
                Err(fault) => Err(at_record(fault, index)),
            };
        }
        let Self { source, failed, .. } = self;
        source.next_record().map(Some).map_err(|fault| {
            *failed = true;
            at_record(fault, index)
        })
    }
}

impl AnySource<'_> {
    fn is_at_end(&mut self) -> Result<bool, Fault> {
        match self {
            Self::Slice(source) => source.is_at_end(),
            Self::Stream(source) => source.is_at_end(),
        }
    }

    fn next_record(&mut self) -> Result<Record<'_>, Fault> {
        let body = match self {
            Self::Slice(source) => {
                let length = record_length(source)?;
                source.take(length)?
            }
            Self::Stream(source) => {
                let length = record_length(source)?;
                source.take(length)?
            }
        };
        Record::parse(body)
    }
}

/// The batches of a region, one after the other: a log, or what a fetch returned. A batch that is cut off by the end of
/// the region ends the walk without an error, as a fetch may well return half of its last batch. Checksums are not
/// verified, unless asked for.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    verify: bool,
    done: bool,
}

impl<'a> Batches<'a> {
    /// A walk from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, verify: false, done: false }
    }

    /// The same walk, which also verifies checksums.
    #[must_use]
    pub fn verifying(self) -> Self {
        Self { verify: true, ..self }
    }

    /// Position in bytes of the first one that belongs to no batch given so far: where a cut-off or wrong batch begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// What no batch was given for yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    fn parse_next(&mut self) -> Result<Option<Batch<'a>>, BatchError> {
        let rest = self.rest();
        let batch = match Batch::parse(rest) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = batch.header.size_bytes();
        if self.verify {
            check_crc(batch.header.crc, compute_crc(&rest[..size])?)?;
        }
        self.position += size;
        Ok(Some(batch))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.parse_next().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
