//! Reads primitive values from a frame.

use super::{Records, Str, Tags};
use crate::ids::Uuid;
use bytes::Bytes;

/// Why a frame could not be decoded. `at` is the position in bytes from the start of what the reader was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a value.
    #[error("the frame ends inside a value at byte {at} ({needed} more needed)")]
    Truncated {
        /// Where the value starts.
        at: usize,
        /// Bytes that are missing.
        needed: usize,
    },
    /// A length or count is negative, more than its type allows, or more than the bytes left can hold.
    #[error("length {length} at byte {at} does not fit the {left} bytes left")]
    BadLength {
        /// Behind the length.
        at: usize,
        /// What it says.
        length: i64,
        /// Bytes left.
        left: usize,
    },
    /// A value that may not be null is.
    #[error("null at byte {at} where a value is needed")]
    UnexpectedNull {
        /// Behind the value.
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("string at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the string starts.
        at: usize,
    },
    /// A varint has more bits than its type.
    #[error("varint at byte {at} is too long")]
    BadVarint {
        /// Where it starts.
        at: usize,
    },
    /// Tags do not ascend, or a known tag's size is not that of its value.
    #[error("tagged field {tag} at byte {at} is out of order or of a wrong size")]
    BadTag {
        /// Behind the tag.
        at: usize,
        /// Its number.
        tag: u32,
    },
    /// The frame asks for more memory than a frame of its size may.
    #[error("decoding would allocate too much at byte {at}")]
    BudgetExceeded {
        /// Behind the count.
        at: usize,
    },
    /// The message is over and there are bytes left.
    #[error("{left} bytes are left behind the message")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
}

/// Allocation allowed per byte of the frame.
const BUDGET_PER_BYTE: usize = 16;
/// What an unknown tag may cost: a growing vector starts with room for four, and later holds at most twice what it
/// needs beside its old half; and the box around it.
const UNKNOWN_TAG_COST_BYTES: usize = 4 * size_of::<super::UnknownTag>() + 32;
/// Allocation allowed to any frame.
const BUDGET_BASE_BYTES: usize = 1024 * 1024;

/// Reads a frame. The first error is kept: from then on every value is zero, empty or null, and [`Reader::finish`]
/// gives the error. Strings and bytes are slices of the frame; arrays are charged to a budget of 16 times the frame
/// plus 1 MiB before they are allocated, so that no count makes the reader allocate more.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    /// No value may reach beyond this; the end of the frame, or of the tagged field that is being read.
    end: usize,
    /// Where the value of the tagged field starts that was met last.
    tagged_at: Option<usize>,
    flexible: bool,
    budget_bytes: usize,
    error: Option<DecodeError>,
}

impl Reader {
    /// Reads from the start of `frame`, in the classic form until [`Reader::set_flexible`].
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        let budget_bytes = end.saturating_mul(BUDGET_PER_BYTE).saturating_add(BUDGET_BASE_BYTES);
        Self { frame, at: 0, end, tagged_at: None, flexible: false, budget_bytes, error: None }
    }

    /// Chooses compact lengths and tagged fields. Every message sets it for itself.
    pub const fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Where the next value starts, in bytes from the start of the frame.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Has there been an error?
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The first error, while reading goes on.
    ///
    /// # Errors
    /// The first error that was met.
    pub fn check(&self) -> Result<(), DecodeError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// Ends reading.
    ///
    /// # Errors
    /// The first error that was met, or `TrailingBytes`.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.error {
            Some(error) => Err(error),
            None if self.at < self.end => Err(DecodeError::TrailingBytes { left: self.end - self.at }),
            None => Ok(()),
        }
    }

    #[cold]
    fn fail(&mut self, error: DecodeError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
        // Nothing is left, so that every later read fails at once and loops end.
        self.at = self.end;
    }

    #[inline]
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        if self.error.is_some() || count > self.remaining() {
            let (at, needed) = (self.at, count.saturating_sub(self.remaining()));
            self.fail(DecodeError::Truncated { at, needed });
            return None;
        }
        let at = self.at;
        self.at += count;
        self.frame.get(at..at + count)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }

    /// A boolean; every byte but zero is true.
    #[inline]
    pub fn bool(&mut self) -> bool {
        self.fixed::<1>() != [0]
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.fixed())
    }

    /// Big endian.
    #[inline]
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.fixed())
    }

    /// Big endian.
    #[inline]
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.fixed())
    }

    /// Big endian.
    #[inline]
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.fixed())
    }

    /// Big endian.
    #[inline]
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.fixed())
    }

    /// Big endian IEEE 754.
    #[inline]
    pub fn f64(&mut self) -> f64 {
        f64::from_be_bytes(self.fixed())
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Uuid {
        Uuid(self.fixed())
    }

    /// An unsigned varint of at most 32 bits (LEB128).
    pub fn uvarint(&mut self) -> u32 {
        let at = self.at;
        let mut out: u32 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed::<1>();
            if shift == 28 && byte > 0x0f {
                break;
            }
            out |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return out;
            }
        }
        self.fail(DecodeError::BadVarint { at });
        0
    }

    /// A count in the form of the flag; `None` for null. The bytes left must hold `min` for each.
    fn count(&mut self, min: usize) -> Option<usize> {
        let count = if self.flexible { i64::from(self.uvarint()) - 1 } else { i64::from(self.i32()) };
        self.checked_length(count, min)
    }

    /// The length of a string in the form of the flag; `None` for null.
    fn text_length(&mut self) -> Option<usize> {
        let length = if self.flexible { i64::from(self.uvarint()) - 1 } else { i64::from(self.i16()) };
        if length > i64::from(i16::MAX) {
            let (at, left) = (self.at, self.remaining());
            self.fail(DecodeError::BadLength { at, length, left });
        }
        self.checked_length(length, 1)
    }

    fn checked_length(&mut self, length: i64, min: usize) -> Option<usize> {
        if length == -1 || self.failed() {
            return None;
        }
        let left = self.remaining();
        match usize::try_from(length) {
            Ok(n) if n.checked_mul(min).is_some_and(|bytes| bytes <= left) => Some(n),
            _ => {
                let at = self.at;
                self.fail(DecodeError::BadLength { at, length, left });
                None
            }
        }
    }

    fn null(&mut self) {
        let at = self.at;
        self.fail(DecodeError::UnexpectedNull { at });
    }

    fn slice(&mut self, length: usize) -> Bytes {
        let at = self.at;
        if self.take(length).is_none() || length == 0 {
            return Bytes::new();
        }
        self.frame.slice(at..at + length)
    }

    fn text(&mut self, length: usize) -> Str {
        let at = self.at;
        Str::from_utf8(self.slice(length)).unwrap_or_else(|| {
            self.fail(DecodeError::NotUtf8 { at });
            Str::default()
        })
    }

    /// A string or null.
    pub fn nullable_str(&mut self) -> Option<Str> {
        let length = self.text_length()?;
        Some(self.text(length))
    }

    /// A string.
    pub fn str(&mut self) -> Str {
        self.nullable_str().unwrap_or_else(|| {
            self.null();
            Str::default()
        })
    }

    /// A string or null in the classic form whatever the flag says (the client id of the request header).
    pub fn classic_nullable_str(&mut self) -> Option<Str> {
        let length = i64::from(self.i16());
        let length = self.checked_length(length, 1)?;
        Some(self.text(length))
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self) -> Option<Bytes> {
        let length = self.count(1)?;
        Some(self.slice(length))
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Bytes {
        self.nullable_bytes().unwrap_or_else(|| {
            self.null();
            Bytes::new()
        })
    }

    /// Record batches, uninterpreted.
    pub fn records(&mut self) -> Records {
        self.nullable_bytes().map_or(Records::Null, Records::Bytes)
    }

    /// Charges an allocation of `bytes` before it is made.
    fn charge(&mut self, bytes: usize) -> bool {
        if let Some(left) = self.budget_bytes.checked_sub(bytes) {
            self.budget_bytes = left;
            return true;
        }
        let at = self.at;
        self.fail(DecodeError::BudgetExceeded { at });
        false
    }

    /// An array or null. `min` is the fewest bytes that an element takes.
    pub fn nullable_array<T>(
        &mut self,
        min: usize,
        mut element: impl FnMut(&mut Self) -> T,
    ) -> Option<Vec<T>> {
        let count = self.count(min)?;
        if !self.charge(count.saturating_mul(size_of::<T>())) {
            return None;
        }
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(element(self));
            if self.failed() {
                break;
            }
        }
        Some(out)
    }

    /// An array.
    pub fn array<T>(&mut self, min: usize, element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        self.nullable_array(min, element).unwrap_or_else(|| {
            self.null();
            Vec::new()
        })
    }

    /// A struct behind a byte that is negative for null; as a tagged field, Kafka writes null as 0.
    pub fn nullable_struct<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let is_tagged = self.tagged_at == Some(self.at);
        let mark = self.i8();
        if mark < 0 || mark == 0 && is_tagged || self.failed() {
            return None;
        }
        Some(read(self))
    }

    /// Tagged fields, none of them known; nothing is read unless the version is flexible.
    pub fn unknown_tags(&mut self) -> Tags {
        self.tags(|_, _| false)
    }

    /// Tagged fields; nothing is read unless the version is flexible. `known` reads the value of a tag that it knows
    /// and says so; the others are kept. Tags ascend (KIP-482).
    pub fn tags(&mut self, mut known: impl FnMut(&mut Self, u32) -> bool) -> Tags {
        let mut unknown = Tags::NONE;
        if !self.flexible {
            return unknown;
        }
        let count = self.uvarint();
        let mut before = None;
        for _ in 0..count {
            let tag = self.uvarint();
            let size = i64::from(self.uvarint());
            let Some(size) = self.checked_length(size, 1) else { break };
            let (start, outer) = (self.at, self.end);
            if before.is_some_and(|b| tag <= b) {
                self.fail(DecodeError::BadTag { at: start, tag });
                break;
            }
            before = Some(tag);
            self.end = start + size;
            self.tagged_at = Some(start);
            if !known(self, tag) && !self.failed() {
                if !self.charge(UNKNOWN_TAG_COST_BYTES) {
                    self.end = outer;
                    break;
                }
                unknown.push(tag, self.frame.slice(start..start + size));
                self.at = start + size;
            }
            let whole = self.at == self.end;
            self.end = outer;
            if self.failed() || !whole {
                self.fail(DecodeError::BadTag { at: start, tag });
                break;
            }
        }
        unknown
    }
}
