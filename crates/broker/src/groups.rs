//! The consumer groups that this broker coordinates: one shard for each partition of `__consumer_offsets` that it leads. What a
//! group does is decided by `ottla_cluster::groups`; here are the log, the clocks and the clients that wait.

mod ask;
mod clock;
mod load;
mod shard;
mod store;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_cluster::controller::OFFSETS_TOPIC;
use ottla_cluster::groups::{Client, GroupShard, Reply};
use ottla_cluster::image::MetadataImage;
use ottla_partition::Partition;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::wire::Str;
use ottla_transport::server::ConnectionInfo;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ask::{Answered, with_topic};
pub use shard::Shard;
pub use view::GroupsView;

use crate::config::groups::GroupsConfig;
use crate::limits::GROUP_LOADS_MAX;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::state::State;
use clock::Clock;

/// All shards of this broker.
pub struct Groups {
    context: Arc<ShardContext>,
    /// By number of the partition. Guards nothing else; a shard is used after this is given free.
    shards: Mutex<BTreeMap<i32, Arc<Shard>>>,
    logs: Arc<Logs>,
    /// Where the shards' tasks run.
    runtime: Handle,
    tasks: TaskTracker,
}

/// What all shards share.
struct ShardContext {
    config: GroupsConfig,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Shards that may be loaded at once; none before the logs are recovered.
    loads: Semaphore,
    /// The broker stops: what is being written is finished, nothing new begins.
    stop: CancellationToken,
}

/// One partition of `__consumer_offsets` as this broker leads it.
pub struct Led {
    /// The partition.
    pub partition: Arc<Partition>,
    /// Epoch of the leadership.
    pub epoch: LeaderEpoch,
    /// Largest batch that it takes.
    pub batch_bytes_max: usize,
}

impl Groups {
    /// Without any shard. Must be called inside the runtime in which the shards shall run.
    #[must_use]
    pub fn new(config: GroupsConfig, logs: Arc<Logs>, metrics: Arc<Metrics>) -> Self {
        let stop = CancellationToken::new();
        let loads = Semaphore::new(0);
        let context = ShardContext { config, clock: Clock::start(), metrics, loads, stop };
        Self {
            context: Arc::new(context),
            shards: Mutex::default(),
            logs,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        }
    }

    /// The logs can be read from now on: what is stored is loaded.
    pub fn start(&self) {
        self.context.loads.add_permits(GROUP_LOADS_MAX);
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Shard>>> {
        self.shards.lock().expect("no code panics while it holds the shards")
    }

    /// All shards, in the order of their partitions.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shard>> {
        self.shards().values().cloned().collect()
    }

    /// This broker leads the partition with that number: its groups are coordinated here, as soon as they are loaded.
    pub fn lead(&self, led: Led) {
        let key = led.partition.key();
        let index = key.index;
        if let Some(shard) = self.shards().get(&index)
            && shard.is_of(&led)
        {
            shard.set_batch_bytes_max(led.batch_bytes_max);
            return;
        }
        let is_new = self.logs.directory_of(key).is_none();
        let shard = Shard::new(self.context.clone(), led);
        if is_new {
            shard.serve(GroupShard::new(self.context.config.machine.clone()));
        }
        let before = self.shards().insert(index, shard.clone());
        if let Some(before) = before {
            before.resign();
        }
        self.tasks.spawn_on(shard.run(), &self.runtime);
    }

    /// This broker does not lead the partition with that number (any more).
    pub fn resign(&self, index: i32) {
        let shard = self.shards().remove(&index);
        if let Some(shard) = shard {
            shard.resign();
        }
    }

    /// `__consumer_offsets` is gone.
    pub fn resign_all(&self) {
        let shards = std::mem::take(&mut *self.shards());
        for shard in shards.values() {
            shard.resign();
        }
    }

    /// Topics are gone, and with them what groups have noted about them.
    pub fn delete_topics(&self, names: &BTreeSet<Str>) {
        for shard in self.all() {
            shard.delete_topics(names);
        }
    }

    /// Begins to stop: nothing new is taken, what is being written is finished and answered, and who waits for other members
    /// is sent away.
    pub fn stop(&self) {
        self.context.stop.cancel();
        self.tasks.close();
    }

    /// Waits until [`Groups::stop`] is through.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// The shard in which the group lives.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while there is no `__consumer_offsets`, NOT_COORDINATOR when another broker leads there.
    pub fn shard_of(&self, image: &MetadataImage, group_id: &str) -> Result<Arc<Shard>, ErrorCode> {
        let topic = image.topic_by_name(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let index = partition_of(group_id, topic.partitions.len());
        self.shards().get(&index).cloned().ok_or(ErrorCode::NotCoordinator)
    }
}

/// The number of the partition of `__consumer_offsets` in which a group lives, of `count`: Java's `String.hashCode`, over UTF-16
/// units, without its sign. It can never be changed.
#[must_use]
pub fn partition_of(group_id: &str, count: usize) -> i32 {
    let units = group_id.encode_utf16();
    let hash = units.fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let count = i32::try_from(count.max(1)).expect("a topic has fewer than 2^31 partitions");
    (hash & i32::MAX) % count
}

/// Who asks, as it is noted with a member: `host` as Java shows an address.
#[must_use]
pub fn client(id: Option<&Str>, connection: &ConnectionInfo) -> Client {
    Client {
        id: id.map(Str::detached).unwrap_or_default(),
        host: format!("/{}", connection.peer().ip()).into(),
    }
}

/// A machine that answers one request with the reply to another is broken.
pub fn not_of(api: &str, reply: &Reply) -> ! {
    panic!("{api} is answered with {reply:?}")
}

/// Forgets offsets of groups that have been without members for `offsets.retention.minutes`, and groups without anything.
pub fn expire(state: &State) {
    for shard in state.groups.all() {
        shard.expire_offsets();
    }
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn groups_live_where_kafka_puts_them() {
        // The hashes are Java's: "" 0, "a" 97, "polygenelubricants" Integer.MIN_VALUE, "\u{1f600}" 1772899.
        for (group_id, of_50) in [("", 0), ("a", 47), ("polygenelubricants", 0), ("\u{1f600}", 49)] {
            assert_eq!(partition_of(group_id, 50), of_50, "{group_id}");
        }
        // -1910022912, of which Kafka masks the sign instead of negating.
        assert_eq!(partition_of("zzzzzzzz", 50), 36);
        assert_eq!(partition_of("a", 1), 0);
    }
}
