//! Replication between brokers: fetchers that follow, the sessions of followers, and proposals to the controller. What is decided is
//! decided by `ottla_cluster::replica` in `ottla_partition`; here is the I/O.

pub mod clock;
mod fetcher;
pub mod isr;
pub mod leading;
mod outbox;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_cluster::image::MetadataImage;
use ottla_partition::Partition;
use ottla_protocol::ids::{BrokerId, Uuid};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::replication::ReplicationConfig;
use crate::topics::Topics;

pub use isr::{IsrAnswer, IsrController};
pub use outbox::{Outbox, Report, Reports};

/// Everything that follows, and what it needs. Changed by the reconciler alone.
pub struct Replication {
    shared: Arc<Shared>,
    /// Guards nothing else.
    fetchers: Mutex<Fetchers>,
    runtime: Handle,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Fetchers {
    by_leader: BTreeMap<BrokerId, Arc<Mailbox>>,
    leader_of: HashMap<(Uuid, i32), BrokerId>,
}

/// What all tasks share.
struct Shared {
    config: ReplicationConfig,
    me: BrokerId,
    listener: String,
    broker_epoch: AtomicI64,
    outbox: Arc<Outbox>,
    image: watch::Receiver<Arc<MetadataImage>>,
    /// Cancelled when fetchers may begin.
    started: CancellationToken,
    stop: CancellationToken,
}

/// What a fetcher is told.
enum Change {
    /// Ask for this partition, or ask anew.
    Follow(Arc<Partition>),
    /// Ask for it no longer.
    Leave((Uuid, i32)),
}

#[derive(Default)]
struct Mailbox {
    changes: Mutex<Vec<Change>>,
    told: Notify,
}

impl Mailbox {
    fn put(&self, change: Change) {
        self.changes.lock().expect("no code panics while it holds a mailbox").push(change);
        self.told.notify_one();
    }

    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.changes.lock().expect("no code panics while it holds a mailbox"))
    }
}

impl Shared {
    fn broker_epoch(&self) -> i64 {
        self.broker_epoch.load(Ordering::Relaxed)
    }

    /// Where a broker listens for brokers.
    fn address_of(&self, id: BrokerId) -> Option<String> {
        let image = self.image.borrow();
        let endpoint = image.broker(id)?.endpoints.iter().find(|endpoint| endpoint.name == self.listener)?;
        let host = &endpoint.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Some(format!("{host}:{}", endpoint.port))
    }
}

impl Replication {
    /// Follows nothing yet. `image` is what this broker has applied; `listener` is where brokers reach each other. Must be called
    /// inside the runtime in which the fetchers shall run.
    #[must_use]
    pub fn new(
        config: ReplicationConfig,
        me: BrokerId,
        listener: String,
        outbox: Arc<Outbox>,
        image: watch::Receiver<Arc<MetadataImage>>,
    ) -> Arc<Self> {
        let broker_epoch = AtomicI64::new(-1);
        let (started, stop) = (CancellationToken::new(), CancellationToken::new());
        let shared = Shared { config, me, listener, broker_epoch, outbox, image, started, stop };
        Arc::new(Self {
            shared: Arc::new(shared),
            fetchers: Mutex::default(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        })
    }

    /// The broker is registered under this epoch: to be called before anything is fetched, and at each registration.
    pub fn set_broker_epoch(&self, epoch: i64) {
        self.shared.broker_epoch.store(epoch, Ordering::Relaxed);
    }

    /// `replica.lag.time.max.ms`.
    #[must_use]
    pub fn lag_ms_max(&self) -> i64 {
        self.shared.config.lag_ms_max
    }

    /// Starts fetching, and sending what leaders here propose: once the logs are recovered.
    pub fn start(&self, controller: Arc<dyn IsrController>, topics: Arc<Topics>) {
        self.shared.started.cancel();
        self.tasks.spawn_on(isr::propose(self.shared.clone(), controller), &self.runtime);
        self.tasks.spawn_on(isr::tick(self.shared.clone(), topics), &self.runtime);
    }

    fn lock(&self) -> MutexGuard<'_, Fetchers> {
        self.fetchers.lock().expect("no code panics while it holds the fetchers")
    }

    /// `partition` follows `leader` now, or follows it in a new leadership.
    pub fn follow(&self, partition: &Arc<Partition>, leader: BrokerId) {
        let key = (partition.key().topic_id, partition.key().index);
        let mut fetchers = self.lock();
        let before = fetchers.leader_of.insert(key, leader);
        if let Some(before) = before.filter(|before| *before != leader)
            && let Some(mailbox) = fetchers.by_leader.get(&before)
        {
            mailbox.put(Change::Leave(key));
        }
        let mailbox = fetchers.by_leader.entry(leader).or_insert_with(|| {
            let mailbox = Arc::<Mailbox>::default();
            let fetcher = fetcher::Fetcher::new(self.shared.clone(), leader, mailbox.clone());
            self.tasks.spawn_on(fetcher.run(), &self.runtime);
            mailbox
        });
        mailbox.put(Change::Follow(partition.clone()));
    }

    /// The partition follows nobody any more.
    pub fn leave(&self, topic_id: Uuid, index: i32) {
        let mut fetchers = self.lock();
        if let Some(leader) = fetchers.leader_of.remove(&(topic_id, index))
            && let Some(mailbox) = fetchers.by_leader.get(&leader)
        {
            mailbox.put(Change::Leave((topic_id, index)));
        }
    }

    /// Stops all tasks.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        self.tasks.close();
    }

    /// Waits until they have ended.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

/// Epoch of a broker that is registered and serves: neither fenced nor about to stop.
#[must_use]
pub fn serving_epoch(image: &MetadataImage, id: BrokerId) -> Option<i64> {
    let broker = image.broker(id).filter(|broker| !broker.fenced && !broker.in_controlled_shutdown);
    broker.map(|broker| broker.epoch)
}
