//! Reading: where a slice begins and ends, and records by timestamp.

use std::io;
use std::sync::Arc;

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{Batch, BatchError, BatchHeader, DecompressLimit};

use super::{Log, LogError};
use crate::files::File;
use crate::segment::{Located, Segment, SegmentError, read_exact_at};

/// Part of one segment: whole batches as they are stored (the last may be cut where only a size bounded it). Holds the
/// file, so deletion does not shorten it.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    file: Option<Arc<dyn File>>,
    position: u64,
    len_bytes: usize,
}

impl LogSlice {
    /// Bytes of the slice; 0 when there was nothing to give.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Reads up to `buf.len()` bytes from byte `at` of the slice; 0 at its end. May be short.
    ///
    /// # Errors
    /// `UnexpectedEof` when the log was truncated into the slice; what the file system says.
    pub fn read_at(&self, buf: &mut [u8], at: usize) -> io::Result<usize> {
        self.read_with(buf, at, |file, buf, position| file.read_at(buf, position))
    }

    /// Like [`LogSlice::read_at`], but only what needs no disk access.
    ///
    /// # Errors
    /// Also `WouldBlock`.
    pub fn read_at_nowait(&self, buf: &mut [u8], at: usize) -> io::Result<usize> {
        self.read_with(buf, at, |file, buf, position| file.read_at_nowait(buf, position))
    }

    fn read_with(
        &self,
        buf: &mut [u8],
        at: usize,
        read: impl Fn(&dyn File, &mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let len = buf.len().min(self.len_bytes.saturating_sub(at));
        let Some(file) = self.file.as_deref().filter(|_| len > 0) else { return Ok(0) };
        match read(file, &mut buf[..len], self.position + at as u64)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp in ms.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// Batches from the one that holds `from` on, all wholly below `upper`, at most about `max_bytes` and never across
    /// segments. With `at_least_one_batch` the first comes whole even if it is larger; without, nothing comes then.
    ///
    /// # Errors
    /// `OffsetOutOfRange` outside of start and end; `Damaged` where no batch is; `Io`.
    pub fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one_batch: bool,
    ) -> Result<LogSlice, LogError> {
        let (start, end) = (self.start_offset, self.end_offset);
        if from < start || from > end {
            return Err(LogError::OffsetOutOfRange { asked: from, start, end });
        }
        let upper = upper.min(end);
        if from >= upper {
            return Ok(LogSlice::default());
        }
        for segment in self.segments.iter().skip(self.segment_index(from)) {
            // A segment may end before `from`: compaction leaves gaps, and truncated ones are gone.
            let located = segment.locate(from).map_err(|error| self.segment_error(segment, from, error))?;
            if let Some(first) = located {
                return self.slice(segment, &first, upper, max_bytes, at_least_one_batch);
            }
        }
        Ok(LogSlice::default())
    }

    fn slice(
        &self,
        segment: &Segment,
        first: &Located,
        upper: Offset,
        max_bytes: usize,
        at_least_one_batch: bool,
    ) -> Result<LogSlice, LogError> {
        let does_first_fit = first.size_bytes <= max_bytes as u64;
        if first.next_offset() > upper || !(does_first_fit || at_least_one_batch) {
            return Ok(LogSlice::default());
        }
        let mut end = segment.size_bytes;
        if upper < segment.next_offset
            && let Some(bound) =
                segment.locate(upper).map_err(|error| self.segment_error(segment, upper, error))?
        {
            end = bound.position;
        }
        if !does_first_fit {
            end = first.position + first.size_bytes;
        } else if end - first.position > max_bytes as u64 {
            let first_end = first.position + first.size_bytes;
            end = segment.align_down(first_end, first.position + max_bytes as u64);
        }
        let file = segment.log.get().map_err(|error| LogError::io("cannot open a segment", error))?;
        let len_bytes = usize::try_from(end - first.position).unwrap_or(usize::MAX);
        Ok(LogSlice { file: Some(file), position: first.position, len_bytes })
    }

    /// The first record at or above [`Log::start_offset`] whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn find_by_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        for segment in &self.segments {
            if self.in_segment(segment, Segment::largest)?.timestamp < timestamp {
                continue;
            }
            let found = self.first_in(segment, timestamp)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record that has the highest timestamp of those below `upper`; `None` when none of them has one.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn find_max_timestamp(&self, upper: Offset) -> Result<Option<TimestampOffset>, LogError> {
        let mut best: Option<(&Segment, i64)> = None;
        for segment in &self.segments {
            let largest = self.in_segment(segment, Segment::largest)?;
            if largest.timestamp >= 0 && best.is_none_or(|(_, highest)| largest.timestamp > highest) {
                best = Some((segment, largest.timestamp));
            }
        }
        let Some((segment, highest)) = best else { return Ok(None) };
        match self.first_in(segment, highest)?.filter(|found| found.offset < upper) {
            Some(found) => Ok(Some(found)),
            None => self.bisect_max_timestamp(highest, upper),
        }
    }

    /// The later the time that is asked for, the higher the offset of the first record at or after it: so the highest
    /// timestamp below `upper` is found by halves. For a log whose highest belongs to a record at or above `upper`, or to one
    /// below its start in a batch that reaches across it.
    fn bisect_max_timestamp(&self, highest: i64, upper: Offset) -> Result<Option<TimestampOffset>, LogError> {
        let mut best = None;
        let (mut low, mut high) = (0, highest);
        while low <= high {
            let middle = low + (high - low) / 2;
            match self.find_by_timestamp(middle)?.filter(|found| found.offset < upper) {
                Some(found) => {
                    low = found.timestamp + 1;
                    best = Some(found);
                }
                None => high = middle - 1,
            }
        }
        Ok(best)
    }

    /// The first record of the segment at or above the log's start that is at least as young as `timestamp`.
    fn first_in(&self, segment: &Segment, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        self.in_segment(segment, |segment| {
            let mut start = self.start_offset;
            while let Some((position, header)) = segment.find_timestamp(timestamp, start)? {
                let first = |batch: &Batch<'_>| first_from(batch, timestamp, self.start_offset);
                let found = record_in(segment, position, &header, first)?;
                if found.is_some() {
                    return Ok(found);
                }
                // All records of it that are as young lie before the log's start.
                start = header.next_offset();
            }
            Ok(None)
        })
    }

    /// The highest timestamp of the log's batches; -1 when there is none.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn max_timestamp(&self) -> Result<i64, LogError> {
        let mut highest = -1;
        for segment in &self.segments {
            highest = highest.max(self.in_segment(segment, Segment::largest)?.timestamp);
        }
        Ok(highest)
    }

    fn in_segment<T>(
        &self,
        segment: &Segment,
        ask: impl FnOnce(&Segment) -> Result<T, SegmentError>,
    ) -> Result<T, LogError> {
        ask(segment).map_err(|error| self.segment_error(segment, segment.base_offset, error))
    }
}

/// The first record at or above `start` that is at least as young as `timestamp`.
fn first_from(batch: &Batch<'_>, timestamp: i64, start: Offset) -> Result<Option<(Offset, i64)>, BatchError> {
    let header = batch.header();
    if header.base_offset >= start {
        let found = batch.first_at_or_after(timestamp, DecompressLimit::default())?;
        return Ok(found.map(|found| (found.offset, found.timestamp)));
    }
    let mut records = batch.records(DecompressLimit::default())?;
    while let Some(record) = records.next_record()? {
        let offset = header.offset_of_delta(record.offset_delta);
        let found = header.timestamp_of_delta(record.timestamp_delta);
        if offset >= start && found >= timestamp {
            return Ok(Some((offset, found)));
        }
    }
    Ok(None)
}

fn record_in(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    find: impl FnOnce(&Batch<'_>) -> Result<Option<(Offset, i64)>, BatchError>,
) -> Result<Option<TimestampOffset>, SegmentError> {
    let mut bytes = vec![0; header.size_bytes()];
    read_exact_at(&*segment.log.get()?, &mut bytes, position)?;
    let found = Batch::parse(&bytes).and_then(|batch| find(&batch));
    let found = found.map_err(|why| SegmentError::Bad { position, why })?;
    let leader_epoch = header.partition_leader_epoch;
    Ok(found.map(|(offset, timestamp)| TimestampOffset { offset, timestamp, leader_epoch }))
}
