//! The flusher's side of a partition: sync what is in memory, then let the high watermark see it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_cluster::replica::Durability;
use ottla_storage::flusher::{FlushState, Flushable};

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
    /// offline and is never retried: what the disk then holds is unknown.
    pub fn flush_now(&self) {
        let ticket = {
            let mut inner = self.lock();
            let Some(log) = inner.open_log() else { return };
            if log.durable_offset() == log.end_offset() {
                return;
            }
            let ticket = log.sync_begin();
            inner.unsynced_bytes = 0;
            ticket
        };
        let started = Instant::now();
        let synced = if self.stamped.load(Ordering::Relaxed) {
            ticket.sync()
        } else {
            self.opener.stamp(self.key()).map_err(std::io::Error::other).and_then(|()| ticket.sync())
        };
        self.stamped.store(true, Ordering::Relaxed);
        self.observer.synced(started.elapsed());
        let mut inner = self.lock();
        let Some(log) = inner.open_log() else { return };
        // The log learns of a failure by the ticket and takes no more appends.
        let ended = log.sync_end(ticket);
        match (synced, ended) {
            (Ok(()), Ok(_)) => self.after_sync(&mut inner),
            (Ok(()), Err(error)) => self.fail(&mut inner, &error.to_string()),
            (Err(error), _) => self.fail(&mut inner, &format!("fdatasync failed: {error}")),
        }
    }

    /// The topic's durability.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.lock().replica.durability()
    }
}
