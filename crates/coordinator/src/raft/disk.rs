//! The one thread that touches the metadata log and the vote. Orders are carried out one after the other, so that a read sees what
//! was appended before it, and sees it only once it is on disk: what leaves this node in a message can never be lost by it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use openraft::EntryPayload;
use openraft::storage::IOFlushed;
use ottla_storage::files::Files;
use ottla_storage::log::LogError;
use tokio::sync::oneshot;

use super::{Entry, EntryId, Types, Vote, from_log_entry, to_i64, to_log_entry};
use crate::entry::LogEntry;
use crate::hard_state::{EntryPlace, HardState};
use crate::limits::{RECENT_BYTES_MAX, RECENT_ENTRIES_MAX};
use crate::metadata_log::MetadataLog;
use crate::reserve::Reserve;

/// Milliseconds since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
type Done = oneshot::Sender<io::Result<()>>;

/// What the thread is asked to do.
pub(crate) enum Order {
    /// Write the vote down.
    Vote(Vote, Done),
    /// Write entries and sync them.
    Append(Vec<Entry>, IOFlushed<Types>),
    /// Write an entry that is about to be proposed, to see whether there is room for it. With `true` it may use the reserve.
    Stage(LogEntry, bool, oneshot::Sender<Result<(), LogError>>),
    /// Remove the entry at this index and all behind it.
    TruncateTo(i64, Done),
    /// Let go of all up to this entry, which a snapshot holds.
    Purge(EntryId, Done),
    /// Read entries from the first index to before the second; with `true` as many as come at once will do.
    Read(i64, i64, bool, oneshot::Sender<io::Result<Vec<Entry>>>),
    /// Note how far the log is committed. It is written down with the next vote or purge, and at the end.
    Committed(i64),
    /// End in order.
    Close(oneshot::Sender<Result<(), String>>),
}

/// What others may see without asking.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) vote: Option<Vote>,
    pub(crate) last: Option<EntryId>,
    pub(crate) purged: Option<EntryId>,
    /// Why nothing is written any more.
    pub(crate) fenced: Option<String>,
    recent: Recent,
}

impl View {
    /// What a node finds when it starts.
    pub(crate) fn new(vote: Option<Vote>, last: Option<EntryId>, purged: Option<EntryId>) -> Self {
        Self { vote, last, purged, ..Self::default() }
    }
}

/// The entries written last, without gaps, all of them on disk.
#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entry: Entry) {
        let expected = self.entries.back().map(|last| last.log_id.index + 1);
        if expected.is_some_and(|expected| expected != entry.log_id.index) {
            self.clear();
        }
        self.bytes += size_bytes(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > RECENT_ENTRIES_MAX || self.bytes > RECENT_BYTES_MAX)
        {
            let oldest = self.entries.pop_front().expect("there are at least two");
            self.bytes -= size_bytes(&oldest);
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn range(&self, from: i64, end: i64) -> Option<Vec<Entry>> {
        let first = to_i64(self.entries.front()?.log_id.index);
        let from = usize::try_from(from.checked_sub(first)?).ok()?;
        let end = usize::try_from(end - first).ok().filter(|end| *end <= self.entries.len())?;
        Some(self.entries.range(from..end).cloned().collect())
    }
}

fn size_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(change) => change.records.iter().map(bytes::Bytes::len).sum(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The thread's own.
pub(crate) struct Disk {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) log: MetadataLog,
    pub(crate) hard_state: HardState,
    pub(crate) reserve: Reserve,
    pub(crate) clock: Clock,
    pub(crate) view: Arc<Mutex<View>>,
    /// An entry behind the end of the log that nobody has appended yet.
    pub(crate) staged: Option<LogEntry>,
}

/// Gives orders to the thread.
#[derive(Clone)]
pub(crate) struct DiskHandle {
    orders: Orders,
    view: Arc<Mutex<View>>,
}

/// Where orders go.
#[derive(Clone)]
enum Orders {
    /// To a thread of their own.
    Thread(mpsc::Sender<Order>),
    /// They are carried out at once, on whatever thread gives them: in simulated time nothing may wait for a real thread. `None` once
    /// the log is closed.
    #[cfg(test)]
    AtOnce(Arc<Mutex<Option<Disk>>>),
}

impl DiskHandle {
    /// Starts the thread, which ends with [`Order::Close`] or the last handle.
    pub(crate) fn spawn(disk: Disk) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, orders) = mpsc::channel();
        let view = disk.view.clone();
        let thread =
            std::thread::Builder::new().name("metadata-disk".to_owned()).spawn(move || disk.run(&orders))?;
        Ok((Self { orders: Orders::Thread(sender), view }, thread))
    }

    /// Without a thread.
    #[cfg(test)]
    pub(crate) fn at_once(disk: Disk) -> Self {
        let view = disk.view.clone();
        Self { orders: Orders::AtOnce(Arc::new(Mutex::new(Some(disk)))), view }
    }

    /// What can be seen without asking; guarded by a lock that is held for moments only.
    pub(crate) fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order that needs no answer, or brings its own.
    pub(crate) fn order(&self, order: Order) -> io::Result<()> {
        match &self.orders {
            Orders::Thread(orders) => orders.send(order).map_err(|_| ended()),
            #[cfg(test)]
            Orders::AtOnce(disk) => {
                let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
                if !disk.as_mut().ok_or_else(ended)?.carry_out(order) {
                    *disk = None;
                }
                Ok(())
            }
        }
    }

    /// Gives an order and waits for its answer.
    pub(crate) async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply))?;
        answer.await.map_err(|_| ended())
    }

    /// Entries from `from` to before `end`, all of them, or with `some` the first of them. None are missing in between.
    pub(crate) async fn read(&self, from: i64, end: i64, some: bool) -> io::Result<Vec<Entry>> {
        if from >= end {
            return Ok(Vec::new());
        }
        let recent = self.view().recent.range(from, end);
        match recent {
            Some(entries) => Ok(entries),
            None => self.ask(|reply| Order::Read(from, end, some, reply)).await?,
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the metadata log is closed")
}

impl Disk {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        self.hold_reserve();
        while let Ok(order) = orders.recv() {
            if !self.carry_out(order) {
                return;
            }
        }
    }

    /// Carries out one order; false when it was the last.
    fn carry_out(&mut self, order: Order) -> bool {
        // An answer that nobody waits for is no loss anywhere below.
        match order {
            Order::Vote(vote, done) => drop(done.send(self.vote(vote))),
            Order::Append(entries, flushed) => flushed.io_completed(self.append(entries)),
            Order::Stage(entry, frees_space, reply) => drop(reply.send(self.stage(entry, frees_space))),
            Order::TruncateTo(index, done) => drop(done.send(self.truncate_to(index))),
            Order::Purge(upto, done) => drop(done.send(self.purge(upto))),
            Order::Read(from, end, some, reply) => drop(reply.send(self.read(from, end, some))),
            Order::Committed(index) => {
                self.hard_state.committed = self.hard_state.committed.max(index);
            }
            Order::Close(reply) => {
                let closed = self.close().map_err(|error| error.to_string());
                drop(reply.send(closed));
                return false;
            }
        }
        true
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is written once something could not be: what is on disk is unknown then.
    fn check(&self) -> io::Result<()> {
        match &self.view().fenced {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(()),
        }
    }

    fn fence(&self, why: &dyn std::fmt::Display) -> io::Error {
        let why = why.to_string();
        tracing::error!(error = %why, "the metadata log cannot be written: no metadata changes until a restart");
        self.view().fenced = Some(why.clone());
        io::Error::other(why)
    }

    fn vote(&mut self, vote: Vote) -> io::Result<()> {
        self.check()?;
        let voted = vote.leader_id.voted_for;
        self.hard_state.term = vote.leader_id.term;
        self.hard_state.voted_id = voted.id;
        self.hard_state.voted_directory_id = voted.directory_id.to_string();
        self.hard_state.vote_granted = Some(vote.committed);
        self.write_hard_state()?;
        self.view().vote = Some(vote);
        Ok(())
    }

    /// With a full disk the reserve makes room: a node that cannot write its vote is out of the quorum.
    fn write_hard_state(&mut self) -> io::Result<()> {
        let mut written = self.hard_state.write(&self.files, &self.dir);
        if written.is_err() && self.reserve.release() {
            written = self.hard_state.write(&self.files, &self.dir);
        }
        written.map_err(|error| self.fence(&error))
    }

    fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.check()?;
        let vote = self.view().vote;
        for entry in &entries {
            let entry = to_log_entry(entry, vote.as_ref()).map_err(|error| self.fence(&error))?;
            self.append_one(entry)?;
        }
        self.log.sync().map_err(|error| self.fence(&error))?;
        self.hold_reserve();
        let mut view = self.view();
        if let Some(last) = entries.last() {
            view.last = Some(last.log_id);
        }
        for entry in entries {
            view.recent.push(entry);
        }
        Ok(())
    }

    fn append_one(&mut self, entry: LogEntry) -> io::Result<()> {
        if self.staged.as_ref() == Some(&entry) {
            self.staged = None;
            return Ok(());
        }
        self.unstage()?;
        // It counts as appended already, so the reserve is for it too.
        self.write(&entry, true).map_err(|error| self.fence(&error))
    }

    /// Writes an entry without sync. `NoSpace` leaves everything as it was.
    fn write(&mut self, entry: &LogEntry, use_reserve: bool) -> Result<(), LogError> {
        let now_ms = (self.clock)();
        let unwritable = |error: crate::entry::EntryError| LogError::InvalidAppend(error.to_string());
        let (header, payload) = entry.encode(now_ms).map_err(unwritable)?;
        let mut written = self.log.append(&header, &payload, now_ms);
        if matches!(written, Err(LogError::NoSpace)) && use_reserve && self.reserve.release() {
            tracing::warn!("the disk is full: a change uses the metadata log's reserve");
            written = self.log.append(&header, &payload, now_ms);
        }
        written
    }

    /// Only the leader of its term stages, at the place where its next entry goes; what is there in the end is that entry, or it is
    /// removed before another takes its place.
    fn stage(&mut self, entry: LogEntry, frees_space: bool) -> Result<(), LogError> {
        if let Err(error) = self.check().and_then(|()| self.unstage()) {
            return Err(LogError::InvalidAppend(error.to_string()));
        }
        if entry.index != self.log.end() {
            // Something came in between: the library says in what order.
            return Ok(());
        }
        let written = self.write(&entry, frees_space);
        match written {
            Ok(()) => self.staged = Some(entry),
            Err(LogError::NoSpace | LogError::InvalidAppend(_)) => {}
            Err(ref error) => drop(self.fence(error)),
        }
        written
    }

    fn unstage(&mut self) -> io::Result<()> {
        let Some(entry) = self.staged.take() else { return Ok(()) };
        self.log.truncate_to(entry.index, (self.clock)()).map_err(|error| self.fence(&error))
    }

    fn truncate_to(&mut self, index: i64) -> io::Result<()> {
        self.check()?;
        self.staged = None;
        self.log.truncate_to(index, (self.clock)()).map_err(|error| self.fence(&error))?;
        let last = self.id_at(index - 1)?;
        let mut view = self.view();
        view.recent.clear();
        view.last = last.or(view.purged);
        Ok(())
    }

    fn id_at(&self, index: i64) -> io::Result<Option<EntryId>> {
        if index < self.log.start() {
            return Ok(None);
        }
        let entries = self.log.read_below(index, index + 1).map_err(io::Error::other)?;
        Ok(entries.first().map(|entry| super::entry_id(entry.term, entry.index)))
    }

    fn purge(&mut self, upto: EntryId) -> io::Result<()> {
        self.check()?;
        self.unstage()?;
        let index = to_i64(upto.index);
        let term = upto.committed_leader_id().term;
        // Written down first: a log that begins earlier is no harm, one that begins later is a gap.
        self.hard_state.purged = Some(EntryPlace { index, term });
        self.hard_state.committed = self.hard_state.committed.max(index);
        self.write_hard_state()?;
        self.log.purge_to(index + 1, (self.clock)()).map_err(|error| self.fence(&error))?;
        let mut view = self.view();
        view.purged = Some(upto);
        view.last = view.last.max(Some(upto));
        if view.recent.entries.front().is_some_and(|first| first.log_id.index <= upto.index) {
            view.recent.clear();
        }
        Ok(())
    }

    fn read(&self, from: i64, end: i64, some: bool) -> io::Result<Vec<Entry>> {
        // A staged entry is behind the end.
        let end = end.min(self.staged.as_ref().map_or(i64::MAX, |staged| staged.index));
        let mut entries = Vec::new();
        let mut next = from.max(self.log.start());
        while next < end {
            let read = self.log.read_below(next, end).map_err(io::Error::other)?;
            if read.is_empty() {
                break;
            }
            for entry in read {
                next = entry.index + 1;
                entries.push(from_log_entry(entry).map_err(io::Error::other)?);
            }
            if some {
                break;
            }
        }
        Ok(entries)
    }

    fn hold_reserve(&mut self) {
        if let Err(error) = self.reserve.hold() {
            tracing::warn!(%error, "no reserve for deletions on a full disk could be made");
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.check()?;
        self.unstage()?;
        self.log.close((self.clock)()).map_err(|error| self.fence(&error))?;
        self.write_hard_state()
    }
}
