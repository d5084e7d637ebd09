//! Counters of a server, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a server counts. Gauges are named `_now`, all others only grow.
#[derive(Debug, Default)]
pub struct ServerStats {
    pub(crate) connections_now: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) connections_rejected: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) requests_total: AtomicU64,
    pub(crate) request_bytes_now: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
}

impl ServerStats {
    /// Connections that are open.
    pub fn connections_now(&self) -> u64 {
        self.connections_now.load(Ordering::Relaxed)
    }

    /// Connections that were admitted since the start.
    pub fn connections_total(&self) -> u64 {
        self.connections_total.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once because of a limit.
    pub fn connections_rejected(&self) -> u64 {
        self.connections_rejected.load(Ordering::Relaxed)
    }

    /// Bytes read from sockets.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes written to sockets.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Request frames handed to the service.
    pub fn requests_total(&self) -> u64 {
        self.requests_total.load(Ordering::Relaxed)
    }

    /// Bytes of requests that have arrived and are still held by somebody.
    pub fn request_bytes_now(&self) -> u64 {
        self.request_bytes_now.load(Ordering::Relaxed)
    }

    /// Failed accepts, such as for want of file descriptors.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }
}
