//! The broker's configuration: `server.properties`, `KAFKA_*` environment variables and `--override`, merged under Kafka's names
//! and turned into typed values. Types, defaults and validators are those of the registry in `ottla_cluster::config`.

pub mod effective;
pub mod groups;
pub mod replication;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use groups::GroupsConfig;
use ottla_cluster::config::ConfigMap;
pub use ottla_process::config::{
    AdvertisedListener, ConfigError, HttpListener, Listener, LogFormat, QuorumConfig, Reader, Roles,
    SecurityProtocol, Setting, Source, StaticSettings,
};
use ottla_process::config::{
    http_listener, listeners, log_dirs, log_format, metadata_log_dir, node_id, quorum,
};
use replication::ReplicationConfig;

/// Bound of the requests in memory when `queued.max.request.bytes` leaves it to Ottla.
pub const QUEUED_REQUEST_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// The configuration that holds from start to stop, checked. What can be changed while the broker runs is not a field here:
/// ask [`effective`].
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`, or `broker.id`.
    pub node_id: i32,
    /// `process.roles`; always a broker.
    pub roles: Roles,
    /// `controller.quorum.*`.
    pub quorum: QuorumConfig,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Where clients connect, at least one; controller listeners are left out.
    pub listeners: Vec<Listener>,
    /// What clients are told; a listener may be without one, then it is not advertised.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// `inter.broker.listener.name`: the listener on which brokers reach each other.
    pub inter_broker_listener: String,
    /// Where coordinators and brokers connect; empty without the role controller, or when the quorum is this node alone.
    pub controller_listeners: Vec<Listener>,
    /// What coordinators and brokers are told of those, in their order.
    pub advertised_controllers: Vec<AdvertisedListener>,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`, as far as this broker knows: the controller's counts.
    pub session_timeout: Duration,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown_enable: bool,
    /// `log.dirs`, or `log.dir`: at least one, each once.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, by default the first of `log_dirs`.
    pub metadata_log_dir: PathBuf,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `socket.*`.
    pub socket: SocketConfig,
    /// `connections.max.idle.ms`; none (negative): never.
    pub connections_idle_max: Option<Duration>,
    /// `queued.max.request.bytes`.
    pub queued_max_request_bytes: u64,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: usize,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: usize,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub log_flush_offset_checkpoint_interval: Duration,
    /// `log.cleaner.enable`.
    pub log_cleaner_enable: bool,
    /// `replica.*`.
    pub replication: ReplicationConfig,
    /// `group.*` and `offsets.*`.
    pub groups: GroupsConfig,
    /// `ottla.http.listener`.
    pub http_listener: HttpListener,
    /// `ottla.log.format`.
    pub log_format: LogFormat,
    /// All that was set, by key, with its source; defaults are not in it.
    pub settings: Arc<StaticSettings>,
    /// The same without sources, as the registry's layers want it: `Layers::fixed`.
    pub fixed: Arc<ConfigMap>,
}

/// `socket.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// `socket.send.buffer.bytes`; none (-1): the system's.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; none (-1): the system's.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog_size: u32,
    /// `socket.request.max.bytes`.
    pub request_max_bytes: u32,
}

/// `max.connections*`; a part of [`effective::DynamicConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`, over all listeners.
    pub max: usize,
    /// `max.connections.per.ip`.
    pub max_per_ip: usize,
    /// `max.connections.per.ip.overrides`, by address or host name.
    pub max_per_ip_overrides: BTreeMap<String, usize>,
}

impl BrokerConfig {
    /// Checks every setting against the registry, then all together.
    ///
    /// # Errors
    /// The first value that is wrong, with its source and what to do.
    pub fn from_settings(settings: StaticSettings) -> Result<BrokerConfig, ConfigError> {
        let r = Reader::new(&settings)?;
        let node_id = node_id(&r)?;
        let roles = roles(&r)?;
        let quorum = quorum::read(&r, node_id, roles)?;
        let listeners = listeners::read(&r, roles)?;
        quorum::check_listeners(&r, roles, &quorum, &listeners)?;
        let log_dirs = log_dirs(&r)?;
        let socket = socket(&r);
        let config = BrokerConfig {
            node_id,
            roles,
            quorum,
            rack: r.text("broker.rack"),
            listeners: listeners.clients,
            advertised_listeners: listeners.advertised,
            inter_broker_listener: listeners.inter_broker,
            controller_listeners: listeners.controllers,
            advertised_controllers: listeners.advertised_controllers,
            heartbeat_interval: r.millis("broker.heartbeat.interval.ms"),
            session_timeout: r.millis("broker.session.timeout.ms"),
            controlled_shutdown_enable: r.boolean("controlled.shutdown.enable"),
            metadata_log_dir: metadata_log_dir(&r, &log_dirs)?,
            log_dirs,
            num_partitions: r.number("num.partitions"),
            default_replication_factor: default_replication_factor(&r)?,
            auto_create_topics_enable: r.boolean("auto.create.topics.enable"),
            delete_topic_enable: r.boolean("delete.topic.enable"),
            socket,
            connections_idle_max: r.limit("connections.max.idle.ms").map(Duration::from_millis),
            queued_max_request_bytes: queued_max_request_bytes(&r, socket.request_max_bytes)?,
            fetch_max_bytes: r.number("fetch.max.bytes"),
            max_incremental_fetch_session_cache_slots: r.number("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: r.number("max.request.partition.size.limit"),
            log_retention_check_interval: r.millis("log.retention.check.interval.ms"),
            log_flush_offset_checkpoint_interval: r.millis("log.flush.offset.checkpoint.interval.ms"),
            log_cleaner_enable: r.boolean("log.cleaner.enable"),
            replication: replication::read(&r),
            groups: groups::read(&r),
            http_listener: http_listener(&r)?,
            log_format: log_format(&r),
            fixed: Arc::new(r.fixed()),
            settings: Arc::new(settings.clone()),
        };
        effective::check_fixed(&r)?;
        Ok(config)
    }

    /// What the clients of a listener are told; none when it is not advertised.
    pub fn advertised(&self, listener_name: &str) -> Option<&AdvertisedListener> {
        self.advertised_listeners.iter().find(|advertised| advertised.name == listener_name)
    }
}

fn roles(r: &Reader<'_>) -> Result<Roles, ConfigError> {
    let roles = quorum::roles(r, Roles { broker: true, controller: true })?;
    if !roles.broker {
        let advice = "start ottla-coordinator for a node with the role controller alone";
        return Err(r.bad("process.roles", "ottla-broker is not for a node without the role broker", advice));
    }
    Ok(roles)
}

fn default_replication_factor(r: &Reader<'_>) -> Result<i16, ConfigError> {
    let key = "default.replication.factor";
    i16::try_from(r.number::<i32>(key))
        .map_err(|_| r.bad(key, "a topic has at most 32767 replicas", "use a smaller number"))
}

fn socket(r: &Reader<'_>) -> SocketConfig {
    let buffer = |key| r.limit(key).map(|bytes| usize::try_from(bytes).expect("checked to be an int"));
    SocketConfig {
        send_buffer_bytes: buffer("socket.send.buffer.bytes"),
        receive_buffer_bytes: buffer("socket.receive.buffer.bytes"),
        listen_backlog_size: r.number("socket.listen.backlog.size"),
        request_max_bytes: r.number("socket.request.max.bytes"),
    }
}

/// As in Kafka, a positive bound must leave room for one request of the largest size, or that one would wait for ever.
fn queued_max_request_bytes(r: &Reader<'_>, request_max_bytes: u32) -> Result<u64, ConfigError> {
    let key = "queued.max.request.bytes";
    let set = r.limit(key).filter(|&bytes| bytes > 0);
    match set {
        Some(bytes) if bytes < u64::from(request_max_bytes) => Err(r.bad(
            key,
            format!("it is below socket.request.max.bytes ({request_max_bytes}), so that a request might never fit"),
            "raise it or lower socket.request.max.bytes",
        )),
        Some(bytes) => Ok(bytes),
        None => Ok(QUEUED_REQUEST_BYTES_DEFAULT.max(u64::from(request_max_bytes))),
    }
}
