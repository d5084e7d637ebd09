//! Tells the controller in which log directory each replica lies (KIP-858), so that it knows what a failed directory takes along. Only a
//! broker with several has anything to tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_cluster::image::{MetadataDelta, MetadataImage};
use ottla_coordinator::CoordinatorHandle;
use ottla_partition::PartitionKey;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, AssignReplicasToDirsResponse, RequestDirectoryData, RequestPartitionData,
    RequestTopicData,
};
use ottla_protocol::ids::{BrokerId, Uuid};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::life::Life;
use crate::limits::{ASSIGNMENTS_MAX, START_RETRY_PAUSE};
use crate::logs::Logs;

/// What has to be told.
pub struct Assignments {
    me: BrokerId,
    logs: Arc<Logs>,
    /// The directory of each replica that the controller supposes elsewhere. Guards nothing else.
    wanted: Mutex<BTreeMap<(Uuid, i32), Uuid>>,
    news: Notify,
}

impl Assignments {
    /// Nothing to tell yet.
    #[must_use]
    pub fn new(me: BrokerId, logs: Arc<Logs>) -> Arc<Self> {
        Arc::new(Self { me, logs, wanted: Mutex::default(), news: Notify::new() })
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<(Uuid, i32), Uuid>> {
        self.wanted.lock().expect("no code panics while it holds the assignments")
    }

    /// Compares what changed in the metadata with where replicas lie. A replica that lies nowhere yet gets a place.
    pub fn look(&self, image: &MetadataImage, delta: &MetadataDelta) {
        if self.logs.directory_count() < 2 {
            return;
        }
        let mut wanted = self.wanted();
        for (topic_id, index) in &delta.partitions_changed {
            wanted.remove(&(*topic_id, *index));
            let Some(known) = self.known(image, *topic_id, *index) else { continue };
            let Some(topic) = image.topic_by_id(topic_id) else { continue };
            let key = PartitionKey { topic: topic.name.clone(), topic_id: *topic_id, index: *index };
            if let Some(own) = self.logs.place_as_known(&key, known).filter(|own| *own != known) {
                wanted.insert((*topic_id, *index), own);
            }
        }
        if !wanted.is_empty() {
            self.news.notify_one();
        }
    }

    /// Where the controller supposes this broker's replica of a partition; `None` when it has none.
    fn known(&self, image: &MetadataImage, topic_id: Uuid, index: i32) -> Option<Uuid> {
        let partition = image.partition(topic_id, index)?;
        let slot = partition.replicas.iter().position(|replica| *replica == self.me)?;
        Some(partition.directories.get(slot).copied().unwrap_or(Uuid::ZERO))
    }

    /// Tells what there is to tell until `stop` is cancelled.
    pub async fn run(self: Arc<Self>, handle: CoordinatorHandle, life: Arc<Life>, stop: CancellationToken) {
        // Cancel-safe: what is not told is told by the next life.
        stop.run_until_cancelled(self.tell(&handle, &life)).await;
    }

    async fn tell(&self, handle: &CoordinatorHandle, life: &Life) {
        loop {
            let told: BTreeMap<_, _> =
                self.wanted().iter().take(ASSIGNMENTS_MAX).map(|(key, own)| (*key, *own)).collect();
            if told.is_empty() {
                self.news.notified().await;
                continue;
            }
            match handle.assign_directories(self.request(life.epoch(), &told)).await {
                Ok(decided) if decided.response.error_code == ErrorCode::None.code() => {
                    self.settle(&told, &decided.response);
                    continue;
                }
                Ok(decided) => {
                    let code = ErrorCode::from_code(decided.response.error_code);
                    tracing::debug!(?code, "the controller does not take where replicas lie");
                }
                Err(error) => tracing::debug!(%error, "the controller is not told where replicas lie"),
            }
            tokio::time::sleep(START_RETRY_PAUSE).await;
        }
    }

    fn request(&self, epoch: i64, told: &BTreeMap<(Uuid, i32), Uuid>) -> AssignReplicasToDirsRequest {
        let mut by_directory: BTreeMap<Uuid, BTreeMap<Uuid, Vec<i32>>> = BTreeMap::new();
        for ((topic_id, index), own) in told {
            by_directory.entry(*own).or_default().entry(*topic_id).or_default().push(*index);
        }
        let partition = |partition_index| RequestPartitionData { partition_index, ..Default::default() };
        let topic = |(topic_id, indexes): (Uuid, Vec<i32>)| RequestTopicData {
            topic_id,
            partitions: indexes.into_iter().map(partition).collect(),
            ..Default::default()
        };
        let directory = |(id, topics): (Uuid, BTreeMap<Uuid, Vec<i32>>)| RequestDirectoryData {
            id,
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        AssignReplicasToDirsRequest {
            broker_id: self.me.0,
            broker_epoch: epoch,
            directories: by_directory.into_iter().map(directory).collect(),
            ..Default::default()
        }
    }

    /// What was answered is settled, taken or refused: a refusal stands until the metadata of that partition changes.
    fn settle(&self, told: &BTreeMap<(Uuid, i32), Uuid>, response: &AssignReplicasToDirsResponse) {
        for topic in response.directories.iter().flat_map(|directory| &directory.topics) {
            for partition in topic.partitions.iter().filter(|partition| partition.error_code != 0) {
                let code = ErrorCode::from_code(partition.error_code).map_or("unknown", ErrorCode::name);
                let (topic, index) = (topic.topic_id, partition.partition_index);
                tracing::warn!(%topic, index, code, "the controller refuses a replica's log directory");
            }
        }
        // One that has changed meanwhile is still to be told.
        self.wanted().retain(|key, own| told.get(key) != Some(own));
    }
}
