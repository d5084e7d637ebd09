//! The check of what a producer sends for one partition, before any lock is taken, and the rewriting that the topic
//! asks for. The rules are those of Kafka 4.3's broker; the kinds of error are its error codes.

use bytes::Bytes;
use thiserror::Error;

use super::batch::Batch;
use super::compression::{Compression, DecompressLimit, has_linked_lz4_blocks};
use super::header::{BatchError, BatchHeader, CompressionType, HEADER_BYTES, NO_TIMESTAMP, TimestampType};
use super::record::Sketch;
use super::rewrite::{self, RewriteError};
use crate::ids::{Offset, ProducerId};

/// Single records reported in one error; the message counts the others.
pub const RECORD_ERRORS_MAX: usize = 100;

/// What the topic and the request's version ask of a batch.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Time of appending in milliseconds since 1970.
    pub now_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; looked at with CreateTime only, as `timestamp_after_max_ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: limit of a batch with its header, as it came and as it is appended.
    pub message_bytes_max: usize,
    /// The topic is compacted: records need a key.
    pub key_required: bool,
    /// The request may carry zstd (Produce 7 and later).
    pub allow_zstd: bool,
    /// The codec and level of `compression.type`, or `None` for `producer`. A batch in that codec stays as it is,
    /// whatever its level.
    pub compression: Option<Compression>,
    /// Limit of what the records decompress to.
    pub decompress_limit: DecompressLimit,
}

impl Default for ValidateOptions {
    /// A topic with Kafka's defaults, at time 0.
    fn default() -> Self {
        Self {
            now_ms: 0,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            message_bytes_max: 1_048_588,
            key_required: false,
            allow_zstd: true,
            compression: None,
            decompress_limit: DecompressLimit::default(),
        }
    }
}

/// A batch that may be appended once its offset and leader epoch are set, which leave the checksum valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The final header, but for base offset (0) and leader epoch.
    pub header: BatchHeader,
    /// What follows the header: a slice of what came, unless it was compressed anew.
    pub payload: Bytes,
    /// The batch's max timestamp; -1 where no record has one.
    pub max_timestamp: i64,
    /// Distance from the base offset of the first record that has it; 0 where there is none.
    pub max_timestamp_offset_delta: i32,
}

/// The Kafka error that a refused batch is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValidateErrorKind {
    /// INVALID_RECORD.
    InvalidRecord,
    /// CORRUPT_MESSAGE, which clients retry.
    CorruptMessage,
    /// MESSAGE_TOO_LARGE, which some clients answer by splitting the batch.
    MessageTooLarge,
    /// INVALID_TIMESTAMP.
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE.
    UnsupportedCompressionType,
}

/// Why a batch is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ValidateError {
    /// Which error code it is.
    pub kind: ValidateErrorKind,
    /// For the response's error message.
    pub message: String,
    /// The records at fault, if single ones are: index in the batch, and what is wrong (Produce 8 and later).
    pub records: Vec<(i32, String)>,
}

impl ValidateError {
    fn new(kind: ValidateErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), records: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ValidateErrorKind::InvalidRecord, message)
    }
}

impl From<BatchError> for ValidateError {
    fn from(error: BatchError) -> Self {
        use ValidateErrorKind as Kind;
        let kind = match &error {
            BatchError::Truncated { .. } | BatchError::Length(_) | BatchError::Crc { .. } => {
                Kind::CorruptMessage
            }
            BatchError::UnknownCompression(_) => Kind::UnsupportedCompressionType,
            BatchError::DecompressLimit { .. } => Kind::MessageTooLarge,
            BatchError::Magic(_) | BatchError::TrailingBytes(_) | BatchError::Decompress(_) => {
                Kind::InvalidRecord
            }
            BatchError::Record { index, reason } => {
                let message = error.to_string();
                let records = vec![(i32::try_from(*index).unwrap_or(i32::MAX), (*reason).to_owned())];
                return Self { kind: Kind::InvalidRecord, message, records };
            }
        };
        Self::new(kind, error.to_string())
    }
}

/// Checks the bytes of one partition in a produce request: exactly one batch, whole and with the right checksum, whose
/// records are all as its header says, and rewrites what the topic's settings ask for. Uncompressed and unchanged, that
/// is one pass for the checksum and one over the records' lengths, without allocation.
///
/// # Errors
/// The kind says which error the client gets.
pub fn validate(bytes: &Bytes, options: &ValidateOptions) -> Result<Validated, ValidateError> {
    let (header, payload) = only_batch(bytes, options)?;
    let codec = check_header(&header, options)?;
    header.verify_crc(&payload)?;
    if codec == CompressionType::Lz4 && has_linked_lz4_blocks(&payload) {
        return Err(ValidateError::invalid("LZ4 frame has blocks that depend on earlier ones"));
    }
    let highest = check_records(&Batch::from_parts(header.clone(), &payload), options)?;
    finish(header, payload, codec, highest, options)
}

/// The header and payload of the one batch that `bytes` must be.
fn only_batch(bytes: &Bytes, options: &ValidateOptions) -> Result<(BatchHeader, Bytes), ValidateError> {
    if bytes.is_empty() {
        return Err(ValidateError::invalid("a produce request must have one record batch per partition"));
    }
    let header = BatchHeader::parse(bytes)?;
    let size = header.size_bytes();
    if size > bytes.len() {
        return Err(BatchError::Truncated { have: bytes.len(), need: size }.into());
    }
    if size > options.message_bytes_max {
        return Err(too_large(size, options));
    }
    let rest = &bytes[size..];
    if !rest.is_empty() {
        return Err(match BatchHeader::parse(rest) {
            Ok(_) | Err(BatchError::Magic(_)) => {
                ValidateError::invalid("a produce request must have exactly one record batch per partition")
            }
            Err(_) => ValidateError::new(
                ValidateErrorKind::CorruptMessage,
                format!("{} bytes follow the record batch", rest.len()),
            ),
        });
    }
    Ok((header, bytes.slice(HEADER_BYTES..)))
}

fn too_large(size: usize, options: &ValidateOptions) -> ValidateError {
    let limit = options.message_bytes_max;
    ValidateError::new(
        ValidateErrorKind::MessageTooLarge,
        format!("the record batch takes {size} bytes, more than the {limit} of max.message.bytes"),
    )
}

/// What the header alone tells.
fn check_header(header: &BatchHeader, options: &ValidateOptions) -> Result<CompressionType, ValidateError> {
    let codec = header.attributes.compression()?;
    if codec == CompressionType::Zstd && !options.allow_zstd {
        return Err(ValidateError::new(
            ValidateErrorKind::UnsupportedCompressionType,
            "zstd needs Produce version 7 or later",
        ));
    }
    if header.base_offset != Offset(0) {
        return Err(ValidateError::invalid(format!("base offset is {}, it must be 0", header.base_offset)));
    }
    if header.records_count <= 0 {
        return Err(ValidateError::invalid(format!("invalid records count {}", header.records_count)));
    }
    if header.last_offset_delta != header.records_count - 1 {
        return Err(ValidateError::invalid(format!(
            "last offset delta {} does not fit {} records",
            header.last_offset_delta, header.records_count
        )));
    }
    if header.attributes.is_control() {
        return Err(ValidateError::invalid("clients may not write control records"));
    }
    if header.producer_id > ProducerId::NONE && header.base_sequence < 0 {
        return Err(ValidateError::invalid(format!(
            "invalid sequence number {} in a batch of producer {}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(ValidateError::new(
            ValidateErrorKind::InvalidTimestamp,
            "producers may not set the timestamp type to LogAppendTime",
        ));
    }
    Ok(codec)
}

/// The highest timestamp of a batch and the offset delta of the first record that has it.
#[derive(Clone, Copy)]
struct Highest {
    timestamp: i64,
    offset_delta: i32,
}

fn check_records(batch: &Batch<'_>, options: &ValidateOptions) -> Result<Highest, ValidateError> {
    let mut highest = Highest { timestamp: NO_TIMESTAMP, offset_delta: 0 };
    let mut faults = RecordFaults::default();
    let check_timestamps = options.timestamp_type == TimestampType::CreateTime;
    let base = batch.header().base_timestamp;
    batch.walk(options.decompress_limit, |index, sketch| {
        let Sketch { timestamp_delta, offset_delta, has_key } = sketch;
        let index = index as i32;
        if offset_delta != index {
            faults.add(index, || format!("offset delta is {offset_delta}, it must be {index}"));
        }
        if options.key_required && !has_key {
            faults.add(index, || "a compacted topic takes no record without a key".to_owned());
        }
        let timestamp = base.wrapping_add(timestamp_delta);
        if check_timestamps && is_out_of_range(timestamp, options) {
            faults.timestamps = true;
            faults.add(index, || out_of_range(timestamp, options));
        }
        if timestamp > highest.timestamp {
            highest = Highest { timestamp, offset_delta };
        }
        true
    })?;
    faults.into_result()?;
    Ok(highest)
}

/// True when a timestamp is further from now than the topic allows; records without one (-1) always pass.
fn is_out_of_range(timestamp: i64, options: &ValidateOptions) -> bool {
    let age = options.now_ms.saturating_sub(timestamp);
    timestamp != NO_TIMESTAMP
        && (age > options.timestamp_before_max_ms || age.saturating_neg() > options.timestamp_after_max_ms)
}

fn out_of_range(timestamp: i64, options: &ValidateOptions) -> String {
    let from = options.now_ms.saturating_sub(options.timestamp_before_max_ms).max(0);
    let to = options.now_ms.saturating_add(options.timestamp_after_max_ms);
    format!("timestamp {timestamp} is out of range, it must be within [{from}, {to}]")
}

#[derive(Default)]
struct RecordFaults {
    records: Vec<(i32, String)>,
    count: usize,
    timestamps: bool,
}

impl RecordFaults {
    #[cold]
    fn add(&mut self, index: i32, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.records.len() < RECORD_ERRORS_MAX {
            self.records.push((index, text()));
        }
    }

    fn into_result(self) -> Result<(), ValidateError> {
        let Some((index, text)) = self.records.first() else { return Ok(()) };
        let (kind, what) = if self.timestamps {
            (ValidateErrorKind::InvalidTimestamp, "rejected due to invalid timestamps")
        } else {
            (ValidateErrorKind::InvalidRecord, "invalid")
        };
        let message = format!("{} records are {what}, the first is {index}: {text}", self.count);
        Err(ValidateError { kind, message, records: self.records })
    }
}

/// Sets what the topic's clock and codec ask for.
fn finish(
    mut header: BatchHeader,
    mut payload: Bytes,
    codec: CompressionType,
    highest: Highest,
    options: &ValidateOptions,
) -> Result<Validated, ValidateError> {
    let highest = match options.timestamp_type {
        TimestampType::CreateTime => highest,
        TimestampType::LogAppendTime => Highest { timestamp: options.now_ms, offset_delta: 0 },
    };
    if let Some(target) = options.compression.filter(|target| target.codec() != codec) {
        header.attributes = header.attributes.with_timestamp_type(options.timestamp_type);
        header.max_timestamp = highest.timestamp;
        let limit = options.decompress_limit;
        (header, payload) = rewrite::recompress(&header, &payload, target, limit, options.message_bytes_max)
            .map_err(|error| match error {
                RewriteError::Batch(error) => error.into(),
                RewriteError::TooLarge(_) => too_large_rewritten(target, options),
                RewriteError::Compress(_) => {
                    ValidateError::new(ValidateErrorKind::UnsupportedCompressionType, error.to_string())
                }
            })?;
    } else {
        rewrite::set_timestamps(&mut header, &payload, options.timestamp_type, highest.timestamp);
    }
    assert_eq!(header.size_bytes(), HEADER_BYTES + payload.len(), "length and payload of a batch agree");
    Ok(Validated {
        header,
        payload,
        max_timestamp: highest.timestamp,
        max_timestamp_offset_delta: highest.offset_delta,
    })
}

fn too_large_rewritten(target: Compression, options: &ValidateOptions) -> ValidateError {
    let limit = options.message_bytes_max;
    let codec = target.codec().name();
    ValidateError::new(
        ValidateErrorKind::MessageTooLarge,
        format!(
            "the record batch takes more than the {limit} bytes of max.message.bytes with compression {codec}"
        ),
    )
}
