//! This node's part in the quorum: what the rest of the crate sees of consensus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::Oneshot;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{ClientWriteError, Fatal};
use openraft::impls::OneshotResponder;
use openraft::network::NetSnapshot;
use openraft::raft::ClientWriteResult;
use openraft::{ChangeMembers, Instant, RaftMetrics, RaftNetworkFactory, ServerState};
use ottla_cluster::image::MetadataImage;
use ottla_storage::log::LogError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, DiskHandle, Order};
use super::log_store::LogStore;
use super::machine::{Machine, Shared};
use super::plan::Change;
use super::steward::silence;
use super::{Raft, Types, VoterId, alias, config, is_alone, to_i64};
use crate::entry::{EntryKind, LogEntry};
use crate::error::{OpenError, RequestError};
use crate::feed::{FeedEntry, FeedError};
use crate::limits::{NODE_LIVES, QUORUM_CHANGE_MAX, STOP_WAITS_MAX, TRANSFER_MAX};

/// How long a quorum of one may take to take the lead: it needs a few syncs.
const LEAD_DEADLINE: Duration = Duration::from_secs(60);

/// A leader that no majority has answered for so long decides nothing any more.
const MAJORITY_LOST: Duration = Duration::from_millis(2 * crate::limits::ELECTION_TIMEOUT_MS_MAX);
/// How often it is looked whether there is one.
const MAJORITY_LOOK: Duration = Duration::from_millis(crate::limits::HEARTBEAT_MS);

/// What a node has on disk, read.
pub(crate) struct Opened {
    pub(crate) me: VoterId,
    pub(crate) cluster_id: String,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// How far the log is known to be committed; all of it has been applied.
    pub(crate) committed: Option<super::EntryId>,
}

/// A member of the quorum.
pub(crate) struct Quorum {
    me: VoterId,
    pub(crate) raft: Raft,
    disk: DiskHandle,
    /// `None` where there is none.
    disk_thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    snapshots: Snapshots,
    /// Cancelled when the node is to end: what is under way then has a moment to come to its end.
    stop: CancellationToken,
    /// Whether that moment is over.
    gave_up: AtomicBool,
}

/// Tells of changes of who leads.
pub(crate) struct Changes {
    server: alias::WatchReceiverOf<Types, openraft::metrics::RaftServerMetrics<Types>>,
    all: alias::WatchReceiverOf<Types, openraft::metrics::RaftMetrics<Types>>,
}

impl Changes {
    /// Waits for the next one; for one who does not lead yet that may be anything. Never comes when the node has ended. Cancel-safe.
    pub(crate) async fn wait(&mut self, leads: bool) {
        let ended =
            if leads { self.server.changed().await.is_err() } else { self.all.changed().await.is_err() };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// The task that makes snapshots.
struct Snapshots {
    stop: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Quorum {
    /// Joins the quorum, whose other nodes are reached through `network`. One who is alone in it leads it when this returns.
    pub(crate) async fn start<N>(mut opened: Opened, network: N) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<Types>,
        N::Network: NetSnapshot<Types, SnapshotData = MetadataImage>,
    {
        opened.machine.note_growth();
        let (disk, thread) = DiskHandle::spawn(opened.disk)?;
        let Opened { me, cluster_id, machine, committed, .. } = opened;
        Self::start_on(me, &cluster_id, machine, committed, (disk, Some(thread)), network).await
    }

    /// As [`Quorum::start`], on a disk without a thread.
    #[cfg(test)]
    pub(crate) async fn start_at_once<N>(opened: Opened, network: N) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<Types>,
        N::Network: NetSnapshot<Types, SnapshotData = MetadataImage>,
    {
        let Opened { me, cluster_id, disk, machine, committed } = opened;
        let disk = DiskHandle::at_once(disk);
        Self::start_on(me, &cluster_id, machine, committed, (disk, None), network).await
    }

    async fn start_on<N>(
        me: VoterId,
        cluster_id: &str,
        machine: Machine,
        committed: Option<super::EntryId>,
        (disk, disk_thread): (DiskHandle, Option<JoinHandle<()>>),
        network: N,
    ) -> Result<Self, OpenError>
    where
        N: RaftNetworkFactory<Types>,
        N::Network: NetSnapshot<Types, SnapshotData = MetadataImage>,
    {
        let alone = is_alone(machine.replayed.membership.membership(), me);
        let shared = machine.shared.clone();
        let kept_entries = machine.limits.kept_entries;
        let store = LogStore { disk: disk.clone(), committed };
        let refused = |error: Fatal<Types>| OpenError::Raft(error.to_string());
        let raft = Raft::new(me, config(cluster_id, kept_entries), network, store, machine)
            .await
            .map_err(refused)?;
        if alone {
            if !raft.is_leader() {
                raft.trigger().elect(false).await.map_err(refused)?;
            }
            let wait = raft.wait(Some(LEAD_DEADLINE));
            let leading = wait.state(ServerState::Leader, "a quorum of one").await;
            leading.map_err(|error| OpenError::Raft(error.to_string()))?;
        } else {
            raft.runtime_config().tick(true);
        }
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(make_snapshots(raft.clone(), shared.clone(), stop.clone()));
        Ok(Self {
            me,
            raft,
            disk,
            disk_thread,
            shared,
            snapshots: Snapshots { stop, task },
            stop: CancellationToken::new(),
            gave_up: AtomicBool::new(false),
        })
    }

    /// Ends what waits for a majority that does not come, soon after this token is cancelled.
    pub(crate) fn stop_with(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Waits for what a majority has to agree to; `None` when the node is to end and it does not come.
    async fn until_stopped<T>(&self, agreed: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.stop.cancelled().await;
            if !self.gave_up.load(Ordering::Relaxed) {
                tokio::time::sleep(STOP_WAITS_MAX).await;
            }
            self.gave_up.store(true, Ordering::Relaxed);
        };
        // Neither loses anything: this is the end.
        tokio::select! {
            biased;
            agreed = agreed => Some(agreed),
            () = over => None,
        }
    }

    /// Why nothing can be decided or applied any more.
    pub(crate) fn fenced(&self) -> Option<String> {
        let fenced = self.disk.view().fenced.clone();
        fenced.or_else(|| self.shared.failure())
    }

    /// The term in which this node leads, if it does and has applied what leaders before it left: an entry of its own term.
    pub(crate) fn term_led(&self) -> Option<i32> {
        let term = self.raft.as_leader().ok()?.term();
        let applied = self.raft.metrics().borrow_watched().last_applied?;
        (applied.committed_leader_id().term == term).then_some(term)
    }

    /// Whether a majority has lately answered the node that leads; one who is alone is its own majority. A leader without one may have
    /// been replaced without knowing it.
    pub(crate) fn has_majority(&self) -> bool {
        let Ok(leader) = self.raft.as_leader() else { return false };
        let acknowledged = leader.last_quorum_acked().is_some_and(|at| at.elapsed() < MAJORITY_LOST);
        acknowledged || self.raft.metrics().borrow_watched().membership_config.voter_ids().count() == 1
    }

    /// Waits until there is no majority any more, as long as that takes.
    pub(crate) async fn majority_lost(&self) {
        while self.has_majority() {
            tokio::time::sleep(MAJORITY_LOOK).await;
        }
    }

    /// Whether all entries of its log are committed and applied.
    pub(crate) fn is_settled(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_log_index == metrics.last_applied.map(|last| last.index)
    }

    /// Tells when something changes that leading depends on.
    pub(crate) fn changes(&self) -> Changes {
        Changes { server: self.raft.server_metrics(), all: self.raft.metrics() }
    }

    /// Proposes an entry, which is expected to get `index`, and waits until it is committed and applied. Its index. The entry is
    /// written first, so that a full disk refuses it before the quorum has heard of it.
    ///
    /// # Errors
    /// When it is not known to be committed. Only one proposal may be under way.
    pub(crate) async fn propose(
        &self,
        term: i32,
        index: i64,
        records: Vec<Bytes>,
        frees_space: bool,
    ) -> Result<i64, RequestError> {
        let kind = EntryKind::Records(records.clone());
        let entry = LogEntry { index, term, node_id: self.me.id, kind };
        let staged = self.disk.ask(|reply| Order::Stage(entry, frees_space, reply)).await;
        match staged.map_err(|error| self.why(&error))? {
            Ok(()) => {}
            Err(LogError::NoSpace) => return Err(RequestError::NoSpace),
            Err(error) if self.fenced().is_none() => return Err(RequestError::Unwritable(error.to_string())),
            Err(error) => return Err(self.why(&error)),
        }
        let (reply, answer) = alias::OneshotOf::<Types>::channel::<ClientWriteResult<Types>>();
        let request = self.raft.write(super::Change { records }).responder(OneshotResponder::new(reply));
        request.with_leader(term).await.map_err(|error| self.why(&error))?;
        // The library drops the sender when it ends.
        let agreed = tokio::select! {
            biased;
            agreed = self.until_stopped(answer) => agreed,
            () = self.majority_lost() => None,
        };
        let Some(answer) = agreed else { return Err(RequestError::LeadershipLost) };
        let written = answer.map_err(|_| self.why(&"the metadata quorum has ended"))?;
        match written {
            Ok(response) => Ok(to_i64(response.log_id.index)),
            Err(ClientWriteError::ForwardToLeader(_)) => Err(RequestError::NotLeader),
            Err(ClientWriteError::LogEntryDiscarded(_)) => Err(RequestError::LeadershipLost),
            Err(error) => Err(RequestError::Unwritable(error.to_string())),
        }
    }

    /// What fenced the node, or else what was said last.
    fn why(&self, last: &dyn std::fmt::Display) -> RequestError {
        RequestError::Fenced(self.fenced().unwrap_or_else(|| last.to_string()))
    }

    /// Applied entries from `from` on, some of them; `None` when the log begins later.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn read(&self, from: i64, applied: i64) -> Result<Option<Vec<FeedEntry>>, FeedError> {
        let unreadable = |error: String| FeedError::Unreadable(error);
        if self.disk.view().purged.is_some_and(|purged| from <= to_i64(purged.index)) {
            return Ok(None);
        }
        let read = self.disk.read(from, applied + 1, true).await;
        let entries = read.map_err(|error| unreadable(error.to_string()))?;
        // A purge may have come in between.
        if entries.first().is_some_and(|first| to_i64(first.log_id.index) != from) {
            return Ok(None);
        }
        let entries = entries.into_iter().map(|entry| {
            let index = to_i64(entry.log_id.index);
            let records = super::records(&entry).map_err(|error| unreadable(error.to_string()))?;
            Ok(FeedEntry { index, is_whole: false, records })
        });
        entries.collect::<Result<_, _>>().map(Some)
    }

    /// Changes who belongs to the quorum.
    ///
    /// # Errors
    /// When it is not known to have happened; it may still.
    pub(crate) async fn change(&self, change: Change) -> Result<(), RequestError> {
        if self.term_led().is_none() {
            return Err(RequestError::NotLeader);
        }
        let (members, retain) = match change {
            Change::Listen(nodes) => (ChangeMembers::AddNodes(nodes), true),
            Change::Move(nodes) => (ChangeMembers::SetNodes(nodes), true),
            Change::Forget(ids) => (ChangeMembers::RemoveNodes(ids), true),
            Change::Vote(ids) => (ChangeMembers::ReplaceAllVoters(ids), false),
        };
        let changing = tokio::time::timeout(QUORUM_CHANGE_MAX, self.raft.change_membership(members, retain));
        match self.until_stopped(changing).await {
            Some(Ok(Ok(_))) => Ok(()),
            Some(Ok(Err(error))) => Err(RequestError::Unwritable(error.to_string())),
            Some(Err(_)) | None => Err(RequestError::LeadershipLost),
        }
    }

    /// Gives the lead to the voter that knows most, so that nobody has to notice that this node is gone.
    async fn hand_over(&self) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.me) {
            return;
        }
        let silence = silence(&metrics);
        let lives = |id: &VoterId| silence.get(id).is_some_and(|ago| *ago < NODE_LIVES);
        let voters: BTreeSet<_> = metrics.membership_config.voter_ids().collect();
        let others = metrics.replication.iter().flatten();
        let others = others.filter(|(id, _)| **id != self.me && voters.contains(id) && lives(id));
        let Some((next, _)) = others.max_by_key(|(_, matching)| matching.map(|last| last.index)) else {
            return;
        };
        if self.raft.trigger().transfer_leader(*next).await.is_err() {
            return;
        }
        let wait = self.raft.wait(Some(TRANSFER_MAX));
        let other =
            |metrics: &RaftMetrics<Types>| metrics.current_leader.is_some_and(|leader| leader != self.me);
        match wait.metrics(other, "another leads").await {
            Ok(_) => tracing::info!(to = %next, "handed over the lead of the metadata quorum"),
            Err(error) => {
                tracing::warn!(to = %next, %error, "the lead of the metadata quorum was not taken over")
            }
        }
    }

    /// Leaves in order: another leads, the log and what must not be forgotten are closed.
    ///
    /// # Errors
    /// When the node was fenced, or they cannot be.
    pub(crate) async fn stop(self) -> Result<(), RequestError> {
        self.hand_over().await;
        self.snapshots.stop.notify_one();
        // A task that panicked has said so; the log is closed all the same.
        self.snapshots.task.await.ok();
        self.raft.shutdown().await.ok();
        let closed = self.disk.ask(Order::Close).await;
        if let Some(thread) = self.disk_thread {
            // One that panicked has said so.
            thread.join().ok();
        }
        let failure = self.shared.failure();
        match (closed, failure) {
            (Ok(Ok(())), None) => Ok(()),
            (_, Some(why)) | (Ok(Err(why)), None) => Err(RequestError::Fenced(why)),
            (Err(error), None) => Err(RequestError::Fenced(error.to_string())),
        }
    }
}

async fn make_snapshots(raft: Raft, shared: Arc<Shared>, stop: Arc<Notify>) {
    loop {
        tokio::select! {
            () = stop.notified() => return,
            () = shared.snapshot_due.notified() => {}
        }
        let writer = shared.clone();
        match tokio::task::spawn_blocking(move || writer.write_wanted()).await {
            // The library takes it as made and purges the log; when it has ended there is nothing to purge.
            Ok(Ok(true)) => drop(raft.trigger().snapshot().await),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "no snapshot of the metadata could be written"),
            Err(error) => tracing::error!(%error, "writing a snapshot of the metadata panicked"),
        }
    }
}
