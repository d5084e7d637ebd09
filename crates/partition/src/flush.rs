//! The flusher's side of a partition: sync what is in memory, then let the high watermark see it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_cluster::replica::Durability;
use ottla_storage::flusher::{FlushState, Flushable};
use ottla_storage::log::{LogError, SyncTicket};

use crate::error::Fault;
use crate::partition::Partition;

impl Flushable for Partition {
    fn flush_state(&self) -> &FlushState {
        &self.flush_state
    }

    fn flush(&self) {
        self.flush_now();
    }
}

impl Partition {
    /// Syncs all that has been appended so far; the lock is not held during the sync. A failed sync takes the partition
    /// offline and is never retried: what the disk then holds is unknown. That is so for "no space" too: file systems that
    /// find out at the write-back only have dropped the pages, and a second fdatasync would pretend that all is well.
    pub fn flush_now(&self) {
        self.observer.flush_begins(self.key());
        self.flush_and_tell();
        self.observer.flush_ends(self.key());
    }

    fn flush_and_tell(&self) {
        let _flushing = self.flush_lock();
        let Some(ticket) = self.begin_flush() else { return };
        let started = Instant::now();
        // The ticket remembers how it went.
        drop(ticket.sync());
        self.observer.synced(started.elapsed());
        self.end_flush(ticket);
    }

    /// The first half of [`Partition::flush_now`], for owners that sync the ticket themselves. One at a time, each ended by
    /// [`Partition::end_flush`]. `None` when there is nothing to sync.
    #[must_use]
    pub fn begin_flush(&self) -> Option<SyncTicket> {
        {
            let mut inner = self.lock();
            let directory = inner.directory.clone();
            let log = inner.open_log()?;
            if log.durable_offset() == log.end_offset() {
                return None;
            }
            if let Some(why) = directory.as_ref().and_then(|directory| directory.fenced()) {
                // What another log's failure has made suspect is not written to any more.
                let why = format!("the log directory is offline: {why}");
                drop(inner);
                self.take_offline(&why);
                return None;
            }
        }
        // Before there is a ticket: one that is dropped would take with it what is to be synced.
        if let Err(error) = self.stamp() {
            self.write_error(&mut self.lock(), error);
            return None;
        }
        let mut inner = self.lock();
        let ticket = inner.open_log()?.sync_begin();
        inner.unsynced_bytes = 0;
        Some(ticket)
    }

    /// The ticket of [`Partition::begin_flush`] was synced, or could not be.
    pub fn end_flush(&self, ticket: SyncTicket) {
        let mut inner = self.lock();
        let Some(log) = inner.open_log() else { return };
        // The log learns of a failure by the ticket and takes no more appends.
        match log.sync_end(ticket) {
            Ok(_) => {
                inner.progressed();
                self.report(&inner);
            }
            Err(error) => self.fail(&mut inner, Fault::Write, &error.to_string()),
        }
    }

    /// Once per process: notes whose the directory is. On a full disk that waits for the next flush.
    fn stamp(&self) -> Result<(), LogError> {
        if self.stamped.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.opener.stamp(self.key()) {
            Err(LogError::NoSpace) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.stamped.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The topic's durability.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.lock().replica.durability()
    }
}
