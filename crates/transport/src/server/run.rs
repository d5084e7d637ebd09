//! Accepts connections and runs them.

use super::{ConnectionLimits, Listener, ServerOptions, ServerStats, Service};
use std::io;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A running server.
pub struct Server {
    stats: Arc<ServerStats>,
}

impl Server {
    /// Accepts on all `listeners` until `shutdown` is cancelled. Must be called inside a tokio runtime.
    pub fn start(
        options: ServerOptions,
        listeners: Vec<Listener>,
        service: Arc<dyn Service>,
        shutdown: CancellationToken,
    ) -> io::Result<Server> {
        let _ = (options, listeners, service, shutdown);
        todo!()
    }

    /// Counters of this server.
    pub fn stats(&self) -> &Arc<ServerStats> {
        &self.stats
    }

    /// Changes which connections are admitted from now on; those that are open stay.
    pub fn set_connection_limits(&self, limits: ConnectionLimits) {
        let _ = limits;
        todo!()
    }

    /// Waits until the shutdown token is cancelled and all connections are done: no new requests are read, replies that
    /// wait are given until `drain_max`. Nothing of the server runs afterwards.
    pub async fn join(self) {
        todo!()
    }
}
