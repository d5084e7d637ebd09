//! The server's side: listeners, admission, one task per connection, ordered replies.

mod connection;
mod connection_info;
mod frame_reader;
#[cfg(test)]
mod frame_reader_tests;
mod listener;
mod log_gate;
mod memory;
mod options;
mod registry;
mod reply;
mod reply_writer;
mod run;
mod stats;
mod waiting;

pub use connection_info::{ClientSoftware, ConnectionInfo};
pub use listener::{BindError, Listener, ListenerOptions};
pub use options::{ConnectionLimits, ServerOptions};
pub use reply::{Answer, Body, LaterReply, Reply, ReplyFrame, Splice};
pub use run::Server;
pub use stats::ServerStats;

use bytes::Bytes;
use std::sync::Arc;

/// What answers the requests of a server's connections.
pub trait Service: Send + Sync + 'static {
    /// Handles one request frame (without its length prefix). Called on the connection's own task, in the order in which
    /// the frames arrived; must not block longer than a write into the page cache.
    ///
    /// `frame` returns to a pool and is taken off the memory in flight when its last slice is dropped.
    fn call(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Reply;

    /// A connection was admitted; no frame of it has been handled yet.
    fn opened(&self, _connection: &Arc<ConnectionInfo>) {}

    /// A connection is over: no call follows, and the futures of its waiting replies have been dropped.
    fn closed(&self, _connection: &Arc<ConnectionInfo>) {}
}
