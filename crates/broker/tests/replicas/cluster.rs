//! Brokers in this process, each on a file system in memory and a port of its own, and a controller without consensus: its decisions
//! are the real ones, its log is a list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ottla_broker::config::StaticSettings;
use ottla_broker::control::Control;
use ottla_broker::dispatch::Dispatch;
use ottla_broker::fetch_sessions::FetchSessions;
use ottla_broker::groups::Groups;
use ottla_broker::life::Life;
use ottla_broker::logs::Logs;
use ottla_broker::producer_ids::ProducerIds;
use ottla_broker::reconciler::Reconciler;
use ottla_broker::replication::leading::FollowerSessions;
use ottla_broker::replication::{IsrAnswer, IsrController, Replication};
use ottla_broker::shutdown::Shutdown;
use ottla_broker::state::{State, now_ms};
use ottla_broker::topics::Topics;
use ottla_broker::{BrokerConfig, Metrics, registration};
use ottla_cluster::config::ConfigMap;
use ottla_cluster::controller::{Context, Controller, Outcome, Settings, Tenure};
use ottla_cluster::image::{MetadataDelta, MetadataImage, MetadataRecord, PartitionImage};
use ottla_coordinator::{Coordinator, CoordinatorHandle, CoordinatorOptions};
use ottla_partition::Partition;
use ottla_protocol::generated::alter_partition::AlterPartitionRequest;
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::generated::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{Found, Identity, LogDirectory};
use ottla_storage::files::faulty::{FaultyFiles, Survival};
use ottla_transport::client::Client;
use ottla_transport::server::{Listener, ListenerOptions, Server, ServerOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, pause};

pub const CLUSTER: &str = "replicas";

type Entry = (i64, Arc<Vec<MetadataRecord>>);

/// The controller: decides, and hands what it decided to every broker in order.
pub struct Metadata {
    inner: Mutex<Inner>,
    settings: Settings,
}

struct Inner {
    image: MetadataImage,
    tenure: Tenure,
    now_ms: i64,
    draws: u64,
    log: Vec<Arc<Vec<MetadataRecord>>>,
    feeds: BTreeMap<i32, mpsc::UnboundedSender<Entry>>,
}

impl Metadata {
    fn new() -> Arc<Self> {
        let fixed = ConfigMap::from([("auto.leader.rebalance.enable".to_owned(), "false".to_owned())]);
        let settings = Settings::new(CLUSTER.to_owned(), fixed);
        let image = MetadataImage::default();
        let tenure = Tenure::new(&image, &settings, 0);
        let inner = Inner { image, tenure, now_ms: 0, draws: 1, log: Vec::new(), feeds: BTreeMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), settings })
    }

    fn decide<R>(
        &self,
        decide: impl FnOnce(&mut Controller<'_>, &mut Tenure, i64, &mut Context<'_>) -> Outcome<R>,
    ) -> R {
        let mut inner = self.inner.lock().unwrap();
        let Inner { image, tenure, now_ms, draws, log, feeds } = &mut *inner;
        let mut entropy = || {
            *draws = draws.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *draws
        };
        let mut controller = Controller::new(image.clone(), &self.settings);
        let index = i64::try_from(log.len()).unwrap();
        let outcome = decide(&mut controller, tenure, *now_ms, &mut Context { index, entropy: &mut entropy });
        if !outcome.records.is_empty() {
            *image = controller.into_image();
            image.set_index(index);
            let records = Arc::new(outcome.records);
            log.push(records.clone());
            feeds.retain(|_, feed| feed.send((index, records.clone())).is_ok());
        }
        outcome.response
    }

    /// Everything from the beginning, and then what comes.
    fn feed(&self, id: i32) -> mpsc::UnboundedReceiver<Entry> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.inner.lock().unwrap();
        for (index, records) in (0..).zip(&inner.log) {
            sender.send((index, records.clone())).unwrap();
        }
        inner.feeds.insert(id, sender);
        receiver
    }

    pub fn index(&self) -> i64 {
        self.inner.lock().unwrap().image.index()
    }

    /// Registers a broker, which is fenced then; gives its epoch.
    fn admit(&self, request: &BrokerRegistrationRequest) -> i64 {
        let response = self.decide(|controller, tenure, now, context| {
            controller.admit_broker(request, tenure, now, context)
        });
        assert_eq!(response.error_code, 0);
        response.broker_epoch
    }

    fn heartbeat(&self, id: i32, broker_epoch: i64) {
        let current_metadata_offset = self.index();
        let request = BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch,
            current_metadata_offset,
            ..BrokerHeartbeatRequest::default()
        };
        self.decide(|controller, tenure, now, context| {
            controller.broker_heartbeat(&request, tenure, now, context)
        });
    }

    /// So much time passes for the controller, while it hears of those brokers only: the others are fenced when it is long.
    pub fn pass(&self, ms: i64, heard: &[&Node]) {
        for _ in 0..10 {
            self.inner.lock().unwrap().now_ms += ms / 10;
            heard.iter().for_each(|node| self.heartbeat(node.id, node.epoch));
            self.decide(|controller, tenure, now, context| controller.tick(tenure, now, context));
        }
    }

    pub fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
            ..CreatableTopicConfig::default()
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: i16::try_from(self.inner.lock().unwrap().image.brokers().count()).unwrap(),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = self.decide(|controller, _, _, context| controller.create_topics(&request, context));
        assert_eq!(response.topics[0].error_code, 0);
    }

    pub fn partition(&self, topic: &str) -> PartitionImage {
        self.inner.lock().unwrap().image.topic_by_name(topic).unwrap().partitions[0].as_ref().clone()
    }

    pub fn isr(&self, topic: &str) -> BTreeSet<i32> {
        self.partition(topic).isr.iter().map(|id| id.0).collect()
    }
}

impl IsrController for Metadata {
    fn alter_partition(&self, request: AlterPartitionRequest) -> IsrAnswer<'_> {
        Box::pin(std::future::ready(Ok(
            self.decide(|controller, _, _, _| controller.alter_partition(&request))
        )))
    }
}

/// All of them.
pub struct Cluster {
    pub metadata: Arc<Metadata>,
    pub nodes: BTreeMap<i32, Node>,
    /// What handlers need that ask the controller; nothing here does.
    handle: CoordinatorHandle,
    coordinator: Coordinator,
}

/// One broker.
pub struct Node {
    pub id: i32,
    pub epoch: i64,
    pub state: Arc<State>,
    pub address: std::net::SocketAddr,
    files: FaultyFiles,
    replication: Arc<Replication>,
    server: Arc<Server>,
    feeding: JoinHandle<()>,
    stop: CancellationToken,
}

impl Cluster {
    pub async fn start(brokers: i32) -> Self {
        let files = FaultyFiles::new().shared();
        let options =
            CoordinatorOptions::new(files, PathBuf::from("/meta"), CLUSTER.to_owned(), 99, Uuid([9; 16]));
        let (coordinator, handle) = Coordinator::start(options).unwrap();
        let mut cluster = Self { metadata: Metadata::new(), nodes: BTreeMap::new(), handle, coordinator };
        for id in 1..=brokers {
            cluster.start_node(id, FaultyFiles::new()).await;
        }
        cluster
    }

    /// Starts a broker on these files, and waits until it is not fenced.
    pub async fn start_node(&mut self, id: i32, files: FaultyFiles) {
        let node = Node::start(id, files, self.metadata.clone(), self.handle.clone()).await;
        self.nodes.insert(id, node);
    }

    /// Ends a broker at once. What it leaves on its disk is what was synced.
    pub async fn kill(&mut self, id: i32) -> FaultyFiles {
        let node = self.nodes.remove(&id).unwrap();
        let left = node.files.crash_image(node.files.operation_count(), Survival::SyncedOnly, 7);
        node.stop().await;
        left
    }

    /// The leader that the metadata names.
    pub fn leader(&self, topic: &str) -> &Node {
        &self.nodes[&self.metadata.partition(topic).leader.0]
    }

    pub fn partition(&self, id: i32, topic: &str) -> Option<Arc<Partition>> {
        let state = &self.nodes[&id].state;
        state.partition_by_name(&state.image(), topic, 0).ok()
    }

    /// Waits until so many replicas are in sync.
    pub async fn until_in_sync(&self, topic: &str, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.metadata.isr(topic).len() < count {
            assert!(
                Instant::now() < deadline,
                "{:#?}\n{}",
                self.metadata.partition(topic),
                self.describe(topic)
            );
            pause().await;
        }
    }

    /// What the replicas know, for a failure's message.
    fn describe(&self, topic: &str) -> String {
        let mut text = String::new();
        for (id, node) in &self.nodes {
            let fenced = node.state.image().broker(BrokerId(*id)).map(|broker| broker.fenced);
            writeln!(text, "broker {id}, epoch {}, fenced: {fenced:?}", node.epoch).unwrap();
            let Some(partition) = self.partition(*id, topic) else { continue };
            let ends = partition.with_open_log(|log| (log.end_offset(), log.durable_offset()));
            let (following, report) = (partition.following(), partition.durable_report());
            let high_watermark = partition.high_watermark();
            writeln!(text, "  {following:?} {report:?} {ends:?} {high_watermark} {:?}", partition.failure())
                .unwrap();
        }
        text
    }

    pub async fn stop(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.stop().await;
        }
        let coordinator = self.coordinator;
        tokio::task::spawn_blocking(move || coordinator.stop()).await.unwrap().unwrap();
    }
}

impl Node {
    async fn start(id: i32, files: FaultyFiles, metadata: Arc<Metadata>, handle: CoordinatorHandle) -> Self {
        let config = config(id);
        let listener =
            Listener::bind(&ListenerOptions::new("PLAINTEXT", "127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.local_address();
        let (directory, found) = open_directory(id, &files);
        let listening = [("PLAINTEXT".to_owned(), address)];
        let directories = [directory.meta().directory_id];
        let epoch = metadata.admit(&registration::request(&config, CLUSTER, &directories, None, &listening));
        let metrics = Arc::new(Metrics::new());
        let descriptors = Descriptors::new(files.shared(), 100);
        let logs = Logs::new(vec![directory], &[found.partitions], descriptors, metrics.clone()).unwrap();
        let logs = Arc::new(logs);
        let (publish, image) = watch::channel(Arc::new(MetadataImage::default()));
        let topics = Arc::new(Topics::default());
        let groups = Arc::new(Groups::new(config.groups.clone(), logs.clone(), metrics.clone()));
        let listener_name = config.inter_broker_listener.clone();
        let replication = Replication::new(
            config.replication,
            BrokerId(id),
            listener_name,
            logs.outbox.clone(),
            image.clone(),
        );
        replication.set_broker_epoch(epoch);
        let reconciler = Reconciler::new(
            config.clone(),
            topics.clone(),
            logs.clone(),
            groups.clone(),
            replication.clone(),
        );
        let state = Arc::new(State {
            control: Control::new(handle, image.clone(), id, Life::new(BrokerId(id), epoch), Shutdown::new()),
            groups,
            followers: FollowerSessions::default(),
            sessions: FetchSessions::new(10, 1),
            producer_ids: ProducerIds::default(),
            metrics,
            image,
            cluster_id: CLUSTER.to_owned(),
            config,
            topics,
            logs,
        });
        let stop = CancellationToken::new();
        let service = Dispatch::new(state.clone());
        let server =
            Server::start(ServerOptions::default(), vec![listener], service, stop.child_token()).unwrap();
        let feeding = tokio::spawn(follow(metadata.feed(id), reconciler, publish, epoch));
        let reached = metadata.index();
        state.image.clone().wait_for(|image| image.index() >= reached).await.unwrap();
        state.groups.start();
        replication.start(metadata.clone(), state.topics.clone());
        metadata.heartbeat(id, epoch);
        Self { id, epoch, state, address, files, replication, server: Arc::new(server), feeding, stop }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.feeding.abort();
        self.state.groups.stop();
        self.replication.stop();
        self.replication.stopped().await;
        if let Some(server) = Arc::into_inner(self.server) {
            server.join().await;
        }
        self.state.groups.stopped().await;
        let (state, epoch) = (self.state, self.epoch);
        tokio::task::spawn_blocking(move || state.logs.close(&state.topics, epoch, now_ms())).await.unwrap();
    }
}

fn open_directory(id: i32, files: &FaultyFiles) -> (LogDirectory, Found) {
    let identity = Identity {
        cluster_id: CLUSTER.into(),
        node_id: BrokerId(id),
        new_directory_id: ottla_broker::broker::random_id(),
    };
    LogDirectory::open(files.shared(), PathBuf::from("/data"), &identity).unwrap()
}

fn config(id: i32) -> Arc<BrokerConfig> {
    let overrides = [
        "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
        format!("node.id={id}"),
        "log.dirs=/data".to_owned(),
        "replica.lag.time.max.ms=1500".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
    ];
    let settings = StaticSettings::gather(None, [], &overrides).unwrap();
    Arc::new(BrokerConfig::from_settings(settings).unwrap())
}

/// Applies what the controller decided. A process takes no part in what was before its own registration.
async fn follow(
    mut feed: mpsc::UnboundedReceiver<Entry>,
    reconciler: Reconciler,
    publish: watch::Sender<Arc<MetadataImage>>,
    epoch: i64,
) {
    let reconciler = Arc::new(reconciler);
    let mut image = MetadataImage::default();
    while let Some((index, records)) = feed.recv().await {
        let mut delta = MetadataDelta::default();
        for record in &*records {
            image.apply(record, &mut delta).unwrap();
        }
        image.set_index(index);
        if index < epoch {
            continue;
        }
        if index == epoch {
            delta = MetadataDelta::everything(&image);
        }
        let (applied, reconciler) = (Arc::new(image.clone()), reconciler.clone());
        let shown = applied.clone();
        tokio::task::spawn_blocking(move || reconciler.apply(&shown, &delta)).await.unwrap();
        publish.send_replace(applied);
    }
}
