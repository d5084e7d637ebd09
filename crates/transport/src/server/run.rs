//! Accepts connections and runs them.

use super::connection::Connection;
use super::log_gate::LogGate;
use super::memory::Memory;
use super::registry::{Order, Registry};
use super::{ConnectionLimits, Listener, ServerOptions, ServerStats, Service};
use crate::limits::{ACCEPT_PAUSE, POOL_BYTES_MAX, POOL_IDLE_MAX, SWEEP_PAUSE_MAX};
use crate::pool::BufferPool;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// A running server. It goes on until its shutdown token is cancelled, also when this handle is dropped.
pub struct Server {
    stats: Arc<ServerStats>,
    registry: Arc<Registry>,
    supervisor: JoinHandle<()>,
}

/// What the server's tasks share.
struct Shared {
    options: ServerOptions,
    service: Arc<dyn Service>,
    stats: Arc<ServerStats>,
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    /// Owns the connections' tasks.
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    /// Accepts on all `listeners` until `shutdown` is cancelled. Must be called inside a tokio runtime, on which the
    /// connections then run.
    pub fn start(
        options: ServerOptions,
        listeners: Vec<Listener>,
        service: Arc<dyn Service>,
        shutdown: CancellationToken,
    ) -> io::Result<Server> {
        let stats = Arc::new(ServerStats::default());
        let pool = BufferPool::new(POOL_BYTES_MAX);
        let shared = Arc::new(Shared {
            memory: Memory::new(pool, stats.clone(), options.queued_request_bytes_max),
            registry: Arc::new(Registry::new(service.clone(), stats.clone(), options.connections.clone())),
            options,
            service,
            stats: stats.clone(),
            tasks: TaskTracker::new(),
            shutdown,
        });
        let registry = shared.registry.clone();
        let sockets = listeners
            .into_iter()
            .map(|listener| Ok((listener.name, TcpListener::from_std(listener.socket)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let acceptors = sockets
            .into_iter()
            .map(|(name, socket)| tokio::spawn(accept_all(shared.clone(), name, socket)))
            .collect();
        let supervisor = tokio::spawn(supervise(shared, acceptors));
        Ok(Server { stats, registry, supervisor })
    }

    /// Counters of this server.
    pub fn stats(&self) -> &Arc<ServerStats> {
        &self.stats
    }

    /// Changes which connections are admitted from now on; those that are open stay.
    pub fn set_connection_limits(&self, limits: ConnectionLimits) {
        self.registry.set_limits(limits);
    }

    /// Waits until the shutdown token is cancelled and all connections are done: no new requests are read, replies that
    /// wait are given until `drain_max`. Nothing of the server runs afterwards.
    pub async fn join(self) {
        if let Err(error) = self.supervisor.await {
            error!(%error, "server ended by a panic");
        }
    }
}

/// Sweeps until the shutdown, then sees all tasks to their end.
async fn supervise(shared: Arc<Shared>, acceptors: Vec<JoinHandle<()>>) {
    sweep_until_shutdown(&shared).await;
    for acceptor in acceptors {
        if let Err(error) = acceptor.await {
            error!(%error, "listener ended by a panic");
        }
    }
    // No connection is admitted from here on, so each of them hears of it.
    shared.registry.order_all(Order::Drain);
    shared.tasks.close();
    if tokio::time::timeout(shared.options.drain_max, shared.tasks.wait()).await.is_err() {
        shared.registry.order_all(Order::Stop);
        shared.tasks.wait().await;
    }
}

async fn sweep_until_shutdown(shared: &Shared) {
    let idle_max = shared.options.idle_max;
    let pause =
        idle_max.map_or(SWEEP_PAUSE_MAX, |idle| (idle / 4).clamp(Duration::from_millis(10), SWEEP_PAUSE_MAX));
    let mut pool_looked_at = Instant::now();
    // Cancel-safe: a sleep loses nothing.
    while shared.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let now = Instant::now();
        shared.registry.sweep(now, idle_max);
        if now.duration_since(pool_looked_at) >= POOL_IDLE_MAX {
            shared.memory.pool.trim();
            pool_looked_at = now;
        }
    }
}

/// Accepts one listener's connections until the shutdown.
async fn accept_all(shared: Arc<Shared>, name: Arc<str>, socket: TcpListener) {
    let (mut refusals, mut failures) = (LogGate::new(1), LogGate::new(1));
    loop {
        // Cancel-safe: `accept` has taken no connection when it is dropped.
        let Some(accepted) = shared.shutdown.run_until_cancelled(socket.accept()).await else { return };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                if let Some(before) = failures.open(Instant::now()) {
                    warn!(listener = %name, %error, unlogged_before = before, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let delay = shared.registry.accept_delay(Instant::now());
        if !delay.is_zero() && shared.shutdown.run_until_cancelled(tokio::time::sleep(delay)).await.is_none()
        {
            return;
        }
        if let Err(reason) = admit(&shared, &name, stream, peer) {
            shared.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            if let Some(before) = refusals.open(Instant::now()) {
                warn!(listener = %name, %peer, reason, unlogged_before = before, "connection refused");
            }
        }
    }
}

/// Starts the task of an accepted connection, or says why not.
fn admit(shared: &Arc<Shared>, name: &Arc<str>, stream: TcpStream, peer: SocketAddr) -> Result<(), String> {
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true).map_err(|error| error.to_string())?;
    socket.set_keepalive(true).map_err(|error| error.to_string())?;
    let local = stream.local_addr().map_err(|error| error.to_string())?;
    let registration = shared.registry.admit(peer, local, name).map_err(|refusal| refusal.to_string())?;
    let (service, memory) = (shared.service.clone(), shared.memory.clone());
    shared.tasks.spawn(Connection::new(stream, service, memory, &shared.options, registration));
    Ok(())
}
