//! The controller listeners: coordinators, brokers and administrators' clients speak to this node here, in Kafka's frames. One match on
//! the API key ([`dispatch`]), one file for each kind of caller.

mod administration;
mod dispatch;
mod feed;
mod forward;
mod raft;

use std::io;
use std::sync::Arc;

use ottla_transport::server::{Listener, Server, ServerOptions};
use tokio_util::sync::CancellationToken;

use crate::limits::{DRAIN_MAX, REQUEST_BYTES_MAX};
use crate::local::Local;
use crate::raft::seat::Seat;

/// What requests are answered from.
pub(crate) struct ServerState {
    /// Asks the driver of this node.
    pub(crate) local: Local,
    /// This node's place in the quorum.
    pub(crate) seat: Arc<Seat>,
    /// A snapshot that is on its way to this node.
    incoming: raft::Incoming,
    /// Brokers and the connections on which they say that they live.
    control: forward::ControlConnections,
    /// Feeds that get the whole metadata piece by piece.
    wholes: feed::Wholes,
}

impl ServerState {
    pub(crate) fn new(local: Local) -> Self {
        Self {
            seat: local.seat.clone(),
            local,
            incoming: raft::Incoming::default(),
            control: forward::ControlConnections::default(),
            wholes: feed::Wholes::default(),
        }
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
