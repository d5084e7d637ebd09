//! The controller listeners: coordinators, brokers and administrators' clients speak to this node here, in Kafka's frames. One match on
//! the API key ([`dispatch`]), one file for each kind of caller.

mod dispatch;
mod raft;

use std::io;
use std::sync::Arc;

use ottla_transport::server::{Listener, Server, ServerOptions};
use tokio_util::sync::CancellationToken;

use crate::handle::CoordinatorHandle;
use crate::limits::{DRAIN_MAX, REQUEST_BYTES_MAX};
use crate::raft::seat::Seat;

/// What requests are answered from.
pub(crate) struct ServerState {
    /// Asks the driver of this node.
    pub(crate) handle: CoordinatorHandle,
    /// This node's place in the quorum.
    pub(crate) seat: Arc<Seat>,
    /// A snapshot that is on its way to this node.
    incoming: raft::Incoming,
}

impl ServerState {
    pub(crate) fn new(handle: CoordinatorHandle, seat: Arc<Seat>) -> Self {
        Self { handle, seat, incoming: raft::Incoming::default() }
    }
}

/// Serves on bound listeners until `shutdown` is cancelled. Must be called inside the coordinator's runtime.
///
/// # Errors
/// When the runtime does not take the sockets.
pub(crate) fn start(
    listeners: Vec<Listener>,
    state: ServerState,
    shutdown: CancellationToken,
) -> io::Result<Server> {
    let options = ServerOptions {
        request_bytes_max: REQUEST_BYTES_MAX,
        drain_max: DRAIN_MAX,
        ..ServerOptions::default()
    };
    Server::start(options, listeners, dispatch::Dispatch::new(state), shutdown)
}
