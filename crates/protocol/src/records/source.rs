//! Where a walk over records takes its bytes from: a slice, or a stream that is decompressed as the walk goes on.

use super::compression::Decoder;
use super::header::BatchError;

/// Bytes of decompressed records in memory at a time, unless a record is larger.
const WINDOW_BYTES: usize = 32 << 10;

/// What went wrong, before it is known in which record.
#[derive(Debug)]
pub(super) enum Fault {
    /// The record does not parse.
    Reason(&'static str),
    /// The stream below it fails.
    Batch(BatchError),
}

impl From<BatchError> for Fault {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

const ENDS_EARLY: Fault = Fault::Reason("the batch ends within it");
const OVERFLOWS: Fault = Fault::Reason("a number overflows");

/// Bytes in order. Numbers are zigzag varints of at most 32 and 64 bits; bits beyond are an error.
pub(super) trait Source {
    /// The next byte.
    fn byte(&mut self) -> Result<u8, Fault>;
    /// Passes over `count` bytes.
    fn skip(&mut self, count: usize) -> Result<(), Fault>;
    /// Refuses a count of bytes that cannot follow.
    fn expect(&self, count: usize) -> Result<(), Fault>;
    /// Bytes taken so far.
    fn position(&self) -> u64;
    /// True when all bytes were taken.
    fn is_at_end(&mut self) -> Result<bool, Fault>;

    #[inline]
    fn varint(&mut self) -> Result<i32, Fault> {
        let first = self.byte()?;
        let mut bits = u32::from(first & 0x7f);
        if first >= 0x80 {
            for shift in [7, 14, 21, 28] {
                let byte = self.byte()?;
                if shift == 28 && byte > 0x0f {
                    return Err(OVERFLOWS);
                }
                bits |= u32::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
        }
        Ok((bits >> 1) as i32 ^ -((bits & 1) as i32))
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, Fault> {
        let first = self.byte()?;
        let mut bits = u64::from(first & 0x7f);
        if first >= 0x80 {
            for shift in [7, 14, 21, 28, 35, 42, 49, 56, 63] {
                let byte = self.byte()?;
                if shift == 63 && byte > 1 {
                    return Err(OVERFLOWS);
                }
                bits |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
        }
        Ok((bits >> 1) as i64 ^ -((bits & 1) as i64))
    }
}

/// Bytes that are all there.
pub(super) struct SliceSource<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SliceSource<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let bytes = self.rest().get(..count).ok_or(ENDS_EARLY)?;
        self.at += count;
        Ok(bytes)
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
}

impl Source for SliceSource<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(ENDS_EARLY)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.expect(count)?;
        self.at += count;
        Ok(())
    }

    #[inline]
    fn expect(&self, count: usize) -> Result<(), Fault> {
        if count > self.bytes.len() - self.at { Err(ENDS_EARLY) } else { Ok(()) }
    }

    #[inline]
    fn position(&self) -> u64 {
        self.at as u64
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.at == self.bytes.len())
    }
}

/// Bytes that are decompressed on the way. `buffer[start..end]` was decompressed and not taken yet.
pub(super) struct StreamSource<'a> {
    decoder: Decoder<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
}

impl<'a> StreamSource<'a> {
    pub fn new(decoder: Decoder<'a>) -> Self {
        Self { decoder, buffer: vec![0; WINDOW_BYTES], start: 0, end: 0, position: 0 }
    }

    /// The next `count` bytes in one piece. The buffer grows as bytes arrive, not as lengths claim.
    pub fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        self.expect(count)?;
        while self.end - self.start < count {
            self.fill(count)?;
        }
        let from = self.start;
        self.start += count;
        self.position += count as u64;
        Ok(&self.buffer[from..from + count])
    }

    /// What is left in the buffer, or else the next bytes of the stream; empty at its end.
    pub fn chunk(&mut self) -> Result<&[u8], Fault> {
        if !self.is_at_end()? {
            let count = self.end - self.start;
            return self.take(count);
        }
        Ok(&[])
    }

    /// Decompresses more, making room for `want` bytes in one piece.
    #[cold]
    fn fill(&mut self, want: usize) -> Result<(), Fault> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let size = (self.buffer.len() * 2).min(want.max(self.buffer.len()));
            self.buffer.reserve_exact(size - self.buffer.len());
            self.buffer.resize(size, 0);
        }
        let count = self.decoder.read(&mut self.buffer[self.end..])?;
        self.end += count;
        if count == 0 { Err(ENDS_EARLY) } else { Ok(()) }
    }
}

impl Source for StreamSource<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        if self.start == self.end {
            self.fill(1)?;
        }
        let byte = self.buffer[self.start];
        self.start += 1;
        self.position += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.expect(count)?;
        let mut left = count;
        while left > self.end - self.start {
            left -= self.end - self.start;
            self.start = self.end;
            self.fill(1)?;
        }
        self.start += left;
        self.position += count as u64;
        Ok(())
    }

    fn expect(&self, count: usize) -> Result<(), Fault> {
        let left = self.decoder.left_bytes().saturating_add((self.end - self.start) as u64);
        if count as u64 > left { Err(self.decoder.limit_error().into()) } else { Ok(()) }
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        if self.start < self.end {
            return Ok(false);
        }
        match self.fill(1) {
            Ok(()) => Ok(false),
            Err(Fault::Reason(_)) => Ok(true),
            Err(fault) => Err(fault),
        }
    }
}
