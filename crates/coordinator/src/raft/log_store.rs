//! The log as the library asks for it: every call is an order to the disk's thread.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::disk::{DiskHandle, Order};
use super::{Entry, EntryId, Types, Vote, to_i64};

/// The log, and all its readers.
#[derive(Clone)]
pub(crate) struct LogStore {
    pub(crate) disk: DiskHandle,
    /// How far the log was known to be committed when the node started.
    pub(crate) committed: Option<EntryId>,
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => to_i64(*from),
            Bound::Excluded(before) => to_i64(*before) + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => to_i64(*last) + 1,
            Bound::Excluded(end) => to_i64(*end),
            Bound::Unbounded => i64::MAX,
        };
        self.disk.read(from, end, false).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.disk.view().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.disk.read(to_i64(start), to_i64(end), true).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let view = self.disk.view();
        Ok(LogState { last_purged_log_id: view.purged, last_log_id: view.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.disk.ask(|done| Order::Vote(*vote, done)).await?
    }

    async fn save_committed(&mut self, committed: Option<EntryId>) -> io::Result<()> {
        match committed {
            Some(committed) => self.disk.order(Order::Committed(to_i64(committed.index))),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<EntryId>> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.disk.order(Order::Append(entries.into_iter().collect(), flushed))
    }

    async fn truncate_after(&mut self, last: Option<EntryId>) -> io::Result<()> {
        let from = last.map_or(0, |last| to_i64(last.index) + 1);
        self.disk.ask(|done| Order::TruncateTo(from, done)).await?
    }

    async fn purge(&mut self, upto: EntryId) -> io::Result<()> {
        self.disk.ask(|done| Order::Purge(upto, done)).await?
    }
}
