//! The one task that decides. It takes what waits in the queue, decides it together on a working copy, proposes one entry, waits until
//! that is committed and applied, and only then answers. Nothing has to be rolled back: a working copy that is not committed is dropped.

use std::sync::Arc;

use ottla_cluster::controller::{Context, Controller, Settings};
use ottla_cluster::image::{MetadataImage, MetadataRecord};
use tokio::sync::{mpsc, oneshot};

use crate::error::RequestError;
use crate::feed::{FeedEntry, FeedError, Published};
use crate::limits::{GROUP_RECORDS_MAX, GROUP_REQUESTS_MAX};
use crate::raft::plan::Change;
use crate::raft::quorum::Quorum;

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
    /// Change who belongs to the quorum; in its turn, so that no entry comes between a decision and its own.
    Change(Change, oneshot::Sender<Result<(), RequestError>>),
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

/// The task's state.
pub(crate) struct Driver {
    pub(crate) quorum: Quorum,
    pub(crate) settings: Settings,
    pub(crate) published: Arc<Published>,
    pub(crate) queue: mpsc::Receiver<Command>,
    pub(crate) entropy: Box<dyn FnMut() -> u64 + Send>,
    /// Why nothing is decided any more.
    pub(crate) fenced: Option<String>,
    /// A command that was taken from the queue and belongs to the next round.
    pub(crate) next: Option<Command>,
}

/// A group that was decided.
struct Decided {
    /// Index that its entry will have, unless the quorum itself writes one before.
    index: i64,
    records: Vec<MetadataRecord>,
    answers: Vec<Answer>,
    frees_space: bool,
}

impl Driver {
    /// Runs until it is told to stop, or nobody is left to ask.
    pub(crate) async fn run(mut self) -> Result<(), RequestError> {
        loop {
            let command = match self.next.take() {
                Some(command) => Some(command),
                None => self.queue.recv().await,
            };
            match command {
                Some(Command::Decide(first)) => self.decide_group(first).await,
                // The receiver may have gone: then nobody waits for the entries.
                Some(Command::Read { from, reply }) => drop(reply.send(self.read(from).await)),
                // The steward may have been stopped.
                Some(Command::Change(change, reply)) => drop(reply.send(self.quorum.change(change).await)),
                Some(Command::Stop) | None => break,
            }
        }
        self.quorum.stop().await
    }

    async fn decide_group(&mut self, first: Proposal) {
        // The term before the image: a leader of this term has applied what leaders before it left.
        let term = self.quorum.term_led();
        let image = self.published.image();
        let decided = self.decide(first, image);
        let index = decided.index;
        let result = match (&self.fenced, term) {
            (Some(why), _) => Err(RequestError::Fenced(why.clone())),
            (None, None) => Err(RequestError::NotLeader),
            (None, Some(_)) if decided.records.is_empty() => Ok(index - 1),
            (None, Some(term)) => self.commit(term, index, &decided.records, decided.frees_space).await,
        };
        if let Err(RequestError::Fenced(why)) = &result {
            self.fenced = Some(why.clone());
        }
        for answer in decided.answers {
            answer(result.clone());
        }
    }

    /// Decides what waits, each request seeing the effect of those before.
    fn decide(&mut self, first: Proposal, image: MetadataImage) -> Decided {
        let index = image.index() + 1;
        let mut controller = Controller::new(image, &self.settings);
        let mut context = Context { index, entropy: &mut self.entropy };
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
        Decided { index, records, answers, frees_space }
    }

    async fn commit(
        &self,
        term: i32,
        index: i64,
        records: &[MetadataRecord],
        frees_space: bool,
    ) -> Result<i64, RequestError> {
        let frames: Result<Vec<_>, _> = records.iter().map(MetadataRecord::encode).collect();
        let frames = frames.map_err(|error| RequestError::Unwritable(error.to_string()))?;
        self.quorum.propose(term, index, frames, frees_space).await
    }

    async fn read(&self, from: i64) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        let image = self.published.image();
        let entries = self.quorum.read(from, image.index()).await?;
        let entries = entries.unwrap_or_else(|| vec![FeedEntry::whole(&image)]);
        Ok(entries.into_iter().map(Arc::new).collect())
    }
}
