//! What the broker counts. Everything is a relaxed atomic that is found without a lookup: a request costs a handful of
//! additions. Names and labels are put together only when `/metrics` is asked.

pub mod cluster;
pub mod exposition;

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

pub use ottla_process::metrics::{Counter, LatencyHistogram};

use crate::groups::GroupsView;
pub use cluster::{ClusterView, ReplicationMetrics};

/// API keys 0 to 127 have a slot each; all others share the last one.
const API_SLOTS: usize = 129;
/// Error codes -1 (UNKNOWN_SERVER_ERROR) to 158.
const ERROR_SLOTS: usize = 160;

/// Counts of one API.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    /// Requests answered (or, for acks=0, worked off), with the time from the whole frame's arrival to the finished reply.
    pub latency: LatencyHistogram,
    /// Allocated at the API's first error. Index: code + 1.
    errors: OnceLock<Box<[Counter; ERROR_SLOTS]>>,
}

impl ApiMetrics {
    /// Counts one answered request.
    pub fn observe(&self, took: Duration) {
        self.latency.observe(took);
    }

    /// Counts one error code in a reply (each partition's or topic's counts); 0 is ignored.
    pub fn error(&self, code: i16) {
        if code == 0 {
            return;
        }
        let slots = self.errors.get_or_init(|| Box::new([const { Counter::new() }; ERROR_SLOTS]));
        let index = usize::try_from(code + 1).unwrap_or(0).min(ERROR_SLOTS - 1);
        slots[index].add(1);
    }

    /// (code, count) of the errors seen.
    pub fn errors(&self) -> impl Iterator<Item = (i16, u64)> {
        self.errors.get().into_iter().flat_map(|slots| {
            slots.iter().enumerate().filter_map(|(index, count)| {
                let code = i16::try_from(index).expect("few slots") - 1;
                (count.get() > 0).then(|| (code, count.get()))
            })
        })
    }
}

/// Size of one topic's logs on this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSize {
    /// The topic's name.
    pub topic: String,
    /// Partitions of it on this broker.
    pub partitions: u64,
    /// Bytes of their segments, of logs that are open.
    pub size_bytes: u64,
}

/// What the logs look like at a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsView {
    /// Each topic with a replica here.
    pub topics: Vec<LogSize>,
    /// Partitions that are offline because a write or a sync failed.
    pub partitions_offline: u64,
    /// Log directories that are fenced.
    pub log_dirs_offline: u64,
}

/// What the connections look like at a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// Bytes read from clients.
    pub received_bytes: u64,
    /// Bytes written to clients.
    pub sent_bytes: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections admitted since the start.
    pub connections_accepted: u64,
    /// Connections closed at once because of a limit.
    pub connections_refused: u64,
    /// Accepts that failed, such as for want of descriptors.
    pub accept_errors: u64,
    /// Bytes of requests that have arrived and are not answered yet.
    pub request_memory_bytes: u64,
}

/// What the log cleaner did.
#[derive(Debug, Default)]
pub struct CleanerMetrics {
    /// Cleanings of a log that came to their end.
    pub runs: Counter,
    /// Bytes of segments that were replaced by cleaned ones.
    pub cleaned_bytes: Counter,
    /// Bytes of those in their place.
    pub kept_bytes: Counter,
    /// When the last one ended, in ms since 1970; 0 before the first.
    pub last_run_ms: AtomicU64,
    /// Logs that cannot be cleaned.
    pub uncleanable: AtomicU64,
}

/// Asked at each scrape, on a thread that may block.
type View<T> = Mutex<Option<Box<dyn Fn() -> T + Send + Sync>>>;

/// All counts of the process.
pub struct Metrics {
    apis: Box<[ApiMetrics; API_SLOTS]>,
    /// Time of one append (validated batch into the page cache, under the partition's lock).
    pub append: LatencyHistogram,
    /// Bytes appended to logs.
    pub appended_bytes: Counter,
    /// Batches appended to logs.
    pub appended_batches: Counter,
    /// Records appended to logs.
    pub appended_records: Counter,
    /// Time of one fdatasync.
    pub fdatasync: LatencyHistogram,
    /// Bytes of records handed to consumers.
    pub fetched_bytes: Counter,
    /// Compaction of logs.
    pub cleaner: CleanerMetrics,
    /// Rebalances of groups that came to their end.
    pub group_rebalances: Counter,
    /// Time of loading one partition of `__consumer_offsets`.
    pub group_load: LatencyHistogram,
    /// What happened to the partitions that this broker leads.
    pub replication: ReplicationMetrics,
    network: View<NetworkView>,
    cluster: View<ClusterView>,
    logs: View<LogsView>,
    groups: View<GroupsView>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All zero.
    pub fn new() -> Metrics {
        Metrics {
            apis: Box::new(std::array::from_fn(|_| ApiMetrics::default())),
            append: LatencyHistogram::default(),
            appended_bytes: Counter::new(),
            appended_batches: Counter::new(),
            appended_records: Counter::new(),
            fdatasync: LatencyHistogram::default(),
            fetched_bytes: Counter::new(),
            cleaner: CleanerMetrics::default(),
            group_rebalances: Counter::new(),
            group_load: LatencyHistogram::default(),
            replication: ReplicationMetrics::default(),
            network: Mutex::new(None),
            cluster: Mutex::new(None),
            logs: Mutex::new(None),
            groups: Mutex::new(None),
        }
    }

    /// Counts one appended batch.
    pub fn appended(&self, size_bytes: usize, records: i32, took: Duration) {
        self.append.observe(took);
        self.appended_bytes.add(size_bytes as u64);
        self.appended_batches.add(1);
        self.appended_records.add(u64::from(records.unsigned_abs()));
    }

    /// The counts of an API by its wire key: an index, no lookup. Unknown and private keys share one.
    pub fn api(&self, key: i16) -> &ApiMetrics {
        let slot = usize::try_from(key).map_or(API_SLOTS - 1, |key| key.min(API_SLOTS - 1));
        &self.apis[slot]
    }

    /// All APIs with their keys, in the keys' order; none: the slot that the others share.
    pub fn apis_in_order(&self) -> impl Iterator<Item = (Option<i16>, &ApiMetrics)> {
        self.apis.iter().enumerate().map(|(slot, api)| {
            let key = i16::try_from(slot).expect("few slots");
            ((slot < API_SLOTS - 1).then_some(key), api)
        })
    }

    /// Who tells about the connections.
    pub fn set_network(&self, view: impl Fn() -> NetworkView + Send + Sync + 'static) {
        *self.network.lock().expect("no panic while it is held") = Some(Box::new(view));
    }

    /// Who tells about the cluster.
    pub fn set_cluster(&self, view: impl Fn() -> ClusterView + Send + Sync + 'static) {
        *self.cluster.lock().expect("no panic while it is held") = Some(Box::new(view));
    }

    /// Who tells about the groups.
    pub fn set_groups(&self, view: impl Fn() -> GroupsView + Send + Sync + 'static) {
        *self.groups.lock().expect("no panic while it is held") = Some(Box::new(view));
    }

    /// Who tells about the logs.
    pub fn set_logs(&self, view: impl Fn() -> LogsView + Send + Sync + 'static) {
        *self.logs.lock().expect("no panic while it is held") = Some(Box::new(view));
    }
}

/// What the source says now; nothing before there is one.
fn look<T: Default>(view: &View<T>) -> T {
    view.lock().expect("a source does not panic").as_ref().map_or_else(T::default, |ask| ask())
}
