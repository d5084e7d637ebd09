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

use super::support::{a_moment_passes, simulated_ms};
use super::*;
use crate::feed::Published;
use crate::hard_state::HardState;
use crate::opening::{Opening, Role, Standing};
use crate::raft::quorum::Quorum;
use crate::raft::{Raft, Types, VoterId, VoterNode};

/// Who can be reached. A node that is not in it neither gets a message nor can its answers be heard.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<VoterId, Raft>>>, Option<Weather>);

/// Messages and answers that come late or not at all, in simulated time.
#[derive(Clone)]
struct Weather(Arc<Mutex<u64>>);

impl Weather {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.wrapping_mul(2) + 1)))
    }

    /// A number below `below` (xorshift).
    fn draw(&self, below: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % below
    }

    async fn pass(&self) -> Result<(), Unreachable<Types>> {
        simulated_ms(self.draw(20)).await;
        if self.draw(20) == 0 { Err(gone(&"lost")) } else { Ok(()) }
    }
}

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
        if let Some(weather) = &self.wires.1 {
            weather.pass().await?;
        }
        let answer = send(self.wires.raft(self.to)?).await;
        if let Some(weather) = &self.wires.1 {
            weather.pass().await?;
        }
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
        let plug = Plug { wires: wires.clone(), from: id };
        // In simulated time nothing may wait for a real thread.
        let quorum = match wires.1 {
            Some(_) => Quorum::start_at_once(opened, plug).await.unwrap(),
            None => Quorum::start(opened, plug).await.unwrap(),
        };
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
        self.write_to(&nodes.iter().collect::<Vec<_>>()).await;
    }

    async fn write_to(&mut self, nodes: &[&Node]) {
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
            a_moment_passes().await;
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
            a_moment_passes().await;
        };
        let found: BTreeSet<_> = names(&images[0]).into_iter().collect();
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        assert!(images.iter().all(|image| image == &images[0]), "images differ");
    }
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

/// Crashes, cut-off nodes, replaced disks, in an order that the seed says.
async fn live_through(seed: u64) -> usize {
    let weather = Weather::new(seed);
    let (wires, mut history) = (Wires(Arc::default(), Some(weather.clone())), History::default());
    let mut nodes = grow(&wires, &mut history).await;
    let mut next_id = 4;
    for _ in 0..3 {
        let victim = usize::try_from(weather.draw(3)).unwrap();
        match weather.draw(3) {
            0 => {
                let node = nodes.remove(victim);
                let id = node.id.id;
                let left = node.crash(&wires, weather.draw(1 << 20)).await;
                for _ in 0..weather.draw(6) {
                    history.write(&nodes).await;
                }
                nodes.push(Node::start(id, left, &wires).await);
            }
            1 => {
                wires.cut(nodes[victim].id);
                for _ in 0..weather.draw(6) {
                    simulated_ms(weather.draw(800)).await;
                    let others: Vec<_> = (0..3).filter(|n| *n != victim).map(|n| &nodes[n]).collect();
                    history.write_to(&others).await;
                }
                wires.plug(nodes[victim].id, nodes[victim].quorum.raft.clone());
            }
            _ => {
                let wiped = nodes.remove(victim);
                let old = wiped.id;
                drop(wiped.crash(&wires, 0).await);
                history.write(&nodes).await;
                let new = Node::start(next_id, Node::blank(next_id), &wires).await;
                next_id += 1;
                let added = new.id;
                nodes.push(new);
                replace(&nodes, old, added, &mut history).await;
            }
        }
        history.write(&nodes).await;
    }
    history.check(&nodes).await;
    let acknowledged = history.acknowledged.len();
    for node in nodes {
        wires.cut(node.id);
        node.quorum.raft.shutdown().await.unwrap();
    }
    acknowledged
}

/// Has a voter replaced, under writes, by whoever leads.
async fn replace(nodes: &[Node], old: VoterId, new: VoterId, history: &mut History) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "{new} does not take the place of {old}");
        history.write(nodes).await;
        let Some(leader) = leader(nodes) else { continue };
        let raft = &nodes[leader].quorum.raft;
        let voters: BTreeSet<_> = raft.voter_ids().collect();
        let done = !voters.contains(&old) && voters.contains(&new);
        if done && raft.metrics().borrow_watched().membership_config.get_joint_config().len() == 1 {
            return;
        }
        let wait = Duration::from_secs(3);
        if !voters.contains(&new) && !raft.learner_ids().any(|id| id == new) {
            tokio::time::timeout(wait, raft.add_learner(new, VoterNode::default(), false)).await.ok();
            continue;
        }
        let voters: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
        tokio::time::timeout(wait, raft.change_membership(voters, false)).await.ok();
    }
}

/// Seeds `from` to before `to`, each with a runtime and a clock of its own.
fn live_through_all(seeds: std::ops::Range<u64>) {
    let mut acknowledged = 0;
    for seed in seeds.clone() {
        println!("seed {seed}");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        acknowledged += runtime.block_on(live_through(seed));
    }
    println!("seeds {seeds:?}: {acknowledged} topics acknowledged, none lost");
}

#[test]
fn nothing_is_lost_in_simulated_time() {
    live_through_all(0..100);
}

#[test]
fn nothing_is_lost_in_more_simulated_time() {
    live_through_all(100..200);
}
