//! Several nodes in one process, with the network in memory and disks that lose what was not synced: nothing that was acknowledged is
//! ever lost, every term has one leader, and all nodes end with the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2, alias};
use ottla_protocol::generated::records::TopicRecord;
use ottla_storage::files::Open;
use ottla_storage::files::faulty::Survival;

use super::*;
use crate::feed::Published;
use crate::hard_state::HardState;
use crate::opening::{Opening, Role, Standing};
use crate::raft::quorum::Quorum;
use crate::raft::{Raft, Types, VoterId, VoterNode};

/// Who can be reached. A node that is not in it neither gets a message nor can its answers be heard.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<VoterId, Raft>>>);

impl Wires {
    fn raft(&self, id: VoterId) -> Result<Raft, Unreachable<Types>> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&id).cloned().ok_or_else(|| Unreachable::new(&AnyError::error("nobody is there")))
    }

    fn plug(&self, id: VoterId, raft: Raft) {
        self.0.lock().unwrap().insert(id, raft);
    }

    fn cut(&self, id: VoterId) {
        self.0.lock().unwrap().remove(&id);
    }
}

/// One node's end of the wires.
#[derive(Clone)]
struct Plug {
    wires: Wires,
    from: VoterId,
}

/// The wire from one node to another.
struct Wire {
    wires: Wires,
    from: VoterId,
    to: VoterId,
}

impl Wire {
    /// Both ends must be there before the message and after the answer.
    async fn send<T, F: Future<Output = T>>(
        &self,
        send: impl FnOnce(Raft) -> F,
    ) -> Result<T, Unreachable<Types>> {
        self.wires.raft(self.from)?;
        let answer = send(self.wires.raft(self.to)?).await;
        self.wires.raft(self.to)?;
        self.wires.raft(self.from)?;
        Ok(answer)
    }
}

fn gone(error: &dyn std::fmt::Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(error.to_string()))
}

impl RaftNetworkFactory<Types> for Plug {
    type Network = Wire;

    async fn new_client(&mut self, target: VoterId, _node: &VoterNode) -> Wire {
        Wire { wires: self.wires.clone(), from: self.from, to: target }
    }
}

impl RaftNetworkV2<Types> for Wire {
    type SnapshotData = MetadataImage;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = self.send(|raft| async move { raft.append_entries(rpc).await }).await?;
        Ok(answer.map_err(|error| gone(&error))?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.send(|raft| async move { raft.vote(rpc).await }).await?;
        Ok(answer.map_err(|error| gone(&error))?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.send(|raft| async move { raft.pre_vote(rpc).await }).await?;
        Ok(answer.map_err(|error| gone(&error))?)
    }

    async fn full_snapshot(
        &mut self,
        vote: alias::VoteOf<Types>,
        snapshot: alias::SnapshotOf<Types, MetadataImage>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let answer =
            self.send(|raft| async move { raft.install_full_snapshot(vote, snapshot).await }).await?;
        Ok(answer.map_err(|error| gone(&error))?)
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let answer = self.send(|raft| async move { raft.handle_transfer_leader(rpc).await }).await?;
        Ok(answer.map_err(|error| gone(&error))?)
    }
}

struct Node {
    id: VoterId,
    files: FaultyFiles,
    quorum: Quorum,
    published: Arc<Published>,
}

impl Node {
    /// Starts on what is in `files`.
    async fn start(id: i32, files: FaultyFiles, wires: &Wires) -> Self {
        let id = VoterId { id, directory_id: Uuid([u8::try_from(id).unwrap(); 16]) };
        make_data_dir(&files);
        let snapshots = SnapshotLimits { entries: 10, bytes: u64::MAX, kept_entries: 3 };
        let options = CoordinatorOptions {
            node_id: id.id,
            directory_id: id.directory_id,
            snapshots,
            ..options(&files)
        };
        let published = Arc::new(Published::new(MetadataImage::default()));
        let (mut opening, standing) = Opening::begin(options).unwrap();
        let (opened, _) = match standing {
            Standing::Member(state) => opening.remain_member(state, published.clone()).unwrap(),
            Standing::Empty | Standing::Wiped { .. } => {
                let voters = [(id, VoterNode::default())].into();
                let role = Role::Founder { cluster_id: opening.new_cluster_id(), voters };
                opening.become_member(role, published.clone()).unwrap()
            }
        };
        let quorum = Quorum::start(opened, Plug { wires: wires.clone(), from: id }).await.unwrap();
        wires.plug(id, quorum.raft.clone());
        Self { id, files, quorum, published }
    }

    /// A directory that belongs to a cluster which it does not know yet.
    fn blank(id: i32) -> FaultyFiles {
        let files = FaultyFiles::new();
        make_data_dir(&files);
        let dir = Path::new("/data").join(LOG_DIRECTORY);
        files.shared().create_dir_all(&dir).unwrap();
        let state = HardState {
            cluster_id: "c".to_owned(),
            node_id: id,
            directory_id: Uuid([u8::try_from(id).unwrap(); 16]).to_string(),
            term: 0,
            voted_id: -1,
            voted_directory_id: Uuid([0; 16]).to_string(),
            committed: -1,
            vote_granted: Some(false),
            purged: None,
            founders: None,
        };
        state.write(&files.shared(), &dir).unwrap();
        files.shared().sync_dir(Path::new("/data")).unwrap();
        files
    }

    /// Power is lost: what was not synced is gone. What is left on its disk.
    async fn crash(self, wires: &Wires, seed: u64) -> FaultyFiles {
        wires.cut(self.id);
        let left = self.files.crash_image(self.files.operation_count(), survival(seed), seed);
        self.quorum.raft.shutdown().await.unwrap();
        on_disk(&left)
    }
}

/// One of the ways in which what was not synced is lost.
pub(super) fn survival(seed: u64) -> Survival {
    let survival = [Survival::SyncedOnly, Survival::TornPrefix, Survival::AnyPages];
    survival[usize::try_from(seed).unwrap() % survival.len()]
}

/// The same files on a new disk, all synced: a picture of a crash has no history that the next crash could be drawn from.
pub(super) fn on_disk(picture: &FaultyFiles) -> FaultyFiles {
    let (from, disk) = (picture.shared(), FaultyFiles::new());
    let to = disk.shared();
    make_data_dir(&disk);
    let dir = Path::new("/data").join(LOG_DIRECTORY);
    to.create_dir_all(&dir).unwrap();
    for dir in [Path::new("/data"), &dir] {
        for entry in from.list(dir).unwrap().into_iter().filter(|entry| !entry.is_dir) {
            let mut bytes = vec![0; usize::try_from(entry.size_bytes).unwrap()];
            let path = dir.join(&entry.name);
            let read = from.open(&path, Open::Read).unwrap().read_at(&mut bytes, 0).unwrap();
            assert_eq!(read, bytes.len());
            let file = to.open(&path, Open::Create).unwrap();
            file.write_all_at(&mut [IoSlice::new(&bytes)], 0).unwrap();
            file.sync_data().unwrap();
        }
        to.sync_dir(dir).unwrap();
    }
    disk
}

/// What is known to be true of the quorum.
#[derive(Default)]
struct History {
    acknowledged: BTreeSet<String>,
    leaders: BTreeMap<i32, VoterId>,
    written: usize,
}

impl History {
    /// Writes a topic to whoever leads, until it is acknowledged.
    async fn write(&mut self, nodes: &[Node]) {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "nobody leads");
            for node in nodes {
                let Some(term) = node.quorum.term_led() else { continue };
                let before = self.leaders.insert(term, node.id);
                assert!(before.is_none_or(|before| before == node.id), "two leaders in term {term}");
                self.written += 1;
                let name = format!("t{}", self.written);
                let mut id = [0; 16];
                id[..8].copy_from_slice(&(self.written as u64).to_be_bytes());
                let record =
                    TopicRecord { name: name.as_str().into(), topic_id: Uuid(id), ..TopicRecord::default() };
                let frame = MetadataRecord::from(record).encode().unwrap();
                let index = node.published.image().index() + 1;
                if node.quorum.propose(term, index, vec![frame], false).await.is_ok() {
                    self.acknowledged.insert(name);
                    return;
                }
            }
            something_happens(nodes).await;
        }
    }

    /// All nodes come to the same, and it holds what was acknowledged.
    async fn check(&self, nodes: &[Node]) {
        let began = Instant::now();
        let images = loop {
            let images: Vec<_> = nodes.iter().map(|node| node.published.image()).collect();
            if images.iter().all(|image| image.index() == images[0].index()) {
                break images;
            }
            let indexes: Vec<_> = images.iter().map(MetadataImage::index).collect();
            assert!(began.elapsed() < DEADLINE, "nodes stay apart: {indexes:?}");
            something_happens(nodes).await;
        };
        let found: BTreeSet<_> = names(&images[0]).into_iter().collect();
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        assert!(images.iter().all(|image| image == &images[0]), "images differ");
    }
}

/// Waits until a node applies or learns something, and not for long.
async fn something_happens(nodes: &[Node]) {
    let changes = nodes.iter().map(|node| {
        let (mut applied, mut server) = (node.published.committed(), node.quorum.raft.server_metrics());
        Box::pin(async move {
            tokio::select! {
                _ = applied.changed() => {}
                _ = server.changed() => {}
            }
        })
    });
    let moment = Duration::from_millis(20);
    tokio::time::timeout(moment, futures_util::future::select_all(changes)).await.ok();
}

fn leader(nodes: &[Node]) -> Option<usize> {
    nodes.iter().position(|node| node.quorum.term_led().is_some())
}

/// A cluster of three, grown out of one under writes.
async fn grow(wires: &Wires, history: &mut History) -> Vec<Node> {
    let mut nodes = vec![Node::start(1, FaultyFiles::new(), wires).await];
    for _ in 0..15 {
        history.write(&nodes).await;
    }
    for id in [2, 3] {
        nodes.push(Node::start(id, Node::blank(id), wires).await);
        let added = nodes[0].quorum.raft.add_learner(nodes.last().unwrap().id, VoterNode::default(), true);
        added.await.unwrap();
        history.write(&nodes).await;
    }
    let voters: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
    nodes[0].quorum.raft.change_membership(voters, false).await.unwrap();
    nodes[0].quorum.raft.runtime_config().tick(true);
    history.write(&nodes).await;
    nodes
}

#[tokio::test]
async fn three_nodes_lose_nothing_when_any_of_them_crashes() {
    let (wires, mut history) = (Wires::default(), History::default());
    let mut nodes = grow(&wires, &mut history).await;
    history.check(&nodes).await;
    for round in 0..6u64 {
        // The leader every other time.
        let victim = match leader(&nodes) {
            Some(leader) if round % 2 == 0 => leader,
            Some(leader) => (leader + 1) % 3,
            None => usize::try_from(round).unwrap() % 3,
        };
        let node = nodes.remove(victim);
        let id = node.id.id;
        let left = node.crash(&wires, round).await;
        for _ in 0..5 {
            history.write(&nodes).await;
        }
        nodes.push(Node::start(id, left, &wires).await);
        history.write(&nodes).await;
        history.check(&nodes).await;
    }
    println!("{} topics acknowledged, {} terms", history.acknowledged.len(), history.leaders.len());
    assert!(history.leaders.len() > 3);
    for node in nodes {
        node.quorum.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_was_replaced_is_a_new_node() {
    let (wires, mut history) = (Wires::default(), History::default());
    let mut nodes = grow(&wires, &mut history).await;
    let wiped = nodes.pop().unwrap();
    let old = wiped.id;
    drop(wiped.crash(&wires, 0).await);
    for _ in 0..15 {
        history.write(&nodes).await;
    }
    let new = Node::start(4, Node::blank(4), &wires).await;
    let lead = leader(&nodes).unwrap();
    let raft = nodes[lead].quorum.raft.clone();
    raft.add_learner(new.id, VoterNode::default(), true).await.unwrap();
    nodes.push(new);
    let voters: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
    raft.change_membership(voters.clone(), false).await.unwrap();
    history.write(&nodes).await;
    history.check(&nodes).await;
    assert_eq!(raft.voter_ids().collect::<BTreeSet<_>>(), voters);
    assert!(!voters.contains(&old));
    for node in nodes {
        node.quorum.stop().await.unwrap();
    }
}
