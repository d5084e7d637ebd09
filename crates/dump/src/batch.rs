//! Record batches, version 2, taken apart by hand with nom: header, records, control records. Checksums are checked, compressed
//! records are decompressed within a budget, and what is damaged is shown as far as it goes.

use std::ops::Range;

use bytes::Bytes;
use nom::error::{Error, ErrorKind};
use nom::number::complete::{be_i16, be_i32, be_i64, be_u32, i8 as be_i8};
use nom::{IResult, Parser};
use ottla_protocol::records::{
    Attributes, BatchError, CompressionType, DecompressLimit, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC,
    TimestampType, compute_crc, decompress,
};

use crate::failure::{Failure, Reason};
use crate::tree::{Node, Value};

/// The header of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes that follow this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// Record format.
    pub magic: i8,
    /// CRC32C from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 that record timestamps count from.
    pub base_timestamp: i64,
    /// Highest timestamp.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

/// Parses a header from its 61 bytes.
///
/// # Errors
/// When there are fewer.
pub fn header(input: &[u8]) -> IResult<&[u8], Header> {
    let (input, (base_offset, batch_length, partition_leader_epoch, magic, crc)) =
        (be_i64, be_i32, be_i32, be_i8, be_u32).parse(input)?;
    let (input, (attributes, last_offset_delta, base_timestamp, max_timestamp)) =
        (be_i16.map(Attributes), be_i32, be_i64, be_i64).parse(input)?;
    let (input, (producer_id, producer_epoch, base_sequence, records_count)) =
        (be_i64, be_i16, be_i32, be_i32).parse(input)?;
    let header = Header {
        base_offset,
        batch_length,
        partition_leader_epoch,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        records_count,
    };
    Ok((input, header))
}

impl Header {
    /// Bytes of the whole batch; `None` when its length cannot be.
    #[must_use]
    pub fn size_bytes(&self) -> Option<usize> {
        let size = usize::try_from(self.batch_length).ok()?.checked_add(LENGTH_PREFIX_BYTES)?;
        (size >= HEADER_BYTES).then_some(size)
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// `create` or `append`.
    #[must_use]
    pub const fn timestamp_type(&self) -> &'static str {
        match self.attributes.timestamp_type() {
            TimestampType::CreateTime => "create",
            TimestampType::LogAppendTime => "append",
        }
    }

    /// The codec's name.
    #[must_use]
    pub fn codec(&self) -> &'static str {
        self.attributes.compression().map_or("unknown", CompressionType::name)
    }

    /// The fields of a header that starts at `at`.
    #[must_use]
    pub fn nodes(&self, at: usize) -> Vec<Node> {
        let fields: [(&'static str, &'static str, usize, i64); 13] = [
            ("BaseOffset", "int64", 8, self.base_offset),
            ("BatchLength", "int32", 4, self.batch_length.into()),
            ("PartitionLeaderEpoch", "int32", 4, self.partition_leader_epoch.into()),
            ("Magic", "int8", 1, self.magic.into()),
            ("Crc", "uint32", 4, self.crc.into()),
            ("Attributes", "int16", 2, self.attributes.0.into()),
            ("LastOffsetDelta", "int32", 4, self.last_offset_delta.into()),
            ("BaseTimestamp", "int64", 8, self.base_timestamp),
            ("MaxTimestamp", "int64", 8, self.max_timestamp),
            ("ProducerId", "int64", 8, self.producer_id),
            ("ProducerEpoch", "int16", 2, self.producer_epoch.into()),
            ("BaseSequence", "int32", 4, self.base_sequence.into()),
            ("RecordsCount", "int32", 4, self.records_count.into()),
        ];
        let mut start = at;
        let node = |(name, ty, size, value)| {
            start += size;
            Node::named(name, ty, start - size..start, Value::Int(value))
        };
        fields.into_iter().map(node).collect()
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its bytes, with the length, in the batch's records.
    pub span: Range<usize>,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Bits without a meaning so far.
    pub attributes: i8,
    /// Its timestamp minus the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Its offset minus the batch's base offset.
    pub offset_delta: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Where attributes, timestamp delta, offset delta, key, value and headers begin.
    pub starts: [usize; 6],
}

impl Record {
    /// Its fields. Spans count from `at`, where the batch's records begin.
    #[must_use]
    pub fn nodes(&self, at: usize) -> Vec<Node> {
        let [attributes, timestamp, offset, key, value, headers] = self.starts.map(|start| start + at);
        let end = self.span.end + at;
        let bytes = |bytes: &Option<Bytes>| bytes.clone().map_or(Value::Null, readable);
        let length = Value::Int((end - attributes) as i64);
        let mut nodes = vec![
            Node::named("Length", "varint", self.span.start + at..attributes, length),
            Node::named("Attributes", "int8", attributes..timestamp, Value::Int(self.attributes.into())),
            Node::named("TimestampDelta", "varlong", timestamp..offset, Value::Int(self.timestamp_delta)),
            Node::named("OffsetDelta", "varint", offset..key, Value::Int(self.offset_delta)),
            Node::named("Key", "bytes", key..value, bytes(&self.key)),
            Node::named("Value", "bytes", value..headers, bytes(&self.value)),
        ];
        let parts = self.headers.iter().enumerate().map(|(index, (name, value))| {
            // Where single headers lie is not worth the memory: the span is that of all of them.
            let parts = vec![
                Node::named("Key", "string", headers..end, readable(name.clone())),
                Node::named("Value", "bytes", headers..end, bytes(value)),
            ];
            Node {
                label: crate::tree::Label::Element(index),
                ty: crate::tree::TypeName::Named("Header"),
                span: headers..end,
                value: Value::Struct(parts),
            }
        });
        nodes.push(Node::named("Headers", "[]Header", headers..end, Value::Array(parts.collect())));
        nodes
    }
}

fn readable(bytes: Bytes) -> Value {
    if std::str::from_utf8(&bytes).is_ok() { Value::Text(bytes) } else { Value::Bytes(bytes) }
}

/// One batch.
#[derive(Debug)]
pub struct Batch {
    /// Its bytes, from the start of the frame or file.
    pub span: Range<usize>,
    /// Its header.
    pub header: Header,
    /// Its records, decompressed.
    pub records: Bytes,
    /// Where the records begin in the frame or file; `None` where they were compressed.
    pub records_at: Option<usize>,
    /// What is wrong with it. Its records may be readable all the same, up to the wrong one.
    pub failure: Option<Failure>,
}

/// Batches one after the other.
#[derive(Debug, Default)]
pub struct Batches {
    /// The whole ones.
    pub list: Vec<Batch>,
    /// The bytes behind them that are none; empty where all is well.
    pub rest: Range<usize>,
    /// Why the rest is none.
    pub failure: Option<Failure>,
}

impl Batches {
    /// Takes apart the batches in `span` of `frame`. `budget_bytes` is what may still be decompressed, and is charged.
    #[must_use]
    pub fn parse(frame: &Bytes, span: Range<usize>, budget_bytes: &mut u64) -> Self {
        let mut list = Vec::new();
        let mut at = span.start;
        let mut failure = None;
        while at < span.end && failure.is_none() {
            match Batch::parse(&frame.slice(at..span.end), at, budget_bytes) {
                Ok(batch) => {
                    at = batch.span.end;
                    list.push(batch);
                }
                Err(found) => failure = Some(found),
            }
        }
        Self { list, rest: at..span.end, failure }
    }

    /// The first thing that is wrong in any of them.
    #[must_use]
    pub fn first_failure(&self) -> Option<&Failure> {
        self.list.iter().find_map(|batch| batch.failure.as_ref()).or(self.failure.as_ref())
    }

    /// Is nothing wrong but that the last batch is cut off, as a fetch may well do (KIP-74)?
    #[must_use]
    pub fn is_only_cut_off(&self) -> bool {
        let cut = |f: &Failure| matches!(f.reason, Reason::Batch(BatchError::Truncated { .. }));
        self.failure.as_ref().is_some_and(cut) && self.list.iter().all(|batch| batch.failure.is_none())
    }
}

impl Batch {
    /// The batch at the start of `bytes`, which stand at `at`.
    ///
    /// # Errors
    /// When where it ends cannot be told, or is behind the bytes.
    pub fn parse(bytes: &Bytes, at: usize, budget_bytes: &mut u64) -> Result<Self, Failure> {
        let have = bytes.len();
        let truncated = |need| Failure::new(at, BatchError::Truncated { have, need });
        if let Some(&magic) = bytes.get(16)
            && magic as i8 != MAGIC
        {
            return Err(Failure::new(at + 16, BatchError::Magic(magic as i8)));
        }
        let (_, header) = header(bytes).map_err(|_| truncated(HEADER_BYTES))?;
        let size = header
            .size_bytes()
            .ok_or_else(|| Failure::new(at + 8, BatchError::Length(header.batch_length)))?;
        if size > have {
            return Err(truncated(size));
        }
        let payload = bytes.slice(HEADER_BYTES..size);
        let (records, records_at, unpacked) = unpack(&header, payload, at + HEADER_BYTES, budget_bytes);
        let mut batch = Self { span: at..at + size, header, records, records_at, failure: None };
        let checked = check_crc(&batch.header, &bytes[..size]);
        batch.failure = checked.and(unpacked).err().map(|error| Failure::new(at, error));
        if batch.failure.is_none() {
            batch.failure = batch.records().find_map(Result::err);
        }
        Ok(batch)
    }

    /// The records one after the other. After an error there are no more.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, at: 0, index: 0, done: false }
    }
}

fn check_crc(header: &Header, batch: &[u8]) -> Result<(), BatchError> {
    let computed = compute_crc(batch)?;
    let stored = header.crc;
    if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
}

fn unpack(
    header: &Header,
    payload: Bytes,
    at: usize,
    budget_bytes: &mut u64,
) -> (Bytes, Option<usize>, Result<(), BatchError>) {
    let codec = match header.attributes.compression() {
        Ok(CompressionType::None) => return (payload, Some(at), Ok(())),
        Ok(codec) => codec,
        Err(error) => return (Bytes::new(), None, Err(error)),
    };
    let default = DecompressLimit::default();
    let limit = DecompressLimit {
        bytes_max: default.bytes_max.min(*budget_bytes),
        ratio_free_bytes: default.ratio_free_bytes.min(*budget_bytes),
        ..default
    };
    let (records, ended) = decompress(codec, &payload, limit);
    *budget_bytes -= (records.len() as u64).min(*budget_bytes);
    (Bytes::from(records), None, ended)
}

/// Iterator over the records of a batch.
pub struct Records<'a> {
    batch: &'a Batch,
    at: usize,
    index: u32,
    done: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let (batch, index) = (self.batch, self.index);
        let base = batch.records_at.unwrap_or(0);
        let count = batch.header.records_count;
        if i64::from(index) >= i64::from(count) {
            self.done = true;
            let left = self.at < batch.records.len();
            return left.then(|| Err(Failure::new(base + self.at, BatchError::TrailingBytes(count))));
        }
        self.index += 1;
        match record(&batch.records, self.at, &batch.header) {
            Ok(record) => {
                self.at = record.span.end;
                Some(Ok(record))
            }
            Err((at, reason)) => {
                self.done = true;
                Some(Err(Failure::new(base + at, BatchError::Record { index, reason })))
            }
        }
    }
}

/// Parses the record at `at`.
fn record(records: &Bytes, at: usize, header: &Header) -> Result<Record, (usize, &'static str)> {
    let input = &records[at..];
    let position = |rest: &[u8]| records.len() - rest.len();
    let at_error = |error: nom::Err<Error<&[u8]>>| match error {
        nom::Err::Incomplete(_) => (at, "it ends early"),
        nom::Err::Error(error) | nom::Err::Failure(error) => (position(error.input), why(error.code)),
    };
    let (body, length) = signed(32).parse(input).map_err(at_error)?;
    let start = position(body);
    let length = usize::try_from(length).map_err(|_| (at, "length is negative"))?;
    let end = start + length;
    let body = body.get(..length).ok_or((at, "the batch ends within it"))?;
    let place = |rest: &[u8]| end - rest.len();
    let at_error = |error: nom::Err<Error<&[u8]>>| match error {
        nom::Err::Incomplete(_) => (start, "it ends early"),
        nom::Err::Error(error) | nom::Err::Failure(error) => (place(error.input), why(error.code)),
    };
    let (rest, attributes) = be_i8(body).map_err(at_error)?;
    let timestamp_at = place(rest);
    let (rest, timestamp_delta) = signed(64).parse(rest).map_err(at_error)?;
    let offset_at = place(rest);
    let (rest, offset_delta) = signed(32).parse(rest).map_err(at_error)?;
    let key_at = place(rest);
    let (rest, key) = optional(rest).map_err(at_error)?;
    let value_at = place(rest);
    let (rest, value) = optional(rest).map_err(at_error)?;
    let headers_at = place(rest);
    let own = |bytes: &[u8]| records.slice_ref(bytes);
    let (rest, headers) = record_headers(rest).map_err(at_error)?;
    if !rest.is_empty() {
        return Err((place(rest), "contents differ from the length"));
    }
    let timestamp_ms = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    Ok(Record {
        span: at..end,
        offset: header.base_offset.saturating_add(offset_delta),
        timestamp_ms,
        attributes,
        timestamp_delta,
        offset_delta,
        key: key.map(own),
        value: value.map(own),
        headers: headers.into_iter().map(|(name, value)| (own(name), value.map(own))).collect(),
        starts: [start, timestamp_at, offset_at, key_at, value_at, headers_at],
    })
}

const fn why(code: ErrorKind) -> &'static str {
    match code {
        ErrorKind::TooLarge => "a number overflows",
        ErrorKind::Verify => "a length is negative",
        _ => "a length goes beyond the record",
    }
}

/// A zigzag LEB128 of at most that many bits.
fn signed(bits: u32) -> impl Fn(&[u8]) -> IResult<&[u8], i64> {
    move |input| {
        let error = |code| nom::Err::Error(Error::new(input, code));
        let mut value = 0u64;
        for (index, byte) in input.iter().enumerate() {
            let shift = 7 * index as u32;
            let left = bits.saturating_sub(shift).min(7);
            if u32::from(byte & 0x7f) >> left != 0 || left == 0 {
                return Err(error(ErrorKind::TooLarge));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let number = (value >> 1) as i64 ^ -((value & 1) as i64);
                return Ok((&input[index + 1..], number));
            }
        }
        Err(error(ErrorKind::Eof))
    }
}

/// Bytes behind their length; -1 is null.
fn optional(input: &[u8]) -> IResult<&[u8], Option<&[u8]>> {
    let (rest, length) = signed(32).parse(input)?;
    if length == -1 {
        return Ok((rest, None));
    }
    let length =
        usize::try_from(length).map_err(|_| nom::Err::Error(Error::new(input, ErrorKind::Verify)))?;
    let (rest, bytes) = nom::bytes::complete::take(length).parse(rest)?;
    Ok((rest, Some(bytes)))
}

type RawHeaders<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

fn record_headers(input: &[u8]) -> IResult<&[u8], RawHeaders<'_>> {
    let (mut rest, count) = signed(32).parse(input)?;
    let error = |code| nom::Err::Error(Error::new(input, code));
    let count = usize::try_from(count).map_err(|_| error(ErrorKind::Verify))?;
    // A header takes at least two bytes.
    if count > rest.len() / 2 {
        return Err(error(ErrorKind::Eof));
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let (after, name) = optional(rest)?;
        let name = name.ok_or_else(|| nom::Err::Error(Error::new(rest, ErrorKind::Verify)))?;
        let (after, value) = optional(after)?;
        headers.push((name, value));
        rest = after;
    }
    Ok((rest, headers))
}
