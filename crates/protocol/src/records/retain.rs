//! Taking records out of a batch that stands in a log: what compaction writes in its place. Offsets, sequences and the batch's
//! extent stay; a batch may end up without records. The format is Kafka's, delete horizons too (KIP-534).

use super::batch::Batch;
use super::builder::{PAYLOAD_BYTES_MAX, seal};
use super::compression::{Compression, DecompressLimit, Encoder};
use super::header::{BatchError, BatchHeader, CompressionType, TimestampType};
use super::record::{Record, RecordHeader, write_record};
use super::rewrite::RewriteError;

/// What is left of a batch's records.
#[derive(Debug)]
pub struct Retained {
    header: BatchHeader,
    /// The records that stay, not compressed, dated from the header's base timestamp.
    records: Vec<u8>,
    count: i32,
    highest: i64,
}

impl Retained {
    /// Reads the records of a batch and keeps those of which `keep` says so. `payload` is what follows the header.
    ///
    /// # Errors
    /// When the records do not parse or decompress.
    pub fn read(
        header: &BatchHeader,
        payload: &[u8],
        limit: DecompressLimit,
        mut keep: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let batch = Batch::from_parts(header.clone(), payload);
        let mut retained = Self { header: header.clone(), records: Vec::new(), count: 0, highest: i64::MIN };
        let mut records = batch.records(limit)?;
        while let Some(record) = records.next_record()? {
            if keep(&record) {
                retained.push(&record, record.timestamp_delta);
            }
        }
        Ok(retained)
    }

    fn push(&mut self, record: &Record<'_>, timestamp_delta: i64) {
        let headers: Vec<RecordHeader<'_>> = record.headers().collect();
        let deltas = (timestamp_delta, record.offset_delta);
        write_record(&mut self.records, deltas, record.key, record.value, &headers);
        self.count += 1;
        self.highest = self.highest.max(self.header.base_timestamp.wrapping_add(timestamp_delta));
    }

    /// Records that stay.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether all of them do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.count == self.header.records_count
    }

    /// The batch with the records that stay, in the codec it had. `delete_horizon_ms`: the time from which on its tombstones
    /// (or its marker) may go becomes the base timestamp, and an attribute says so.
    ///
    /// # Errors
    /// `TooLarge`, `Compress`.
    pub fn encode(mut self, delete_horizon_ms: Option<i64>) -> Result<(BatchHeader, Vec<u8>), RewriteError> {
        if let Some(horizon_ms) = delete_horizon_ms {
            self = self.dated_from(horizon_ms)?;
        }
        let mut header = self.header;
        header.records_count = self.count;
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = self.highest;
        }
        let codec = header.attributes.compression()?;
        let payload = if codec == CompressionType::None {
            if self.records.len() > PAYLOAD_BYTES_MAX {
                return Err(RewriteError::TooLarge(PAYLOAD_BYTES_MAX));
            }
            self.records
        } else {
            let compression = Compression::from(codec);
            Encoder::compress(compression, PAYLOAD_BYTES_MAX, &self.records)
                .map_err(RewriteError::Compress)?
        };
        seal(&mut header, &payload);
        Ok((header, payload))
    }

    fn dated_from(self, base_timestamp: i64) -> Result<Self, BatchError> {
        let attributes = self.header.attributes.with_delete_horizon(true);
        let mut dated = Self {
            header: BatchHeader { base_timestamp, attributes, ..self.header.clone() },
            records: Vec::with_capacity(self.records.len() + 8 * self.count.unsigned_abs() as usize),
            count: 0,
            highest: i64::MIN,
        };
        let plain = self.header.attributes.with_compression(CompressionType::None);
        let header = BatchHeader { attributes: plain, records_count: self.count, ..self.header };
        let batch = Batch::from_parts(header.clone(), &self.records);
        let mut records = batch.records(DecompressLimit::NONE)?;
        while let Some(record) = records.next_record()? {
            let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
            dated.push(&record, timestamp.wrapping_sub(base_timestamp));
        }
        Ok(dated)
    }
}

/// The batch without any record, as Kafka leaves it: it says which offsets and sequences were there.
#[must_use]
pub fn emptied(header: &BatchHeader) -> BatchHeader {
    let attributes = header.attributes.with_compression(CompressionType::None).with_delete_horizon(false);
    let mut header =
        BatchHeader { attributes, base_timestamp: header.max_timestamp, records_count: 0, ..header.clone() };
    seal(&mut header, &[]);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, Offset, ProducerId};
    use crate::records::{Builder, HEADER_BYTES};

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip(-1),
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd(3),
    ];

    fn batch(compression: Compression) -> (BatchHeader, Vec<u8>) {
        let mut builder = Builder::new(compression)
            .base_offset(Offset(70))
            .leader_epoch(LeaderEpoch(3))
            .producer(ProducerId(9), 2, 40);
        for i in 0..6_u8 {
            let headers = [RecordHeader { key: b"h", value: Some(&[i]) }];
            let value = (i % 2 == 0).then_some(&b"value"[..]);
            builder
                .append(1000 + i64::from(i) * 10, Some(&[b'k', i]), value, &headers[..usize::from(i % 2)])
                .expect("it fits");
        }
        let bytes = builder.finish().expect("it encodes");
        (BatchHeader::parse(&bytes).expect("it parses"), bytes[HEADER_BYTES..].to_vec())
    }

    /// Offset, timestamp, key, has a value, number of headers.
    fn contents(header: &BatchHeader, payload: &[u8]) -> Vec<(i64, i64, Vec<u8>, bool, usize)> {
        header.verify_crc(payload).expect("the checksum is right");
        let batch = Batch::from_parts(header.clone(), payload);
        let mut records = batch.records(DecompressLimit::default()).expect("it decodes");
        let mut all = Vec::new();
        while let Some(record) = records.next_record().expect("it parses") {
            all.push((
                header.offset_of_delta(record.offset_delta).0,
                header.timestamp_of_delta(record.timestamp_delta),
                record.key.unwrap_or_default().to_vec(),
                record.value.is_some(),
                record.headers().len(),
            ));
        }
        all
    }

    #[test]
    fn what_stays_is_as_it_was() {
        for compression in CODECS {
            let (header, payload) = batch(compression);
            let all = contents(&header, &payload);
            for horizon in [None, Some(5_000), Some(500)] {
                let retained = Retained::read(&header, &payload, DecompressLimit::default(), |record| {
                    record.offset_delta == 1 || record.offset_delta == 4
                })
                .expect("it reads");
                assert_eq!((retained.count(), retained.is_whole()), (2, false));
                let (new, new_payload) = retained.encode(horizon).expect("it encodes");
                assert_eq!(contents(&new, &new_payload), [all[1].clone(), all[4].clone()]);
                let extent =
                    |h: &BatchHeader| (h.base_offset, h.last_offset(), h.base_sequence, h.producer_id);
                assert_eq!(extent(&new), extent(&header));
                assert_eq!(new.max_timestamp, 1040);
                assert_eq!(new.attributes.compression(), header.attributes.compression());
                assert_eq!(new.attributes.has_delete_horizon(), horizon.is_some());
                assert_eq!(new.base_timestamp, horizon.unwrap_or(header.base_timestamp));
                assert_eq!(new.size_bytes(), HEADER_BYTES + new_payload.len());
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_its_place() {
        for compression in CODECS {
            let (mut header, _) = batch(compression);
            header.attributes = header.attributes.with_delete_horizon(true);
            let empty = emptied(&header);
            assert_eq!(contents(&empty, &[]), []);
            assert_eq!((empty.last_offset(), empty.base_sequence), (Offset(75), 40));
            assert!(!empty.attributes.has_delete_horizon(), "no tombstone is left to go");
            assert_eq!((empty.max_timestamp, empty.size_bytes()), (1050, HEADER_BYTES));
        }
    }
}
