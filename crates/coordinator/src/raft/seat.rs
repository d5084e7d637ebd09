//! This node's place in the quorum, as far as callers from outside are told: who it is, of which cluster, where the others are. It is
//! there before the node belongs to any cluster, so that empty nodes can find each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use ottla_cluster::features::{Features, Levels, OTTLA_FEATURE};
use ottla_protocol::generated::ErrorCode;
use tokio::sync::{Notify, watch};

use super::steward::{Wishes, silence};
use super::{Raft, StoredMembership, VoterEndpoint, VoterId, VoterNode, to_i64};
use crate::limits::KNOWN_NODES_MAX;

/// What this node knows of itself and the others.
pub(crate) struct Seat {
    pub(crate) me: VoterId,
    /// Where this node is reached, the listener for the quorum first; none in a quorum that stays alone.
    pub(crate) node: VoterNode,
    /// The cluster that it belongs to, once it does.
    cluster_id: watch::Sender<Option<String>>,
    /// Rung when somebody has said something new.
    pub(crate) said: Notify,
    /// What administrators want of the voters.
    pub(crate) wishes: Wishes,
    state: Mutex<State>,
}

/// Guarded by a lock that is held for moments only.
#[derive(Default)]
struct State {
    /// Whether it has ever been a member, as its disk says.
    is_member: bool,
    raft: Option<Raft>,
    /// What others said last of themselves: newer than what the log says of them.
    said: BTreeMap<VoterId, Said>,
    /// Levels of the feature of this program that others can work with, as they told this node while it led.
    levels: BTreeMap<VoterId, Levels>,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Where it is reached.
    pub(crate) node: VoterNode,
    /// Whether it asks to listen.
    pub(crate) wants_to_listen: bool,
    /// Whether it may become a voter without an administrator.
    pub(crate) wants_to_vote: bool,
    /// When it said so.
    pub(crate) at: Instant,
}

impl Said {
    fn is_news_after(&self, before: &Self) -> bool {
        (&self.node, self.wants_to_listen, self.wants_to_vote)
            != (&before.node, before.wants_to_listen, before.wants_to_vote)
    }
}

/// The quorum as its leader knows it.
#[derive(Clone, Debug)]
pub(crate) struct Standings {
    pub(crate) term: i32,
    /// Index of the last committed entry; -1 for none.
    pub(crate) committed: i64,
    /// Index behind the last entry of the leader's log.
    pub(crate) end: i64,
    pub(crate) nodes: Vec<Standing>,
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) id: VoterId,
    pub(crate) node: VoterNode,
    pub(crate) votes: bool,
    /// Index behind the last entry that it is known to have; -1 for unknown.
    pub(crate) end: i64,
    /// How long ago it was heard.
    pub(crate) silence: Option<Duration>,
}

/// The quorum as this node knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) leader: Option<VoterId>,
    /// Highest term known; -1 before there is a quorum.
    pub(crate) term: i32,
    pub(crate) members: StoredMembership,
}

/// Why a message from another node is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) why: String,
}

impl Seat {
    pub(crate) fn new(me: VoterId, node: VoterNode, cluster_id: Option<String>, is_member: bool) -> Self {
        let state = Mutex::new(State { is_member, ..State::default() });
        Self {
            me,
            node,
            cluster_id: watch::Sender::new(cluster_id),
            said: Notify::new(),
            wishes: Wishes::default(),
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster that this node belongs to, and when it comes to belong to one.
    pub(crate) fn cluster_id(&self) -> watch::Receiver<Option<String>> {
        self.cluster_id.subscribe()
    }

    /// Whether it is or was a member of a cluster.
    pub(crate) fn is_member(&self) -> bool {
        self.state().is_member
    }

    /// From now on it belongs to a cluster: its disk says so.
    pub(crate) fn belong(&self, cluster_id: &str) {
        self.state().is_member = true;
        self.cluster_id.send_replace(Some(cluster_id.to_owned()));
    }

    /// From now on messages of the quorum are answered.
    pub(crate) fn open(&self, raft: Raft) {
        self.state().raft = Some(raft);
    }

    /// From now on none is.
    pub(crate) fn close(&self) {
        self.state().raft = None;
    }

    /// The running node, for what is not addressed to a voter.
    pub(crate) fn raft(&self) -> Option<Raft> {
        self.state().raft.clone()
    }

    /// The running node, for a message of `cluster_id` that is meant for `target`.
    ///
    /// # Errors
    /// When it is meant for another: of another cluster, or for one who was at this address before.
    pub(crate) fn addressed(&self, cluster_id: &str, target: VoterId) -> Result<Raft, Refusal> {
        let own = self.cluster_id.borrow().clone();
        if let Some(own) = own.filter(|own| own != cluster_id) {
            let why = format!("this is a node of cluster {own}, not of {cluster_id}");
            return Err(Refusal { code: ErrorCode::InconsistentClusterId, why });
        }
        if target != self.me {
            let why = format!("this is node {}, not {target}", self.me);
            return Err(Refusal { code: ErrorCode::InvalidVoterKey, why });
        }
        self.raft().ok_or_else(|| {
            let why = "this node has not joined the quorum yet".to_owned();
            Refusal { code: ErrorCode::BrokerNotAvailable, why }
        })
    }

    /// Remembers what a node says of itself.
    pub(crate) fn note(&self, id: VoterId, said: Said) {
        if id == self.me || said.node.endpoints.is_empty() {
            return;
        }
        let mut state = self.state();
        if state.said.len() >= KNOWN_NODES_MAX && !state.said.contains_key(&id) {
            // Who is still there will say it again.
            state.said.clear();
        }
        let before = state.said.insert(id, said.clone());
        drop(state);
        if before.is_none_or(|before| said.is_news_after(&before)) {
            self.said.notify_one();
        }
    }

    /// What the others said of themselves.
    pub(crate) fn others(&self) -> BTreeMap<VoterId, Said> {
        self.state().said.clone()
    }

    /// Remembers what levels a member can work with.
    pub(crate) fn note_levels(&self, id: VoterId, levels: Levels) {
        let mut state = self.state();
        if state.levels.len() >= KNOWN_NODES_MAX && !state.levels.contains_key(&id) {
            // Members say it again all the time.
            state.levels.clear();
        }
        state.levels.insert(id, levels);
    }

    /// The other members of the quorum with the features that they can work with; `None` for one that has not said it to this node.
    pub(crate) fn features_of_others(&self) -> BTreeMap<i32, Option<Features>> {
        let view = self.view();
        let state = self.state();
        let others = view.members.membership().nodes().map(|(id, _)| *id).filter(|id| *id != self.me);
        let known =
            |id: VoterId| state.levels.get(&id).map(|levels| Features::new([(OTTLA_FEATURE, *levels)]));
        others.map(|id| (id.id, known(id))).collect()
    }

    /// Where a node is reached: what it said last, else what the log says of it.
    pub(crate) fn endpoint(&self, id: VoterId, logged: &VoterNode) -> Option<VoterEndpoint> {
        let state = self.state();
        state.said.get(&id).map_or(logged, |said| &said.node).endpoints.first().cloned()
    }

    /// The quorum with the state of each node; `None` where this node does not lead.
    pub(crate) fn standings(&self) -> Option<Standings> {
        let raft = self.raft()?;
        let metrics = raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.me) {
            return None;
        }
        let end = metrics.last_log_index.map_or(0, |last| to_i64(last) + 1);
        let silence = silence(&metrics);
        let voters: BTreeSet<_> = metrics.membership_config.voter_ids().collect();
        let replicated = metrics.replication.clone().unwrap_or_default();
        let nodes = metrics.membership_config.nodes().map(|(id, node)| {
            let is_me = *id == self.me;
            let matching = replicated.get(id).copied().flatten();
            Standing {
                id: *id,
                node: node.clone(),
                votes: voters.contains(id),
                end: if is_me { end } else { matching.map_or(-1, |last| to_i64(last.index) + 1) },
                silence: if is_me { Some(Duration::ZERO) } else { silence.get(id).copied() },
            }
        });
        Some(Standings {
            term: metrics.current_term,
            committed: metrics.local_committed.map_or(-1, |last| to_i64(last.index)),
            end,
            nodes: nodes.collect(),
        })
    }

    /// A future that is ready when who leads or votes has changed since this was called; at once where nothing can.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let changes = self.raft().map(|raft| {
            let mut changes = raft.server_metrics();
            // What the library hands out has seen nothing yet.
            drop(changes.borrow_and_update());
            changes
        });
        async move {
            if let Some(mut changes) = changes {
                // One that has ended changes no more, and does not lead.
                changes.changed().await.ok();
            }
        }
    }

    /// The quorum as this node knows it.
    pub(crate) fn view(&self) -> View {
        let Some(raft) = self.raft() else { return View { term: -1, ..View::default() } };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        View {
            leader: metrics.current_leader,
            term: metrics.current_term,
            members: (*metrics.membership_config).clone(),
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("me", &self.me).field("node", &self.node).finish_non_exhaustive()
    }
}
