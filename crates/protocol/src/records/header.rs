//! The 61-byte header of a record batch, its attributes and its checksum.

use thiserror::Error;

use crate::ids::{LeaderEpoch, Offset, ProducerId};

/// Bytes of a batch's header; the records follow.
pub const HEADER_BYTES: usize = 61;

/// Bytes of base offset and length, which `batch_length` does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;

/// The only record format served and stored.
pub const MAGIC: i8 = 2;

/// Timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;

const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where the checksum's range begins: base offset, length, leader epoch, magic and the checksum itself lie before.
pub(super) const ATTRIBUTES_AT: usize = 21;

/// Why bytes are not a batch, or a batch not what it claims.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the header or the batch claims to have.
    #[error("a record batch of {need} bytes is cut off after {have}")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that must be there.
        need: usize,
    },
    /// `batch_length` is less than a header.
    #[error("record batch length {0} is less than a header")]
    Length(i32),
    /// Another record format than 2.
    #[error("record batch has magic {0}, only 2 is supported")]
    Magic(i8),
    /// The bytes are not those that were checksummed.
    #[error("record batch is corrupt (stored crc = {stored}, computed crc = {computed})")]
    Crc {
        /// The header's checksum.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Compression codec 5, 6 or 7.
    #[error("unknown compression codec {0}")]
    UnknownCompression(u8),
    /// A record that does not parse.
    #[error("record {index} is invalid: {reason}")]
    Record {
        /// Index of the record in its batch, from 0.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes are left after the last record of the header's count.
    #[error("bytes remain after the {0} records that the batch declares")]
    TrailingBytes(i32),
    /// The compressed stream is damaged.
    #[error("cannot decompress records: {0}")]
    Decompress(String),
    /// The records decompress to more than the limit.
    #[error("records decompress to more than {limit_bytes} bytes")]
    DecompressLimit {
        /// The limit that applied to this batch.
        limit_bytes: u64,
    },
}

/// How the records of a batch are compressed (attribute bits 0 to 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CompressionType {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in xerial's framing or as one raw block.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames (KIP-110: Produce 7 and Fetch 10 or later).
    Zstd,
}

impl CompressionType {
    /// The codec with that number, or `None` for 5 and above.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// The codec's number in the attributes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec's name as `compression.type` spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Whose clock a batch's timestamps come from (attribute bit 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    #[default]
    CreateTime,
    /// The broker's; every record has the header's max timestamp.
    LogAppendTime,
}

/// The 16 attribute bits of a batch. Bits without a meaning are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec of the records.
    ///
    /// # Errors
    /// `BatchError::UnknownCompression` for 5 to 7.
    pub fn compression(self) -> Result<CompressionType, BatchError> {
        let code = (self.0 & Self::COMPRESSION) as u8;
        CompressionType::from_code(code).ok_or(BatchError::UnknownCompression(code))
    }

    /// Whose clock the timestamps come from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// The batch holds markers, not data.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is the time after which tombstones may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes with another codec.
    #[must_use]
    pub const fn with_compression(self, codec: CompressionType) -> Self {
        Self(self.0 & !Self::COMPRESSION | codec.code() as i16)
    }

    /// The same attributes with another clock.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        Self(match timestamp_type {
            TimestampType::CreateTime => self.0 & !Self::LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.0 | Self::LOG_APPEND_TIME,
        })
    }

    /// The same attributes with the transactional bit set or cleared.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same attributes with the control bit set or cleared.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// The same attributes with or without the mark that the base timestamp is a delete horizon.
    #[must_use]
    pub const fn with_delete_horizon(self, has_delete_horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, has_delete_horizon)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch's header. Offsets of its records are `base_offset` plus their delta, timestamps `base_timestamp` plus theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, also once compaction has removed it. Producers send 0.
    pub base_offset: Offset,
    /// Bytes after this field: the whole batch is 12 bytes longer.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch. Producers send -1.
    pub partition_leader_epoch: LeaderEpoch,
    /// CRC32C from the attributes to the batch's end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record, also once compaction has removed it, minus `base_offset`.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 that record timestamps count from.
    pub base_timestamp: i64,
    /// Highest timestamp of the records, or the append time; -1 where there is none.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: ProducerId,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

impl Default for BatchHeader {
    /// An empty batch without a producer id.
    fn default() -> Self {
        Self {
            base_offset: Offset(0),
            batch_length: (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32,
            partition_leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: ProducerId::NONE,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
        }
    }
}

impl BatchHeader {
    /// Reads the header from the first 61 bytes of `bytes`; the records need not be there. Looks at magic and length,
    /// not at checksum, counts or offsets.
    ///
    /// # Errors
    /// `Magic` (seen from 17 bytes on), `Truncated`, `Length`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let batch_length = i32::from_be_bytes(field(head, 8));
        if batch_length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
            return Err(BatchError::Length(batch_length));
        }
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(field(head, 0))),
            batch_length,
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(field(head, 12))),
            crc: u32::from_be_bytes(field(head, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(head, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: i64::from_be_bytes(field(head, 27)),
            max_timestamp: i64::from_be_bytes(field(head, 35)),
            producer_id: ProducerId(i64::from_be_bytes(field(head, 43))),
            producer_epoch: i16::from_be_bytes(field(head, 51)),
            base_sequence: i32::from_be_bytes(field(head, 53)),
            records_count: i32::from_be_bytes(field(head, 57)),
        })
    }

    /// The header's bytes. Fields are written as they are, the checksum too.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        put(&mut head, 0, self.base_offset.0.to_be_bytes());
        put(&mut head, 8, self.batch_length.to_be_bytes());
        put(&mut head, 12, self.partition_leader_epoch.0.to_be_bytes());
        put(&mut head, MAGIC_AT, MAGIC.to_be_bytes());
        put(&mut head, CRC_AT, self.crc.to_be_bytes());
        put(&mut head, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(&mut head, 23, self.last_offset_delta.to_be_bytes());
        put(&mut head, 27, self.base_timestamp.to_be_bytes());
        put(&mut head, 35, self.max_timestamp.to_be_bytes());
        put(&mut head, 43, self.producer_id.0.to_be_bytes());
        put(&mut head, 51, self.producer_epoch.to_be_bytes());
        put(&mut head, 53, self.base_sequence.to_be_bytes());
        put(&mut head, 57, self.records_count.to_be_bytes());
        head
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        LENGTH_PREFIX_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the batch's last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The first offset after the batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The checksum that belongs to this header and `payload` (what follows the header).
    #[must_use]
    pub fn crc_with(&self, payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.encode()[ATTRIBUTES_AT..]), payload)
    }

    /// Checks the stored checksum against this header and `payload` (what follows the header).
    ///
    /// # Errors
    /// `Crc`.
    pub fn verify_crc(&self, payload: &[u8]) -> Result<(), BatchError> {
        check_crc(self.crc, self.crc_with(payload))
    }
}

/// CRC32C of a whole batch, from its attributes to the end of `batch`.
///
/// # Errors
/// `Truncated` below 61 bytes.
pub fn compute_crc(batch: &[u8]) -> Result<u32, BatchError> {
    if batch.len() < HEADER_BYTES {
        return Err(BatchError::Truncated { have: batch.len(), need: HEADER_BYTES });
    }
    Ok(crc32c::crc32c(&batch[ATTRIBUTES_AT..]))
}

/// Checks the stored checksum of the batch at the start of `bytes`; bytes behind its length are not looked at.
///
/// # Errors
/// What `BatchHeader::parse` refuses, `Truncated` when the batch is not all there, `Crc`.
pub fn verify_crc(bytes: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let need = header.size_bytes();
    let batch = bytes.get(..need).ok_or(BatchError::Truncated { have: bytes.len(), need })?;
    check_crc(header.crc, compute_crc(batch)?)
}

pub(super) fn check_crc(stored: u32, computed: u32) -> Result<(), BatchError> {
    if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
}

fn field<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

fn put<const N: usize>(head: &mut [u8; HEADER_BYTES], at: usize, bytes: [u8; N]) {
    head[at..at + N].copy_from_slice(&bytes);
}
