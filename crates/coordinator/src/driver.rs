//! The one thread that decides and writes. It takes what waits in the queue, decides it together on a working copy, writes one entry,
//! syncs, publishes, and only then answers. Nothing has to be rolled back: a working copy that is not committed is dropped.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_cluster::controller::{Context, Controller, Settings};
use ottla_cluster::image::{MetadataImage, MetadataRecord};
use ottla_storage::files::Files;
use ottla_storage::log::LogError;
use tokio::sync::{mpsc, oneshot};

use crate::entry::{EntryKind, LogEntry};
use crate::error::RequestError;
use crate::feed::{FeedEntry, FeedError, Published};
use crate::hard_state::HardState;
use crate::limits::{GROUP_RECORDS_MAX, GROUP_REQUESTS_MAX};
use crate::metadata_log::MetadataLog;
use crate::reserve::Reserve;

/// Tells a waiting request what became of it; `Ok` carries the index up to which the metadata holds its effect.
pub(crate) type Answer = Box<dyn FnOnce(Result<i64, RequestError>) + Send>;
/// A request's decision on the working copy.
pub(crate) type Decide =
    Box<dyn FnOnce(&mut Controller<'_>, &mut Context<'_>) -> (Vec<MetadataRecord>, Answer) + Send>;

/// What the driver is asked to do.
pub(crate) enum Command {
    /// Decide and commit.
    Decide(Proposal),
    /// Read committed entries for a feed that is far behind.
    Read { from: i64, reply: oneshot::Sender<Result<Vec<Arc<FeedEntry>>, FeedError>> },
    /// End in order.
    Stop,
}

/// A request in the queue.
pub(crate) struct Proposal {
    pub(crate) decide: Decide,
    /// Whether nothing may be decided after it in its group: its decision names the index of its entry, and two that do must
    /// not share one.
    pub(crate) ends_group: bool,
    /// Whether it gives disk space back, so that it may use the reserve.
    pub(crate) frees_space: bool,
}

/// The thread's state.
pub(crate) struct Driver {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) log: MetadataLog,
    pub(crate) hard_state: HardState,
    pub(crate) reserve: Reserve,
    pub(crate) settings: Settings,
    pub(crate) image: MetadataImage,
    pub(crate) published: Arc<Published>,
    pub(crate) queue: mpsc::Receiver<Command>,
    pub(crate) clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    pub(crate) entropy: Box<dyn FnMut() -> u64 + Send>,
    /// Why nothing is decided any more.
    pub(crate) fenced: Option<String>,
    /// A command that was taken from the queue and belongs to the next round.
    pub(crate) next: Option<Command>,
}

/// A group that was decided.
struct Decided {
    records: Vec<MetadataRecord>,
    answers: Vec<Answer>,
    image: MetadataImage,
    frees_space: bool,
}

impl Driver {
    /// Runs until it is told to stop, or nobody is left to ask.
    pub(crate) fn run(mut self) -> Result<(), RequestError> {
        self.hold_reserve();
        while let Some(command) = self.next.take().or_else(|| self.queue.blocking_recv()) {
            match command {
                Command::Decide(first) => self.decide_group(first),
                // The receiver may have gone: then nobody waits for the entries.
                Command::Read { from, reply } => drop(reply.send(self.read(from))),
                Command::Stop => break,
            }
        }
        self.stop()
    }

    fn decide_group(&mut self, first: Proposal) {
        let decided = self.decide(first);
        if let Some(why) = &self.fenced {
            let error = RequestError::Fenced(why.clone());
            return answer(decided.answers, &Err(error));
        }
        if decided.records.is_empty() {
            return answer(decided.answers, &Ok(self.image.index()));
        }
        let result = self.commit(&decided.records, decided.frees_space);
        if let Ok(index) = result {
            self.image = decided.image;
            self.image.set_index(index);
            self.published.publish(self.image.clone(), FeedEntry { index, records: decided.records });
        }
        answer(decided.answers, &result);
    }

    /// Decides what waits, each request seeing the effect of those before.
    fn decide(&mut self, first: Proposal) -> Decided {
        let mut controller = Controller::new(self.image.clone(), &self.settings);
        let mut context = Context { index: self.log.end(), entropy: &mut self.entropy };
        let mut records = Vec::new();
        let mut answers = Vec::new();
        let mut frees_space = false;
        let mut waiting = Some(first);
        while let Some(proposal) = waiting.take() {
            frees_space |= proposal.frees_space;
            let (new, reply) = (proposal.decide)(&mut controller, &mut context);
            records.extend(new);
            answers.push(reply);
            let full = answers.len() >= GROUP_REQUESTS_MAX || records.len() >= GROUP_RECORDS_MAX;
            if full || proposal.ends_group {
                break;
            }
            match self.queue.try_recv() {
                Ok(Command::Decide(proposal)) => waiting = Some(proposal),
                Ok(other) => self.next = Some(other),
                // Nothing waits; whether anybody is left, the next round sees.
                Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => {}
            }
        }
        Decided { records, answers, image: controller.into_image(), frees_space }
    }

    /// Writes one entry and syncs it. The index of the entry, or why there is none.
    fn commit(&mut self, records: &[MetadataRecord], frees_space: bool) -> Result<i64, RequestError> {
        let unwritable = |error: String| RequestError::Unwritable(error);
        let frames: Result<Vec<_>, _> = records.iter().map(MetadataRecord::encode).collect();
        let kind = EntryKind::Records(frames.map_err(|error| unwritable(error.to_string()))?);
        let (index, term) = (self.log.end(), self.hard_state.term);
        let entry = LogEntry { index, term, node_id: self.hard_state.node_id, kind };
        let now_ms = (self.clock)();
        let (header, payload) = entry.encode(now_ms).map_err(|error| unwritable(error.to_string()))?;
        let mut written = self.log.append(&header, &payload, now_ms);
        if matches!(written, Err(LogError::NoSpace)) && frees_space && self.reserve.release() {
            tracing::warn!("the disk is full: a deletion uses the metadata log's reserve");
            written = self.log.append(&header, &payload, now_ms);
        }
        match written {
            Ok(()) => {
                self.hold_reserve();
                Ok(index)
            }
            Err(LogError::NoSpace) => Err(RequestError::NoSpace),
            Err(error) => {
                tracing::error!(%error, "the metadata log cannot be written: no metadata changes until a restart");
                self.fenced = Some(error.to_string());
                Err(RequestError::Fenced(error.to_string()))
            }
        }
    }

    fn read(&self, from: i64) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        let unreadable = |error: String| FeedError::Unreadable(error);
        let entries = self.log.read(from).map_err(|error| unreadable(error.to_string()))?;
        // Everything in the log of a quorum of one is committed, but for an entry whose sync failed.
        let committed = entries.into_iter().filter(|entry| entry.index <= self.image.index());
        let entries = committed.map(|entry| {
            let records = entry.records().map_err(|error| unreadable(error.to_string()))?;
            Ok(Arc::new(FeedEntry { index: entry.index, records }))
        });
        entries.collect()
    }

    fn hold_reserve(&mut self) {
        if let Err(error) = self.reserve.hold() {
            tracing::warn!(%error, "no reserve for deletions on a full disk could be made");
        }
    }

    fn stop(mut self) -> Result<(), RequestError> {
        let fenced = |error: String| RequestError::Fenced(error);
        if let Some(why) = self.fenced {
            return Err(RequestError::Fenced(why));
        }
        self.log.close((self.clock)()).map_err(|error| fenced(error.to_string()))?;
        self.hard_state.committed = self.image.index();
        self.hard_state.write(&self.files, &self.dir).map_err(|error| fenced(error.to_string()))
    }
}

fn answer(answers: Vec<Answer>, result: &Result<i64, RequestError>) {
    for answer in answers {
        answer(result.clone());
    }
}

/// Starts the thread.
pub(crate) fn spawn(driver: Driver) -> io::Result<std::thread::JoinHandle<Result<(), RequestError>>> {
    std::thread::Builder::new().name("metadata".to_owned()).spawn(move || driver.run())
}
