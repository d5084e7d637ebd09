//! A bound socket that waits for connections.

use crate::limits;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// How a listener is bound.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// The listener's name, such as `PLAINTEXT`.
    pub name: Arc<str>,
    /// Where it listens; port 0 for any free one.
    pub address: SocketAddr,
    /// `socket.listen.backlog.size`.
    pub backlog: i32,
    /// `socket.send.buffer.bytes`; None (Kafka's -1) leaves it to the system, which adapts it to the path.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; None as above.
    pub receive_buffer_bytes: Option<usize>,
}

impl ListenerOptions {
    /// Defaults for this name and address.
    pub fn new(name: impl Into<Arc<str>>, address: SocketAddr) -> ListenerOptions {
        ListenerOptions {
            name: name.into(),
            address,
            backlog: limits::LISTEN_BACKLOG,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// A bound listener; connections queue in its backlog until a server accepts them.
#[derive(Debug)]
pub struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) socket: std::net::TcpListener,
    local: SocketAddr,
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else, perhaps another broker, listens there.
    #[error("listener {name}: {address} is already in use by another process")]
    InUse {
        /// The listener's name.
        name: Arc<str>,
        /// Where it should have listened.
        address: SocketAddr,
    },
    /// Any other refusal of the system.
    #[error("listener {name}: cannot listen on {address}: {source}")]
    Io {
        /// The listener's name.
        name: Arc<str>,
        /// Where it should have listened.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl Listener {
    /// Binds and listens. A restarted broker gets its port back at once (`SO_REUSEADDR`), a second one is refused.
    pub fn bind(options: &ListenerOptions) -> Result<Listener, BindError> {
        let (name, address) = (options.name.clone(), options.address);
        match Self::bind_io(options) {
            Ok(listener) => Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::InUse { name, address }),
            Err(source) => Err(BindError::Io { name, address, source }),
        }
    }

    fn bind_io(options: &ListenerOptions) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(options.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit both; the receive buffer must be set before `listen` to shape the window.
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&options.address.into())?;
        socket.listen(options.backlog.max(1))?;
        let socket: std::net::TcpListener = socket.into();
        let local = socket.local_addr()?;
        Ok(Listener { name: options.name.clone(), socket, local })
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The bound socket, for whoever accepts by other means.
    pub fn into_socket(self) -> std::net::TcpListener {
        self.socket
    }

    /// Where it listens, with the port the system chose.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }
}
