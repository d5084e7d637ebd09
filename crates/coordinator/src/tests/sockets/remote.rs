//! Brokers that have no coordinator in their process: they find the leader, outlive it, and are fenced when nothing is heard of them.

use std::sync::atomic::AtomicBool;

use ottla_cluster::config::ConfigMap;
use ottla_protocol::generated::alter_partition::{self, AlterPartitionRequest, BrokerState};
use ottla_protocol::generated::describe_quorum;
use tokio::task::JoinHandle;

use super::*;

/// A broker as the coordinators see it.
struct FakeBroker {
    id: i32,
    epoch: i64,
    handle: CoordinatorHandle,
    feed: MetadataFeed,
    replica: ImageReplica,
}

impl FakeBroker {
    /// Knows nothing but some coordinators' addresses.
    fn new(id: i32, bootstrap: Vec<String>) -> Self {
        let options = RemoteOptions { node_id: id, ..RemoteOptions::new(bootstrap, format!("broker-{id}")) };
        let handle = CoordinatorHandle::remote(options);
        Self { id, epoch: -1, feed: handle.feed(0), handle, replica: ImageReplica::default() }
    }

    /// Registers, reads its registration, and says that it lives until it serves.
    async fn join(mut self) -> Self {
        let cluster_id = self.handle.cluster_id().await.unwrap();
        let request = BrokerRegistrationRequest {
            broker_id: self.id,
            cluster_id: cluster_id.as_str().into(),
            incarnation_id: Uuid([u8::try_from(self.id).unwrap(); 16]),
            ..registration()
        };
        let registered = self.handle.register_broker(request.clone()).await.unwrap();
        assert_eq!(registered.response.error_code, 0);
        self.epoch = registered.response.broker_epoch;
        let again = self.handle.register_broker(request).await.unwrap();
        assert_eq!(again.response.broker_epoch, self.epoch, "the same process gets its epoch again");
        self.read_to(registered.index).await;
        assert!(self.is_fenced(self.id), "it has not said yet that it knows of its registration");
        let index = self.live().await;
        self.read_to(index).await;
        assert!(!self.is_fenced(self.id));
        self
    }

    async fn read_to(&mut self, index: i64) {
        follow(&mut self.feed, &mut self.replica, index).await;
    }

    fn is_fenced(&self, id: i32) -> bool {
        self.replica.image().broker(BrokerId(id)).is_none_or(|broker| broker.fenced)
    }

    fn heartbeat(&self) -> BrokerHeartbeatRequest {
        BrokerHeartbeatRequest {
            broker_id: self.id,
            broker_epoch: self.epoch,
            current_metadata_offset: self.replica.image().index(),
            ..BrokerHeartbeatRequest::default()
        }
    }

    /// Says that it lives, and gives the index at which that is known.
    async fn live(&self) -> i64 {
        let answer = self.handle.broker_heartbeat(self.heartbeat()).await.unwrap();
        assert_eq!(answer.response.error_code, 0);
        answer.index
    }

    /// Says so again and again, until it is told to stop.
    fn keep_living(&self, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (handle, heartbeat, stop) = (self.handle.clone(), self.heartbeat(), stop.clone());
        tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                handle.broker_heartbeat(heartbeat.clone()).await.unwrap();
            }
        })
    }

    /// Reads on until a broker is fenced.
    async fn sees_fenced(&mut self, id: i32) {
        while !self.is_fenced(id) {
            self.read_to(self.replica.next_index()).await;
        }
    }
}

impl Cluster {
    fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.address.to_string()).collect()
    }

    /// One coordinator with a listener, and what the test changes of its options.
    fn alone(change: impl FnOnce(&mut CoordinatorOptions)) -> Self {
        let mut cluster = Self::new(&[1]);
        let place = cluster.place(1);
        let mut options = place.options(QuorumOptions::Alone);
        change(&mut options);
        place.running = Some(Coordinator::start(options).unwrap());
        cluster
    }
}

fn session(timeout_ms: i64) -> ConfigMap {
    [("broker.session.timeout.ms".to_owned(), timeout_ms.to_string())].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_elsewhere_outlives_leaders() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let voters = cluster.voters();
    for place in &mut cluster.places {
        place.start(voters.clone());
    }
    // It knows one address that nobody has, and one coordinator.
    let known = vec!["127.0.0.1:1".to_owned(), cluster.addresses()[0].clone()];
    let mut broker = FakeBroker::new(7, known).join().await;
    let mut expected = Vec::new();
    for round in 0..3u64 {
        let name = format!("t{round}");
        let began = Instant::now();
        let index = loop {
            match broker.handle.create_topics(creation(&name, 1)).await {
                Ok(done) => {
                    let code = done.response.topics[0].error_code;
                    assert!([0, ErrorCode::TopicAlreadyExists.code()].contains(&code), "{:?}", done.response);
                    break done.index;
                }
                // The only answer that leaves open what happened.
                Err(error) => assert_eq!(error, RequestError::LeadershipLost),
            }
            assert!(began.elapsed() < DEADLINE);
        };
        println!("{:?} until a topic was there", began.elapsed());
        broker.read_to(index).await;
        expected.push(name);
        assert_eq!(names(broker.replica.image()), expected);
        broker.live().await;

        let leader = cluster.leader().await;
        cluster.place(leader).crash(round);
        if round > 0 {
            // The next round begins with a coordinator less; the one that was down comes back.
            cluster.place(leader).start(voters.clone());
            continue;
        }
        broker.live().await;
        cluster.place(leader).start(voters.clone());
    }
    let names: Vec<_> = expected.iter().map(String::as_str).collect();
    cluster.agree(&names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_passes_on_what_its_leader_decides() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let voters = cluster.voters();
    for place in &mut cluster.places {
        place.start(voters.clone());
    }
    let broker = FakeBroker::new(7, cluster.addresses()).join().await;
    let leader = cluster.leader().await;
    for place in cluster.running().filter(|place| place.id != leader) {
        let name = format!("by-{}", place.id);
        let index = create(place.handle(), &name).await;
        let mut feed = place.handle().feed(0);
        follow(&mut feed, &mut ImageReplica::default(), index).await;
        assert!(place.handle().image().topic_by_name(&name).is_some());
    }
    let topic = cluster.place(leader).handle().image().topics().next().unwrap().clone();
    let partition = alter_partition::RequestPartitionData {
        leader_epoch: 0,
        new_isr_with_epochs: vec![BrokerState {
            broker_id: 7,
            broker_epoch: broker.epoch,
            ..Default::default()
        }],
        partition_epoch: 99,
        ..alter_partition::RequestPartitionData::default()
    };
    let topics = vec![alter_partition::RequestTopicData {
        topic_id: topic.id,
        partitions: vec![partition],
        ..alter_partition::RequestTopicData::default()
    }];
    let request =
        AlterPartitionRequest { broker_id: 7, broker_epoch: broker.epoch, topics, ..Default::default() };
    let answer = broker.handle.alter_partition(request).await.unwrap().response;
    assert_eq!(answer.error_code, 0);
    let code = answer.topics[0].partitions[0].error_code;
    assert_ne!(code, 0, "a partition epoch of the future");
    quorum_is_described(&broker.handle, &cluster, leader).await;
    // Without a majority nothing is decided, and whoever asks is told in time.
    let others: Vec<_> = cluster.places.iter().map(|place| place.id).filter(|id| *id != leader).collect();
    for id in others {
        cluster.place(id).stop();
    }
    let options = RemoteOptions {
        request_timeout: Duration::from_millis(700),
        ..RemoteOptions::new(cluster.addresses(), "impatient".to_owned())
    };
    let handle = CoordinatorHandle::remote(options);
    let asked = handle.create_topics(creation("never", 1)).await.map(|done| done.index);
    assert!(matches!(asked, Err(RequestError::LeadershipLost | RequestError::TimedOut)), "{asked:?}");
}

/// What is asked about the quorum finds its leader too.
async fn quorum_is_described(handle: &CoordinatorHandle, cluster: &Cluster, leader: i32) {
    let partitions = vec![describe_quorum::RequestPartitionData::default()];
    let topic = describe_quorum::RequestTopicData {
        topic_name: "__cluster_metadata".into(),
        partitions,
        ..describe_quorum::RequestTopicData::default()
    };
    let request = DescribeQuorumRequest { topics: vec![topic], ..DescribeQuorumRequest::default() };
    let described = handle.describe_quorum(request.clone()).await.unwrap().response;
    let partition = &described.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.current_voters.len()), (leader, 3));
    for place in cluster.running() {
        let described = place.handle().describe_quorum(request.clone()).await.unwrap().response;
        assert_eq!(described.topics[0].partitions[0].leader_id, leader, "asked by {}", place.id);
    }
    let voter = &cluster.places[0];
    let listener = Listener {
        name: "CONTROLLER".into(),
        host: "127.0.0.1".into(),
        port: voter.address.port(),
        ..Listener::default()
    };
    let add = AddRaftVoterRequest {
        voter_id: voter.id,
        voter_directory_id: voter.directory_id,
        listeners: vec![listener],
        ..AddRaftVoterRequest::default()
    };
    let answer = handle.add_raft_voter(add).await.unwrap().response;
    assert_eq!(answer.error_code, ErrorCode::DuplicateVoter.code());
    let remove = RemoveRaftVoterRequest { voter_id: 77, ..RemoveRaftVoterRequest::default() };
    let answer = handle.remove_raft_voter(remove).await.unwrap().response;
    assert_eq!(answer.error_code, ErrorCode::VoterNotFound.code());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_connection_ends_is_fenced_soon() {
    // So long that it is not the session's end.
    let jump = Arc::new(AtomicI64::new(0));
    let leap = jump.clone();
    let cluster = Cluster::alone(move |options| {
        let clock = options.monotonic.clone();
        options.config = session(600_000);
        options.monotonic = Arc::new(move || clock() + leap.load(Ordering::Relaxed));
    });
    let mut witness = FakeBroker::new(8, cluster.addresses()).join().await;
    let broker = FakeBroker::new(7, cluster.addresses()).join().await;
    // One that comes back in time is not fenced.
    let heartbeat = broker.heartbeat();
    let bootstrap = cluster.addresses();
    drop(broker);
    let again = CoordinatorHandle::remote(RemoteOptions::new(bootstrap, "again".to_owned()));
    let answer = again.broker_heartbeat(heartbeat).await.unwrap();
    assert!(!answer.response.is_fenced);
    // More time than it had, as far as the controller knows.
    jump.fetch_add(900, Ordering::Relaxed);
    witness.live().await;
    witness.read_to(answer.index).await;
    assert!(!witness.is_fenced(7));
    let before = cluster.places[0].handle().image().index();
    assert_eq!(witness.replica.image().index(), before, "nothing happened meanwhile");

    let began = Instant::now();
    drop(again);
    witness.sees_fenced(7).await;
    let took = began.elapsed();
    println!("{took:?} from the connection's end to the fence");
    assert!(took >= Duration::from_millis(450), "it had half a second to come back: {took:?}");
    assert!(!witness.is_fenced(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_fenced_when_its_session_ends() {
    let cluster = Cluster::alone(|options| options.config = session(1200));
    let silent = FakeBroker::new(7, cluster.addresses()).join().await;
    let mut healthy = FakeBroker::new(8, cluster.addresses()).join().await;
    let stop = Arc::new(AtomicBool::new(false));
    let living = healthy.keep_living(&stop);
    let began = Instant::now();
    silent.live().await;
    // Its connection stays open all the while.
    healthy.sees_fenced(7).await;
    assert!(began.elapsed() >= Duration::from_millis(1150), "{:?}", began.elapsed());
    assert!(!healthy.is_fenced(8));
    // It hears so with its next heartbeat, and serves again when it has read all.
    let index = silent.live().await;
    healthy.read_to(index).await;
    assert!(!healthy.is_fenced(7));
    stop.store(true, Ordering::Relaxed);
    living.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_stood_still_fences_nobody_who_lives() {
    let jump = Arc::new(AtomicI64::new(0));
    let leap = jump.clone();
    let cluster = Cluster::alone(move |options| {
        let clock = options.monotonic.clone();
        options.config = session(4000);
        options.monotonic = Arc::new(move || clock() + leap.load(Ordering::Relaxed));
    });
    let silent = FakeBroker::new(7, cluster.addresses()).join().await;
    let mut healthy = FakeBroker::new(8, cluster.addresses()).join().await;
    let stop = Arc::new(AtomicBool::new(false));
    let living = healthy.keep_living(&stop);
    let before = healthy.live().await;
    // As if the process had been stopped for a minute: what brokers sent meanwhile is read after it.
    jump.fetch_add(60_000, Ordering::Relaxed);
    healthy.sees_fenced(7).await;
    assert!(!healthy.is_fenced(8), "it was heard of as soon as the controller listened again");
    assert!(healthy.replica.image().index() > before);
    stop.store(true, Ordering::Relaxed);
    living.await.unwrap();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_far_behind_gets_everything_in_pieces() {
    let cluster = Cluster::alone(|options| {
        options.snapshots = SnapshotLimits { entries: 5, bytes: u64::MAX, kept_entries: 1 };
    });
    let mut first = FakeBroker::new(7, cluster.addresses()).join().await;
    for n in 0..20 {
        let index = first.handle.create_topics(creation(&format!("t{n}"), 2000)).await.unwrap().index;
        first.read_to(index).await;
    }
    let image = cluster.places[0].handle().image();
    let mut late = FakeBroker::new(8, cluster.addresses());
    let began = Instant::now();
    let bytes: usize = image.to_records().map(|record| record.encode().unwrap().len()).sum();
    assert!(bytes > 2 * usize::try_from(limits::FEED_BYTES).unwrap(), "{bytes} are several pieces");
    let mut is_whole = false;
    while late.replica.next_index() <= image.index() {
        let entries = tokio::time::timeout(DEADLINE, late.feed.next()).await.unwrap().unwrap();
        is_whole |= entries.iter().any(|entry| entry.is_whole);
        late.replica.apply(&entries).unwrap();
        moment(began, "it does not get there").await;
    }
    assert!(is_whole, "the log does not reach back so far");
    assert_eq!(late.replica.image(), &image);
    assert_eq!(first.replica.image(), &image);
    // It goes on from there, and so does the one that was there all the time.
    let index = create(&first.handle, "last").await;
    late.read_to(index).await;
    first.read_to(index).await;
    assert_eq!(late.replica.image(), first.replica.image());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_of_another_cluster_are_refused() {
    let cluster = Cluster::alone(|_| {});
    let options = RemoteOptions {
        cluster_id: Some("another".to_owned()),
        ..RemoteOptions::new(cluster.addresses(), "lost".to_owned())
    };
    let handle = CoordinatorHandle::remote(options);
    assert!(matches!(handle.cluster_id().await, Err(RequestError::OtherCluster(_))));
    let asked = handle.create_topics(creation("a", 1)).await;
    assert!(matches!(asked, Err(RequestError::OtherCluster(_))));
    let ended = tokio::time::timeout(DEADLINE, handle.feed(0).next()).await.unwrap();
    assert!(matches!(ended, Err(FeedError::OtherCluster { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_broker_of_this_process_lives_until_it_speaks_for_itself() {
    let files = FaultyFiles::new();
    make_data_dir(&files);
    let (time, config) = (Arc::new(AtomicI64::new(0)), session(2000));
    let clock = time.clone();
    let monotonic = Arc::new(move || clock.load(Ordering::Relaxed));
    let (_coordinator, handle) =
        Coordinator::start(CoordinatorOptions { config, monotonic, ..options(&files) }).unwrap();
    let epoch = handle.register_broker(registration()).await.unwrap().response.broker_epoch;
    // The time passes in steps, and each request makes the driver look at it.
    for step in 0..10 {
        time.fetch_add(900, Ordering::Relaxed);
        create(&handle, &format!("t{step}")).await;
    }
    assert!(handle.image().broker(BrokerId(1)).is_some_and(|broker| !broker.fenced));
    let heartbeat = BrokerHeartbeatRequest {
        broker_id: 1,
        broker_epoch: epoch,
        current_metadata_offset: epoch,
        ..BrokerHeartbeatRequest::default()
    };
    assert!(!handle.broker_heartbeat(heartbeat).await.unwrap().response.is_fenced);
    // A controller that stood still gives a broker more time, so the clock has to go on until it is fenced.
    let is_fenced = || handle.image().broker(BrokerId(1)).is_some_and(|broker| broker.fenced);
    for step in 0..200 {
        if is_fenced() {
            break;
        }
        time.fetch_add(300, Ordering::Relaxed);
        handle.create_topics(creation(&format!("u{step}"), 1)).await.unwrap();
    }
    assert!(is_fenced(), "it is silent for a minute");
}
