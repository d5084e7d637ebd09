//! Snappy as Kafka frames it: xerial's stream of blocks, each a big-endian length and a raw snappy block, behind a
//! 16-byte header. A stream without the header is one raw block.

use std::io::{self, Write};

use super::super::header::BatchError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, then version 1 and oldest compatible version 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// Uncompressed bytes of a block we write, as in xerial's own writer.
const BLOCK_BYTES: usize = 32 << 10;

/// No snappy element makes more than 64 bytes of 3: a block that claims to is refused before memory is taken.
const RATIO_MAX: usize = 22;

/// Reads either form, one block in memory at a time.
pub(super) struct SnappyReader<'a> {
    input: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> SnappyReader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        let framed = input.len() >= HEADER.len() && input.starts_with(&MAGIC);
        Self { input, framed, block: Vec::new(), at: 0 }
    }

    /// Fills `out` from the current block or the next; 0 at the end, `None` when the next block is larger than
    /// `left_bytes`.
    pub fn read(&mut self, out: &mut [u8], left_bytes: u64) -> Result<Option<usize>, BatchError> {
        while self.at == self.block.len() {
            let Some(compressed) = self.next_block()? else { return Ok(Some(0)) };
            let size = snap::raw::decompress_len(compressed).map_err(decompress_error)?;
            if size > compressed.len().saturating_mul(RATIO_MAX) {
                return Err(BatchError::Decompress("snappy block claims more than it can hold".into()));
            }
            if size as u64 > left_bytes {
                return Ok(None);
            }
            self.at = 0;
            self.block.resize(size, 0);
            let written = snap::raw::Decoder::new()
                .decompress(compressed, &mut self.block)
                .map_err(decompress_error)?;
            self.block.truncate(written);
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(Some(count))
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        if !self.framed {
            let block = std::mem::take(&mut self.input);
            return Ok((!block.is_empty()).then_some(block));
        }
        // Streams may be concatenated, each with its header.
        while self.input.starts_with(&MAGIC) {
            self.input = self.input.get(HEADER.len()..).ok_or_else(cut_off)?;
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let (length, rest) = self.input.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| cut_off())?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.input = rest;
        Ok(Some(block))
    }
}

fn cut_off() -> BatchError {
    BatchError::Decompress("snappy stream is cut off".into())
}

fn decompress_error(error: snap::Error) -> BatchError {
    BatchError::Decompress(error.to_string())
}

/// Writes xerial's form.
pub(super) struct SnappyWriter<W> {
    out: W,
    pending: Vec<u8>,
    compressed: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        Ok(Self { out, pending: Vec::with_capacity(BLOCK_BYTES), compressed: Vec::new() })
    }

    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK_BYTES - self.pending.len());
            self.pending.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.pending.len() == BLOCK_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<W> {
        if !self.pending.is_empty() {
            self.write_block()?;
        }
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.compressed.resize(snap::raw::max_compress_len(self.pending.len()), 0);
        let size = snap::raw::Encoder::new()
            .compress(&self.pending, &mut self.compressed)
            .map_err(io::Error::other)?;
        let length = u32::try_from(size).expect("a block of 32 KiB has a small length");
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&self.compressed[..size])?;
        self.pending.clear();
        Ok(())
    }
}
