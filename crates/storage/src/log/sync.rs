//! Bringing a log to disk beside its appends: a ticket is made under the owner's lock, synced without it, and handed back.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_protocol::ids::Offset;

use super::{Log, LogError, Unsynced, is_no_space};
use crate::descriptors::DescriptorSlot;
use crate::epochs::LeaderEpochs;
use crate::files::{File, Files};
use crate::index::{OffsetEntry, SparseIndex, TimeEntry};

/// What a flush has to bring to disk.
#[derive(Debug)]
#[must_use = "hand it to Log::sync_end"]
pub struct SyncTicket {
    files: Arc<dyn Files>,
    dir: PathBuf,
    up_to: Offset,
    truncations: u64,
    data: Option<(Arc<dyn File>, Arc<DescriptorSlot>)>,
    epochs: Option<LeaderEpochs>,
    sync_dir: bool,
    sync_parent: bool,
    indexes: Vec<Arc<dyn File>>,
    flush: Option<(Arc<SparseIndex<OffsetEntry>>, Arc<SparseIndex<TimeEntry>>)>,
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
        for file in &self.indexes {
            file.sync_data()?;
        }
        if let Some((file, _)) = &self.data {
            file.sync_data()?;
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
        // A directory that does not exist yet keeps its epochs in memory until it does.
        let is_on_disk = !self.segments.is_empty();
        let Unsynced { data, epochs, dir, parent, indexes } = std::mem::take(&mut self.unsynced);
        self.unsynced.epochs = epochs && !is_on_disk;
        let active = self.segments.back();
        let flush = active.filter(|active| active.offsets.wants_flush());
        self.is_syncing = data.is_some();
        SyncTicket {
            files: Arc::clone(self.descriptors.files()),
            dir: self.dir.clone(),
            up_to: self.end_offset,
            truncations: self.truncations,
            // It stays pinned until the ticket is back; an append in between pins it once more.
            data: data.zip(active.map(|active| Arc::clone(&active.log))),
            epochs: (epochs && is_on_disk).then(|| self.epochs.clone()),
            sync_dir: dir,
            sync_parent: parent,
            indexes,
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
        self.is_syncing = false;
        if let Some((_, slot)) = &ticket.data {
            slot.unpin();
        }
        if !ticket.succeeded.load(Ordering::Acquire) {
            let why = ticket.error.lock().unwrap_or_else(PoisonError::into_inner).take();
            let why = io::Error::other(why.unwrap_or_else(|| "it was not run".into()));
            return Err(self.fence("sync failed", &why));
        }
        let is_truncated = ticket.truncations != self.truncations;
        if is_truncated || ticket.epochs_missed.load(Ordering::Acquire) {
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
