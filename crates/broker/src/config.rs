//! The broker's configuration: `server.properties`, `KAFKA_*` environment variables and `--override`, merged with Kafka's names and
//! turned into typed values. Types, defaults and validators are those of `ottla_cluster::config::registry`.

pub mod env;
pub mod error;
pub mod listeners;
pub mod properties;
pub mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use error::ConfigError;
pub use listeners::{AdvertisedListener, Listener, SecurityProtocol};
pub use sources::{Setting, Source, StaticSettings};

/// The static configuration, checked. What a client may change while the broker runs is not a field here: ask
/// `config::effective`.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id` (or `broker.id`).
    pub node_id: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Where clients connect; controller listeners are left out.
    pub listeners: Vec<Listener>,
    /// What clients are told, one for each listener; a port 0 stands for the port bound.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// `log.dirs` (or `log.dir`), at least one, each once.
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
    /// `max.connections*`, `connections.max.idle.ms`.
    pub connections: ConnectionLimits,
    /// `queued.max.request.bytes`; none: no limit was set.
    pub queued_max_request_bytes: Option<u64>,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: usize,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: usize,
    /// `num.recovery.threads.per.data.dir`.
    pub num_recovery_threads_per_data_dir: usize,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub log_flush_offset_checkpoint_interval: Duration,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub log_flush_start_offset_checkpoint_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub replica_high_watermark_checkpoint_interval: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `ottla.http.listener`.
    pub http_listener: HttpListener,
    /// `ottla.log.format`.
    pub log_format: LogFormat,
    /// All that was set, by key, with its source; defaults are not in it.
    pub settings: Arc<StaticSettings>,
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

/// `max.connections*` and `connections.max.idle.ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`, over all listeners.
    pub max: usize,
    /// `max.connections.per.ip`.
    pub max_per_ip: usize,
    /// `max.connections.per.ip.overrides`, host names resolved by whoever applies them.
    pub max_per_ip_overrides: BTreeMap<String, usize>,
    /// `connections.max.idle.ms`; none (negative): never.
    pub idle_max: Option<Duration>,
}

/// `ottla.http.listener`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// Where `/healthz`, `/readyz` and `/metrics` are served; none: switched off by an empty value.
    pub address: Option<SocketAddr>,
    /// True when it was configured: then a port in use is an error, otherwise a warning.
    pub explicit: bool,
}

/// `ottla.log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people, with colours on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}
