//! Several coordinators in one process, over the loopback's real sockets: they found a cluster, lose leaders, grow, and take back those who
//! lost their disk.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_transport::server::{Listener, ListenerOptions};

use super::*;

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
    listener: Option<Listener>,
    running: Option<(Coordinator, CoordinatorHandle)>,
}

fn bind(address: SocketAddr) -> Listener {
    Listener::bind(&ListenerOptions::new("CONTROLLER", address)).unwrap()
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
        self.running = Some(Coordinator::start(options).unwrap());
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
        let voter = |place: &Place| StaticVoter {
            id: place.id,
            host: place.address.ip().to_string(),
            port: place.address.port(),
        };
        QuorumOptions::Voters(self.places.iter().map(voter).collect())
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
                if place.handle().seat().view().leader == Some(place.handle().seat().me) {
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
                let members = place.handle().seat().view().members;
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

/// Goes on looking, until the deadline.
async fn moment(began: Instant, what: &str) {
    assert!(began.elapsed() < DEADLINE, "{what}");
    tokio::time::sleep(Duration::from_millis(5)).await;
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
    for place in &mut cluster.places {
        place.stop();
    }
}
