//! What all handlers share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_cluster::image::{BrokerImage, MetadataImage, TopicImage};
use ottla_partition::Partition;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Str;
use tokio::sync::watch;

use crate::config::BrokerConfig;
use crate::control::Control;
use crate::fetch_sessions::FetchSessions;
use crate::groups::Groups;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::producer_ids::ProducerIds;
use crate::replication::leading::FollowerSessions;
use crate::topics::{ServedTopic, Topics};

/// The broker, as a handler sees it.
pub struct State {
    /// The static configuration.
    pub config: Arc<BrokerConfig>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Topics and partitions served here.
    pub topics: Arc<Topics>,
    /// The log directories.
    pub logs: Arc<Logs>,
    /// The controller.
    pub control: Control,
    /// The groups coordinated here.
    pub groups: Arc<Groups>,
    /// Sessions of followers.
    pub followers: FollowerSessions,
    /// Incremental fetch sessions.
    pub sessions: FetchSessions,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// The image that this broker has applied.
    pub image: watch::Receiver<Arc<MetadataImage>>,
    /// Id of the cluster.
    pub cluster_id: String,
}

/// A broker's address for a listener's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker.
    pub id: BrokerId,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: i32,
    /// The broker's rack.
    pub rack: Option<String>,
    /// Whether it may not lead anything now.
    pub fenced: bool,
}

impl State {
    /// The metadata image that this broker has applied.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.borrow().clone()
    }

    /// Wall clock in ms since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        now_ms()
    }

    /// Id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The served side of a topic of the image.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER when the reconciler has not come to it yet, or it is gone already: the client asks again.
    pub fn served(&self, topic: &TopicImage) -> Result<Arc<ServedTopic>, ErrorCode> {
        self.topics.get(topic.id).ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// A partition by its topic's name.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER.
    pub fn partition_by_name(
        &self,
        image: &MetadataImage,
        name: &str,
        index: i32,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let topic = image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.partition(topic, index)
    }

    /// A partition of a topic.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER.
    pub fn partition(&self, topic: &TopicImage, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        self.served(topic)?.partition(index).cloned()
    }

    /// Brokers that are not fenced, at the address of `listener`.
    #[must_use]
    pub fn endpoints(&self, image: &MetadataImage, listener: &str) -> Vec<NodeEndpoint> {
        self.all_endpoints(image, listener).into_iter().filter(|broker| !broker.fenced).collect()
    }

    /// All registered brokers, at the address of `listener`.
    #[must_use]
    pub fn all_endpoints(&self, image: &MetadataImage, listener: &str) -> Vec<NodeEndpoint> {
        let at = |broker: &Arc<BrokerImage>| {
            let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.name == listener)?;
            Some(NodeEndpoint {
                id: broker.id,
                host: endpoint.host.clone(),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone(),
                fenced: broker.fenced,
            })
        };
        image.brokers().filter_map(at).collect()
    }

    /// Creates topics with the broker's defaults, for clients that use a topic before it exists. Returns those that were
    /// refused, with the code to answer.
    pub async fn auto_create(&self, names: Vec<Str>) -> Vec<(Str, ErrorCode)> {
        self.control.auto_create(names).await
    }

    /// Writes the start offsets of all logs down. False when a directory could not be written.
    pub async fn checkpoint_start_offsets(self: &Arc<Self>) -> bool {
        let state = self.clone();
        let written = tokio::task::spawn_blocking(move || state.logs.checkpoint(&state.topics));
        written.await.expect("writing a checkpoint does not panic")
    }
}

/// Wall clock in ms since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
