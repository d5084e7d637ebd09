//! The coordinator as a whole: opens what is on disk, leads, and is stopped by its owner.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_cluster::config::ConfigMap;
use ottla_cluster::controller::{METADATA_TOPIC, Settings};
use ottla_cluster::image::MetadataRecord;
use ottla_protocol::generated::records::quorum::VotersVoter;
use ottla_protocol::generated::records::{FeatureLevelRecord, VotersRecord};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::{Message, Str};
use ottla_storage::files::Files;
use tokio::sync::mpsc;

use crate::driver::{Command, Driver};
use crate::entry::{EntryError, EntryKind, LogEntry};
use crate::error::{OpenError, RequestError};
use crate::feed::Published;
use crate::handle::CoordinatorHandle;
use crate::hard_state::{FILE_NAME, FIRST_TERM, HardState};
use crate::limits::{KEPT_ENTRIES, QUEUE_REQUESTS_MAX, SNAPSHOT_BYTES, SNAPSHOT_ENTRIES};
use crate::local::Local;
use crate::metadata_log::MetadataLog;
use crate::raft::VoterId;
use crate::raft::disk::Disk;
use crate::raft::machine::{Machine, Shared};
use crate::raft::network::Alone;
use crate::raft::quorum::{Opened, Quorum};
use crate::raft::recovery;
use crate::raft::snapshot::{self, Snapshot};
use crate::reserve::Reserve;

/// Name of the metadata log's directory.
pub const LOG_DIRECTORY: &str = "__cluster_metadata-0";
/// The feature whose level says what the nodes of a cluster may write to each other and to disk.
pub const OTTLA_FEATURE: &str = "ottla.version";
/// The level that a new cluster begins with, and the highest that this program knows.
pub const OTTLA_FEATURE_LEVEL: i16 = 1;

/// What a coordinator is started with.
pub struct CoordinatorOptions {
    /// The file system.
    pub files: Arc<dyn Files>,
    /// The data directory that holds the metadata log. Its lock is its owner's business.
    pub dir: PathBuf,
    /// `cluster.id` of the directory's `meta.properties`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id` of the directory's `meta.properties`.
    pub directory_id: Uuid,
    /// The broker's values that are set at the start, valid.
    pub config: ConfigMap,
    /// When snapshots are made, and how much of the log stays nevertheless.
    pub snapshots: SnapshotLimits,
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Milliseconds since some moment, never going back: by it brokers are judged silent.
    pub monotonic: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Random numbers.
    pub entropy: Box<dyn FnMut() -> u64 + Send>,
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
            cluster_id,
            node_id,
            directory_id,
            config: ConfigMap::new(),
            snapshots: SnapshotLimits::default(),
            clock: Arc::new(system_clock),
            monotonic: monotonic_clock(),
            entropy: Box::new(system_entropy),
        }
    }
}

/// The running coordinator. Whoever holds it must [`Coordinator::stop`] it; dropping it stops it too, without telling how that went.
#[derive(Debug)]
pub struct Coordinator {
    queue: mpsc::Sender<Command>,
    thread: Option<JoinHandle<Result<(), RequestError>>>,
}

impl Coordinator {
    /// Opens the metadata log, founding the cluster when there is none, replays it, and joins the quorum; one who is alone in it
    /// leads. When it returns, requests are served. Blocks for the reading and a few syncs.
    ///
    /// # Errors
    /// When something on disk is not what it should be, or cannot be written.
    pub fn start(options: CoordinatorOptions) -> Result<(Self, CoordinatorHandle), OpenError> {
        let settings = Settings::new(options.cluster_id.clone(), options.config.clone());
        let (cluster_id, node_id) = (options.cluster_id.clone(), options.node_id);
        let monotonic = options.monotonic.clone();
        let (opened, entropy) = open(options)?;
        let published = opened.machine.published.clone();
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (joined, joining) = std::sync::mpsc::channel();
        let shown = published.clone();
        let run = move || {
            // Consensus has a thread of its own: what stalls brokers must not cost a healthy node its place.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let started = runtime.map_err(OpenError::from).and_then(|runtime| {
                let quorum = runtime.block_on(Quorum::start(opened, Alone))?;
                Ok((runtime, quorum))
            });
            let (runtime, quorum) = match started {
                Ok(started) => started,
                Err(error) => {
                    joined.send(Err(error)).expect("it waits below");
                    return Ok(());
                }
            };
            joined.send(Ok(())).expect("it waits below");
            let driver = Driver {
                quorum,
                settings,
                published: shown,
                queue,
                entropy,
                monotonic,
                fenced: None,
                next: None,
                office: None,
                resident: None,
            };
            runtime.block_on(driver.run())
        };
        let thread = Some(std::thread::Builder::new().name("metadata".to_owned()).spawn(run)?);
        joining.recv().unwrap_or_else(|_| Err(OpenError::Raft("its thread panicked".to_owned())))?;
        let local = Local { queue: sender.clone(), published };
        let handle = CoordinatorHandle::new(local, cluster_id, node_id);
        Ok((Self { queue: sender, thread }, handle))
    }

    /// Decides what is queued, closes the log in order and ends the thread. Blocks. Requests that come later are refused.
    ///
    /// # Errors
    /// When the log had failed before, or could not be closed.
    pub fn stop(mut self) -> Result<(), RequestError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), RequestError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
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

pub(crate) type Entropy = Box<dyn FnMut() -> u64 + Send>;

/// Reads what is on disk; a directory that never belonged to a cluster founds one.
pub(crate) fn open(options: CoordinatorOptions) -> Result<(Opened, Entropy), OpenError> {
    let dir = options.dir.join(LOG_DIRECTORY);
    let now_ms = (options.clock)();
    let me = VoterId { id: options.node_id, directory_id: options.directory_id };
    let found = HardState::read(&options.files, &dir)?;
    let first_start = found.is_none();
    let hard_state = match found {
        Some(state) => known_node(state, &options)?,
        None => found_cluster(&options, &dir)?,
    };
    let mut log = MetadataLog::open(&options.files, dir.clone(), &hard_state, now_ms)?;
    if first_start && (log.end() > 0 || snapshot::exists(&options.files, &dir)?) {
        return Err(OpenError::StateMissing(dir.join(FILE_NAME)));
    }
    if first_start {
        hard_state.write_unsynced(&options.files, &dir)?;
    }
    if hard_state.is_founder() {
        write_first_entries(&mut log, &options, hard_state.term, now_ms)?;
    }
    let current =
        Snapshot::read(&options.files, &dir).map_err(|(path, error)| OpenError::Snapshot { path, error })?;
    let (replayed, grown) = recovery::replay(&log, current.as_ref(), &hard_state, me)?;
    let view = Mutex::new(recovery::view(&log, &hard_state)?);
    let published = Arc::new(Published::new(replayed.image.clone()));
    let shared = Arc::new(Shared::new(options.files.clone(), dir.clone(), current));
    let committed = replayed.last;
    let limits = options.snapshots;
    let machine = Machine { replayed, published, shared, grown, limits };
    let disk = Disk {
        reserve: Reserve::new(options.files.clone(), &options.dir),
        files: options.files,
        dir,
        log,
        hard_state,
        clock: options.clock,
        view: Arc::new(view),
        staged: None,
    };
    Ok((Opened { me, cluster_id: options.cluster_id, disk, machine, committed }, options.entropy))
}

fn known_node(state: HardState, options: &CoordinatorOptions) -> Result<HardState, OpenError> {
    let name =
        |cluster: &str, node: i32, directory: &str| format!("node {node} ({directory}) of cluster {cluster}");
    let own = name(&options.cluster_id, options.node_id, &options.directory_id.to_string());
    let found = name(&state.cluster_id, state.node_id, &state.directory_id);
    if own == found { Ok(state) } else { Err(OpenError::OtherNode { found, own }) }
}

/// The state of a node that founds a cluster: it votes for itself, and that is a majority.
fn found_cluster(options: &CoordinatorOptions, dir: &std::path::Path) -> Result<HardState, OpenError> {
    options.files.create_dir_all(dir)?;
    options.files.sync_dir(&options.dir)?;
    Ok(HardState {
        cluster_id: options.cluster_id.clone(),
        node_id: options.node_id,
        directory_id: options.directory_id.to_string(),
        term: FIRST_TERM,
        voted_id: options.node_id,
        voted_directory_id: options.directory_id.to_string(),
        committed: -1,
        vote_granted: Some(true),
        purged: None,
    })
}

/// The first entries of a cluster: who votes, then the finalized features. A crash may have left none, or the first alone.
fn write_first_entries(
    log: &mut MetadataLog,
    options: &CoordinatorOptions,
    term: i32,
    now_ms: i64,
) -> Result<(), OpenError> {
    let broken = |index: i64| move |error: EntryError| OpenError::Entry { index, error };
    let mut kinds = Vec::new();
    if log.end() == 0 {
        let voter = VotersVoter {
            voter_id: options.node_id,
            voter_directory_id: options.directory_id,
            ..VotersVoter::default()
        };
        let voters = VotersRecord { voters: vec![voter], ..VotersRecord::default() };
        let voters = voters.encode(0).map_err(EntryError::from).map_err(broken(0))?;
        kinds.push(EntryKind::Membership(vec![voters]));
    }
    if log.end() <= 1 {
        let name = Str::from_static(OTTLA_FEATURE);
        let level =
            FeatureLevelRecord { name, feature_level: OTTLA_FEATURE_LEVEL, ..FeatureLevelRecord::default() };
        let record =
            MetadataRecord::from(level).encode().map_err(|error| OpenError::Record { index: 1, error })?;
        kinds.push(EntryKind::Records(vec![record]));
    }
    if kinds.is_empty() {
        return Ok(());
    }
    for (index, kind) in (log.end()..).zip(kinds) {
        let entry = LogEntry { index, term, node_id: options.node_id, kind };
        let (header, payload) = entry.encode(now_ms).map_err(broken(index))?;
        log.append(&header, &payload, now_ms)?;
    }
    Ok(log.sync()?)
}

fn system_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn monotonic_clock() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let began = tokio::time::Instant::now();
    Arc::new(move || i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
}

fn system_entropy() -> u64 {
    let mut bytes = [0u8; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(read, Ok(bytes.len()), "the system always has random numbers for so few bytes");
    u64::from_ne_bytes(bytes)
}

/// The metadata log's directory is named as the partition of a topic that is none.
const _: () = assert!(METADATA_TOPIC.len() + 2 == LOG_DIRECTORY.len());
