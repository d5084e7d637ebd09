//! A server around a closure, and waiting for conditions.

use bytes::Bytes;
use ottla_transport::client::RawConnection;
use ottla_transport::server::{
    ConnectionInfo, Listener, ListenerOptions, Reply, Server, ServerOptions, ServerStats, Service,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A service that is one closure, and counts its connections.
pub struct Scripted<F> {
    call: F,
    open: Arc<AtomicUsize>,
}

impl<F: Fn(&Arc<ConnectionInfo>, Bytes) -> Reply + Send + Sync + 'static> Service for Scripted<F> {
    fn call(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Reply {
        (self.call)(connection, frame)
    }

    fn opened(&self, _connection: &Arc<ConnectionInfo>) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self, _connection: &Arc<ConnectionInfo>) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct TestServer {
    pub address: SocketAddr,
    pub stats: Arc<ServerStats>,
    pub shutdown: CancellationToken,
    pub server: Server,
    /// Connections opened and not closed, as the service heard.
    pub open: Arc<AtomicUsize>,
}

/// Starts a server on a free port of the loopback.
pub fn serve(
    options: ServerOptions,
    call: impl Fn(&Arc<ConnectionInfo>, Bytes) -> Reply + Send + Sync + 'static,
) -> TestServer {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(&ListenerOptions::new("TEST", any)).expect("a free port");
    let address = listener.local_address();
    let shutdown = CancellationToken::new();
    let open = Arc::new(AtomicUsize::new(0));
    let service = Arc::new(Scripted { call, open: open.clone() });
    let server = Server::start(options, vec![listener], service, shutdown.clone()).expect("inside a runtime");
    TestServer { address, stats: server.stats().clone(), shutdown, server, open }
}

/// Answers each frame with itself.
pub fn echo(options: ServerOptions) -> TestServer {
    serve(options, |_connection, frame| Reply::bytes(frame))
}

impl TestServer {
    pub async fn connect(&self) -> RawConnection {
        RawConnection::connect(self.address).await.expect("the server listens")
    }

    /// A frame comes back: the server is well.
    pub async fn assert_echoes(&self) {
        let mut connection = self.connect().await;
        connection.send_frame(b"ping").await.unwrap();
        assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"ping"[..]));
    }
}

/// Waits until the condition holds, for at most 10 seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
