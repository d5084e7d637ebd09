//! The flusher's side of a partition: sync what is in memory, then let the high watermark see it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_cluster::replica::Durability;
use ottla_storage::flusher::{FlushState, Flushable};
use ottla_storage::log::LogError;

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
        let _flushing = self.flush_lock();
        let ticket = {
            let mut inner = self.lock();
            let directory = inner.directory.clone();
            let Some(log) = inner.open_log() else { return };
            if log.durable_offset() == log.end_offset() {
                return;
            }
            if let Some(why) = directory.as_ref().and_then(|directory| directory.fenced()) {
                // What another log's failure has made suspect is not written to any more.
                let why = format!("the log directory is offline: {why}");
                drop(inner);
                return self.take_offline(&why);
            }
            let ticket = log.sync_begin();
            inner.unsynced_bytes = 0;
            ticket
        };
        let started = Instant::now();
        if let Err(error) = self.stamp() {
            // What could not be noted is a write like another; the ticket goes with the log.
            self.write_error(&mut self.lock(), error);
            return;
        }
        let synced = ticket.sync();
        self.observer.synced(started.elapsed());
        let mut inner = self.lock();
        let Some(log) = inner.open_log() else { return };
        // The log learns of a failure by the ticket and takes no more appends.
        let ended = log.sync_end(ticket);
        match (synced, ended) {
            (Ok(()), Ok(_)) => {
                inner.progressed();
                self.report(&inner);
            }
            (Ok(()), Err(error)) => self.fail(&mut inner, Fault::Write, &error.to_string()),
            (Err(error), _) => self.fail(&mut inner, Fault::Write, &format!("fdatasync failed: {error}")),
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
