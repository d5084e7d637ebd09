//! Start and stop of everything a broker consists of.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::Context;
use ottla_cluster::features::Features;
use ottla_cluster::image::{MetadataDelta, MetadataImage, Resource};
use ottla_coordinator::{Coordinator, CoordinatorHandle, CoordinatorOptions, ImageReplica, MetadataFeed};
pub use ottla_process::random::id as random_id;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{Found, Identity, LogDirectory};
use ottla_storage::files::Files;
use ottla_storage::files::real::RealFiles;
use ottla_storage::meta::MetaProperties;
use ottla_transport::server::{ConnectionLimits, Listener, ListenerOptions, Server, ServerOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::effective::DynamicConfig;
use crate::control::Control;
use crate::dispatch::Dispatch;
use crate::fetch_sessions::FetchSessions;
use crate::groups::Groups;
use crate::limits::{DESCRIPTOR_SHARE, DRAIN_MAX};
use crate::logs::Logs;
use crate::producer_ids::ProducerIds;
use crate::reconciler::Reconciler;
use crate::replication::Replication;
use crate::replication::leading::FollowerSessions;
use crate::shutdown::Reason;
use crate::state::{State, now_ms};
use crate::topics::Topics;
use crate::{BrokerConfig, Shell, disks, maintenance, recovery, registration};

/// A running broker.
pub struct Broker {
    state: Arc<State>,
    replication: Arc<Replication>,
    server: Arc<Server>,
    addresses: Vec<SocketAddr>,
    coordinator: Coordinator,
    broker_epoch: i64,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// What the log directories were opened to.
struct Opened {
    directories: Vec<LogDirectory>,
    found: Vec<Found>,
    cluster_id: String,
}

/// A broker's place in its cluster.
struct Joined {
    coordinator: Coordinator,
    handle: CoordinatorHandle,
    broker_epoch: i64,
    logs: Arc<Logs>,
    cluster_id: String,
}

impl Broker {
    /// Opens the log directories, starts the embedded coordinator and the listeners. When it returns, requests are served.
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
        let listeners = bind(&config)?;
        let addresses = listeners.iter().map(Listener::local_address).collect();
        let joined = join(&config, &files, &listeners, &shell).await?;
        let (handle, broker_epoch) = (joined.handle, joined.broker_epoch);
        let topics = Arc::new(Topics::default());
        let groups = Groups::new(config.groups.clone(), joined.logs.clone(), shell.metrics.clone());
        let groups = Arc::new(groups);
        let image = Arc::new(handle.image());
        let (publish, images) = watch::channel(image.clone());
        let replication = replication(&config, &joined.logs, &images, broker_epoch);
        let reconciler = Reconciler::new(
            config.clone(),
            topics.clone(),
            joined.logs.clone(),
            groups.clone(),
            replication.clone(),
        );
        let reconciler = Arc::new(reconciler);
        assert!(image.index() >= broker_epoch, "a registration is committed before it is answered");
        let feed = handle.feed(image.index() + 1);
        become_image(&reconciler, &image).await?;
        recover(&config, &topics, &joined.logs, &image).await?;
        groups.start();
        let stop = CancellationToken::new();
        let slots = config.max_incremental_fetch_session_cache_slots;
        let state = Arc::new(State {
            control: Control::new(
                handle,
                images.clone(),
                config.node_id,
                broker_epoch,
                shell.shutdown.clone(),
            ),
            groups,
            followers: FollowerSessions::default(),
            sessions: FetchSessions::new(slots, first_session_id()),
            producer_ids: ProducerIds::default(),
            metrics: shell.metrics.clone(),
            image: images,
            cluster_id: joined.cluster_id,
            config: config.clone(),
            topics,
            logs: joined.logs,
        });
        replication.start(Arc::new(state.control.clone()), state.topics.clone());
        let options = server_options(&config, &state.image());
        let service = Dispatch::new(state.clone());
        let server = Arc::new(Server::start(options, listeners, service, stop.child_token())?);
        let mut tasks = maintenance::start(&state, &stop);
        tasks.push(shell.control.spawn(disks::watch(state.clone(), shell.clone(), stop.clone())));
        let become_it = reconcile(config, reconciler, server.clone());
        let followed = ImageReplica::new((*image).clone());
        let (shutdown, stopping) = (shell.shutdown.clone(), stop.clone());
        tasks.push(shell.control.spawn(async move {
            if let Err(error) = follow(feed, followed, become_it, publish, stopping).await {
                shutdown.request(Reason::Fatal(format!("the metadata feed ended: {error:#}")));
            }
        }));
        crate::observe::observe(&shell, &state, &server);
        Ok(Broker {
            state,
            replication,
            server,
            addresses,
            coordinator: joined.coordinator,
            broker_epoch,
            tasks,
            stop,
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

    /// Stops accepting, finishes what is in flight, syncs and closes the logs.
    pub async fn stop(self) {
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
        let (state, epoch, coordinator) = (self.state, self.broker_epoch, self.coordinator);
        let closed = tokio::task::spawn_blocking(move || {
            if let Err(error) = coordinator.stop() {
                tracing::error!(%error, "the embedded coordinator did not stop in order");
            }
            state.logs.close(&state.topics, epoch, now_ms());
        });
        closed.await.expect("closing the logs does not panic");
    }
}

fn bind(config: &BrokerConfig) -> anyhow::Result<Vec<Listener>> {
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let address = listener
            .address()
            .with_context(|| format!("listener {}: cannot resolve {}", listener.name, listener.host))?;
        let options = ListenerOptions {
            backlog: i32::try_from(config.socket.listen_backlog_size).unwrap_or(i32::MAX),
            send_buffer_bytes: config.socket.send_buffer_bytes,
            receive_buffer_bytes: config.socket.receive_buffer_bytes,
            ..ListenerOptions::new(listener.name.as_str(), address)
        };
        bound.push(Listener::bind(&options)?);
    }
    Ok(bound)
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

/// Opens the directories, starts the embedded coordinator on them and registers this process with it.
async fn join(
    config: &BrokerConfig,
    files: &Arc<dyn Files>,
    listeners: &[Listener],
    shell: &Shell,
) -> anyhow::Result<Joined> {
    // One who is told to be one of several must not come up as a cluster of its own, and take writes that are believed replicated.
    let is_alone = config.quorum.voters.len() < 2 && config.quorum.bootstrap_servers.len() < 2;
    anyhow::ensure!(config.roles.controller && is_alone, "clusters of several nodes are not served yet");
    let Opened { directories, found, cluster_id } = open_directories(config, files)?;
    let directory_ids: Vec<Uuid> = directories.iter().map(|d| d.meta().directory_id).collect();
    let previous_epoch = directories.iter().map(LogDirectory::clean_broker_epoch).min().flatten();
    let mut options = CoordinatorOptions::new(
        files.clone(),
        config.metadata_log_dir.clone(),
        cluster_id.clone(),
        config.node_id,
        directory_ids[0],
    );
    options.config = (*config.fixed).clone();
    let (coordinator, handle) = Coordinator::start(options).context("starting the embedded coordinator")?;
    let listening: Vec<_> = listeners.iter().map(|l| (l.name().to_string(), l.local_address())).collect();
    let request = registration::request(config, &cluster_id, &directory_ids, previous_epoch, &listening);
    let broker_epoch = registration::register(&handle, request).await?;
    let descriptors = Descriptors::new(files.clone(), descriptor_capacity());
    let partitions: Vec<_> = found.iter().map(|found| found.partitions.clone()).collect();
    let logs = Arc::new(Logs::new(directories, &partitions, descriptors, shell.metrics.clone())?);
    logs.remove_leftovers(found.into_iter().map(|found| found.deleted).collect());
    Ok(Joined { coordinator, handle, broker_epoch, logs, cluster_id })
}

/// Called with each new image and what is new in it.
type OnImage = dyn Fn(&MetadataImage, &MetadataDelta) + Send + Sync;

/// What is done with each new image: partitions become what it says, and limits that can change at run time do.
fn reconcile(config: Arc<BrokerConfig>, reconciler: Arc<Reconciler>, server: Arc<Server>) -> Arc<OnImage> {
    Arc::new(move |image, delta| {
        reconciler.apply(image, delta);
        if delta.configs_changed.iter().any(|resource| is_of_broker(resource, config.node_id)) {
            server.set_connection_limits(connection_limits(&DynamicConfig::resolve(&config, image)));
        }
    })
}

/// Opens every log directory under one cluster id: the one that a directory has, else a new one.
fn open_directories(config: &BrokerConfig, files: &Arc<dyn Files>) -> anyhow::Result<Opened> {
    let mut cluster_id = None;
    for path in &config.log_dirs {
        if let Some(meta) = MetaProperties::read(&**files, path)? {
            cluster_id.get_or_insert(meta.cluster_id);
        }
    }
    let cluster_id = cluster_id.unwrap_or_else(|| random_id().to_string());
    let mut opened = Opened { directories: Vec::new(), found: Vec::new(), cluster_id: cluster_id.clone() };
    for path in &config.log_dirs {
        let identity = Identity {
            cluster_id: cluster_id.clone(),
            node_id: BrokerId(config.node_id),
            new_directory_id: random_id(),
        };
        let (directory, found) = LogDirectory::open(files.clone(), path.clone(), &identity)?;
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
        opened.directories.push(directory);
        opened.found.push(found);
    }
    Ok(opened)
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
    let threads = DynamicConfig::resolve(config, image).recovery_threads_per_dir;
    let (topics, logs, image) = (topics.clone(), logs.clone(), image.clone());
    let work = move || {
        recovery::set_aside_strangers(&logs, &image);
        recovery::run(&topics, &logs, &image, threads);
    };
    tokio::task::spawn_blocking(work).await.context("recovery panicked")
}

/// Follows the feed until the stop; every image is published after the broker has become what it says.
async fn follow(
    mut feed: MetadataFeed,
    mut followed: ImageReplica,
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
        let (become_it, applied) = (become_it.clone(), image.clone());
        tokio::task::spawn_blocking(move || become_it(&applied, &delta)).await?;
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

/// Log files that may be open at once: half of what the process may open, the rest is for connections.
fn descriptor_capacity() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    usize::try_from(limit / DESCRIPTOR_SHARE).unwrap_or(usize::MAX).clamp(64, 100_000)
}

/// Session ids begin at a random place, so that a session of the process before is not taken for one of this.
fn first_session_id() -> i32 {
    let Uuid([a, b, c, d, ..]) = random_id();
    i32::from_be_bytes([a & 0x7f, b, c, d])
}
