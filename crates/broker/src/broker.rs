//! Start and stop of everything a broker consists of.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use anyhow::Context;
use ottla_cluster::features::Features;
use ottla_cluster::image::{MetadataDelta, MetadataImage, Resource};
use ottla_coordinator::{Coordinator, ImageReplica, MetadataFeed};
pub use ottla_process::random::id as random_id;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::directory::Claim;
use ottla_storage::files::Files;
use ottla_storage::files::real::RealFiles;
use ottla_transport::server::{ConnectionLimits, Listener, Server, ServerOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::assignments::Assignments;
use crate::config::effective::DynamicConfig;
use crate::control::Control;
use crate::dispatch::Dispatch;
use crate::fetch_sessions::FetchSessions;
use crate::groups::Groups;
use crate::joining::{Bound, Joined, join};
use crate::life::{Heart, Life, Pulse};
use crate::limits::DRAIN_MAX;
use crate::logs::Logs;
use crate::producer_ids::ProducerIds;
use crate::reconciler::Reconciler;
use crate::replication::Replication;
use crate::replication::leading::FollowerSessions;
use crate::shutdown::Reason;
use crate::state::{State, now_ms};
use crate::topics::Topics;
use crate::{BrokerConfig, Metrics, Shell, disks, maintenance, recovery};

/// A running broker.
pub struct Broker {
    state: Arc<State>,
    replication: Arc<Replication>,
    server: Arc<Server>,
    addresses: Vec<SocketAddr>,
    coordinator: Option<Coordinator>,
    life: Arc<Life>,
    pulse: Pulse,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    _metadata_lock: Option<Claim>,
}

impl Broker {
    /// Joins the cluster, which is this node alone where nothing else is configured, recovers the logs and starts the listeners. When
    /// it returns, requests are served and this broker may lead.
    ///
    /// # Errors
    /// What keeps the broker from serving: a directory in use or unreadable, a port in use.
    pub async fn start(config: BrokerConfig, shell: Shell) -> anyhow::Result<Broker> {
        Broker::start_on(config, shell, Arc::new(RealFiles)).await
    }

    /// [`Broker::start`] on a file system of the caller's: for tests of disks that fail.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub async fn start_on(
        config: BrokerConfig,
        shell: Shell,
        files: Arc<dyn Files>,
    ) -> anyhow::Result<Broker> {
        let config = Arc::new(config);
        // Ports first: a second broker on the same port ends before it has touched any data.
        let mut bound = Bound::new(&config)?;
        let addresses = bound.clients.iter().map(Listener::local_address).collect();
        let joined = join(&config, &files, &mut bound, &shell).await?;
        let image = Arc::new(joined.followed.image().clone());
        let (publish, images) = watch::channel(image.clone());
        let parts = Parts::new(&config, &joined, &images, &shell);
        let pulse = parts.begin_heartbeats(&config, &joined, &images, &shell);
        become_image(&parts.reconciler, &image).await?;
        recover(&config, &parts.topics, &joined.logs, &image).await?;
        parts.groups.start();
        parts.assignments.look(&image, &MetadataDelta::everything(&image));
        let Parts { replication, reconciler, assignments, .. } = parts.clone();
        let stop = CancellationToken::new();
        let (life, handle) = (joined.life, joined.handle.clone());
        let telling = assignments.clone().run(handle, life.clone(), stop.clone());
        let followed = (joined.feed, joined.followed);
        let control =
            Control::new(joined.handle, images.clone(), config.node_id, life.clone(), shell.shutdown.clone());
        let state = state(&config, &shell, parts, control, joined.logs, joined.cluster_id, images.clone());
        replication.start(Arc::new(state.control.clone()), state.topics.clone());
        let options = server_options(&config, &state.image());
        let service = Dispatch::new(state.clone());
        let server = Arc::new(Server::start(options, bound.clients, service, stop.child_token())?);
        let mut tasks = maintenance::start(&state, &stop);
        tasks.push(shell.control.spawn(disks::watch(state.clone(), shell.clone(), stop.clone())));
        tasks.push(shell.control.spawn(telling));
        let become_it = reconcile(config, reconciler, assignments, server.clone(), shell.metrics.clone());
        let (shutdown, stopping) = (shell.shutdown.clone(), stop.clone());
        tasks.push(shell.control.spawn(async move {
            if let Err(error) = follow(followed, become_it, publish, stopping).await {
                shutdown.request(Reason::Fatal(format!("the metadata feed ended: {error:#}")));
            }
        }));
        crate::observe::observe(&shell, &state, &server);
        life.serve(images).await;
        Ok(Broker {
            state,
            replication,
            server,
            addresses,
            coordinator: joined.coordinator,
            life,
            pulse,
            tasks,
            stop,
            _metadata_lock: joined.metadata_lock,
        })
    }

    /// Where it listens, in the order of the configured listeners.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Forgets silent idempotent producers now; a timer does it otherwise.
    pub fn expire_producers(&self) {
        maintenance::expire_producers(&self.state);
    }

    /// Hands leadership over, then stops accepting, finishes what is in flight, syncs and closes the logs.
    pub async fn stop(self) {
        if self.state.config.controlled_shutdown_enable {
            self.life.prepare_stop(&self.state.image()).await;
        }
        self.stop_at_once().await;
    }

    /// [`Broker::stop`] without waiting for others to lead: for one that cannot go on.
    pub async fn stop_at_once(self) {
        self.pulse.stop().await;
        self.stop.cancel();
        self.state.groups.stop();
        self.replication.stop();
        self.replication.stopped().await;
        for task in self.tasks {
            // A task that panicked has been reported by the panic itself.
            task.await.ok();
        }
        // A task that panicked may have leaked its share; the server then ends by itself.
        if let Some(server) = Arc::into_inner(self.server) {
            server.join().await;
        }
        self.state.groups.stopped().await;
        let (state, epoch, coordinator) = (self.state, self.life.epoch(), self.coordinator);
        let closed = tokio::task::spawn_blocking(move || state.logs.close(&state.topics, epoch, now_ms()));
        closed.await.expect("closing the logs does not panic");
        if let Some(coordinator) = coordinator {
            let stopped = tokio::task::spawn_blocking(move || coordinator.stop());
            if let Err(error) = stopped.await.expect("the stop of the coordinator does not panic") {
                tracing::error!(%error, "the embedded coordinator did not stop in order");
            }
        }
    }
}

/// What the metadata says something about.
#[derive(Clone)]
struct Parts {
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    replication: Arc<Replication>,
    reconciler: Arc<Reconciler>,
    assignments: Arc<Assignments>,
}

impl Parts {
    fn new(
        config: &Arc<BrokerConfig>,
        joined: &Joined,
        images: &watch::Receiver<Arc<MetadataImage>>,
        shell: &Shell,
    ) -> Self {
        let logs = &joined.logs;
        let topics = Arc::new(Topics::default());
        let groups = Arc::new(Groups::new(config.groups.clone(), logs.clone(), shell.metrics.clone()));
        let replication = replication(config, logs, images, joined.life.epoch());
        let (own, served, grouped) = (config.clone(), topics.clone(), groups.clone());
        let reconciler = Reconciler::new(own, served, logs.clone(), grouped, replication.clone());
        let assignments = Assignments::new(BrokerId(config.node_id), logs.clone());
        Self { topics, groups, replication, reconciler: Arc::new(reconciler), assignments }
    }

    fn begin_heartbeats(
        &self,
        config: &BrokerConfig,
        joined: &Joined,
        images: &watch::Receiver<Arc<MetadataImage>>,
        shell: &Shell,
    ) -> Pulse {
        let (logs, replication, health) =
            (joined.logs.clone(), self.replication.clone(), shell.health.clone());
        let heart = Heart {
            handle: joined.handle.clone(),
            registration: joined.registration.clone(),
            image: images.clone(),
            offline: Box::new(move || logs.offline_ids()),
            registered: Box::new(move |epoch| replication.set_broker_epoch(epoch)),
            fenced: Box::new(move |is_fenced| health.set_fenced(is_fenced)),
            interval: config.heartbeat_interval,
            session: config.session_timeout,
        };
        joined.life.clone().begin(heart, &shell.control)
    }
}

fn state(
    config: &Arc<BrokerConfig>,
    shell: &Shell,
    parts: Parts,
    control: Control,
    logs: Arc<Logs>,
    cluster_id: String,
    image: watch::Receiver<Arc<MetadataImage>>,
) -> Arc<State> {
    let slots = config.max_incremental_fetch_session_cache_slots;
    Arc::new(State {
        control,
        groups: parts.groups,
        followers: FollowerSessions::default(),
        sessions: FetchSessions::new(slots, first_session_id()),
        producer_ids: ProducerIds::default(),
        metrics: shell.metrics.clone(),
        image,
        cluster_id,
        config: config.clone(),
        topics: parts.topics,
        logs,
    })
}

fn replication(
    config: &BrokerConfig,
    logs: &Logs,
    images: &watch::Receiver<Arc<MetadataImage>>,
    broker_epoch: i64,
) -> Arc<Replication> {
    let (me, listener) = (BrokerId(config.node_id), config.inter_broker_listener.clone());
    let replication = Replication::new(config.replication, me, listener, logs.outbox.clone(), images.clone());
    replication.set_broker_epoch(broker_epoch);
    replication
}

/// Called with the image before, the new one, and what is new in it.
type OnImage = dyn Fn(&MetadataImage, &MetadataImage, &MetadataDelta) + Send + Sync;

/// What is done with each new image: partitions become what it says, and limits that can change at run time do.
fn reconcile(
    config: Arc<BrokerConfig>,
    reconciler: Arc<Reconciler>,
    assignments: Arc<Assignments>,
    server: Arc<Server>,
    metrics: Arc<Metrics>,
) -> Arc<OnImage> {
    Arc::new(move |before, image, delta| {
        metrics.replication.count(before, image, delta, BrokerId(config.node_id));
        reconciler.apply(image, delta);
        assignments.look(image, delta);
        if delta.configs_changed.iter().any(|resource| is_of_broker(resource, config.node_id)) {
            server.set_connection_limits(connection_limits(&DynamicConfig::resolve(&config, image)));
        }
    })
}

/// Makes this broker what the image says, from nothing.
async fn become_image(reconciler: &Arc<Reconciler>, image: &Arc<MetadataImage>) -> anyhow::Result<()> {
    let (reconciler, image) = (reconciler.clone(), image.clone());
    let apply = move || reconciler.apply(&image, &MetadataDelta::everything(&image));
    tokio::task::spawn_blocking(apply).await.context("applying the metadata panicked")
}

/// Sets aside what the metadata does not know, and recovers what was not closed in order.
async fn recover(
    config: &BrokerConfig,
    topics: &Arc<Topics>,
    logs: &Arc<Logs>,
    image: &Arc<MetadataImage>,
) -> anyhow::Result<()> {
    let me = BrokerId(config.node_id);
    let threads = DynamicConfig::resolve(config, image).recovery_threads_per_dir;
    let (topics, logs, image) = (topics.clone(), logs.clone(), image.clone());
    let work = move || {
        recovery::set_aside_strangers(&logs, &image, me);
        recovery::run(&topics, &logs, &image, threads);
    };
    tokio::task::spawn_blocking(work).await.context("recovery panicked")
}

/// Follows the feed until the stop; every image is published after the broker has become what it says.
async fn follow(
    (mut feed, mut followed): (MetadataFeed, ImageReplica),
    become_it: Arc<OnImage>,
    publish: watch::Sender<Arc<MetadataImage>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // Both branches are cancel-safe: an entry that was not taken stays in the feed.
        let entries = tokio::select! {
            entries = feed.next() => entries?,
            () = stop.cancelled() => return Ok(()),
        };
        let (image, delta) = followed.apply(&entries)?;
        if !delta.features_changed.is_empty() {
            Features::known().check(&image)?;
        }
        let image = Arc::new(image);
        let (become_it, before, applied) = (become_it.clone(), publish.borrow().clone(), image.clone());
        tokio::task::spawn_blocking(move || become_it(&before, &applied, &delta)).await?;
        publish.send_replace(image);
    }
}

fn is_of_broker(resource: &Resource, node_id: i32) -> bool {
    match resource {
        Resource::Brokers => true,
        Resource::Broker(id) => id.0 == node_id,
        Resource::Topic(_) | Resource::Group(_) => false,
    }
}

fn server_options(config: &BrokerConfig, image: &MetadataImage) -> ServerOptions {
    ServerOptions {
        request_bytes_max: config.socket.request_max_bytes as usize,
        queued_request_bytes_max: Some(config.queued_max_request_bytes),
        idle_max: config.connections_idle_max,
        drain_max: DRAIN_MAX,
        connections: connection_limits(&DynamicConfig::resolve(config, image)),
        ..Default::default()
    }
}

fn connection_limits(dynamic: &DynamicConfig) -> ConnectionLimits {
    let limit = |count: usize| (count < i32::MAX as usize).then_some(count);
    let resolved = dynamic.connections.max_per_ip_overrides.iter().filter_map(|(host, count)| {
        let addresses = (host.as_str(), 0).to_socket_addrs().ok()?;
        Some(addresses.map(|address| (address.ip(), *count)).collect::<Vec<_>>())
    });
    ConnectionLimits {
        total_max: limit(dynamic.connections.max),
        per_ip_max: limit(dynamic.connections.max_per_ip),
        per_ip_overrides: resolved.flatten().collect(),
        ..Default::default()
    }
}

/// Session ids begin at a random place, so that a session of the process before is not taken for one of this.
fn first_session_id() -> i32 {
    let Uuid([a, b, c, d, ..]) = random_id();
    i32::from_be_bytes([a & 0x7f, b, c, d])
}
