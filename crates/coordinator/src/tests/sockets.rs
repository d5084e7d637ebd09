//! Several coordinators in one process, over the loopback's real sockets: they found a cluster, lose leaders, grow, and take back those who
//! lost their disk.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, Listener};
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::describe_quorum::{
    DescribeQuorumRequest, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::generated::remove_raft_voter::RemoveRaftVoterRequest;
use ottla_transport::server::{Listener as Socket, ListenerOptions};

use super::support::moment;
use super::*;
use crate::raft::seat::Seat;
use crate::raft::{NOBODY, VoterId};

mod administration;
mod remote;

/// The addresses of some nodes, and what is on their disks.
struct Cluster {
    places: Vec<Place>,
}

struct Place {
    id: i32,
    directory_id: Uuid,
    files: FaultyFiles,
    address: SocketAddr,
    /// Bound while the node is down, so that nobody else gets the port.
    listener: Option<Socket>,
    running: Option<(Coordinator, CoordinatorHandle)>,
    seat: Arc<Seat>,
}

fn bind(address: SocketAddr) -> Socket {
    Socket::bind(&ListenerOptions::new("CONTROLLER", address)).unwrap()
}

impl Place {
    fn new(id: i32) -> Self {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let files = FaultyFiles::new();
        make_data_dir(&files);
        Self {
            id,
            directory_id: Uuid([u8::try_from(id).unwrap(); 16]),
            files,
            address: listener.local_address(),
            listener: Some(listener),
            running: None,
            seat: Arc::new(Seat::new(NOBODY, VoterNode::default(), None, false)),
        }
    }

    fn endpoint(&self) -> VoterEndpoint {
        let host = self.address.ip().to_string();
        VoterEndpoint { name: "CONTROLLER".to_owned(), host, port: self.address.port() }
    }

    fn options(&mut self, quorum: QuorumOptions) -> CoordinatorOptions {
        let listener = self.listener.take().unwrap_or_else(|| bind(self.address));
        CoordinatorOptions {
            node_id: self.id,
            directory_id: self.directory_id,
            cluster_id: None,
            listeners: vec![listener],
            advertised: vec![self.endpoint()],
            quorum,
            // Brokers are here in name only.
            config: [("broker.session.timeout.ms".to_owned(), "600000".to_owned())].into(),
            ..options(&self.files)
        }
    }

    fn start(&mut self, quorum: QuorumOptions) {
        let options = self.options(quorum);
        let (coordinator, handle) = Coordinator::start(options).unwrap();
        self.seat = coordinator.seat.clone();
        self.running = Some((coordinator, handle));
    }

    /// Who it is for the quorum.
    fn identity(&self) -> VoterId {
        self.seat.me
    }

    /// Its disk is replaced by an empty one, or the metadata log's directory alone is lost.
    fn wipe(&mut self, whole: bool) {
        if whole {
            self.files = FaultyFiles::new();
            make_data_dir(&self.files);
            self.directory_id.0[15] += 100;
            return;
        }
        let files = self.files.shared();
        let dir = Path::new("/data").join(LOG_DIRECTORY);
        for entry in files.list(&dir).unwrap() {
            files.remove_file(&dir.join(entry.name)).unwrap();
        }
        files.sync_dir(&dir).unwrap();
    }

    fn handle(&self) -> &CoordinatorHandle {
        &self.running.as_ref().expect("it runs").1
    }

    fn stop(&mut self) {
        let (coordinator, _) = self.running.take().unwrap();
        coordinator.stop().unwrap();
    }

    /// Power is lost: what was not synced is gone. The node ends without doing anything for it.
    fn crash(&mut self, seed: u64) {
        let survival = super::quorum::survival(seed);
        let left = self.files.crash_image(self.files.operation_count(), survival, seed);
        let (coordinator, _) = self.running.take().unwrap();
        coordinator.kill();
        self.files = super::quorum::on_disk(&left);
    }
}

impl Cluster {
    fn new(ids: &[i32]) -> Self {
        Self { places: ids.iter().map(|id| Place::new(*id)).collect() }
    }

    fn voters(&self) -> QuorumOptions {
        let voter = |place: &Place| Voter {
            id: place.id,
            host: place.address.ip().to_string(),
            port: place.address.port(),
        };
        QuorumOptions::Voters(self.places.iter().map(voter).collect())
    }

    fn bootstrap(&self, auto_join: bool) -> QuorumOptions {
        let servers = self.places.iter().map(|place| place.address.to_string()).collect();
        QuorumOptions::Bootstrap { servers, auto_join }
    }

    fn stop(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.running.is_some()) {
            place.stop();
        }
    }

    /// Waits until everybody knows that this one votes.
    async fn is_voter(&self, id: VoterId) {
        let began = Instant::now();
        while !self.running().all(|place| place.seat.view().members.voter_ids().any(|voter| voter == id)) {
            moment(began, "it does not vote").await;
        }
    }

    fn place(&mut self, id: i32) -> &mut Place {
        self.places.iter_mut().find(|place| place.id == id).expect("it is there")
    }

    fn running(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.running.is_some())
    }

    /// Who leads; waits for it.
    async fn leader(&self) -> i32 {
        let began = Instant::now();
        loop {
            for place in self.running() {
                if place.seat.view().leader == Some(place.seat.me) {
                    return place.id;
                }
            }
            moment(began, "nobody leads").await;
        }
    }

    /// Has a topic made by whoever leads.
    async fn create(&self, name: &str) {
        let began = Instant::now();
        loop {
            for place in self.running() {
                let asked = place.handle().create_topics(creation(name, 1));
                // One that has not joined yet keeps requests.
                let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), asked).await else {
                    continue;
                };
                if answer.is_ok_and(|done| done.response.topics[0].error_code == 0) {
                    return;
                }
            }
            moment(began, "no topic could be made").await;
        }
    }

    /// All who run come to the same image, which has these topics.
    async fn agree(&self, topics: &[&str]) {
        let began = Instant::now();
        loop {
            let images: Vec<_> = self.running().map(|place| place.handle().image()).collect();
            let expected: BTreeSet<_> = topics.iter().map(|name| (*name).to_owned()).collect();
            let found =
                images.iter().all(|image| names(image).into_iter().collect::<BTreeSet<_>>() == expected);
            if found && images.iter().all(|image| image.index() == images[0].index()) {
                assert!(images.iter().all(|image| image == &images[0]));
                return;
            }
            moment(began, "the nodes do not agree").await;
        }
    }

    /// Waits until these vote, and nobody else.
    async fn voters_become(&self, expected: &[i32]) {
        let began = Instant::now();
        loop {
            let same = self.running().all(|place| {
                let members = place.seat.view().members;
                let voters: BTreeSet<_> = members.voter_ids().map(|voter| voter.id).collect();
                members.get_joint_config().len() == 1 && voters.into_iter().eq(expected.iter().copied())
            });
            if same {
                return;
            }
            moment(began, "the voters are others").await;
        }
    }
}

/// So that the leader's registration has brokers to place topics on.
async fn register(cluster: &Cluster) {
    let began = Instant::now();
    loop {
        for place in cluster.running() {
            let cluster_id = place.handle().cluster_id().await.unwrap();
            let request =
                BrokerRegistrationRequest { cluster_id: cluster_id.as_str().into(), ..registration() };
            let handle = place.handle();
            let Ok(registered) = handle.register_broker(request).await else { continue };
            let epoch = registered.response.broker_epoch;
            // With the leader elsewhere it is fenced until it has said that it knows of its registration.
            let heartbeat = BrokerHeartbeatRequest {
                broker_id: 1,
                broker_epoch: epoch,
                current_metadata_offset: epoch,
                ..BrokerHeartbeatRequest::default()
            };
            if handle.broker_heartbeat(heartbeat).await.is_ok_and(|done| !done.response.is_fenced) {
                return;
            }
        }
        moment(began, "the broker could not register").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_static_voters_found_a_cluster_and_survive_their_leader() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let voters = cluster.voters();
    for id in [3, 1] {
        cluster.place(id).start(voters.clone());
    }
    // Two of three found nothing.
    let waiting = cluster.place(1).handle().clone();
    assert!(tokio::time::timeout(Duration::from_millis(700), waiting.cluster_id()).await.is_err());
    cluster.place(2).start(voters.clone());
    let cluster_id = waiting.cluster_id().await.unwrap();
    cluster.voters_become(&[1, 2, 3]).await;
    for place in cluster.running() {
        assert_eq!(place.handle().cluster_id().await.unwrap(), cluster_id);
    }
    register(&cluster).await;
    cluster.create("a").await;
    cluster.agree(&["a"]).await;

    for (round, name) in ["b", "c"].into_iter().enumerate() {
        let leader = cluster.leader().await;
        let began = Instant::now();
        cluster.place(leader).crash(round as u64);
        cluster.create(name).await;
        println!("{:?} from the leader's crash to the next commit", began.elapsed());
        cluster.place(leader).start(voters.clone());
    }
    cluster.agree(&["a", "b", "c"]).await;
    // Who stops in order hands over: nobody has to notice that it is gone.
    let leader = cluster.leader().await;
    cluster.place(leader).stop();
    let leads = |place: &Place| place.seat.view().leader == Some(place.seat.me);
    assert!(cluster.running().any(leads), "another leads when the leader has stopped");
    cluster.create("d").await;
    cluster.place(leader).start(voters);
    cluster.agree(&["a", "b", "c", "d"]).await;
    cluster.stop();
}

#[test]
fn an_even_number_of_voters_is_refused() {
    let mut cluster = Cluster::new(&[1, 2]);
    let voters = cluster.voters();
    let error = Coordinator::start(cluster.place(1).options(voters)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("an even number"), "{error}");
}

/// A cluster of one that has topics, and two who join it.
async fn grown(auto_join: bool) -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.place(1).start(QuorumOptions::Alone);
    register(&cluster).await;
    for name in ["a", "b"] {
        cluster.create(name).await;
    }
    let quorum = cluster.bootstrap(auto_join);
    for id in [2, 3] {
        cluster.place(id).start(quorum.clone());
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grows_to_three_and_takes_back_who_lost_its_disk() {
    let mut cluster = grown(true).await;
    cluster.voters_become(&[1, 2, 3]).await;
    cluster.agree(&["a", "b"]).await;

    // All of its disk, then the metadata alone.
    let quorum = cluster.bootstrap(true);
    for (round, whole) in [true, false].into_iter().enumerate() {
        let victim = cluster.leader().await;
        let before = cluster.place(victim).identity();
        cluster.place(victim).crash(round as u64);
        cluster.place(victim).wipe(whole);
        cluster.place(victim).start(quorum.clone());
        cluster.create(["c", "d"][round]).await;
        let after = cluster.place(victim).identity();
        assert_ne!(before, after);
        cluster.is_voter(after).await;
        cluster.voters_become(&[1, 2, 3]).await;
        cluster.agree(&["a", "b", "c", "d"][..3 + round]).await;
    }
    // All three are needed for what comes now: the new one does what the old one did.
    cluster.place(1).stop();
    cluster.create("e").await;
    cluster.place(1).start(QuorumOptions::Alone);
    cluster.agree(&["a", "b", "c", "d", "e"]).await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_change_the_voters_two_at_a_time() {
    let mut cluster = grown(false).await;
    let add = |place: &Place| AddRaftVoterRequest {
        voter_id: place.id,
        voter_directory_id: place.directory_id,
        timeout_ms: 20_000,
        listeners: vec![Listener {
            name: "CONTROLLER".into(),
            host: place.address.ip().to_string().as_str().into(),
            port: place.address.port(),
            ..Listener::default()
        }],
        ..AddRaftVoterRequest::default()
    };
    let (two, three) = (add(&cluster.places[1]), add(&cluster.places[2]));
    let seat = cluster.place(1).seat.clone();
    let alone = AddRaftVoterRequest { timeout_ms: 300, ..two.clone() };
    let refused = voters::add(&seat, &alone).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::RequestTimedOut.code(), "{refused:?}");
    let (two, three) = tokio::join!(voters::add(&seat, &two), voters::add(&seat, &three));
    assert_eq!((two.unwrap().error_code, three.unwrap().error_code), (0, 0));
    cluster.voters_become(&[1, 2, 3]).await;

    let partition = RequestPartitionData { partition_index: 0, ..RequestPartitionData::default() };
    let topic = RequestTopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![partition],
        ..RequestTopicData::default()
    };
    let request = DescribeQuorumRequest { topics: vec![topic], ..DescribeQuorumRequest::default() };
    let described = voters::describe(&seat, &request, 1).unwrap();
    let partition = &described.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.current_voters.len(), described.nodes.len()), (1, 3, 3));

    let remove = |place: &Place| RemoveRaftVoterRequest {
        voter_id: place.id,
        voter_directory_id: place.directory_id,
        ..RemoveRaftVoterRequest::default()
    };
    let (two, three) = (remove(&cluster.places[1]), remove(&cluster.places[2]));
    let (two, three) = tokio::join!(voters::remove(&seat, &two), voters::remove(&seat, &three));
    assert_eq!((two.unwrap().error_code, three.unwrap().error_code), (0, 0));
    cluster.voters_become(&[1]).await;
    cluster.create("c").await;
    cluster.agree(&["a", "b", "c"]).await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_member_without_its_log_founds_nothing() {
    let mut cluster = Cluster::new(&[1]);
    cluster.place(1).start(QuorumOptions::Alone);
    register(&cluster).await;
    cluster.place(1).stop();
    cluster.place(1).wipe(false);
    let error = Coordinator::start(cluster.place(1).options(QuorumOptions::Alone)).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Wiped { .. }), "{error}");
    let itself = cluster.bootstrap(true);
    cluster.place(1).start(itself);
    let member = cluster.place(1).seat.clone();
    let founded = async {
        while !member.is_member() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(600), founded).await.is_err());
    cluster.stop();
}
