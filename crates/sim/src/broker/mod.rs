//! A broker: a disk that stays, and a process that comes and goes. The process drives `ottla_partition` and `ottla_cluster::groups`
//! the way the real one does, with the simulator's queue in place of threads and sockets.

mod following;
mod groups;
mod leading;
mod metadata;
mod owner;
mod syncing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ottla_cluster::image::MetadataImage;
use ottla_cluster::replica::{Durability, Proposal};
use ottla_partition::partition::TopicSettings;
use ottla_partition::replicate::Now;
use ottla_partition::{Partition, PartitionKey};
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::directory::{Identity, LogDirectory};
use ottla_storage::files::faulty::Survival;
use ottla_storage::log::LogConfig;

use crate::disk::{Disk, Trouble};
use crate::env::Env;
use crate::history::History;
use crate::message::{Address, Correlation, Message, Timer, Tp};
use crate::quorum::{CLUSTER, COORDINATORS};

use following::Fetcher;
use groups::Shard;
use leading::{ParkedFetch, ParkedProduce, ParkedReplicaFetch};
use owner::Owner;
use syncing::Syncing;

/// How often parked requests, lags and groups are looked at when nothing else happens.
const UPKEEP_US: u64 = 100_000;
/// How often recovery points are written down.
const CHECKPOINT_US: u64 = 4_000_000;
/// Milliseconds since 1970 at the beginning.
const WALL_MS: i64 = 1_700_000_000_000;

/// What holds for a whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub durability: Durability,
    pub min_insync_replicas: usize,
    pub brokers: u32,
    pub lag_ms_max: i64,
    pub segment_bytes: u64,
}

/// A broker with its disk.
pub(crate) struct Broker {
    pub id: BrokerId,
    plan: Plan,
    pub disk: Disk,
    /// Id that a new disk gets.
    pub next_directory: [u8; 16],
    /// Rises with each of its processes.
    lives: u64,
    pub process: Option<Process>,
    /// Syncs that begin now come back then.
    pub hangs_until_us: u64,
    /// Its wall clock is that wrong.
    pub wall_skew_ms: i64,
    /// What is on its disk is less than that life, by the epoch of its registration, promised: the disk was replaced.
    pub damaged: Option<i64>,
}

/// A running broker.
pub(crate) struct Process {
    id: BrokerId,
    plan: Plan,
    pub life: u64,
    incarnation: [u8; 16],
    owner: Arc<Owner>,
    controller: Address,
    /// Epoch of its registration; -1 before.
    pub epoch: i64,
    pub is_fenced: bool,
    /// It has read its own registration and serves what the metadata says.
    is_active: bool,
    wants_to_stop: bool,
    may_stop: bool,
    /// The controller knows another life of this broker.
    is_replaced: bool,
    controls: BTreeMap<Correlation, Control>,
    feed: Correlation,
    /// The last heartbeat.
    heartbeat: Correlation,
    pub image: MetadataImage,
    leaders: Option<Arc<Vec<(Tp, Address, ottla_protocol::ids::LeaderEpoch)>>>,
    pub partitions: BTreeMap<Tp, Arc<Partition>>,
    syncing: BTreeMap<Tp, Syncing>,
    fetchers: BTreeMap<Address, Fetcher>,
    produces: Vec<ParkedProduce>,
    fetches: Vec<ParkedFetch>,
    replica_fetches: Vec<ParkedReplicaFetch>,
    shards: BTreeMap<i32, Shard>,
    /// What must not have happened.
    faults: Vec<String>,
    /// Partitions to which time matters.
    ticking: BTreeSet<Tp>,
    wall_skew_ms: i64,
    hangs_until_us: u64,
}

/// A request to the controller that is out.
enum Control {
    Register,
    Heartbeat,
    Proposals(Vec<(Tp, Proposal)>),
}

impl Broker {
    pub(crate) fn new(id: u32, plan: Plan, env: &mut Env) -> Self {
        Self {
            id: BrokerId(i32::try_from(id).expect("few brokers")),
            plan,
            disk: Disk::default(),
            next_directory: env.random.id(),
            lives: 0,
            process: None,
            hangs_until_us: 0,
            wall_skew_ms: 0,
            damaged: None,
        }
    }

    pub(crate) fn address(&self) -> Address {
        u32::try_from(self.id.0).expect("ids are positive")
    }

    /// A process is to begin after so long, unless one runs.
    pub(crate) fn start_after(&mut self, env: &mut Env, after_us: u64) {
        self.lives += 1;
        env.timer(self.address(), self.lives, after_us, Timer::Start);
    }

    fn start(&mut self, env: &mut Env) {
        if self.process.is_some() {
            return;
        }
        let identity = Identity {
            cluster_id: CLUSTER.to_owned(),
            node_id: self.id,
            new_directory_id: Uuid(self.next_directory),
        };
        let opened = LogDirectory::open(self.disk.shared(), PathBuf::from("/data"), &identity);
        let directory = match opened {
            Ok((directory, _)) => directory,
            Err(error) => {
                assert!(self.disk.trouble() != Trouble::None, "broker {}: {error}", self.id);
                env.trace.tell(|| format!("broker {} cannot start: {error}", self.id));
                return self.start_after(env, 500_000);
            }
        };
        env.trace.tell(|| format!("broker {} starts", self.id));
        env.trace.count("starts");
        let mut process = Process {
            id: self.id,
            plan: self.plan,
            life: self.lives,
            incarnation: env.random.id(),
            owner: Owner::new(directory),
            controller: COORDINATORS[0],
            epoch: -1,
            is_fenced: true,
            is_active: false,
            wants_to_stop: false,
            may_stop: false,
            is_replaced: false,
            controls: BTreeMap::new(),
            feed: 0,
            heartbeat: 0,
            image: MetadataImage::default(),
            leaders: None,
            partitions: BTreeMap::new(),
            syncing: BTreeMap::new(),
            fetchers: BTreeMap::new(),
            produces: Vec::new(),
            fetches: Vec::new(),
            replica_fetches: Vec::new(),
            shards: BTreeMap::new(),
            ticking: BTreeSet::new(),
            faults: Vec::new(),
            wall_skew_ms: self.wall_skew_ms,
            hangs_until_us: 0,
        };
        process.begin(env);
        self.process = Some(process);
    }

    /// The process ends at once. The controller's connection tells, when the machine lives on.
    pub(crate) fn crash(&mut self, env: &mut Env, survival: Survival) {
        let Some(process) = self.process.take() else { return };
        env.trace.tell(|| format!("broker {} crashes: {survival:?}", self.id));
        env.trace.count(if survival == Survival::All { "kills" } else { "power losses" });
        let connection = process.life;
        drop(process);
        self.disk.crash(survival, &mut env.random);
        self.lives += 1;
        if survival == Survival::All {
            for coordinator in COORDINATORS {
                env.send(self.address(), coordinator, Message::Closed { broker: self.id, connection });
            }
        }
    }

    /// It is to stop in order: leadership first.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.wants_to_stop = true;
        }
    }

    /// Whether a timer or message for it finds somebody.
    pub(crate) fn timer(&mut self, env: &mut Env, history: &mut History, life: u64, timer: Timer) {
        if life != self.lives {
            return;
        }
        if let (Timer::Start, None) = (&timer, &self.process) {
            return self.start(env);
        }
        self.with_process(env, history, |process, env, _| process.timer(env, timer));
    }

    pub(crate) fn message(&mut self, env: &mut Env, history: &mut History, from: Address, message: Message) {
        self.with_process(env, history, |process, env, history| process.message(env, history, from, message));
    }

    fn with_process(
        &mut self,
        env: &mut Env,
        history: &mut History,
        act: impl FnOnce(&mut Process, &mut Env, &mut History),
    ) {
        let Some(process) = &mut self.process else { return };
        process.wall_skew_ms = self.wall_skew_ms;
        process.hangs_until_us = self.hangs_until_us;
        act(process, env, history);
        process.settle(env, history);
        if process.may_stop {
            self.stopped(env);
        } else if process.is_replaced {
            self.crash(env, Survival::All);
            self.start_after(env, 100_000);
        } else if process.is_fenced && process.owner.directory.fenced().is_some() && process.epoch >= 0 {
            // Nothing is left to serve from.
            env.trace.count("disk failures");
            self.crash(env, Survival::SyncedOnly);
            self.start_after(env, 1_000_000);
        }
    }

    /// The process has handed everything over and ends in order.
    fn stopped(&mut self, env: &mut Env) {
        let Some(process) = self.process.take() else { return };
        process.close();
        env.trace.tell(|| format!("broker {} stopped", self.id));
        env.trace.count("orderly stops");
        self.disk.crash(Survival::All, &mut env.random);
        self.lives += 1;
        let after_us = env.random.between(200_000, 3_000_000);
        self.start_after(env, after_us);
    }
}

impl Process {
    fn address(&self) -> Address {
        u32::try_from(self.id.0).expect("ids are positive")
    }

    fn wall_ms(&self, env: &Env) -> i64 {
        WALL_MS + env.now_ms() + self.wall_skew_ms
    }

    /// A clock that nobody sets; it begins anywhere.
    fn steady_ms(&self, env: &Env) -> i64 {
        env.now_ms() + 1_000_000 * i64::from(self.id.0)
    }

    fn times(&self, env: &Env) -> Now {
        Now { wall_ms: self.wall_ms(env), steady_ms: self.steady_ms(env) }
    }

    fn wait(&self, env: &mut Env, after_us: u64, timer: Timer) {
        env.timer(self.address(), self.life, after_us, timer);
    }

    fn begin(&mut self, env: &mut Env) {
        self.register(env);
        self.ask_feed(env);
        let offset_us = env.random.below(UPKEEP_US);
        self.wait(env, offset_us, Timer::Upkeep);
        let offset_us = env.random.below(CHECKPOINT_US);
        self.wait(env, offset_us, Timer::Checkpoint);
    }

    fn timer(&mut self, env: &mut Env, timer: Timer) {
        match timer {
            Timer::Register => self.register(env),
            Timer::Heartbeat(last) if last == self.heartbeat => self.heartbeat(env),
            Timer::Feed(correlation) if correlation == self.feed => self.ask_feed(env),
            Timer::Fetch(leader, given_up) => self.fetch_due(env, leader, given_up),
            Timer::Flush(tp) => self.begin_sync(env, tp),
            Timer::Flushed(tp) => self.end_sync(env, tp),
            Timer::Proposed(correlation) => self.proposed_unknown(env, correlation),
            Timer::Upkeep => {
                self.upkeep(env);
                self.wait(env, UPKEEP_US, Timer::Upkeep);
            }
            Timer::Checkpoint => {
                self.checkpoint(env);
                self.wait(env, CHECKPOINT_US, Timer::Checkpoint);
            }
            _ => {}
        }
    }

    fn message(&mut self, env: &mut Env, history: &mut History, from: Address, message: Message) {
        match message {
            Message::Controlled(correlation, answer) => self.controlled(env, from, correlation, answer),
            Message::Fed(correlation, first, entries) => self.fed(env, history, correlation, first, &entries),
            Message::ReplicaFetch(correlation, asked) => self.replica_fetch(env, from, correlation, &asked),
            Message::ReplicaFetched(correlation, given) => {
                self.replica_fetched(env, from, correlation, given)
            }
            Message::Durable(reports) => self.durable_reports(env, &reports),
            Message::Ask(correlation, request) => self.asked(env, from, correlation, request),
            Message::Control(..) | Message::Closed { .. } | Message::Feed(..) | Message::Answer(..) => {}
        }
    }

    /// Something happened: whoever waits for what it led to is told, and what must hold is looked at.
    fn settle(&mut self, env: &mut Env, history: &mut History) {
        self.hear(env);
        self.answer_produces(env, history);
        self.settle_groups(env, history);
        self.hear(env);
        self.answer_fetches(env);
        self.answer_replica_fetches(env);
        self.hear(env);
        if self.is_active {
            for (tp, partition) in &self.partitions {
                history.look(env, self.address(), self.life, self.epoch, *tp, partition);
            }
            history.check_acknowledged(env);
            for fault in std::mem::take(&mut self.faults) {
                history.violate(env, format!("broker {}: {fault}", self.id));
            }
        }
    }

    fn partition_of(&self, name: &Arc<str>, tp: Tp) -> Arc<Partition> {
        let settings = TopicSettings {
            log: LogConfig {
                segment_bytes: self.plan.segment_bytes,
                index_interval_bytes: 512,
                ..LogConfig::default()
            },
            durability: self.plan.durability,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
        };
        let key = PartitionKey { topic: name.clone(), topic_id: tp.0, index: tp.1 };
        let partition =
            Partition::new(key, self.id, Arc::new(settings), self.owner.clone(), self.owner.clone());
        partition.set_lag_limit(self.plan.lag_ms_max);
        partition
    }
}
