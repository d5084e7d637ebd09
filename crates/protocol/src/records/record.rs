//! One record: how it is laid out in its batch, read from a slice, written, or only skimmed.

use super::header::BatchError;
use super::source::{Fault, SliceSource, Source};

/// A record with its contents, which borrow from the batch or from the iterator's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bits without a meaning so far.
    pub attributes: i8,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Records after the batch's base offset.
    pub offset_delta: i32,
    /// Key, if there is one; it may be empty.
    pub key: Option<&'a [u8]>,
    /// Value; none is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// A record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Name; UTF-8 by convention, not checked.
    pub key: &'a [u8],
    /// Value, if there is one.
    pub value: Option<&'a [u8]>,
}

/// Iterator over the headers of a record, whose layout was checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: u32,
}

impl<'a> Record<'a> {
    /// The record's headers in order; a name may occur more than once.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// Reads a record from exactly its bytes, without its length.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let mut source = SliceSource::new(body);
        let end = source.position() + body.len() as u64;
        let attributes = source.byte()? as i8;
        let timestamp_delta = source.varlong()?;
        let offset_delta = source.varint()?;
        let key = nullable(&mut source, end)?;
        let value = nullable(&mut source, end)?;
        let left = header_count(&mut source, end)?;
        let bytes = source.rest();
        for _ in 0..left {
            skip_header(&mut source, end)?;
        }
        expect_end(&source, end)?;
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers: Headers { bytes, left } })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut source = SliceSource::new(self.bytes);
        let end = self.bytes.len() as u64;
        let header = nullable(&mut source, end)
            .and_then(|key| {
                Ok(RecordHeader { key: key.unwrap_or_default(), value: nullable(&mut source, end)? })
            })
            .expect("the headers were walked when the record was read");
        self.bytes = source.rest();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// What a walk over a batch sees of a record without touching its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sketch {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub has_key: bool,
}

/// Walks over one record, length included. Lengths are refused beyond what is left of the record, and the record's beyond
/// what is left of the source.
#[inline]
pub(super) fn skim<S: Source>(source: &mut S) -> Result<Sketch, Fault> {
    let length = record_length(source)?;
    let end = source.position() + length as u64;
    source.byte()?;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key_length = length_within(source, end, -1)?;
    source.skip(key_length.unwrap_or(0))?;
    let value_length = length_within(source, end, -1)?;
    source.skip(value_length.unwrap_or(0))?;
    for _ in 0..header_count(source, end)? {
        skip_header(source, end)?;
    }
    expect_end(source, end)?;
    Ok(Sketch { timestamp_delta, offset_delta, has_key: key_length.is_some() })
}

/// A record's length, which the source may still hold.
#[inline]
pub(super) fn record_length<S: Source>(source: &mut S) -> Result<usize, Fault> {
    let length = source.varint()?;
    let length = usize::try_from(length).map_err(|_| Fault::Reason("length is negative"))?;
    source.expect(length)?;
    Ok(length)
}

#[inline]
fn length_within<S: Source>(source: &mut S, end: u64, least: i32) -> Result<Option<usize>, Fault> {
    let length = source.varint()?;
    if length < least {
        return Err(Fault::Reason("a length is negative"));
    }
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    if source.position().saturating_add(length as u64) > end {
        return Err(Fault::Reason("a length goes beyond the record"));
    }
    Ok(Some(length))
}

#[inline]
fn header_count<S: Source>(source: &mut S, end: u64) -> Result<u32, Fault> {
    let count = source.varint()?;
    let count = u32::try_from(count).map_err(|_| Fault::Reason("number of headers is negative"))?;
    // A header takes at least two bytes.
    if u64::from(count) * 2 > end.saturating_sub(source.position()) {
        return Err(Fault::Reason("number of headers goes beyond the record"));
    }
    Ok(count)
}

fn skip_header<S: Source>(source: &mut S, end: u64) -> Result<(), Fault> {
    let key = length_within(source, end, 0)?;
    source.skip(key.unwrap_or(0))?;
    let value = length_within(source, end, -1)?;
    source.skip(value.unwrap_or(0))
}

#[inline]
fn expect_end<S: Source>(source: &S, end: u64) -> Result<(), Fault> {
    if source.position() == end { Ok(()) } else { Err(Fault::Reason("contents differ from the length")) }
}

fn nullable<'a>(source: &mut SliceSource<'a>, end: u64) -> Result<Option<&'a [u8]>, Fault> {
    match length_within(source, end, -1)? {
        None => Ok(None),
        Some(length) => source.take(length).map(Some),
    }
}

/// Appends a record, length included, to `out`.
pub(super) fn write_record(
    out: &mut Vec<u8>,
    (timestamp_delta, offset_delta): (i64, i32),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[RecordHeader<'_>],
) {
    let optional = |bytes: Option<&[u8]>| match bytes {
        None => 1,
        Some(bytes) => varint_bytes(bytes.len() as i64) + bytes.len(),
    };
    let mut length = 1 + varint_bytes(timestamp_delta) + varint_bytes(i64::from(offset_delta));
    length += optional(key) + optional(value) + varint_bytes(headers.len() as i64);
    length += headers.iter().map(|h| optional(Some(h.key)) + optional(h.value)).sum::<usize>();
    put_varint(out, length as i64);
    out.push(0);
    put_varint(out, timestamp_delta);
    put_varint(out, i64::from(offset_delta));
    put_nullable(out, key);
    put_nullable(out, value);
    put_varint(out, headers.len() as i64);
    for header in headers {
        put_nullable(out, Some(header.key));
        put_nullable(out, header.value);
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut bits = zigzag(value);
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

/// Small magnitudes of either sign become small numbers.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The error for a fault in the record with that index.
pub(super) fn at_record(fault: Fault, index: u32) -> BatchError {
    match fault {
        Fault::Reason(reason) => BatchError::Record { index, reason },
        Fault::Batch(error) => error,
    }
}
