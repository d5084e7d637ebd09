//! The recording proxy. Clients connect to it instead of the broker; it passes on every byte as it is, but for the addresses that
//! brokers advertise: those become its own, so that the whole session stays visible.
//!
//! Requests are passed on as they come; a response when it is whole, since its addresses may have to be rewritten. What was
//! passed on is handed to the owner of the events, who shows it: where that is slower than the clients, they wait.

mod addresses;
mod connection;
mod routes;
mod show;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::frame::Direction;
use crate::limits::{PROXY_CONNECTIONS_MAX, PROXY_QUEUE_BYTES_MAX, PROXY_QUEUE_FRAMES_MAX};
use crate::session::Seen;

use routes::Routes;
pub use show::show;

/// Rest after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a proxy stands.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where clients connect to.
    pub listen: String,
    /// The broker behind it, host and port.
    pub upstream: String,
    /// Host that clients are told; by default the address that they reached the proxy at.
    pub advertised_host: Option<String>,
}

/// What a proxy sees.
#[derive(Debug)]
pub enum Event {
    /// A client has connected.
    Opened {
        /// Number of the connection.
        connection: u64,
        /// Where the client is.
        client: SocketAddr,
        /// The broker that it talks to.
        upstream: String,
    },
    /// A frame was passed on. A response is as the broker sent it.
    Frame {
        /// The frame.
        seen: Seen,
        /// Room in the queue, free again when this is dropped.
        room: Room,
    },
    /// From here on bytes are passed on that are no frames.
    Unreadable {
        /// Number of the connection.
        connection: u64,
        /// Who sent them.
        direction: Direction,
        /// What is wrong with them.
        why: String,
    },
    /// A connection has ended.
    Closed {
        /// Number of the connection.
        connection: u64,
        /// Why, if not in order.
        why: Option<String>,
    },
}

/// Room in the queue of events.
#[derive(Debug)]
pub struct Room(#[allow(dead_code, reason = "dropping it is its use")] OwnedSemaphorePermit);

/// What connections have in common.
struct Shared {
    routes: Routes,
    events: mpsc::Sender<Event>,
    queue_bytes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    next_connection: std::sync::atomic::AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A proxy that listens.
pub struct Proxy {
    listener: TcpListener,
    upstream: String,
    shared: Arc<Shared>,
}

/// The queue of a proxy's events.
pub type Events = mpsc::Receiver<Event>;

impl Proxy {
    /// Listens. Nothing is accepted before [`Proxy::run`].
    ///
    /// # Errors
    /// When the address is not to be had.
    pub async fn bind(options: ProxyOptions, stop: CancellationToken) -> io::Result<(Self, Events)> {
        let listener = TcpListener::bind(&options.listen).await?;
        let (events, receiver) = mpsc::channel(PROXY_QUEUE_FRAMES_MAX);
        let local = listener.local_addr()?;
        let shared = Shared {
            routes: Routes::new(local, &options.upstream, options.advertised_host),
            events,
            queue_bytes: Arc::new(Semaphore::new(PROXY_QUEUE_BYTES_MAX)),
            connections: Arc::new(Semaphore::new(PROXY_CONNECTIONS_MAX)),
            next_connection: 1.into(),
            stop,
            tasks: TaskTracker::new(),
        };
        Ok((Self { listener, upstream: options.upstream, shared: Arc::new(shared) }, receiver))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is stopped; then ends every connection. The events end after this.
    pub async fn run(self) {
        let Self { listener, upstream, shared } = self;
        let tasks = shared.tasks.clone();
        tasks.spawn(accept(listener, upstream, shared));
        tasks.close();
        tasks.wait().await;
    }
}

impl Shared {
    /// Hands an event to who shows it. When nobody does any more, the proxy is about to end.
    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            self.stop.cancel();
        }
    }

    /// Hands on a frame; waits while there is no room.
    async fn show(&self, seen: Seen) {
        let size = seen.bytes.len().clamp(1, PROXY_QUEUE_BYTES_MAX) as u32;
        let room = self.queue_bytes.clone().acquire_many_owned(size).await;
        let room = Room(room.expect("the semaphore is never closed"));
        self.tell(Event::Frame { seen, room }).await;
    }
}

/// Accepts clients of one broker.
async fn accept(listener: TcpListener, upstream: String, shared: Arc<Shared>) {
    loop {
        let permit = shared.connections.clone().acquire_owned();
        // Cancel-safe: what is not accepted yet stays in the listener's queue.
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = async { (permit.await, listener.accept().await) } => accepted,
        };
        let (permit, Ok((client, address))) = accepted else {
            // Out of descriptors, most likely: the next connection that ends gives some back.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let id = shared.next_connection.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (shared, upstream) = (shared.clone(), upstream.clone());
        shared.tasks.clone().spawn(async move {
            serve(id, client, address, upstream, &shared).await;
            drop(permit);
        });
    }
}

async fn serve(id: u64, client: TcpStream, address: SocketAddr, upstream: String, shared: &Arc<Shared>) {
    shared.tell(Event::Opened { connection: id, client: address, upstream: upstream.clone() }).await;
    // Cancel-safe: whatever was read and not passed on is lost with the connection.
    let ended = tokio::select! {
        () = shared.stop.cancelled() => Ok(()),
        ended = connection::run(id, client, &upstream, shared) => ended,
    };
    let why = ended.err().map(|error| error.to_string());
    shared.tell(Event::Closed { connection: id, why }).await;
}

/// Microseconds since 1970.
fn now_us() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}
