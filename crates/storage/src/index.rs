//! A segment's sparse indexes in Kafka's formats: `.index` (relative last offset of a batch, position of the batch; 8 bytes an
//! entry) and `.timeindex` (highest timestamp so far, relative offset of the batch that brought it; 12 bytes). Entries gather in
//! memory and are written in groups; what was written is read back a block at a time. Nothing here needs to be durable:
//! what is missing or wrong is rebuilt from the log.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::descriptors::{DescriptorSlot, Descriptors};
use crate::files::Open;

/// Entries per block that is read and kept at once.
const BLOCK_ENTRIES: usize = 512;
/// So many entries in memory are worth a write.
const FLUSH_ENTRIES: usize = 128;

/// An entry of one of the two indexes.
pub(crate) trait IndexEntry: Copy + std::fmt::Debug {
    /// Bytes on disk.
    const BYTES: usize;
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(bytes: &[u8]) -> Self;
    /// What a preallocated file holds after its last entry.
    fn is_blank(&self) -> bool;
}

/// The batch that ends with this offset begins at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Offset of the batch's last record minus the segment's base offset.
    pub(crate) relative_last: u32,
    /// Where the batch begins.
    pub(crate) position: u32,
}

/// No batch up to this one has a higher timestamp, and none before it as high a one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    /// Last offset of the batch that brought the timestamp, minus the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl IndexEntry for OffsetEntry {
    const BYTES: usize = 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_last.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        Self { relative_last: u32_at(bytes, 0), position: u32_at(bytes, 4) }
    }

    fn is_blank(&self) -> bool {
        // The batch at position 0 never gets an entry.
        self.position == 0
    }
}

impl IndexEntry for TimeEntry {
    const BYTES: usize = 12;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let timestamp = i64::from(u32_at(bytes, 0)) << 32 | i64::from(u32_at(bytes, 4));
        Self { timestamp, relative_offset: u32_at(bytes, 8) }
    }

    fn is_blank(&self) -> bool {
        self.timestamp == 0 && self.relative_offset == 0
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk::<4>().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

/// One index file of one segment, and the entries that are not in it yet.
#[derive(Debug)]
pub(crate) struct SparseIndex<E> {
    slot: DescriptorSlot,
    inner: Mutex<Inner<E>>,
}

#[derive(Debug)]
struct Inner<E> {
    /// Entries in the file; `None` until somebody looks.
    in_file: Option<usize>,
    pending: Vec<E>,
    /// The segment is out of the log: nothing is written any more, its name may be another's.
    is_retired: bool,
    /// The file may hold entries that do not count.
    is_stale: bool,
    /// Index of the first entry of the block in memory, and the block.
    block: Option<(usize, Box<[E]>)>,
}

/// The neighbours of a place in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbours<E> {
    /// The last entry for which the question was true.
    pub(crate) before: Option<E>,
    /// The first for which it was not.
    pub(crate) after: Option<E>,
}

impl<E: IndexEntry> SparseIndex<E> {
    /// The index in the file `path`, which may be absent; `is_new`: what the file holds does not count.
    pub(crate) fn new(descriptors: &Arc<Descriptors>, path: PathBuf, is_new: bool) -> Self {
        let in_file = is_new.then_some(0);
        Self {
            slot: descriptors.slot(path, Open::Create),
            inner: Mutex::new(Inner {
                in_file,
                pending: Vec::new(),
                is_retired: false,
                is_stale: is_new,
                block: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry after all others.
    pub(crate) fn push(&self, entry: E) {
        self.lock().pending.push(entry);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> io::Result<usize> {
        let mut inner = self.lock();
        Ok(inner.in_file(&self.slot)? + inner.pending.len())
    }

    /// The last entry.
    pub(crate) fn last(&self) -> io::Result<Option<E>> {
        Ok(self.neighbours(|_| true)?.before)
    }

    /// The place where `is_before` turns from true to false. Reads little: nothing when the place is in the block in memory.
    pub(crate) fn neighbours(&self, is_before: impl Fn(&E) -> bool) -> io::Result<Neighbours<E>> {
        let mut inner = self.lock();
        let in_file = inner.in_file(&self.slot)?;
        let index = match inner.pending.first() {
            Some(first) if is_before(first) => in_file + inner.pending.partition_point(&is_before),
            _ => inner.partition_point_in_file(&self.slot, in_file, &is_before)?,
        };
        let before = index.checked_sub(1).map(|before| inner.get(&self.slot, before)).transpose()?;
        let has_after = index < in_file + inner.pending.len();
        let after = has_after.then(|| inner.get(&self.slot, index)).transpose()?;
        Ok(Neighbours { before, after })
    }

    /// Forgets all entries. The file stays as it is until the next flush.
    pub(crate) fn clear(&self) {
        *self.lock() =
            Inner { in_file: Some(0), pending: Vec::new(), is_retired: false, is_stale: true, block: None };
    }

    /// Drops the entries from the first for which `is_kept` is false.
    pub(crate) fn truncate(&self, is_kept: impl Fn(&E) -> bool) -> io::Result<()> {
        let mut inner = self.lock();
        let in_file = inner.in_file(&self.slot)?;
        let kept_in_file = inner.partition_point_in_file(&self.slot, in_file, &is_kept)?;
        if kept_in_file < in_file {
            inner.pending.clear();
        } else {
            let kept = inner.pending.partition_point(&is_kept);
            inner.pending.truncate(kept);
        }
        inner.in_file = Some(kept_in_file);
        inner.block = None;
        if in_file == 0 { Ok(()) } else { self.slot.get()?.set_len((kept_in_file * E::BYTES) as u64) }
    }

    /// Whether so much has gathered that [`SparseIndex::flush`] is worth it.
    pub(crate) fn wants_flush(&self) -> bool {
        self.lock().pending.len() >= FLUSH_ENTRIES
    }

    /// The file was renamed to `path`.
    pub(crate) fn moved_to(&self, path: &Path) {
        self.slot.moved_to(path);
    }

    /// Whether all entries are in the file.
    pub(crate) fn is_written(&self) -> bool {
        let inner = self.lock();
        inner.pending.is_empty() && !inner.is_stale
    }

    /// From here on nothing is written.
    pub(crate) fn retire(&self) {
        self.lock().is_retired = true;
    }

    /// Writes what has gathered, durably. A full disk is no error.
    pub(crate) fn flush_and_sync(&self) -> io::Result<()> {
        let file = self.flush().and_then(|()| {
            let inner = self.lock();
            if inner.is_retired || inner.is_stale { Ok(None) } else { self.slot.get().map(Some) }
        });
        match file {
            Ok(Some(file)) => file.sync_data(),
            Ok(None) => Ok(()),
            Err(error) if crate::log::is_no_space(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes what has gathered. A full disk is no error: the entries stay in memory.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.is_retired {
            return Ok(());
        }
        let in_file = inner.in_file(&self.slot)?;
        if inner.pending.is_empty() && !inner.is_stale {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(inner.pending.len() * E::BYTES);
        inner.pending.iter().for_each(|entry| entry.encode(&mut bytes));
        let position = in_file * E::BYTES;
        let written = self.slot.get().and_then(|file| {
            file.write_all_at(&mut [IoSlice::new(&bytes)], position as u64)?;
            // Nothing of an earlier life of the file may look like entries.
            file.set_len((position + bytes.len()) as u64)
        });
        match written {
            Err(error) if crate::log::is_no_space(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                inner.in_file = Some(in_file + inner.pending.len());
                inner.pending = Vec::new();
                inner.is_stale = false;
                inner.block = None;
                Ok(())
            }
        }
    }
}

impl<E: IndexEntry> Inner<E> {
    fn in_file(&mut self, slot: &DescriptorSlot) -> io::Result<usize> {
        if let Some(in_file) = self.in_file {
            return Ok(in_file);
        }
        let size_bytes = slot.get()?.size_bytes()?;
        let count = usize::try_from(size_bytes).unwrap_or(usize::MAX) / E::BYTES;
        // An unclean Kafka directory has preallocated files: zeros after the last entry.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low.midpoint(high);
            if read_entry::<E>(slot, middle)?.is_blank() { high = middle } else { low = middle + 1 }
        }
        self.in_file = Some(low);
        Ok(low)
    }

    fn get(&mut self, slot: &DescriptorSlot, index: usize) -> io::Result<E> {
        let in_file = self.in_file(slot)?;
        if index >= in_file {
            return self.pending.get(index - in_file).copied().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        if let Some((first, block)) = &self.block
            && let Some(entry) = index.checked_sub(*first).and_then(|at| block.get(at))
        {
            return Ok(*entry);
        }
        read_entry(slot, index)
    }

    fn partition_point_in_file(
        &mut self,
        slot: &DescriptorSlot,
        in_file: usize,
        is_before: &impl Fn(&E) -> bool,
    ) -> io::Result<usize> {
        if in_file == 0 {
            return Ok(0);
        }
        let (mut low, mut high) = (0, in_file.div_ceil(BLOCK_ENTRIES));
        if let Some((first, block)) = &self.block
            && let (Some(head), Some(tail)) = (block.first(), block.last())
            && is_before(head)
            && (!is_before(tail) || first + block.len() == in_file)
        {
            return Ok(first + block.partition_point(is_before));
        }
        // The last block whose first entry is before the place.
        while low + 1 < high {
            let middle = low.midpoint(high);
            if is_before(&read_entry(slot, middle * BLOCK_ENTRIES)?) { low = middle } else { high = middle }
        }
        let first = low * BLOCK_ENTRIES;
        let block = read_entries(slot, first, BLOCK_ENTRIES.min(in_file - first))?;
        let index = first + block.partition_point(is_before);
        self.block = Some((first, block));
        Ok(index)
    }
}

fn read_entry<E: IndexEntry>(slot: &DescriptorSlot, index: usize) -> io::Result<E> {
    read_entries(slot, index, 1)?.first().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn read_entries<E: IndexEntry>(slot: &DescriptorSlot, first: usize, count: usize) -> io::Result<Box<[E]>> {
    let mut bytes = vec![0; count * E::BYTES];
    crate::segment::read_exact_at(&*slot.get()?, &mut bytes, (first * E::BYTES) as u64)?;
    Ok(bytes.chunks_exact(E::BYTES).map(E::decode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::files::faulty::FaultyFiles;

    fn entry(i: u32) -> OffsetEntry {
        OffsetEntry { relative_last: i * 10 + 9, position: (i + 1) * 5000 }
    }

    fn check_all(index: &SparseIndex<OffsetEntry>, count: u32) {
        assert_eq!(index.len().unwrap(), count as usize);
        for i in 0..count {
            for wanted in [i * 10 + 8, i * 10 + 9] {
                let found = index.neighbours(|e| e.relative_last < wanted).unwrap();
                assert_eq!(found.before, i.checked_sub(1).map(entry));
                assert_eq!(found.after, Some(entry(i)));
            }
        }
        assert_eq!(index.last().unwrap(), count.checked_sub(1).map(entry));
    }

    #[test]
    fn finds_neighbours_in_memory_in_the_file_and_across() {
        let files = FaultyFiles::new();
        let descriptors = Descriptors::new(files.shared(), 8);
        let path = Path::new("/0.index");
        let index = SparseIndex::new(&descriptors, path.into(), true);
        for i in 0..1300 {
            index.push(entry(i));
            if i == 600 || i == 1100 {
                assert!(index.wants_flush());
                index.flush().unwrap();
            }
        }
        check_all(&index, 1300);
        index.truncate(|e| e.position < 5000 * 1200).unwrap();
        check_all(&index, 1199);
        index.truncate(|e| e.position < 5000 * 1001).unwrap();
        check_all(&index, 1000);
        index.push(entry(1000));
        index.flush().unwrap();
        check_all(&index, 1001);
        // Seen by another, and with a preallocated tail.
        files.open(path, Open::ReadWrite).unwrap().set_len(80_000).unwrap();
        check_all(&SparseIndex::new(&descriptors, path.into(), false), 1001);
        index.truncate(|_| false).unwrap();
        check_all(&index, 0);
    }

    #[test]
    fn entries_are_laid_out_as_kafka_does() {
        let mut bytes = Vec::new();
        OffsetEntry { relative_last: 0x0102, position: 0x0304 }.encode(&mut bytes);
        TimeEntry { timestamp: 0x0102_0304_0506_0708, relative_offset: 9 }.encode(&mut bytes);
        assert_eq!(bytes, [0, 0, 1, 2, 0, 0, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
        assert_eq!(TimeEntry::decode(&bytes[8..]).timestamp, 0x0102_0304_0506_0708);
    }
}
