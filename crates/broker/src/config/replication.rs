//! Keys of the replication between brokers, which hold from start to stop.

use std::time::Duration;

use super::Reader;

/// `replica.*`.
#[derive(Clone, Copy, Debug)]
pub struct ReplicationConfig {
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max: Duration,
    /// `replica.fetch.min.bytes`.
    pub fetch_bytes_min: i32,
    /// `replica.fetch.max.bytes`, for one partition.
    pub partition_bytes_max: i32,
    /// `replica.fetch.response.max.bytes`.
    pub response_bytes_max: i32,
    /// `replica.fetch.backoff.ms`: the longest pause after an error; the first is a twentieth of it.
    pub backoff_max: Duration,
    /// `replica.socket.timeout.ms`.
    pub request_max: Duration,
    /// `replica.lag.time.max.ms`.
    pub lag_ms_max: i64,
}

pub(super) fn read(r: &Reader<'_>) -> ReplicationConfig {
    ReplicationConfig {
        fetch_wait_max: r.millis("replica.fetch.wait.max.ms"),
        fetch_bytes_min: r.number("replica.fetch.min.bytes"),
        partition_bytes_max: r.number("replica.fetch.max.bytes"),
        response_bytes_max: r.number("replica.fetch.response.max.bytes"),
        backoff_max: r.millis("replica.fetch.backoff.ms"),
        request_max: r.millis("replica.socket.timeout.ms"),
        lag_ms_max: r.number("replica.lag.time.max.ms"),
    }
}
