//! Looks after who belongs to the quorum. On the leader: takes in those who ask, has them vote when it is time, replaces those who came back
//! with another disk. On a node that the quorum does not know as it is: says so, until it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::plan::{Change, Knowledge, plan};
use super::seat::Seat;
use super::{Raft, Types, VoterId, VoterNode};
use crate::driver::Command;
use crate::founding::say_hello;
use crate::limits::{CAUGHT_UP_ENTRIES, KNOWN_NODES_MAX, LISTENER_GONE, NODE_LIVES, STEWARD_INTERVAL};

/// What administrators want of the voters, while they wait for it.
#[derive(Debug, Default)]
pub(crate) struct Wishes(Mutex<Wanted>);

/// Guarded by a lock that is held for moments only.
#[derive(Debug, Default)]
struct Wanted {
    wishes: BTreeMap<VoterId, Wish>,
    /// Who was removed while this node led, and does not come back without an administrator.
    dismissed: BTreeSet<VoterId>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It shall vote, and is reached there.
    Add(VoterNode),
    /// It shall vote no more.
    Remove,
}

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants something of a node, until [`Wishes::withdraw`].
    pub(crate) fn want(&self, id: VoterId, wish: Wish) {
        let mut wanted = self.lock();
        match wish {
            Wish::Add(_) => drop(wanted.dismissed.remove(&id)),
            Wish::Remove if wanted.dismissed.len() < KNOWN_NODES_MAX => drop(wanted.dismissed.insert(id)),
            Wish::Remove => {}
        }
        wanted.wishes.insert(id, wish);
    }

    /// Wants it no more.
    pub(crate) fn withdraw(&self, id: VoterId) {
        self.lock().wishes.remove(&id);
    }
}

/// The task's state.
pub(crate) struct Steward {
    pub(crate) seat: Arc<Seat>,
    /// The driver's: changes of the quorum take their turn with other decisions.
    pub(crate) queue: mpsc::Sender<Command>,
    /// Where others are looked for, besides what the log says.
    pub(crate) addresses: Vec<String>,
    /// Whether this node may become a voter without an administrator.
    pub(crate) is_willing: bool,
    /// When nodes were heard last, while this node leads.
    heard: BTreeMap<VoterId, Instant>,
}

impl Steward {
    pub(crate) fn new(
        seat: Arc<Seat>,
        queue: mpsc::Sender<Command>,
        addresses: Vec<String>,
        is_willing: bool,
    ) -> Self {
        Self { seat, queue, addresses, is_willing, heard: BTreeMap::new() }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            // All branches are cancel-safe: a bell that is lost rings again with the next interval.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.seat.said.notified() => {}
                () = tokio::time::sleep(STEWARD_INTERVAL) => {}
            }
            let Some(raft) = self.seat.raft() else { continue };
            if stop.run_until_cancelled(self.step(&raft)).await.is_none() {
                return;
            }
        }
    }

    async fn step(&mut self, raft: &Raft) {
        let metrics = raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.seat.me) {
            self.heard.clear();
            return self.introduce(&metrics).await;
        }
        let know = self.knowledge(&metrics);
        if know.nodes.len() > 1 {
            // One who is alone has no clock to watch.
            raft.runtime_config().tick(true);
        }
        let Some(change) = plan(&know) else { return };
        if let Change::Listen(_) | Change::Vote(_) = change {
            raft.runtime_config().tick(true);
        }
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Command::Change(change.clone(), reply)).await.is_err() {
            return;
        }
        match answer.await {
            Ok(Ok(())) => tracing::info!(%change, "the metadata quorum has changed"),
            Ok(Err(error)) => tracing::info!(%change, %error, "a change of the metadata quorum has to wait"),
            Err(_) => {}
        }
    }

    /// Says hello to the leader where the log does not know this node as it is, and as long as it may not vote yet.
    async fn introduce(&self, metrics: &RaftMetrics<Types>) {
        let me = self.seat.me;
        let members = &metrics.membership_config;
        let is_voter = members.voter_ids().any(|voter| voter == me);
        if is_voter && members.get_node(&me) == Some(&self.seat.node) || self.seat.node.endpoints.is_empty() {
            return;
        }
        let mut addresses: BTreeSet<String> = self.addresses.iter().cloned().collect();
        for (id, node) in members.nodes().filter(|(id, _)| **id != me) {
            addresses.extend(self.seat.endpoint(*id, node).map(|endpoint| endpoint.to_string()));
        }
        let addresses: Vec<_> = addresses.into_iter().collect();
        // Who the others are is of no interest: whoever leads remembers this node.
        drop(say_hello(&self.seat, &addresses, true, self.is_willing).await);
    }

    fn knowledge(&mut self, metrics: &RaftMetrics<Types>) -> Knowledge {
        let members = &metrics.membership_config;
        let now = Instant::now();
        let mut know = Knowledge {
            configurations: members.get_joint_config().clone(),
            nodes: members.nodes().map(|(id, node)| (*id, node.clone())).collect(),
            live: [self.seat.me].into(),
            ..Knowledge::default()
        };
        for (id, ago) in silence(metrics) {
            if ago < NODE_LIVES {
                know.live.insert(id);
            }
        }
        self.heard.retain(|id, _| know.nodes.contains_key(id));
        for id in know.nodes.keys() {
            let heard = self.heard.entry(*id).or_insert(now);
            if know.live.contains(id) {
                *heard = now;
            } else if now.duration_since(*heard) > LISTENER_GONE {
                know.gone.insert(*id);
            }
        }
        let last = metrics.last_log_index.unwrap_or(0);
        for (id, matching) in metrics.replication.iter().flatten() {
            let matching = matching.as_ref().map(|matching| matching.index);
            if matching.is_some_and(|index| index + CAUGHT_UP_ENTRIES >= last) {
                know.caught_up.insert(*id);
            }
        }
        for (id, said) in self.seat.others() {
            if said.at.elapsed() > NODE_LIVES {
                continue;
            }
            if said.wants_to_listen {
                know.asking.insert(id, said.node);
            }
            if said.wants_to_vote {
                know.willing.insert(id);
            }
        }
        let wanted = self.seat.wishes.lock();
        know.willing.retain(|id| !wanted.dismissed.contains(id));
        for (id, wish) in &wanted.wishes {
            match wish {
                Wish::Add(node) => {
                    know.to_add.insert(*id);
                    know.asking.entry(*id).or_insert_with(|| node.clone());
                }
                Wish::Remove => drop(know.to_remove.insert(*id)),
            }
        }
        drop(wanted);
        know
    }
}

/// How long ago each of the others was heard, where this node leads.
pub(crate) fn silence(metrics: &RaftMetrics<Types>) -> BTreeMap<VoterId, Duration> {
    let heard = metrics.heartbeat.iter().flatten();
    heard.filter_map(|(id, at)| Some((*id, at.as_ref()?.elapsed()))).collect()
}
