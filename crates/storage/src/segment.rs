//! One segment: a `.log` file of whole batches and its two sparse indexes. Knows positions; the log above knows order.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchError, BatchHeader, HEADER_BYTES};

use crate::descriptors::{DescriptorSlot, Descriptors};
use crate::files::{File, Open};
use crate::index::{OffsetEntry, SparseIndex, TimeEntry};

/// The last so many batches of the active segment are found without reading.
const TAIL_BATCHES: usize = 32;
/// What a walk over headers reads at once, where batches are small.
const WALK_BYTES: usize = 4096;
/// Positions and relative offsets are 31 bits in the indexes.
pub(crate) const RELATIVE_MAX: i64 = i32::MAX as i64;

/// Why a place in a segment was not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("at byte {position}: {why}")]
    Bad { position: u64, why: BatchError },
}

/// A batch and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) size_bytes: u64,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
}

impl Located {
    pub(crate) fn next_offset(&self) -> Offset {
        self.last_offset.plus(1)
    }

    pub(crate) fn of(header: &BatchHeader, position: u64) -> Self {
        Self {
            position,
            size_bytes: header.size_bytes() as u64,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
        }
    }
}

/// One segment of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    /// The offset after the last batch; of a segment that was not read yet, the next one's base offset.
    pub(crate) next_offset: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) log: Arc<DescriptorSlot>,
    pub(crate) offsets: Arc<SparseIndex<OffsetEntry>>,
    pub(crate) times: Arc<SparseIndex<TimeEntry>>,
    /// Max timestamp of the first batch; `None` when not known (yet).
    pub(crate) first_timestamp: Option<i64>,
    /// Highest timestamp and the last offset of the batch that brought it; `None` when nobody has looked.
    largest: Mutex<Option<Largest>>,
    bytes_since_index: u64,
    tail: VecDeque<Located>,
    was_scanned: bool,
}

/// The highest timestamp of a segment (-1: none) and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Largest {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

/// The path of a segment's file: 20 digits of its base offset and the extension.
pub(crate) fn segment_path(dir: &Path, base_offset: Offset, extension: &str) -> PathBuf {
    dir.join(format!("{:020}.{extension}", base_offset.0))
}

impl Segment {
    /// The segment at `base_offset`; nothing is opened. `is_new`: files that may be there do not count.
    pub(crate) fn new(descriptors: &Arc<Descriptors>, dir: &Path, base_offset: Offset, is_new: bool) -> Self {
        let path = |extension| segment_path(dir, base_offset, extension);
        Self {
            base_offset,
            next_offset: base_offset,
            size_bytes: 0,
            log: Arc::new(descriptors.slot(path("log"), Open::Create)),
            offsets: Arc::new(SparseIndex::new(descriptors, path("index"), is_new)),
            times: Arc::new(SparseIndex::new(descriptors, path("timeindex"), is_new)),
            first_timestamp: None,
            largest: Mutex::new(None),
            bytes_since_index: 0,
            tail: VecDeque::new(),
            was_scanned: false,
        }
    }

    /// A segment that is written under other names, each with `suffix` behind it, until [`Segment::moved_to`].
    pub(crate) fn provisional(
        descriptors: &Arc<Descriptors>,
        dir: &Path,
        base_offset: Offset,
        suffix: &str,
    ) -> Self {
        let extension = |extension: &str| format!("{extension}{suffix}");
        let path = |name: &str| segment_path(dir, base_offset, &extension(name));
        Self {
            log: Arc::new(descriptors.slot(path("log"), Open::Create)),
            offsets: Arc::new(SparseIndex::new(descriptors, path("index"), true)),
            times: Arc::new(SparseIndex::new(descriptors, path("timeindex"), true)),
            ..Self::new(descriptors, dir, base_offset, true)
        }
    }

    /// Its files have their final names now.
    pub(crate) fn moved_to(&self, dir: &Path) {
        self.log.moved_to(&segment_path(dir, self.base_offset, "log"));
        self.offsets.moved_to(&segment_path(dir, self.base_offset, "index"));
        self.times.moved_to(&segment_path(dir, self.base_offset, "timeindex"));
    }

    /// Max timestamp of the first batch; `None` for a segment without one.
    pub(crate) fn read_first_timestamp(&self) -> Result<Option<i64>, SegmentError> {
        if self.first_timestamp.is_some() || self.size_bytes == 0 {
            return Ok(self.first_timestamp);
        }
        let first = Walk::new(&*self.log.get()?, 0, self.size_bytes).next_header()?;
        Ok(first.map(|header| header.max_timestamp))
    }

    /// A segment that exists, of `size_bytes`, ending at most at `next_offset`.
    pub(crate) fn existing(mut self, size_bytes: u64, next_offset: Offset) -> Self {
        self.size_bytes = size_bytes;
        self.next_offset = next_offset;
        self
    }

    /// Takes in a batch that was written at the end.
    pub(crate) fn note(&mut self, header: &BatchHeader, index_interval_bytes: u64) {
        let batch = Located::of(header, self.size_bytes);
        self.note_timestamp(header);
        if self.bytes_since_index > index_interval_bytes && batch.position > 0 {
            self.offsets.push(OffsetEntry {
                relative_last: self.relative(batch.last_offset),
                position: u32::try_from(batch.position).unwrap_or(u32::MAX),
            });
            self.push_time();
            self.bytes_since_index = 0;
        }
        self.bytes_since_index += batch.size_bytes;
        self.size_bytes += batch.size_bytes;
        self.next_offset = batch.next_offset();
        if self.tail.len() == TAIL_BATCHES {
            self.tail.pop_front();
        }
        self.tail.push_back(batch);
    }

    fn note_timestamp(&mut self, header: &BatchHeader) {
        let first = self.size_bytes == 0;
        if first {
            self.first_timestamp = Some(header.max_timestamp);
        }
        let largest = self.largest.get_mut().unwrap_or_else(PoisonError::into_inner);
        let highest = largest.map_or(if first { -1 } else { i64::MAX }, |l| l.timestamp);
        let timestamp = timestamp_of(header);
        if first || timestamp > highest {
            *largest = Some(Largest { timestamp, offset: header.last_offset() });
        }
    }

    /// Adds the highest timestamp so far to the time index, if it is higher than its last entry.
    fn push_time(&self) {
        let largest = *self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(largest) = largest else { return };
        let is_higher = match self.times.last() {
            Ok(last) => last.is_none_or(|last| largest.timestamp > last.timestamp),
            Err(_) => false,
        };
        if is_higher && largest.timestamp >= 0 {
            let relative_offset = self.relative(largest.offset);
            self.times.push(TimeEntry { timestamp: largest.timestamp, relative_offset });
        }
    }

    /// Forgets what is known of the contents, for a scan from the start.
    pub(crate) fn begin_scan(&mut self) {
        self.offsets.clear();
        self.times.clear();
        self.size_bytes = 0;
        self.next_offset = self.base_offset;
        self.first_timestamp = None;
        self.largest = Mutex::new(None);
        self.bytes_since_index = 0;
        self.tail.clear();
        self.was_scanned = true;
    }

    /// Whether its indexes come from its own batches.
    pub(crate) fn was_scanned(&self) -> bool {
        self.was_scanned
    }

    /// Whether the last entry of each index points to what it says.
    pub(crate) fn has_sound_indexes(&self) -> bool {
        let check = || -> Result<bool, SegmentError> {
            if let Some(entry) = self.offsets.last()? {
                let file = self.log.get()?;
                let header = Walk::new(&*file, u64::from(entry.position), self.size_bytes).next_header()?;
                let last_offset = self.base_offset.plus(i64::from(entry.relative_last));
                if header.is_none_or(|header| header.last_offset() != last_offset) {
                    return Ok(false);
                }
            }
            let Some(entry) = self.times.last()? else { return Ok(true) };
            let offset = self.base_offset.plus(i64::from(entry.relative_offset));
            let Some(batch) = self.locate(offset)? else { return Ok(false) };
            let found = self.find_from(batch.position, |_| true)?;
            Ok(found.is_some_and(|(_, header)| header.max_timestamp == entry.timestamp))
        };
        check().unwrap_or(false)
    }

    /// Makes the indexes anew from the batch headers.
    pub(crate) fn rebuild_indexes(&mut self, index_interval_bytes: u64) -> Result<(), SegmentError> {
        let (size_bytes, next_offset) = (self.size_bytes, self.next_offset);
        self.begin_scan();
        let file = self.log.get()?;
        let mut walk = Walk::new(&*file, 0, size_bytes);
        while let Some(header) = walk.next_header()? {
            self.note(&header, index_interval_bytes);
        }
        self.next_offset = self.next_offset.max(next_offset);
        self.seal()?;
        Ok(())
    }

    /// Completes the indexes, in memory: the segment is closed.
    pub(crate) fn complete(&mut self) {
        self.push_time();
        self.tail = VecDeque::new();
    }

    /// The segment goes out of the log: before its files are renamed.
    pub(crate) fn retire(&self) {
        self.offsets.retire();
        self.times.retire();
    }

    /// Completes and writes the indexes: the segment is closed, or the log is.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.complete();
        self.offsets.flush()?;
        self.times.flush()
    }

    /// Like [`Segment::seal`], and durable.
    pub(crate) fn seal_durably(&mut self) -> io::Result<()> {
        self.complete();
        self.offsets.flush_and_sync()?;
        self.times.flush_and_sync()
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.0 - self.base_offset.0).unwrap_or(u32::MAX)
    }

    /// The first batch that ends at or above `target`, if there is one. Reads nothing near the end of an active segment,
    /// and one header mostly where batches are larger than the index interval.
    pub(crate) fn locate(&self, target: Offset) -> Result<Option<Located>, SegmentError> {
        if target >= self.next_offset {
            return Ok(None);
        }
        if self.tail.front().is_some_and(|first| first.position == 0 || first.base_offset <= target) {
            let index = self.tail.partition_point(|batch| batch.last_offset < target);
            return Ok(self.tail.get(index).cloned());
        }
        match self.locate_by_index(target) {
            Err(SegmentError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
            Ok(found) => Ok(found),
            // An index that points to no batch is not worth more than none.
            Err(_) => self.walk_to(0, target),
        }
    }

    fn locate_by_index(&self, target: Offset) -> Result<Option<Located>, SegmentError> {
        let last = |entry: &OffsetEntry| self.base_offset.plus(i64::from(entry.relative_last));
        let near = self.offsets.neighbours(|entry| last(entry) < target)?;
        let wrong_index = || SegmentError::Io(io::ErrorKind::UnexpectedEof.into());
        let from = near.before.map_or(0, |entry| u64::from(entry.position));
        if let Some(after) = near.after
            && u64::from(after.position) > from + WALK_BYTES as u64
        {
            let position = u64::from(after.position);
            let header = Walk::new(&*self.log.get()?, position, self.size_bytes).next_header()?;
            let header =
                header.filter(|header| header.last_offset() == last(&after)).ok_or_else(wrong_index)?;
            if header.base_offset <= target {
                return Ok(Some(Located::of(&header, position)));
            }
        }
        let file = self.log.get()?;
        let mut walk = Walk::new(&*file, from, self.size_bytes);
        walk.next_read_bytes = WALK_BYTES;
        if let Some(before) = near.before {
            // What the entry points to lies before the target: here it only has to be what the entry says.
            let header = walk.next_header()?;
            header.filter(|header| header.last_offset() == last(&before)).ok_or_else(wrong_index)?;
        }
        walk.find(|header| header.last_offset() >= target).map(to_located)
    }

    /// Walks from the batch at `position` to the first one that ends at or above `target`.
    fn walk_to(&self, position: u64, target: Offset) -> Result<Option<Located>, SegmentError> {
        self.find_from(position, |header| header.last_offset() >= target).map(to_located)
    }

    /// Walks from the batch at `position` to the first one that `is_it`.
    pub(crate) fn find_from(
        &self,
        position: u64,
        is_it: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, SegmentError> {
        let file = self.log.get()?;
        Walk::new(&*file, position, self.size_bytes).find(is_it)
    }

    /// The last batch boundary above `from` and at most at `limit` that is known without walking, or `limit`.
    pub(crate) fn align_down(&self, from: u64, limit: u64) -> u64 {
        if self.tail.front().is_some_and(|first| first.position <= limit) {
            let index = self.tail.partition_point(|batch| batch.position <= limit);
            return index.checked_sub(1).map_or(limit, |i| self.tail[i].position).max(from);
        }
        let near = self.offsets.neighbours(|entry| u64::from(entry.position) <= limit);
        let boundary = near.ok().and_then(|near| near.before).map(|entry| u64::from(entry.position));
        // Only worth it where little is given away; a partial batch at the end is allowed.
        boundary.filter(|&boundary| boundary > from).unwrap_or(limit)
    }

    /// The highest timestamp. Reads the last index entry and what follows it, once.
    pub(crate) fn largest(&self) -> Result<Largest, SegmentError> {
        let mut known = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(largest) = *known {
            return Ok(largest);
        }
        let mut largest = Largest { timestamp: -1, offset: self.base_offset };
        let mut position = 0;
        if let Some(entry) = self.times.last()? {
            let offset = self.base_offset.plus(i64::from(entry.relative_offset));
            // An entry that points to no such batch is not worth more than none.
            if let Ok(Some(batch)) = self.locate_by_index(offset)
                && self
                    .find_from(batch.position, |_| true)?
                    .is_some_and(|(_, h)| h.max_timestamp == entry.timestamp)
            {
                largest = Largest { timestamp: entry.timestamp, offset };
                position = batch.position;
            }
        }
        let file = self.log.get()?;
        let mut walk = Walk::new(&*file, position, self.size_bytes);
        while let Some(header) = walk.next_header()? {
            let timestamp = timestamp_of(&header);
            if timestamp > largest.timestamp {
                largest = Largest { timestamp, offset: header.last_offset() };
            }
        }
        *known = Some(largest);
        Ok(largest)
    }

    /// Position, header of the first batch with a timestamp of at least `timestamp` and an offset of at least `start`.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: i64,
        start: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, SegmentError> {
        let near = self.times.neighbours(|entry| entry.timestamp < timestamp)?;
        let relative = near.before.map_or(0, |entry| entry.relative_offset);
        let from = self.base_offset.plus(i64::from(relative)).max(start);
        let is_it = |header: &BatchHeader| timestamp_of(header) >= timestamp;
        if let Some(first) = self.locate(from)?
            && let Some(found) = self.find_from(first.position, is_it)?
        {
            return Ok(Some(found));
        }
        // Nothing, or a time index that points too far.
        match self.locate(start.max(self.base_offset))? {
            Some(first) if near.before.is_some() => self.find_from(first.position, is_it),
            _ => Ok(None),
        }
    }

    /// Reads what is needed to append on: where the log ends, the first timestamp, the highest.
    pub(crate) fn load_end(&mut self, size_bytes: u64) -> Result<(), SegmentError> {
        self.load_next_offset(size_bytes)?;
        self.largest()?;
        Ok(())
    }

    fn load_next_offset(&mut self, size_bytes: u64) -> Result<(), SegmentError> {
        self.size_bytes = size_bytes;
        let file = self.log.get()?;
        let first = Walk::new(&*file, 0, size_bytes).next_header()?;
        self.first_timestamp = first.map(|header| header.max_timestamp);
        let from = self.offsets.last()?.map_or(0, |entry| u64::from(entry.position));
        let mut walk = Walk::new(&*file, from, size_bytes);
        let mut next_offset = self.base_offset;
        while let Some(header) = walk.next_header()? {
            next_offset = header.next_offset();
        }
        self.next_offset = next_offset;
        self.bytes_since_index = size_bytes - from.min(size_bytes);
        Ok(())
    }

    /// Cuts the segment before the batch at `position`, durably; its indexes too.
    pub(crate) fn cut(&mut self, position: u64) -> Result<(), SegmentError> {
        let file = self.log.get()?;
        file.set_len(position)?;
        file.sync_data()?;
        self.offsets.truncate(|entry| u64::from(entry.position) < position)?;
        self.tail.clear();
        self.largest = Mutex::new(None);
        self.load_next_offset(position)?;
        let next_offset = self.next_offset;
        self.times.truncate(|entry| self.base_offset.plus(i64::from(entry.relative_offset)) < next_offset)?;
        self.largest()?;
        Ok(())
    }
}

/// A walk over batch headers. Small batches come many to a read, large ones cost a small read each.
pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    /// Where the next batch begins.
    pub(crate) position: u64,
    end: u64,
    buf: Vec<u8>,
    buf_position: u64,
    next_read_bytes: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a dyn File, position: u64, end: u64) -> Self {
        Self { file, position, end, buf: Vec::new(), buf_position: 0, next_read_bytes: HEADER_BYTES }
    }

    /// The next batch's header; `None` at the end.
    pub(crate) fn next_header(&mut self) -> Result<Option<BatchHeader>, SegmentError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let bad = |why| SegmentError::Bad { position, why };
        let left = self.end - position;
        if left < HEADER_BYTES as u64 {
            return Err(bad(BatchError::Truncated { have: left as usize, need: HEADER_BYTES }));
        }
        let header = BatchHeader::parse(self.header_bytes(left)?).map_err(bad)?;
        let size_bytes = header.size_bytes();
        if size_bytes as u64 > left {
            return Err(bad(BatchError::Truncated { have: left as usize, need: size_bytes }));
        }
        self.position += size_bytes as u64;
        self.next_read_bytes = if size_bytes < WALK_BYTES { WALK_BYTES } else { HEADER_BYTES };
        Ok(Some(header))
    }

    /// The next batch that `is_it`, and where it begins.
    fn find(
        &mut self,
        is_it: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, SegmentError> {
        loop {
            let at = self.position;
            match self.next_header()? {
                None => return Ok(None),
                Some(header) if is_it(&header) => return Ok(Some((at, header))),
                Some(_) => {}
            }
        }
    }

    fn header_bytes(&mut self, left: u64) -> io::Result<&[u8]> {
        let is_in_buf = |at: u64, len: usize| at + HEADER_BYTES as u64 <= len as u64;
        let at = self.position.checked_sub(self.buf_position).filter(|&at| is_in_buf(at, self.buf.len()));
        let at = if let Some(at) = at {
            at as usize
        } else {
            self.buf.resize(self.next_read_bytes.min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
            self.buf_position = self.position;
            read_exact_at(self.file, &mut self.buf, self.position)?;
            0
        };
        Ok(&self.buf[at..at + HEADER_BYTES])
    }
}

/// The highest timestamp of a batch's records; -1 of one that compaction has emptied, whatever its header says.
fn timestamp_of(header: &BatchHeader) -> i64 {
    if header.records_count == 0 { -1 } else { header.max_timestamp }
}

fn to_located(found: Option<(u64, BatchHeader)>) -> Option<Located> {
    found.map(|(position, header)| Located::of(&header, position))
}

/// Fills `buf`; `UnexpectedEof` when the file ends before.
pub(crate) fn read_exact_at(file: &dyn File, mut buf: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buf = &mut buf[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
