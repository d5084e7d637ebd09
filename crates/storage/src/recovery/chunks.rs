//! A segment's bytes as an unclean opening reads them: in large pieces, every batch with its checksum, and behind a tear
//! at every byte.

use std::io;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, HEADER_BYTES, verify_crc};

use crate::files::File;
use crate::segment::{RELATIVE_MAX, read_exact_at};

/// What is read at once; a larger batch is read whole.
const SCAN_BYTES: usize = 1 << 20;
/// The smallest unit that reaches a disk or does not.
const SECTOR_BYTES: u64 = 512;
/// Where in a batch that begins which its checksum covers.
const CRC_FROM: usize = 21;

/// A file read in large pieces.
pub(super) struct Chunks<'a> {
    file: &'a dyn File,
    size_bytes: u64,
    buf: Vec<u8>,
    buf_position: u64,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(file: &'a dyn File, size_bytes: u64) -> Self {
        Self { file, size_bytes, buf: Vec::new(), buf_position: 0 }
    }

    /// The bytes from `position` on, at least `len` of them; fewer only at the end of the file.
    fn bytes_at(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.size_bytes - position).unwrap_or(usize::MAX);
        let len = len.min(left);
        let buf_end = self.buf_position + self.buf.len() as u64;
        if position < self.buf_position || position + len as u64 > buf_end {
            self.buf.resize(len.max(SCAN_BYTES.min(left)), 0);
            self.buf_position = position;
            read_exact_at(self.file, &mut self.buf, position)?;
        }
        Ok(&self.buf[(position - self.buf_position) as usize..])
    }

    /// The header of the whole batch at `position`, or what is wrong there.
    pub(super) fn batch_at(&mut self, position: u64) -> io::Result<Result<BatchHeader, String>> {
        let header = match BatchHeader::parse(self.bytes_at(position, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why.to_string())),
        };
        if header.size_bytes() as u64 > self.size_bytes - position {
            return Ok(Err("the batch goes beyond the end of the file".into()));
        }
        let bytes = self.bytes_at(position, header.size_bytes())?;
        Ok(verify_crc(bytes).map(|()| header).map_err(|why| why.to_string()))
    }

    /// The header of the whole batch at `position`, unless it only looks whole: where the page that held its first bytes
    /// never reached the disk they are zeros, and the checksum does not cover them.
    pub(super) fn whole_at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let Ok(header) = self.batch_at(position)? else { return Ok(None) };
        let before = (SECTOR_BYTES - position % SECTOR_BYTES) as usize;
        let front = &self.bytes_at(position, HEADER_BYTES)?[..before.min(CRC_FROM)];
        let is_front_lost =
            before < CRC_FROM && header.base_offset == Offset(0) && front.iter().all(|&b| b == 0);
        Ok((!is_front_lost).then_some(header))
    }

    /// Where the batch at `position` ends by its header, at most the end of the file; `position` when it has none.
    pub(super) fn claimed_end(&mut self, position: u64) -> io::Result<u64> {
        let header = BatchHeader::parse(self.bytes_at(position, HEADER_BYTES)?);
        let len = header.map_or(0, |header| header.size_bytes() as u64);
        Ok((position + len).min(self.size_bytes))
    }

    /// The first whole batch from `position` on, at any byte, that could stand in this log at or above `offset`.
    pub(super) fn find_batch(
        &mut self,
        mut position: u64,
        offset: Offset,
    ) -> io::Result<Option<BatchHeader>> {
        while position + HEADER_BYTES as u64 <= self.size_bytes {
            let bytes = self.bytes_at(position, HEADER_BYTES)?;
            // The magic byte first: most of what is searched is not a header.
            let magics = bytes[16..].iter().take(bytes.len() - HEADER_BYTES + 1);
            let Some(skip) = magics.clone().position(|&byte| byte == 2) else {
                position += magics.len() as u64;
                continue;
            };
            position += skip as u64;
            let header = BatchHeader::parse(&bytes[skip..]);
            let is_plausible = header.is_ok_and(|header| {
                header.base_offset >= offset
                    && header.base_offset.0 - offset.0 <= RELATIVE_MAX
                    && header.last_offset_delta >= 0
                    && header.size_bytes() as u64 <= self.size_bytes - position
            });
            if is_plausible && let Some(header) = self.whole_at(position)? {
                return Ok(Some(header));
            }
            position += 1;
        }
        Ok(None)
    }
}
