//! The coordinator as a whole: opens what is on disk, takes its place in the quorum, and is stopped by its owner.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_cluster::config::ConfigMap;
use ottla_cluster::controller::{METADATA_TOPIC, Settings};
use ottla_cluster::image::MetadataImage;
use ottla_process::config::Voter;
use ottla_process::random;
use ottla_protocol::ids::Uuid;
use ottla_storage::files::Files;
use ottla_transport::server::Listener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::driver::{Command, Driver};
use crate::error::{OpenError, RequestError};
use crate::feed::Published;
use crate::founding::{self, Seeker};
use crate::handle::CoordinatorHandle;
use crate::limits::{KEPT_ENTRIES, QUEUE_REQUESTS_MAX, SNAPSHOT_BYTES, SNAPSHOT_ENTRIES};
use crate::local::Local;
use crate::opening::{Opening, Role, Standing};
use crate::raft::VoterEndpoint;
use crate::raft::network::Peers;
use crate::raft::quorum::Quorum;
use crate::raft::steward::Steward;
use crate::server::{self, ServerState};

/// Name of the metadata log's directory.
pub const LOG_DIRECTORY: &str = "__cluster_metadata-0";

/// What a coordinator is started with.
pub struct CoordinatorOptions {
    /// The file system.
    pub files: Arc<dyn Files>,
    /// The data directory that holds the metadata log. Its lock is its owner's business.
    pub dir: PathBuf,
    /// `cluster.id` of the directory's `meta.properties`. `None` where there is no such file yet: then the quorum says which cluster
    /// it is ([`CoordinatorHandle::cluster_id`]), or a new one gets an id that is drawn.
    pub cluster_id: Option<String>,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id` of the directory's `meta.properties`, or a fresh one where there is no such file yet.
    pub directory_id: Uuid,
    /// The broker's values that are set at the start, valid.
    pub config: ConfigMap,
    /// When snapshots are made, and how much of the log stays nevertheless.
    pub snapshots: SnapshotLimits,
    /// The controller listeners, bound. None where nobody else is to reach this node.
    pub listeners: Vec<Listener>,
    /// Where others reach those listeners, the one for the quorum first.
    pub advertised: Vec<VoterEndpoint>,
    /// How the quorum is found.
    pub quorum: QuorumOptions,
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Milliseconds since some moment, never going back: by it brokers are judged silent.
    pub monotonic: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Random numbers.
    pub entropy: Box<dyn FnMut() -> u64 + Send>,
}

/// How a node with an empty directory comes to its quorum. One that is a member knows the others from its log, and looks for them at
/// these addresses too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QuorumOptions {
    /// It founds a quorum of one, which others may join.
    #[default]
    Alone,
    /// `controller.quorum.voters`: those of them that are empty found the quorum together.
    Voters(Vec<Voter>),
    /// `controller.quorum.bootstrap.servers`: it joins a running quorum that is reached there. Where all of them are this node itself, it
    /// founds a quorum of one.
    Bootstrap {
        /// `host:port` each.
        servers: Vec<String>,
        /// `controller.quorum.auto.join.enable`: whether it may become a voter without an administrator.
        auto_join: bool,
    },
}

/// How long the metadata log gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// Entries after which a snapshot is made.
    pub entries: u64,
    /// Bytes of records after which a snapshot is made.
    pub bytes: u64,
    /// Entries that stay in the log although a snapshot holds them, so that one who is a little behind needs no snapshot.
    pub kept_entries: u64,
}

impl Default for SnapshotLimits {
    fn default() -> Self {
        Self { entries: SNAPSHOT_ENTRIES, bytes: SNAPSHOT_BYTES, kept_entries: KEPT_ENTRIES }
    }
}

impl CoordinatorOptions {
    /// Options with the system's clock and random numbers.
    #[must_use]
    pub fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        cluster_id: String,
        node_id: i32,
        directory_id: Uuid,
    ) -> Self {
        Self {
            files,
            dir,
            cluster_id: Some(cluster_id),
            node_id,
            directory_id,
            config: ConfigMap::new(),
            snapshots: SnapshotLimits::default(),
            listeners: Vec::new(),
            advertised: Vec::new(),
            quorum: QuorumOptions::default(),
            clock: Arc::new(system_clock),
            monotonic: monotonic_clock(),
            entropy: Box::new(random::number),
        }
    }
}

/// The running coordinator. Whoever holds it must [`Coordinator::stop`] it; dropping it stops it too, without telling how that went.
#[derive(Debug)]
pub struct Coordinator {
    queue: mpsc::Sender<Command>,
    stop: CancellationToken,
    /// This node's place in the quorum.
    #[cfg(test)]
    pub(crate) seat: Arc<crate::raft::seat::Seat>,
    /// Ends the thread wherever it is.
    #[cfg(test)]
    killed: CancellationToken,
    thread: Option<JoinHandle<Result<(), RequestError>>>,
}

impl Coordinator {
    /// Opens the metadata log and takes this node's place in the quorum. One who is alone in it leads it when this returns, and requests
    /// are served. Others serve their listeners then, and look for each other; requests wait until they have joined. Blocks for the
    /// reading and a few syncs.
    ///
    /// # Errors
    /// When something on disk is not what it should be, or cannot be written, or the options cannot make a quorum.
    pub fn start(options: CoordinatorOptions) -> Result<(Self, CoordinatorHandle), OpenError> {
        let (opening, standing) = Opening::begin(options)?;
        let published = Arc::new(Published::new(MetadataImage::default()));
        let seat = Arc::new(opening.seat(&standing));
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let local = Local { queue: sender.clone(), published: published.clone(), seat: seat.clone() };
        let handle = CoordinatorHandle::new(local.clone());
        let stop = CancellationToken::new();
        let (joined, joining) = std::sync::mpsc::channel();
        let life = Life { local, queue, stop: stop.clone(), joined: Some(joined) };
        // Consensus has a thread of its own: what stalls brokers must not cost a healthy node its place.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let killed = CancellationToken::new();
        let until_killed = killed.clone();
        let run = move || {
            let lived = until_killed.run_until_cancelled(life.run(opening, standing));
            runtime.block_on(lived).unwrap_or(Ok(()))
        };
        let thread = Some(std::thread::Builder::new().name("metadata".to_owned()).spawn(run)?);
        joining.recv().unwrap_or_else(|_| Err(OpenError::Raft("its thread panicked".to_owned())))?;
        Ok((
            Self {
                queue: sender,
                stop,
                #[cfg(test)]
                seat,
                #[cfg(test)]
                killed,
                thread,
            },
            handle,
        ))
    }

    /// Decides what is queued, closes the log in order and ends the thread. Blocks. Requests that come later are refused.
    ///
    /// # Errors
    /// When the log had failed before, or could not be closed.
    pub fn stop(mut self) -> Result<(), RequestError> {
        self.join()
    }

    /// Ends the thread as if the process were killed: nothing is handed over or closed in order.
    #[cfg(test)]
    pub(crate) fn kill(mut self) {
        self.killed.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()), "it panicked");
    }

    fn join(&mut self) -> Result<(), RequestError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.cancel();
        let mut stop = Command::Stop;
        // A full queue is being worked off, so that this ends; a closed one belongs to a thread that has ended.
        while let Err(mpsc::error::TrySendError::Full(back)) = self.queue.try_send(stop) {
            stop = back;
            std::thread::yield_now();
        }
        thread
            .join()
            .unwrap_or_else(|_| Err(RequestError::Fenced("the coordinator's thread panicked".to_owned())))
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::error!(%error, "the coordinator did not stop in order");
        }
    }
}

/// What the thread needs from its beginning to its end.
struct Life {
    local: Local,
    queue: mpsc::Receiver<Command>,
    stop: CancellationToken,
    /// Told once, when the owner may go on.
    joined: Option<std::sync::mpsc::Sender<Result<(), OpenError>>>,
}

impl Life {
    async fn run(mut self, mut opening: Opening, standing: Standing) -> Result<(), RequestError> {
        let listeners = std::mem::take(&mut opening.options.listeners);
        let server_stop = CancellationToken::new();
        let state = ServerState::new(self.local.clone());
        let server = match server::start(listeners, state, server_stop.clone()) {
            Ok(server) => server,
            Err(error) => return self.tell(Err(error.into())),
        };
        let seat = self.local.seat.clone();
        let ended = self.take_place(opening, standing).await;
        seat.close();
        server_stop.cancel();
        server.join().await;
        ended
    }

    /// Tells the owner how the start went, once. What goes wrong later ends the coordinator.
    fn tell(&mut self, started: Result<(), OpenError>) -> Result<(), RequestError> {
        match (self.joined.take(), started) {
            (Some(joined), started) => joined.send(started).expect("it waits"),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                tracing::error!(%error, "the metadata quorum cannot be joined");
                return Err(RequestError::Fenced(error.to_string()));
            }
        }
        Ok(())
    }

    /// Finds the quorum, joins it, and serves until the end.
    async fn take_place(mut self, mut opening: Opening, standing: Standing) -> Result<(), RequestError> {
        let quorum_options = opening.options.quorum.clone();
        let config = opening.options.config.clone();
        let published = self.local.published.clone();
        let monotonic = opening.options.monotonic.clone();
        let opened = match standing {
            Standing::Member(state) => opening.remain_member(state, published),
            Standing::Empty if quorum_options == QuorumOptions::Alone => {
                let voters = [(opening.me, opening.node())].into();
                let role = Role::Founder { cluster_id: opening.new_cluster_id(), voters };
                opening.become_member(role, published)
            }
            Standing::Empty | Standing::Wiped { .. } => {
                self.tell(Ok(()))?;
                let Some(role) = self.seek(&mut opening, quorum_options.clone(), standing).await else {
                    return Ok(());
                };
                tracing::info!(node = %opening.me, ?role, "found the metadata quorum");
                opening.become_member(role, published)
            }
        };
        let (opened, entropy) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.tell(Err(error)),
        };
        let cluster_id = opened.cluster_id.clone();
        let peers = Peers { seat: self.local.seat.clone(), cluster_id: cluster_id.clone() };
        let quorum = match Quorum::start(opened, peers).await {
            Ok(quorum) => quorum.stop_with(self.stop.clone()),
            Err(error) => return self.tell(Err(error)),
        };
        self.local.seat.open(quorum.raft.clone());
        self.local.seat.belong(&cluster_id);
        self.tell(Ok(()))?;
        let addresses = founding::addresses(&quorum_options, self.local.seat.me.id);
        let is_willing = match quorum_options {
            QuorumOptions::Alone | QuorumOptions::Voters(_) => true,
            QuorumOptions::Bootstrap { auto_join, .. } => auto_join,
        };
        // To who listens for nobody and knows nobody, nobody can come.
        let is_alone = self.local.seat.node.endpoints.is_empty() && addresses.is_empty();
        let steward = Steward::new(self.local.seat.clone(), self.local.queue.clone(), addresses, is_willing);
        let steward = (!is_alone).then(|| tokio::spawn(steward.run(self.stop.clone())));
        let settings = Settings::new(cluster_id, config);
        let Self { local, queue, stop, .. } = self;
        let driver = Driver::new(quorum, &local, settings, queue, entropy, monotonic);
        let ended = driver.run().await;
        stop.cancel();
        if let Some(steward) = steward {
            // One that panicked has said so.
            steward.await.ok();
        }
        ended
    }

    /// The role that this node gets; `None` when it is stopped before.
    async fn seek(&self, opening: &mut Opening, quorum: QuorumOptions, standing: Standing) -> Option<Role> {
        let seeker = Seeker {
            seat: self.local.seat.clone(),
            quorum,
            new_cluster_id: opening.new_cluster_id(),
            is_wiped: matches!(standing, Standing::Wiped { .. }),
        };
        self.stop.run_until_cancelled(seeker.seek()).await
    }
}

pub(crate) fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn monotonic_clock() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let began = tokio::time::Instant::now();
    Arc::new(move || i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// The metadata log's directory is named as the partition of a topic that is none.
const _: () = assert!(METADATA_TOPIC.len() + 2 == LOG_DIRECTORY.len());
