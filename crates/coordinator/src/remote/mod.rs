//! The caller's side of the controller listeners: finds the leader of the quorum, passes requests on to it, and follows the metadata.

pub(crate) mod feed;
mod line;

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_protocol::generated::ApiKey;
use ottla_protocol::generated::fetch_metadata::{FetchMetadataRequest, FetchMetadataResponse};
use ottla_protocol::generated::forward::{ForwardRequest, ForwardResponse};
use ottla_protocol::wire::{Message, Str};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::error::RequestError;
use crate::handle::Committed;
use crate::leadership::{Leadership, NodeAddress};
use crate::limits::{HEARTBEAT_ANSWER_MS_MAX, REPEATABLE_MS_MAX, REQUEST_TIMEOUT_MS, RETRY_PAUSE_MS};
use crate::question::Question;
use line::{Line, LineError};

/// How coordinators are reached over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `host:port` of controller listeners; one that answers is enough, the others are learned.
    pub bootstrap: Vec<String>,
    /// What the caller calls itself in the logs of coordinators.
    pub client_id: String,
    /// The broker's id; -1 for one without.
    pub node_id: i32,
    /// The cluster that the coordinators must belong to, where it is known; the first that answers says it otherwise.
    pub cluster_id: Option<String>,
    /// How long a request may take in all.
    pub request_timeout: Duration,
}

impl RemoteOptions {
    /// For a caller that knows neither its cluster nor an id of its own.
    #[must_use]
    pub fn new(bootstrap: Vec<String>, client_id: String) -> Self {
        let request_timeout = Duration::from_millis(REQUEST_TIMEOUT_MS);
        Self { bootstrap, client_id, node_id: -1, cluster_id: None, request_timeout }
    }
}

/// The leader that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    term: i32,
    pub(crate) address: String,
}

/// What came of asking one coordinator.
pub(crate) enum Attempt<R> {
    /// There is nothing more to do.
    Done(Result<Committed<R>, RequestError>),
    /// Another has to be asked, or the same again; at once, or after a pause.
    Elsewhere { at_once: bool },
}

/// What is known of the coordinators, and the connections to them.
#[derive(Debug)]
pub(crate) struct Remote {
    options: RemoteOptions,
    /// Who leads, of the highest term that was heard of.
    leader: watch::Sender<Option<Leader>>,
    /// Guarded by a lock that is held for moments only.
    state: Mutex<State>,
    /// The connection that says that this broker lives. It carries nothing else.
    heartbeats: Line,
    requests: Line,
}

#[derive(Debug)]
struct State {
    cluster_id: Option<String>,
    /// `host:port` of the coordinators, those of the configuration first.
    nodes: Vec<String>,
    /// Which of them to ask next when no leader is known.
    next: usize,
}

impl Remote {
    pub(crate) fn new(options: RemoteOptions) -> Self {
        let state =
            State { cluster_id: options.cluster_id.clone(), nodes: options.bootstrap.clone(), next: 0 };
        let line = || Line::new(options.client_id.clone());
        Self {
            leader: watch::channel(None).0,
            state: Mutex::new(state),
            heartbeats: line(),
            requests: line(),
            options,
        }
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.options.request_timeout
    }

    /// Passes on what a coordinator of this process knows.
    pub(crate) fn learn(&self, leadership: &Leadership) {
        self.learn_nodes(leadership.nodes.iter().map(NodeAddress::address));
        if let Some(leader) = &leadership.leader {
            self.learn_leader(leadership.term, leader.address());
        }
    }

    /// Has a request decided by whoever leads.
    pub(crate) async fn ask<Q: Question>(&self, request: &Q) -> Result<Committed<Q::Response>, RequestError> {
        let deadline = Instant::now() + self.options.request_timeout;
        let mut leader = self.leader.subscribe();
        loop {
            leader.borrow_and_update();
            let at_once = match self.attempt(request, deadline).await {
                Attempt::Done(result) => return result,
                Attempt::Elsewhere { at_once } => at_once,
            };
            if !at_once && !pause(&mut leader, RETRY_PAUSE_MS, deadline).await {
                return Err(RequestError::TimedOut);
            }
        }
    }

    /// Asks one coordinator: the leader that is known, or the next.
    pub(crate) async fn attempt<Q: Question>(&self, request: &Q, deadline: Instant) -> Attempt<Q::Response> {
        let version = Q::VERSIONS.1;
        let encoded = request.encode(version).and_then(|body| {
            let forward = ForwardRequest {
                cluster_id: self.state().cluster_id.as_deref().map(Str::from),
                request_api_key: Q::KEY.unwrap_or(-1),
                request_api_version: version,
                request_body: body,
                ..ForwardRequest::default()
            };
            forward.encode(0)
        });
        let body = match encoded {
            Ok(body) => body,
            Err(error) => return unwritable(&error),
        };
        let Some(address) = self.target() else { return Attempt::Elsewhere { at_once: false } };
        let (line, wait) = match (Q::RULES.is_heartbeat, Q::RULES.may_repeat) {
            (true, _) => (&self.heartbeats, Duration::from_millis(HEARTBEAT_ANSWER_MS_MAX)),
            (false, true) => (&self.requests, Duration::from_millis(REPEATABLE_MS_MAX)),
            (false, false) => (&self.requests, self.options.request_timeout),
        };
        let until = deadline.min(Instant::now() + wait);
        let answered: Result<ForwardResponse, _> = line.call(&address, ApiKey::Forward, &body, until).await;
        match answered {
            Ok(response) => self.take(&address, response, Q::RULES.may_repeat, version),
            Err(error) => {
                tracing::debug!(%address, %error, api = Q::NAME, "a coordinator gives no answer");
                self.forget(&address);
                match error {
                    LineError::Unanswered(_) if !Q::RULES.may_repeat => {
                        Attempt::Done(Err(RequestError::LeadershipLost))
                    }
                    LineError::Unanswered(_) | LineError::Unsent(_) => Attempt::Elsewhere { at_once: false },
                }
            }
        }
    }

    /// What an answer means.
    fn take<R: Message>(
        &self,
        asked: &str,
        response: ForwardResponse,
        may_repeat: bool,
        version: i16,
    ) -> Attempt<R> {
        let text = response.error_message.as_ref().map_or_else(String::new, ToString::to_string);
        if response.leader_id >= 0 && !response.leader_host.is_empty() {
            let (host, port) = (response.leader_host.to_string(), response.leader_port);
            let leader = NodeAddress { id: response.leader_id, host, port };
            self.learn_leader(response.leader_epoch, leader.address());
        }
        let failure = Failure::from_code(response.failure);
        match failure {
            Some(Failure::None) => Attempt::Done(match R::decode(response.response_body, version) {
                Ok(decoded) => Ok(Committed { index: response.index, response: decoded }),
                Err(error) => Err(RequestError::Unwritable(format!("its answer: {error}"))),
            }),
            Some(Failure::NotLeader | Failure::Stopped | Failure::TimedOut) => {
                let known = self.leader.borrow().as_ref().map(|leader| leader.address.clone());
                if known.as_deref() == Some(asked) {
                    self.forget(asked);
                }
                Attempt::Elsewhere { at_once: known.is_some_and(|known| known != asked) }
            }
            // The log of another node is no business of this one; whether the request is in effect is not known.
            Some(Failure::LeadershipLost | Failure::LogFailed) => {
                self.forget(asked);
                if may_repeat {
                    return Attempt::Elsewhere { at_once: false };
                }
                Attempt::Done(Err(RequestError::LeadershipLost))
            }
            Some(Failure::NoSpace) => Attempt::Done(Err(RequestError::NoSpace)),
            Some(Failure::OtherCluster) => Attempt::Done(Err(RequestError::OtherCluster(text))),
            Some(Failure::Unwritable | Failure::Unreadable) | None => unwritable(&text),
        }
    }

    /// The cluster's id, of whichever coordinator answers first.
    pub(crate) async fn cluster_id(&self) -> Result<String, RequestError> {
        let deadline = Instant::now() + self.options.request_timeout;
        let mut leader = self.leader.subscribe();
        loop {
            leader.borrow_and_update();
            if let Some(address) = self.target() {
                let request = FetchMetadataRequest { from_index: -1, ..self.fetch_request() };
                let body = match request.encode(0) {
                    Ok(body) => body,
                    Err(error) => return Err(RequestError::Unwritable(error.to_string())),
                };
                let until = deadline.min(Instant::now() + Duration::from_millis(REPEATABLE_MS_MAX));
                let line = &self.requests;
                let answered: Result<FetchMetadataResponse, _> =
                    line.call(&address, ApiKey::FetchMetadata, &body, until).await;
                match answered {
                    // It has not joined any yet.
                    Ok(response) if response.cluster_id.is_empty() => {}
                    Ok(response) => match self.learn_from(&response) {
                        Ok(()) => return Ok(response.cluster_id.to_string()),
                        Err(own) => {
                            let text = format!("{address} belongs to {}, not to {own}", response.cluster_id);
                            return Err(RequestError::OtherCluster(text));
                        }
                    },
                    Err(error) => {
                        tracing::debug!(%address, %error, "a coordinator gives no answer");
                        self.forget(&address);
                    }
                }
            }
            if !pause(&mut leader, RETRY_PAUSE_MS, deadline).await {
                return Err(RequestError::TimedOut);
            }
        }
    }

    fn fetch_request(&self) -> FetchMetadataRequest {
        FetchMetadataRequest { node_id: self.options.node_id, ..FetchMetadataRequest::default() }
    }

    /// What an answer of the feed says of the quorum.
    ///
    /// # Errors
    /// The cluster that it should belong to, when it does not.
    fn learn_from(&self, response: &FetchMetadataResponse) -> Result<(), String> {
        if response.cluster_id.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let own = state.cluster_id.get_or_insert_with(|| response.cluster_id.to_string());
        if *own != *response.cluster_id {
            return Err(own.clone());
        }
        drop(state);
        let address = |node: &ottla_protocol::generated::fetch_metadata::MetadataNode| {
            NodeAddress { id: node.node_id, host: node.host.to_string(), port: node.port }.address()
        };
        self.learn_nodes(response.nodes.iter().map(address));
        let leader = response.nodes.iter().find(|node| node.node_id == response.leader_id);
        if let Some(leader) = leader {
            self.learn_leader(response.leader_epoch, address(leader));
        }
        Ok(())
    }

    fn learn_nodes(&self, addresses: impl Iterator<Item = String>) {
        let mut state = self.state();
        let mut nodes = self.options.bootstrap.clone();
        for address in addresses {
            if !nodes.contains(&address) {
                nodes.push(address);
            }
        }
        state.nodes = nodes;
    }

    fn learn_leader(&self, term: i32, address: String) {
        self.leader.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| known.term < term);
            if newer {
                *known = Some(Leader { term, address });
            }
            newer
        });
    }

    /// Where to ask: the leader, or the next of all.
    fn target(&self) -> Option<String> {
        if let Some(leader) = &*self.leader.borrow() {
            return Some(leader.address.clone());
        }
        let mut state = self.state();
        let next = state.next;
        state.next = next.wrapping_add(1);
        let count = state.nodes.len().max(1);
        state.nodes.get(next % count).cloned()
    }

    /// A coordinator that gave no answer is not taken for the leader any more, until it is named again.
    fn forget(&self, address: &str) {
        self.leader.send_if_modified(|known| {
            if known.as_ref().is_some_and(|known| known.address == address) {
                *known = None;
            }
            false
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwritable<R>(error: &dyn Display) -> Attempt<R> {
    Attempt::Done(Err(RequestError::Unwritable(error.to_string())))
}

/// Waits for a moment, or until another leader is known; false when the deadline would pass.
async fn pause(leader: &mut watch::Receiver<Option<Leader>>, wait_ms: u64, deadline: Instant) -> bool {
    let until = Instant::now() + Duration::from_millis(wait_ms);
    if until >= deadline {
        return false;
    }
    tokio::select! {
        // Its sender lives as long as whoever waits here.
        _ = leader.changed() => {}
        () = sleep_until(until) => {}
    }
    true
}

/// `Failure` of a `ForwardResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    None = 0,
    NotLeader = 1,
    Stopped = 2,
    LeadershipLost = 3,
    LogFailed = 4,
    NoSpace = 5,
    Unwritable = 6,
    Unreadable = 7,
    OtherCluster = 8,
    TimedOut = 9,
}

impl Failure {
    const ALL: [Self; 10] = [
        Self::None,
        Self::NotLeader,
        Self::Stopped,
        Self::LeadershipLost,
        Self::LogFailed,
        Self::NoSpace,
        Self::Unwritable,
        Self::Unreadable,
        Self::OtherCluster,
        Self::TimedOut,
    ];

    fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| *failure as i8 == code)
    }

    /// How an error is passed on.
    pub(crate) const fn of(error: &RequestError) -> Self {
        match error {
            RequestError::Stopped => Self::Stopped,
            RequestError::NotLeader => Self::NotLeader,
            RequestError::LeadershipLost => Self::LeadershipLost,
            RequestError::Fenced(_) => Self::LogFailed,
            RequestError::NoSpace => Self::NoSpace,
            RequestError::TimedOut => Self::TimedOut,
            RequestError::OtherCluster(_) => Self::OtherCluster,
            RequestError::Unwritable(_) => Self::Unwritable,
        }
    }
}
