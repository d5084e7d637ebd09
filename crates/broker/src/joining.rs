//! A broker's way into its cluster: its listeners and directories, the coordinator in its process or those elsewhere, the cluster's id,
//! its registration, and the metadata up to that.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use ottla_cluster::features::Features;
use ottla_coordinator::{
    Coordinator, CoordinatorHandle, CoordinatorOptions, ImageReplica, MetadataFeed, RemoteOptions, settings,
};
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{Claim, LogDirectory};
use ottla_storage::files::Files;
use ottla_transport::server::{Listener, ListenerOptions};

use crate::directories::{Claimed, Opened};
use crate::life::Life;
use crate::limits::{DESCRIPTOR_SHARE, WAIT_NOTICE_INTERVAL};
use crate::logs::Logs;
use crate::registration::{self, Patience};
use crate::{BrokerConfig, Shell};

/// What the broker listens on: bound, and not served yet.
pub struct Bound {
    /// For clients and other brokers, in the configured order.
    pub clients: Vec<Listener>,
    /// For coordinators and their callers.
    controllers: Vec<Listener>,
}

/// A broker's place in its cluster: registered, and not serving yet.
pub struct Joined {
    /// The coordinator in this process, with the role controller.
    pub coordinator: Option<Coordinator>,
    /// The way to the controller.
    pub handle: CoordinatorHandle,
    /// This broker as the controller knows it.
    pub life: Arc<Life>,
    /// How it was registered.
    pub registration: BrokerRegistrationRequest,
    /// The metadata, at least up to the registration.
    pub followed: ImageReplica,
    /// What comes after that.
    pub feed: MetadataFeed,
    /// The log directories.
    pub logs: Arc<Logs>,
    /// The cluster.
    pub cluster_id: String,
    /// Held until the end.
    pub metadata_lock: Option<Claim>,
}

impl Bound {
    /// Binds all listeners.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn new(config: &BrokerConfig) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
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
            clients.push(Listener::bind(&options)?);
        }
        Ok(Self { clients, controllers: settings::bind(&config.controller_listeners)? })
    }

    /// The addresses of the clients' listeners, by name.
    fn listening(&self) -> Vec<(String, SocketAddr)> {
        self.clients.iter().map(|l| (l.name().to_string(), l.local_address())).collect()
    }
}

/// Joins the cluster: waits for its coordinators for as long as it takes.
///
/// # Errors
/// What waiting does not mend: a directory that is in use or another's, a registration that is refused.
pub async fn join(
    config: &BrokerConfig,
    files: &Arc<dyn Files>,
    bound: &mut Bound,
    shell: &Shell,
) -> anyhow::Result<Joined> {
    let claimed = Claimed::take(config, files)?;
    let (coordinator, handle) = if config.roles.controller {
        let controllers = std::mem::take(&mut bound.controllers);
        let (coordinator, handle) = coordinator(config, files, &claimed, controllers)?;
        (Some(coordinator), handle)
    } else {
        (None, remote(config, &claimed))
    };
    let cluster_id = cluster_id(config, &handle).await?;
    let Opened { directories, found, metadata } = claimed.open(config.node_id, &cluster_id)?;
    let directory_ids: Vec<Uuid> = directories.iter().map(|d| d.meta().directory_id).collect();
    let previous_epoch = directories.iter().map(LogDirectory::clean_broker_epoch).min().flatten();
    let descriptors = Descriptors::new(files.clone(), descriptor_capacity());
    let partitions: Vec<_> = found.iter().map(|found| found.partitions.clone()).collect();
    let logs = Arc::new(Logs::new(directories, &partitions, descriptors, shell.metrics.clone())?);
    logs.remove_leftovers(found.into_iter().map(|found| found.deleted).collect());
    let request =
        registration::request(config, &cluster_id, &directory_ids, previous_epoch, &bound.listening());
    let epoch = registration::register(&handle, &request).await?;
    let (followed, feed) = catch_up(&handle, epoch).await?;
    let life = Life::new(BrokerId(config.node_id), epoch);
    Ok(Joined {
        coordinator,
        handle,
        life,
        registration: request,
        followed,
        feed,
        logs,
        cluster_id,
        metadata_lock: metadata,
    })
}

/// The coordinator in this process.
fn coordinator(
    config: &BrokerConfig,
    files: &Arc<dyn Files>,
    claimed: &Claimed,
    listeners: Vec<Listener>,
) -> anyhow::Result<(Coordinator, CoordinatorHandle)> {
    let options = CoordinatorOptions {
        cluster_id: claimed.cluster_id.clone(),
        config: (*config.fixed).clone(),
        advertised: settings::endpoints(&config.advertised_controllers, &listeners),
        listeners,
        quorum: settings::quorum(&config.quorum),
        ..CoordinatorOptions::new(
            files.clone(),
            config.metadata_log_dir.clone(),
            String::new(),
            config.node_id,
            claimed.voter_directory_id()?,
        )
    };
    Coordinator::start(options).context("starting the embedded coordinator")
}

/// Coordinators elsewhere.
fn remote(config: &BrokerConfig, claimed: &Claimed) -> CoordinatorHandle {
    CoordinatorHandle::remote(RemoteOptions {
        node_id: config.node_id,
        cluster_id: claimed.cluster_id.clone(),
        ..RemoteOptions::new(config.quorum.addresses(), format!("broker-{}", config.node_id))
    })
}

/// The cluster's id, as soon as somebody knows it.
async fn cluster_id(config: &BrokerConfig, handle: &CoordinatorHandle) -> anyhow::Result<String> {
    let mut patience = Patience::default();
    let what = format!("looking for the coordinators at {}", config.quorum.addresses().join(", "));
    loop {
        // Cancel-safe: it is asked again.
        let asked = tokio::time::timeout(WAIT_NOTICE_INTERVAL, handle.cluster_id()).await;
        let why = match asked {
            Ok(Ok(cluster_id)) => return Ok(cluster_id),
            Ok(Err(error)) if registration::is_passing(&error) => error.to_string(),
            Ok(Err(error)) => return Err(error).context("joining the cluster"),
            Err(_) => "none of them says which cluster it belongs to".to_owned(),
        };
        patience.wait(&what, &why).await;
    }
}

/// The metadata with this broker's registration in it: older metadata would say of its partitions what is true no longer.
async fn catch_up(handle: &CoordinatorHandle, epoch: i64) -> anyhow::Result<(ImageReplica, MetadataFeed)> {
    let mut followed = ImageReplica::new(handle.local_image().unwrap_or_default());
    let mut feed = handle.feed(followed.next_index());
    while followed.image().index() < epoch {
        // Cancel-safe.
        match tokio::time::timeout(WAIT_NOTICE_INTERVAL, feed.next()).await {
            Ok(entries) => drop(followed.apply(&entries?)?),
            Err(_) => tracing::info!(
                index = followed.image().index(),
                epoch,
                "waiting for the metadata with this broker's registration"
            ),
        }
    }
    Features::known().check(followed.image())?;
    Ok((followed, feed))
}

/// Log files that may be open at once: half of what the process may open, the rest is for connections.
fn descriptor_capacity() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    usize::try_from(limit / DESCRIPTOR_SHARE).unwrap_or(usize::MAX).clamp(64, 100_000)
}
