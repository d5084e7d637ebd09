//! What several of these tests need.

use bytes::Bytes;
use ottla_protocol::records::{
    Batch, BatchError, Builder, Compression, DecompressLimit, HEADER_BYTES, RecordHeader, compute_crc,
};

/// Every codec at its default level.
pub const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip(-1), Compression::Snappy, Compression::Lz4, Compression::Zstd(3)];

/// A record that owns its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The records of a batch, collected.
pub fn read(batch: &Batch<'_>) -> Result<Vec<OwnedRecord>, BatchError> {
    let mut records = batch.records(DecompressLimit::default())?;
    let mut out = Vec::new();
    while let Some(record) = records.next_record()? {
        out.push(OwnedRecord {
            offset: batch.header().offset_of_delta(record.offset_delta).0,
            timestamp: batch.header().timestamp_of_delta(record.timestamp_delta),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        });
    }
    Ok(out)
}

/// Adds a record at its offset, which counts from the batch's first.
pub fn append(builder: &mut Builder, record: &OwnedRecord) {
    let headers: Vec<_> =
        record.headers.iter().map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    builder.append_at(record.offset, record.timestamp, key, value, &headers).expect("the record fits");
}

/// A batch of `count` records as a producer sends it: keys, values of 20 bytes, timestamps 1000, 1001, ...
pub fn produced(compression: Compression, count: i64) -> Vec<u8> {
    let mut builder = Builder::new(compression);
    for i in 0..count {
        let (key, value) = (format!("key {i}"), format!("value {i:014}"));
        builder.append(1000 + i, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("the record fits");
    }
    builder.finish().expect("the batch fits")
}

/// Changes a header field (as bytes at a position) and makes the checksum right again.
pub fn patched(batch: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    resealed(batch)
}

/// The batch with its length and checksum made right.
pub fn resealed(mut batch: Vec<u8>) -> Bytes {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = compute_crc(&batch).expect("there is a header");
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A batch of one codec's code and a payload that is already compressed, claiming `count` records.
pub fn with_payload(codec: u8, count: i32, payload: &[u8]) -> Bytes {
    let mut batch = produced(Compression::None, 1);
    batch.truncate(HEADER_BYTES);
    batch[22] = codec;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(payload);
    resealed(batch)
}

/// Standard base64.
pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut bit_count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|&a| a == c).expect("base64");
        bits = bits << 6 | value as u32;
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            out.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    out
}
