//! Reads primitive values and says where they were.

use std::ops::Range;

use ottla_protocol::ids::Uuid;

use crate::failure::{Failure, Reason};

/// A place in a frame.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pub at: usize,
    /// No value reaches beyond this: the end of the frame, or of the tagged field that is being read.
    pub end: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, end: bytes.len() }
    }

    pub fn left(&self) -> usize {
        self.end - self.at
    }

    pub fn slice(&self, span: Range<usize>) -> &'a [u8] {
        &self.bytes[span]
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        if count > self.left() {
            return Err(Failure::new(self.at, Reason::Truncated { needed: count - self.left() }));
        }
        self.at += count;
        Ok(&self.bytes[self.at - count..self.at])
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn i8(&mut self) -> Result<i8, Failure> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Failure> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Failure> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Failure> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Failure> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn f64(&mut self) -> Result<f64, Failure> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, Failure> {
        self.fixed().map(Uuid)
    }

    /// Unsigned LEB128 of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, Failure> {
        let start = self.at;
        let mut out = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            out |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(Failure::new(start, Reason::BadVarint))
    }

    /// The length of bytes or the count of an array; `None` for null. Each of them takes at least a byte.
    pub fn count(&mut self, compact: bool) -> Result<Option<usize>, Failure> {
        let start = self.at;
        let length = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        self.checked(start, length)
    }

    /// The length of a string; `None` for null.
    pub fn text_length(&mut self, compact: bool) -> Result<Option<usize>, Failure> {
        let start = self.at;
        let length = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        if length > i64::from(i16::MAX) {
            return Err(Failure::new(start, Reason::BadLength { length, left: self.left() }));
        }
        self.checked(start, length)
    }

    fn checked(&self, start: usize, length: i64) -> Result<Option<usize>, Failure> {
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(count) if count <= self.left() => Ok(Some(count)),
            _ => Err(Failure::new(start, Reason::BadLength { length, left: self.left() })),
        }
    }
}
