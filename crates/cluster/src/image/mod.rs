//! The metadata of the cluster as it is after some record: brokers, topics, partitions, configuration. Immutable once published;
//! a clone is a handful of reference counts, and applying a record copies only what it changes.

mod apply;
mod delta;
mod record;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

use crate::config::{ConfigMap, Layers};

pub use apply::ApplyError;
pub use delta::MetadataDelta;
pub use record::{MetadataRecord, RecordError};

/// Everything the metadata log says up to [`MetadataImage::index`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataImage {
    /// Index of the last applied log entry; -1 before the first.
    index: LogIndex,
    features: Arc<BTreeMap<String, i16>>,
    brokers: Arc<BTreeMap<BrokerId, Arc<BrokerImage>>>,
    topics: Arc<BTreeMap<Uuid, Arc<TopicImage>>>,
    names: Arc<BTreeMap<Arc<str>, Uuid>>,
    /// Topics whose names have a dot or underscore, by the name with dots as underscores.
    spellings: Arc<BTreeMap<String, Arc<str>>>,
    configs: Arc<BTreeMap<Resource, Arc<ConfigMap>>>,
    next_producer_id: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogIndex(i64);

impl Default for LogIndex {
    fn default() -> Self {
        Self(-1)
    }
}

/// What a configuration value is set on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic, by name.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// All brokers.
    Brokers,
    /// A group, by id.
    Group(String),
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its id.
    pub id: BrokerId,
    /// Index of the log entry that registered it: tells its lives apart.
    pub epoch: i64,
    /// Drawn anew by each of its processes.
    pub incarnation_id: Uuid,
    /// Where it listens, under which name.
    pub endpoints: Vec<Endpoint>,
    /// Features with the first and last level it knows.
    pub features: BTreeMap<String, (i16, i16)>,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it may not lead anything.
    pub fenced: bool,
    /// Whether it is about to stop.
    pub in_controlled_shutdown: bool,
    /// Ids of its data directories.
    pub log_dirs: Vec<Uuid>,
}

/// An address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the listener.
    pub name: String,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A topic with its partitions, in order of their numbers from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, never used again after deletion.
    pub id: Uuid,
    /// Partition n is at place n.
    pub partitions: Vec<Arc<PartitionImage>>,
}

/// The state of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Id of the data directory on each of them, in the same order; empty when unknown.
    pub directories: Vec<Uuid>,
    /// Replicas in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas that are being taken away.
    pub removing: Vec<BrokerId>,
    /// Replicas that are being added.
    pub adding: Vec<BrokerId>,
    /// The leader; -1 when there is none.
    pub leader: BrokerId,
    /// Rises with every election.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of the partition.
    pub partition_epoch: i32,
    /// Whether the leader came out of an unclean election and has not recovered yet.
    pub recovering: bool,
    /// Replicas outside the ISR that have everything (KIP-966).
    pub eligible_leaders: Vec<BrokerId>,
    /// What is last known of them (KIP-966).
    pub last_known_eligible: Vec<BrokerId>,
}

impl MetadataImage {
    /// Index of the last applied log entry; -1 before the first.
    #[must_use]
    pub fn index(&self) -> i64 {
        self.index.0
    }

    /// Notes that the entry at `index` has been applied whole.
    pub fn set_index(&mut self, index: i64) {
        self.index = LogIndex(index);
    }

    /// The finalized level of a feature; 0 when it is off.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All finalized features, by name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// A registered broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// All registered brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic_by_id(self.names.get(name)?)
    }

    /// The topic with that id.
    #[must_use]
    pub fn topic_by_id(&self, id: &Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics_from("")
    }

    /// The topics whose names are not before `name`, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        use std::ops::Bound::{Included, Unbounded};
        let from = self.names.range::<str, _>((Included(name), Unbounded));
        from.filter_map(|(_, id)| self.topics.get(id))
    }

    /// The topic whose name differs from `name` only in dots and underscores, if there is one.
    #[must_use]
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.spellings.get(&collision_key(name)?)
    }

    /// Where values of a topic may be set, as a broker with these static values sees them.
    #[must_use]
    pub fn topic_layers<'a>(&'a self, topic: &str, broker: BrokerId, fixed: &'a ConfigMap) -> Layers<'a> {
        self.layers(&Resource::Topic(topic.to_owned()), broker, fixed)
    }

    /// Where values of a topic or group may be set, as a broker with these static values sees them. For a broker's own values
    /// any `resource` without values will do.
    #[must_use]
    pub fn layers<'a>(&'a self, resource: &Resource, broker: BrokerId, fixed: &'a ConfigMap) -> Layers<'a> {
        Layers {
            resource: self.config(resource),
            broker: self.config(&Resource::Broker(broker)),
            cluster: self.config(&Resource::Brokers),
            fixed,
        }
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// A partition by topic id and number.
    #[must_use]
    pub fn partition(&self, topic: Uuid, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.topic_by_id(&topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// The replicas that cannot serve: their broker is gone or fenced, or has their directory no more.
    pub fn offline_replicas<'a>(
        &'a self,
        partition: &'a PartitionImage,
    ) -> impl Iterator<Item = BrokerId> + 'a {
        let directories = partition.directories.iter().copied().chain(std::iter::repeat(Uuid::ZERO));
        let is_online = |id: BrokerId, directory: Uuid| {
            self.broker(id).is_some_and(|broker| !broker.fenced && broker.has_directory(directory))
        };
        let replicas = partition.replicas.iter().copied().zip(directories);
        replicas.filter(move |(id, directory)| !is_online(*id, *directory)).map(|(id, _)| id)
    }

    /// The values set on a resource; empty when nothing is.
    #[must_use]
    pub fn config(&self, resource: &Resource) -> &ConfigMap {
        self.configs.get(resource).map_or(&crate::config::NOTHING, |map| map)
    }

    /// Everything that has values set on it.
    pub fn configs(&self) -> impl Iterator<Item = (&Resource, &ConfigMap)> {
        self.configs.iter().map(|(resource, map)| (resource, &**map))
    }

    /// The lowest producer id that was never given out.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}

impl BrokerImage {
    /// Whether a directory is online there. One that is not known yet counts as there, and so does any of a broker that names none.
    #[must_use]
    pub fn has_directory(&self, directory: Uuid) -> bool {
        directory.is_zero() || self.log_dirs.is_empty() || self.log_dirs.contains(&directory)
    }
}

impl TopicImage {
    /// The partitions with their numbers, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (i32, &Arc<PartitionImage>)> {
        (0i32..).zip(&self.partitions)
    }

    /// The partition of that number.
    #[must_use]
    pub fn partition(&self, number: i32) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(number).ok()?)
    }
}

impl Resource {
    /// The resource that a request or record names; `None` for a kind that has no configuration here, or a broker name that is
    /// not a number.
    #[must_use]
    pub fn from_wire(kind: i8, name: &str) -> Option<Self> {
        match (kind, name) {
            (TOPIC, _) => Some(Self::Topic(name.to_owned())),
            (BROKER, "") => Some(Self::Brokers),
            (BROKER, _) => name.parse().ok().filter(|id| *id >= 0).map(|id| Self::Broker(BrokerId(id))),
            (GROUP, _) => Some(Self::Group(name.to_owned())),
            _ => None,
        }
    }

    /// Kind and name on the wire.
    #[must_use]
    pub fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::Broker(id) => (BROKER, id.to_string()),
            Self::Brokers => (BROKER, String::new()),
            Self::Group(name) => (GROUP, name.clone()),
        }
    }
}

/// Names with the same key collide: Kafka's metrics cannot tell `a.b` from `a_b`. `None` for a name that cannot collide.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// `ConfigResource.Type` of a topic.
const TOPIC: i8 = 2;
/// `ConfigResource.Type` of a broker; without a name, of all.
const BROKER: i8 = 4;
/// `ConfigResource.Type` of a group.
const GROUP: i8 = 32;
