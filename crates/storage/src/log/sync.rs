//! Bringing a log to disk beside its appends: a ticket is made under the owner's lock, synced without it, and handed back.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_protocol::ids::Offset;

use super::rolled::{Pinned, Rolled};
use super::{InFlight, Log, LogError, Unsynced, is_no_space};
use crate::epochs::LeaderEpochs;
use crate::files::Files;
use crate::index::{OffsetEntry, SparseIndex, TimeEntry};
use crate::planted::{Bug, planted};

/// The active segment's indexes, when enough has gathered in them.
type Indexes = (Arc<SparseIndex<OffsetEntry>>, Arc<SparseIndex<TimeEntry>>);

/// What a flush has to bring to disk.
#[derive(Debug)]
#[must_use = "hand it to Log::sync_end"]
pub struct SyncTicket {
    files: Arc<dyn Files>,
    dir: PathBuf,
    up_to: Offset,
    truncations: u64,
    /// Closed segments, the oldest first, and then the active one: later data may be on disk only behind earlier.
    rolled: Vec<Arc<Rolled>>,
    data: Option<Pinned>,
    epochs: Option<LeaderEpochs>,
    sync_dir: bool,
    sync_parent: bool,
    flush: Option<Indexes>,
    epochs_missed: AtomicBool,
    succeeded: AtomicBool,
    error: Mutex<Option<String>>,
}

impl SyncTicket {
    /// Brings it to disk. Blocks. Hand the ticket to [`Log::sync_end`] whatever comes out.
    ///
    /// # Errors
    /// What the file system says; the log is fenced then.
    pub fn sync(&self) -> io::Result<()> {
        let outcome = self.sync_all();
        match &outcome {
            Ok(()) => self.succeeded.store(true, Ordering::Release),
            Err(error) => {
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
        outcome
    }

    fn sync_all(&self) -> io::Result<()> {
        if let Some((offsets, times)) = &self.flush {
            offsets.flush()?;
            times.flush()?;
        }
        for rolled in &self.rolled {
            rolled.sync_data()?;
        }
        if let Some((file, _)) = &self.data {
            file.sync_data()?;
        }
        for rolled in &self.rolled {
            rolled.write_side_files(&*self.files)?;
            rolled.remove_mark(&*self.files)?;
        }
        let is_dir_synced = match &self.epochs {
            None => false,
            // This syncs the directory as well.
            Some(epochs) => match epochs.write(&*self.files, &self.dir) {
                Ok(()) => true,
                Err(error) if is_no_space(&error) => {
                    // The batches say it too; written again with the next sync.
                    self.epochs_missed.store(true, Ordering::Release);
                    false
                }
                Err(error) => return Err(error),
            },
        };
        if self.sync_dir && !is_dir_synced {
            self.files.sync_dir(&self.dir)?;
        }
        if self.sync_parent
            && let Some(parent) = self.dir.parent()
        {
            self.files.sync_dir(parent)?;
        }
        Ok(())
    }

    /// The log is durable up to here (exclusive) once the sync succeeds.
    #[must_use]
    pub fn up_to(&self) -> Offset {
        self.up_to
    }
}

impl Log {
    /// What is to be synced now. One ticket at a time: hand it back before the next.
    pub fn sync_begin(&mut self) -> SyncTicket {
        let Unsynced { rolled, data, epochs, dir, parent } = std::mem::take(&mut self.unsynced);
        let active = self.segments.back();
        let flush = active.filter(|active| active.offsets.wants_flush());
        let file = data.as_ref().map(|(file, _)| Arc::clone(file));
        self.in_flight = InFlight { rolled: rolled.clone(), data: file };
        SyncTicket {
            files: Arc::clone(self.descriptors.files()),
            dir: self.dir.clone(),
            up_to: self.end_offset,
            truncations: self.truncations,
            // It stays pinned until the ticket is back; an append in between pins it once more.
            data,
            epochs: epochs.then(|| self.epochs.clone()),
            // Names of side files and marks come and go with closed segments.
            sync_dir: dir || !rolled.is_empty(),
            rolled,
            sync_parent: parent,
            flush: flush.map(|active| (Arc::clone(&active.offsets), Arc::clone(&active.times))),
            epochs_missed: AtomicBool::new(false),
            succeeded: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    /// Takes the ticket back. Gives the offset up to which the log is durable now.
    ///
    /// # Errors
    /// `Failed`, now and for ever, when the ticket's sync failed or was not run: what is on disk is unknown, and a second
    /// fdatasync would only pretend.
    pub fn sync_end(&mut self, ticket: SyncTicket) -> Result<Offset, LogError> {
        self.in_flight = InFlight::default();
        ticket.rolled.iter().for_each(|rolled| rolled.unpin());
        if let Some((_, slot)) = &ticket.data {
            slot.unpin();
        }
        if !ticket.succeeded.load(Ordering::Acquire) {
            let why = ticket.error.lock().unwrap_or_else(PoisonError::into_inner).take();
            let why = io::Error::other(why.unwrap_or_else(|| "it was not run".into()));
            return Err(self.fence("sync failed", &why));
        }
        let is_truncated = ticket.truncations != self.truncations && !planted(Bug::SyncCoversCut);
        let is_missed = ticket.epochs_missed.load(Ordering::Acquire);
        if let Some(epochs) = ticket.epochs.as_ref().filter(|_| !is_missed) {
            // A truncation wrote the file as well, before or after.
            self.epochs_on_disk = if is_truncated { LeaderEpochs::default() } else { epochs.clone() };
        }
        if is_truncated || is_missed {
            // The epochs that were written may be those of before.
            self.unsynced.epochs |= ticket.epochs.is_some();
        }
        if !is_truncated {
            self.durable_offset = self.durable_offset.max(ticket.up_to);
        }
        Ok(self.durable_offset)
    }

    /// Begins, syncs and ends in one, for owners that have no other thread.
    ///
    /// # Errors
    /// `Failed`.
    pub fn sync(&mut self) -> Result<Offset, LogError> {
        let ticket = self.sync_begin();
        // The ticket remembers how it went.
        drop(ticket.sync());
        self.sync_end(ticket)
    }
}
