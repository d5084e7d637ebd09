//! The segment that a cleaning writes, under names of its own until it is swapped in.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchHeader;

use crate::files::{File, Files};
use crate::log::{CLEANED_SUFFIX, CleaningPlan, SWAPPED_EXTENSIONS};
use crate::segment::{Segment, segment_path};

pub(super) struct Writer {
    segment: Segment,
    /// Pinned until it is synced.
    file: Arc<dyn File>,
    files: Arc<dyn Files>,
    dir: PathBuf,
    index_interval_bytes: u64,
    buf: Vec<u8>,
    buf_bytes: usize,
    written_bytes: u64,
}

impl Writer {
    /// Begins the segment at `base_offset`; writes `buf_bytes` at once.
    pub(super) fn new(plan: &CleaningPlan, base_offset: Offset, buf_bytes: usize) -> io::Result<Self> {
        let segment = Segment::provisional(&plan.descriptors, &plan.dir, base_offset, CLEANED_SUFFIX);
        let file = segment.log.pin()?;
        // One that an earlier cleaning left.
        file.set_len(0)?;
        Ok(Self {
            segment,
            file,
            files: Arc::clone(plan.descriptors.files()),
            dir: plan.dir.clone(),
            index_interval_bytes: plan.config.index_interval_bytes,
            buf: Vec::with_capacity(buf_bytes),
            buf_bytes,
            written_bytes: 0,
        })
    }

    /// Bytes of the segment so far.
    pub(super) fn size_bytes(&self) -> u64 {
        self.segment.size_bytes
    }

    pub(super) fn push(&mut self, header: &BatchHeader, payload: &[u8]) -> io::Result<()> {
        self.buf.extend_from_slice(&header.encode());
        self.buf.extend_from_slice(payload);
        self.segment.note(header, self.index_interval_bytes);
        if self.buf.len() >= self.buf_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&mut [IoSlice::new(&self.buf)], self.written_bytes)?;
        self.written_bytes += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// The whole segment, on disk but for its names.
    pub(super) fn finish(mut self) -> io::Result<Segment> {
        let finished = self.write_rest();
        self.segment.log.unpin();
        match finished {
            Ok(()) => Ok(self.segment),
            Err(error) => {
                self.segment.retire();
                remove(&*self.files, &self.dir, self.segment.base_offset);
                Err(error)
            }
        }
    }

    fn write_rest(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()?;
        self.segment.seal_durably()?;
        // A full disk is no error for an index; the swap needs its files.
        if self.segment.offsets.is_written() && self.segment.times.is_written() {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    /// The segment is not wanted after all.
    pub(super) fn discard(self) {
        self.segment.log.unpin();
        self.segment.retire();
        remove(&*self.files, &self.dir, self.segment.base_offset);
    }
}

/// Removes a segment that was not swapped in. What stays is removed when the log is opened.
pub(super) fn remove(files: &dyn Files, dir: &Path, base_offset: Offset) {
    for extension in SWAPPED_EXTENSIONS {
        drop(files.remove_file(&segment_path(dir, base_offset, &format!("{extension}{CLEANED_SUFFIX}"))));
    }
}
