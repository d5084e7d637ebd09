//! A segment that was closed while it had unsynced data, and what belongs beside it on disk. The append that closes it only
//! notes that; the next ticket does the work.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_protocol::ids::Offset;

use super::is_no_space;
use crate::checkpoint;
use crate::descriptors::DescriptorSlot;
use crate::files::{File, Files, Open};
use crate::index::{OffsetEntry, SparseIndex, TimeEntry};
use crate::producers::{ProducerStates, snapshot_file_name};

/// Extension of the mark that a segment began before all before it was on disk. It is made before the segment and gone,
/// durably, before anything of the segment counts as durable. So if it is there after a crash, the segment may stand behind
/// a hole without any loss.
pub(crate) const UNSYNCED_MARK: &str = "unsynced";

/// A file with unsynced data, and its slot, pinned until it is synced.
pub(super) type Pinned = (Arc<dyn File>, Arc<DescriptorSlot>);

/// A closed segment that waits for a ticket.
#[derive(Debug)]
pub(super) struct Rolled {
    /// Where the next segment begins.
    pub(super) end: Offset,
    /// Its `.log`, unless an earlier ticket has all of it.
    pub(super) data: Option<Pinned>,
    pub(super) offsets: Arc<SparseIndex<OffsetEntry>>,
    pub(super) times: Arc<SparseIndex<TimeEntry>>,
    /// The mark of the segment that follows.
    pub(super) mark: Option<PathBuf>,
    /// Held while it is written, so that nobody who has cancelled it finds it later.
    snapshot: Mutex<Option<Snapshot>>,
}

/// The producers at the end of the segment.
#[derive(Debug)]
pub(super) struct Snapshot {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Without producers it only spares the next opening a walk.
    is_empty: bool,
}

impl Snapshot {
    pub(super) fn of(producers: &ProducerStates, dir: &Path, offset: Offset) -> Self {
        let path = dir.join(snapshot_file_name(offset));
        Self { path, bytes: producers.encode(), is_empty: producers.is_empty() }
    }

    /// Writes it, durably unless it is empty. A full disk is no error: the log itself says it too. False then.
    pub(super) fn write(&self, files: &dyn Files) -> io::Result<bool> {
        let written = if self.is_empty {
            files.open(&self.path, Open::Create).and_then(|file| {
                file.set_len(0)?;
                file.write_all_at(&mut [IoSlice::new(&self.bytes)], 0)
            })
        } else {
            checkpoint::write_atomically(files, &self.path, &self.bytes)
        };
        match written {
            Err(error) if is_no_space(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Rolled {
    pub(super) fn new(
        end: Offset,
        data: Option<Pinned>,
        offsets: &Arc<SparseIndex<OffsetEntry>>,
        times: &Arc<SparseIndex<TimeEntry>>,
        mark: Option<PathBuf>,
        snapshot: Option<Snapshot>,
    ) -> Self {
        let (offsets, times) = (Arc::clone(offsets), Arc::clone(times));
        Self { end, data, offsets, times, mark, snapshot: Mutex::new(snapshot) }
    }

    /// Whether something of its data, or of those before it, was not on disk when it was closed.
    pub(super) fn is_unsynced(&self) -> bool {
        self.data.is_some() || self.mark.is_some()
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.data.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    /// Indexes and snapshot. Once they lie below the recovery point nobody checks the indexes.
    pub(super) fn write_side_files(&self, files: &dyn Files) -> io::Result<()> {
        self.offsets.flush_and_sync()?;
        self.times.flush_and_sync()?;
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.take().map_or(Ok(()), |snapshot| snapshot.write(files).map(drop))
    }

    /// For when all data before the mark's segment is on disk.
    pub(super) fn remove_mark(&self, files: &dyn Files) -> io::Result<()> {
        match self.mark.as_ref().map_or(Ok(()), |mark| files.remove_file(mark)) {
            // It went with its segment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The log is cut: what the snapshot says may not be so any more.
    pub(super) fn cancel_snapshot(&self) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// After the sync.
    pub(super) fn unpin(&self) {
        if let Some((_, slot)) = &self.data {
            slot.unpin();
        }
    }
}
