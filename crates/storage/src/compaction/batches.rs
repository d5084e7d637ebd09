//! The batches of a segment from first to last, read in large pieces, each with its checksum compared.

use std::io;
use std::sync::Arc;

use ottla_protocol::records::{Batch, BatchError, BatchHeader, HEADER_BYTES};

use crate::files::File;
use crate::log::Source;
use crate::segment::{SegmentError, read_exact_at};

pub(super) struct SegmentBatches {
    file: Arc<dyn File>,
    /// Where the next batch begins.
    position: u64,
    size_bytes: u64,
    piece_bytes: usize,
    buf: Vec<u8>,
    buf_position: u64,
    /// Bytes read since somebody asked.
    read_bytes: u64,
}

/// A batch as it stands in its file.
pub(super) struct StoredBatch<'a> {
    pub(super) header: BatchHeader,
    /// With the header.
    pub(super) bytes: &'a [u8],
    /// No other follows in the segment.
    pub(super) is_last: bool,
}

impl<'a> StoredBatch<'a> {
    pub(super) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    pub(super) fn batch(&self) -> Batch<'a> {
        Batch::from_parts(self.header.clone(), self.payload())
    }
}

impl SegmentBatches {
    /// Reads `piece_bytes` at once, more where a batch is larger.
    pub(super) fn new(source: &Source, piece_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            file: source.log.get()?,
            position: 0,
            size_bytes: source.size_bytes,
            piece_bytes: piece_bytes.max(HEADER_BYTES),
            buf: Vec::new(),
            buf_position: 0,
            read_bytes: 0,
        })
    }

    /// The next batch; `None` after the last.
    pub(super) fn next_batch(&mut self) -> Result<Option<StoredBatch<'_>>, SegmentError> {
        let position = self.position;
        let left = self.size_bytes - position;
        if left == 0 {
            return Ok(None);
        }
        let bad = |why| SegmentError::Bad { position, why };
        if left < HEADER_BYTES as u64 {
            return Err(bad(BatchError::Truncated { have: left as usize, need: HEADER_BYTES }));
        }
        let header = BatchHeader::parse(self.bytes_at(position, HEADER_BYTES)?).map_err(bad)?;
        let len = header.size_bytes();
        if len as u64 > left {
            return Err(bad(BatchError::Truncated { have: left as usize, need: len }));
        }
        self.position += len as u64;
        let is_last = self.position == self.size_bytes;
        let bytes = &self.bytes_at(position, len)?[..len];
        header.verify_crc(&bytes[HEADER_BYTES..]).map_err(bad)?;
        Ok(Some(StoredBatch { header, bytes, is_last }))
    }

    fn bytes_at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let buf_end = self.buf_position + self.buf.len() as u64;
        if position < self.buf_position || position + len as u64 > buf_end {
            let left = usize::try_from(self.size_bytes - position).unwrap_or(usize::MAX);
            self.buf.resize(len.max(self.piece_bytes).min(left), 0);
            self.buf_position = position;
            self.read_bytes += self.buf.len() as u64;
            read_exact_at(&*self.file, &mut self.buf, position)?;
        }
        Ok(&self.buf[(position - self.buf_position) as usize..])
    }

    /// Bytes read since the last call.
    pub(super) fn take_read_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.read_bytes)
    }
}
