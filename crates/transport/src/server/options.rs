//! What a server is told at its start.

use crate::limits;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Limits and times of a server; `Default` is Kafka's.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `socket.request.max.bytes`: a longer frame closes its connection.
    pub request_bytes_max: usize,
    /// `queued.max.request.bytes`: bytes of requests that have arrived and are still held, over all connections. None for
    /// no limit (Kafka's -1).
    pub queued_request_bytes_max: Option<u64>,
    /// Requests of one connection whose reply has not been written; at this many it is not read.
    pub in_flight_requests_max: usize,
    /// `connections.max.idle.ms`: a connection on which nothing moved for so long is closed, unless a reply waits. None
    /// for never.
    pub idle_max: Option<Duration>,
    /// How long a stop waits for replies that are not ready or not written.
    pub drain_max: Duration,
    /// Which connections are admitted.
    pub connections: ConnectionLimits,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            queued_request_bytes_max: None,
            in_flight_requests_max: limits::IN_FLIGHT_REQUESTS_MAX,
            idle_max: Some(Duration::from_millis(limits::IDLE_MS_MAX)),
            drain_max: Duration::from_secs(5),
            connections: ConnectionLimits::default(),
        }
    }
}

/// Which connections are admitted; can be changed while the server runs. `Default` admits all.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimits {
    /// `max.connections`, over all listeners.
    pub total_max: Option<usize>,
    /// `max.connections.per.ip`.
    pub per_ip_max: Option<usize>,
    /// `max.connections.per.ip.overrides`, already resolved to addresses.
    pub per_ip_overrides: HashMap<IpAddr, usize>,
    /// `max.connection.creation.rate`, connections per second over all listeners; what comes faster waits in the backlog.
    pub creation_rate_max: Option<u32>,
}
