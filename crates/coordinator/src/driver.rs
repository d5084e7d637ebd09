//! The one task that decides. It takes what waits in the queue, decides it together on a working copy, proposes one entry, waits until
//! that is committed and applied, and only then answers. Nothing has to be rolled back: a working copy that is not committed is dropped.
//! While its node leads it also does what the controller does unasked, such as fencing brokers that are silent ([`Tenure`]).

use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::controller::{Context, Controller, Settings, Tenure};
use ottla_cluster::image::{MetadataImage, MetadataRecord};
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::ids::BrokerId;
use tokio::sync::{mpsc, oneshot};

use crate::decision::{Decision, Desk, Origin, Resident, Rules};
use crate::error::RequestError;
use crate::feed::{FeedEntry, FeedError, Published};
use crate::leadership::Leadership;
use crate::limits::{GROUP_RECORDS_MAX, GROUP_REQUESTS_MAX};
use crate::local::Local;
use crate::raft::plan::Change;
use crate::raft::quorum::Quorum;
use crate::raft::seat::Seat;

/// Pause of one who leads but cannot decide, before it looks again.
const UNABLE_PAUSE_MS: i64 = 100;

/// Tells a waiting request what became of it; `Ok` carries the index up to which the metadata holds its effect.
pub(crate) type Answer = Box<dyn FnOnce(Result<i64, RequestError>) + Send>;
/// A request's decision on the working copy, or the news that there is none.
pub(crate) type Decide =
    Box<dyn FnOnce(Result<&mut Desk<'_>, RequestError>) -> Option<(Vec<MetadataRecord>, Answer)> + Send>;
/// Monotonic milliseconds.
pub(crate) type Monotonic = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the driver is asked to do.
pub(crate) enum Command {
    /// Decide and commit.
    Decide(Proposal),
    /// Read committed entries for a feed that is far behind.
    Read { from: i64, reply: oneshot::Sender<Result<Vec<Arc<FeedEntry>>, FeedError>> },
    /// Change who belongs to the quorum; in its turn, so that no entry comes between a decision and its own.
    Change(Change, oneshot::Sender<Result<(), RequestError>>),
    /// A connection on which a broker said that it lives is over.
    Disconnected { broker: BrokerId, connection: u64 },
    /// End in order.
    Stop,
}

/// A request in the queue.
pub(crate) struct Proposal {
    pub(crate) decide: Decide,
    pub(crate) rules: Rules,
}

/// The task's state.
pub(crate) struct Driver {
    quorum: Quorum,
    /// This node's place in the quorum.
    seat: Arc<Seat>,
    settings: Settings,
    published: Arc<Published>,
    queue: mpsc::Receiver<Command>,
    entropy: Box<dyn FnMut() -> u64 + Send>,
    monotonic: Monotonic,
    /// Why nothing is decided any more.
    fenced: Option<String>,
    /// Whether it is open what became of a decision.
    unsettled: bool,
    /// A command that was taken from the queue and belongs to the next round.
    next: Option<Command>,
    /// What it knows while its node leads.
    office: Option<Office>,
    /// The broker of this process that has not yet spoken for itself.
    resident: Option<Resident>,
}

/// The time in which a node leads without interruption.
pub(crate) struct Office {
    term: i32,
    tenure: Tenure,
}

/// A group that was decided.
#[derive(Default)]
struct Decided {
    /// Index that its entry will have, unless the quorum itself writes one before.
    index: i64,
    records: Vec<MetadataRecord>,
    answers: Vec<Answer>,
    frees_space: bool,
}

impl Driver {
    /// For a node that has joined its quorum; `local` is how it is asked, by way of `queue`.
    pub(crate) fn new(
        quorum: Quorum,
        local: &Local,
        settings: Settings,
        queue: mpsc::Receiver<Command>,
        entropy: Box<dyn FnMut() -> u64 + Send>,
        monotonic: Monotonic,
    ) -> Self {
        Self {
            quorum,
            seat: local.seat.clone(),
            settings,
            published: local.published.clone(),
            queue,
            entropy,
            monotonic,
            fenced: None,
            unsettled: false,
            next: None,
            office: None,
            resident: None,
        }
    }

    /// Runs until it is told to stop, or nobody is left to ask.
    pub(crate) async fn run(mut self) -> Result<(), RequestError> {
        let mut changes = self.quorum.changes();
        loop {
            self.published.set_leadership(Leadership::of(&self.seat));
            self.take_office();
            let is_able = self.is_able();
            let wait = match &self.office {
                Some(office) if is_able => Some(office.tenure.next_deadline_ms() - (self.monotonic)()),
                Some(_) => Some(UNABLE_PAUSE_MS),
                None => None,
            };
            let is_due = wait.is_some_and(|wait_ms| wait_ms <= 0);
            let command = if is_due {
                // What waits comes first: it may be a broker that says it lives.
                self.take_next()
            } else {
                tokio::select! {
                    biased;
                    command = next_command(&mut self.next, &mut self.queue) => command.or(Some(Command::Stop)),
                    () = changes.wait(self.office.is_some()) => None,
                    () = sleep_ms(wait) => None,
                }
            };
            match command {
                Some(Command::Decide(first)) => self.decide_group(first).await,
                // The receiver may have gone: then nobody waits for the entries.
                Some(Command::Read { from, reply }) => drop(reply.send(self.read(from).await)),
                Some(Command::Disconnected { broker, connection }) => {
                    let now_ms = (self.monotonic)();
                    if let Some(office) = &mut self.office {
                        office.tenure.handle_disconnected(broker, connection, now_ms);
                    }
                }
                Some(Command::Change(change, reply)) => {
                    let changed = self.quorum.change(change).await;
                    self.unsettled |= changed == Err(RequestError::LeadershipLost);
                    // The steward may have been stopped.
                    drop(reply.send(changed));
                }
                Some(Command::Stop) => break,
                None => {}
            }
            if is_due {
                self.tick().await;
            }
        }
        self.quorum.stop().await
    }

    /// Whether a decision could be committed now. Not while it is open what became of an earlier one: the image may lack it.
    fn is_able(&mut self) -> bool {
        self.unsettled = self.unsettled && !self.quorum.is_settled();
        self.fenced.is_none() && !self.unsettled && self.quorum.has_majority()
    }

    fn take_next(&mut self) -> Option<Command> {
        self.next.take().or_else(|| match self.queue.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Command::Stop),
        })
    }

    /// Begins with a new tenure in each term, as soon as what earlier leaders left is applied.
    fn take_office(&mut self) {
        let term = self.quorum.term_led();
        if self.office.as_ref().map(|office| office.term) == term {
            return;
        }
        // What was open is settled by the first entry of a new term.
        self.unsettled = false;
        // What another leader found out of a broker of this process since counts more.
        self.resident = None;
        self.office = term.map(|term| {
            let now_ms = (self.monotonic)();
            Office { term, tenure: Tenure::new(&self.published.image(), &self.settings, now_ms) }
        });
    }

    async fn decide_group(&mut self, first: Proposal) {
        // The term before the image: a leader of this term has applied what leaders before it left.
        self.take_office();
        let is_able = self.is_able();
        let refusal = match (&self.fenced, &self.office) {
            (Some(why), _) => Some(RequestError::Fenced(why.clone())),
            (None, Some(_)) if is_able => None,
            (None, _) => Some(RequestError::NotLeader),
        };
        if let Some(error) = refusal {
            (first.decide)(Err(error));
            return;
        }
        let Some(mut office) = self.office.take() else { return };
        let decided = self.decide(first, &mut office.tenure);
        let term = office.term;
        self.office = Some(office);
        self.commit(term, decided).await;
    }

    /// Commits a group and answers those who wait for it.
    async fn commit(&mut self, term: i32, decided: Decided) {
        let Decided { index, records, answers, frees_space } = decided;
        let result = if records.is_empty() {
            Ok(index - 1)
        } else {
            self.propose(term, index, &records, frees_space).await
        };
        if let Err(RequestError::Fenced(why)) = &result {
            self.fenced = Some(why.clone());
        }
        for answer in answers {
            answer(result.clone());
        }
    }

    /// Decides what waits, each request seeing the effect of those before.
    fn decide(&mut self, first: Proposal, tenure: &mut Tenure) -> Decided {
        let image = self.published.image();
        let index = image.index() + 1;
        let mut desk = Desk {
            controller: Controller::new(image, &self.settings),
            context: Context { index, entropy: &mut self.entropy },
            tenure,
            now_ms: (self.monotonic)(),
            resident: &mut self.resident,
            seat: &self.seat,
        };
        let mut decided = Decided { index, ..Decided::default() };
        let mut waiting = Some(first);
        while let Some(proposal) = waiting.take() {
            decided.frees_space |= proposal.rules.frees_space;
            if let Some((new, reply)) = (proposal.decide)(Ok(&mut desk)) {
                decided.records.extend(new);
                decided.answers.push(reply);
            }
            let full =
                decided.answers.len() >= GROUP_REQUESTS_MAX || decided.records.len() >= GROUP_RECORDS_MAX;
            if full || proposal.rules.ends_group {
                break;
            }
            match self.queue.try_recv() {
                Ok(Command::Decide(proposal)) => waiting = Some(proposal),
                Ok(other) => self.next = Some(other),
                // Nothing waits; whether anybody is left, the next round sees.
                Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => {}
            }
        }
        decided
    }

    /// What the controller does unasked. What cannot be committed is tried again when it is due again.
    async fn tick(&mut self) {
        self.take_office();
        if !self.is_able() {
            return;
        }
        let Some(mut office) = self.office.take() else { return };
        let image = self.published.image();
        let index = image.index() + 1;
        let now_ms = (self.monotonic)();
        let mut desk = Desk {
            controller: Controller::new(image, &self.settings),
            context: Context { index, entropy: &mut self.entropy },
            tenure: &mut office.tenure,
            now_ms,
            resident: &mut self.resident,
            seat: &self.seat,
        };
        let mut records = speak_for_resident(&mut desk);
        let outcome = desk.controller.tick(desk.tenure, now_ms, &mut desk.context);
        records.extend(outcome.records);
        let term = office.term;
        self.office = Some(office);
        let events = outcome.response;
        let told: Answer = Box::new(move |result| match result {
            Ok(_) => events.iter().for_each(|event| tracing::info!("{event}")),
            Err(error) => tracing::warn!(%error, ?events, "the controller could not act"),
        });
        // Room for it may come from the reserve: without it nobody would take the place of a broker that is gone.
        self.commit(term, Decided { index, records, answers: vec![told], frees_space: true }).await;
    }

    async fn propose(
        &mut self,
        term: i32,
        index: i64,
        records: &[MetadataRecord],
        frees_space: bool,
    ) -> Result<i64, RequestError> {
        let frames: Result<Vec<_>, _> = records.iter().map(MetadataRecord::encode).collect();
        let frames = frames.map_err(|error| RequestError::Unwritable(error.to_string()))?;
        let proposed = self.quorum.propose(term, index, frames, frees_space).await;
        if proposed == Err(RequestError::LeadershipLost) {
            // Nothing may be decided on an image that lacks it, also when this node is about to stop.
            self.unsettled = true;
            tracing::warn!(
                index,
                "no majority of the metadata quorum agrees: what becomes of a decision is not known"
            );
        }
        proposed
    }

    async fn read(&self, from: i64) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        let image: MetadataImage = self.published.image();
        let entries = self.quorum.read(from, image.index()).await?;
        let entries = entries.unwrap_or_else(|| vec![FeedEntry::whole(&image)]);
        Ok(entries.into_iter().map(Arc::new).collect())
    }
}

/// A broker in this process that does not yet send heartbeats is one that lives.
fn speak_for_resident(desk: &mut Desk<'_>) -> Vec<MetadataRecord> {
    let Some(resident) = *desk.resident else { return Vec::new() };
    let heartbeat = BrokerHeartbeatRequest {
        broker_id: resident.id.0,
        broker_epoch: resident.epoch,
        current_metadata_offset: desk.context.index - 1,
        ..BrokerHeartbeatRequest::default()
    };
    let outcome = heartbeat.decide(desk, Origin::Process);
    // Another life of it is not this process's: that one speaks for itself.
    *desk.resident = (outcome.response.error_code == 0).then_some(resident);
    outcome.records
}

/// The next command; `None` when nobody is left to ask. Cancel-safe.
async fn next_command(next: &mut Option<Command>, queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
    match next.take() {
        Some(command) => Some(command),
        None => queue.recv().await,
    }
}

/// Waits so long, or for ever.
async fn sleep_ms(wait_ms: Option<i64>) {
    match wait_ms.map(u64::try_from) {
        Some(Ok(wait_ms)) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
        Some(Err(_)) => {}
        None => std::future::pending().await,
    }
}
