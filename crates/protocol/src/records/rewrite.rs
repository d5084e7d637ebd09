//! What a broker may change in a batch before it is appended: the clock, without touching the records, and the codec.

use std::io;

use bytes::Bytes;
use thiserror::Error;

use super::builder::{PAYLOAD_BYTES_MAX, seal};
use super::compression::{Compression, Decoder, DecompressLimit, Encoder};
use super::header::{BatchError, BatchHeader, HEADER_BYTES, TimestampType};
use super::source::{Fault, StreamSource};

/// Why a batch cannot be compressed anew.
#[derive(Debug, Error)]
pub enum RewriteError {
    /// What is there cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The new batch would take more bytes than allowed.
    #[error("the rewritten record batch is larger than {0} bytes")]
    TooLarge(usize),
    /// The codec refuses, as for a level that it does not have.
    #[error("cannot compress records: {0}")]
    Compress(#[source] io::Error),
}

/// Gives the header the timestamp type and max timestamp, and a new checksum if that changes anything. `payload` is what
/// follows the header; it stays as it is.
pub fn set_timestamps(
    header: &mut BatchHeader,
    payload: &[u8],
    timestamp_type: TimestampType,
    max_timestamp: i64,
) {
    let attributes = header.attributes.with_timestamp_type(timestamp_type);
    if header.attributes == attributes && header.max_timestamp == max_timestamp {
        return;
    }
    header.attributes = attributes;
    header.max_timestamp = max_timestamp;
    header.crc = header.crc_with(payload);
}

/// The same records in another codec: decompressed and compressed as a stream, never parsed or held whole. All other
/// fields of the header stay; length, checksum and codec are set.
///
/// # Errors
/// `Batch` when the payload does not decompress within `limit`, `TooLarge` as soon as the batch passes `bytes_max`
/// (header included), `Compress`.
pub fn recompress(
    header: &BatchHeader,
    payload: &[u8],
    target: Compression,
    limit: DecompressLimit,
    bytes_max: usize,
) -> Result<(BatchHeader, Bytes), RewriteError> {
    let payload_max = bytes_max.saturating_sub(HEADER_BYTES).min(PAYLOAD_BYTES_MAX);
    let encode_error = |error: io::Error| match error.kind() {
        io::ErrorKind::FileTooLarge => RewriteError::TooLarge(bytes_max),
        _ => RewriteError::Compress(error),
    };
    let decoder = Decoder::new(header.attributes.compression()?, payload, limit)?;
    let mut source = StreamSource::new(decoder);
    let mut encoder = Encoder::new(target, payload_max).map_err(encode_error)?;
    loop {
        let chunk = source.chunk().map_err(|fault| match fault {
            Fault::Batch(error) => error,
            Fault::Reason(reason) => BatchError::Decompress(reason.into()),
        })?;
        if chunk.is_empty() {
            break;
        }
        encoder.write(chunk).map_err(encode_error)?;
    }
    let payload = encoder.finish().map_err(encode_error)?;
    let mut header = header.clone();
    header.attributes = header.attributes.with_compression(target.codec());
    seal(&mut header, &payload);
    Ok((header, payload.into()))
}
