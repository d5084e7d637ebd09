//! What the controller decides: one method per request, each in a file of its name. It sees a working copy of the metadata, to
//! which every decision is applied at once, so that requests that are decided together see each other's effects.

mod allocate_producer_ids;
mod alter_configs;
mod alter_partition;
mod alter_partition_reassignments;
mod auto_create_topics;
mod broker_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod elect_leaders;
mod elections;
mod internal_topics;
mod list_config_resources;
mod list_partition_reassignments;
mod log_directories;
mod partition_change;
mod placement;
mod reassignment;
mod register_broker;
mod tenure;
mod tick;
mod topic_name;
mod unregister_broker;
mod update_features;

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_protocol::wire::Str;

use crate::config::{ConfigMap, Layers};
use crate::features::Features;
use crate::image::{MetadataDelta, MetadataImage, MetadataRecord};

pub use list_config_resources::list_config_resources;
pub use list_partition_reassignments::list_partition_reassignments;
pub use log_directories::DirectoryAssignment;
pub use tenure::{RECONNECT_MS, Tenure};
pub use tick::TickEvent;
pub use topic_name::{INTERNAL_TOPICS, METADATA_TOPIC, OFFSETS_TOPIC, validate_topic_name};

/// What a request comes to: records that make it true once they are committed, and what the client is then told.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<R> {
    /// In the order of their application; empty when nothing changes.
    pub records: Vec<MetadataRecord>,
    /// To be sent when the records are committed.
    pub response: R,
}

/// What a decision may depend on beyond the metadata and the request.
pub struct Context<'a> {
    /// Index that the log entry with the decision's records will have.
    pub index: i64,
    /// Random numbers, from which ids and placement are made.
    pub entropy: &'a mut dyn FnMut() -> u64,
}

/// The controller's own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster's id; brokers of another are refused.
    pub cluster_id: String,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
    /// `delete.topic.enable`
    pub delete_topic_enable: bool,
    /// `broker.session.timeout.ms`
    pub broker_session_ms: i64,
    /// `leader.imbalance.check.interval.seconds` in milliseconds; `None` when `auto.leader.rebalance.enable` is false.
    pub leader_rebalance_ms: Option<i64>,
    /// `offsets.topic.*`
    pub offsets_topic: OffsetsTopicSettings,
    /// The features that this controller knows.
    pub features: Features,
    /// All values that are set at the start.
    pub fixed: ConfigMap,
}

/// What `__consumer_offsets` is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsTopicSettings {
    /// `offsets.topic.num.partitions`
    pub num_partitions: i32,
    /// `offsets.topic.replication.factor`
    pub replication_factor: i16,
    /// `offsets.topic.segment.bytes`
    pub segment_bytes: i32,
}

impl Settings {
    /// Takes what it needs from the values set at the start, which must be valid; what is not set has its default.
    #[must_use]
    pub fn new(cluster_id: String, fixed: ConfigMap) -> Self {
        let layers = Layers { fixed: &fixed, ..Layers::default() };
        let value = |name| layers.broker_value(name).unwrap_or_default().trim().to_owned();
        let is_on = |name| !value(name).eq_ignore_ascii_case("false");
        let rebalance_seconds: i64 = value("leader.imbalance.check.interval.seconds").parse().unwrap_or(300);
        Self {
            cluster_id,
            num_partitions: value("num.partitions").parse().unwrap_or(1),
            default_replication_factor: value("default.replication.factor").parse().unwrap_or(1),
            delete_topic_enable: is_on("delete.topic.enable"),
            broker_session_ms: value("broker.session.timeout.ms").parse().unwrap_or(4000),
            leader_rebalance_ms: is_on("auto.leader.rebalance.enable")
                .then_some(rebalance_seconds.max(1) * 1000),
            offsets_topic: OffsetsTopicSettings {
                num_partitions: value("offsets.topic.num.partitions").parse().unwrap_or(50),
                replication_factor: value("offsets.topic.replication.factor").parse().unwrap_or(3),
                segment_bytes: value("offsets.topic.segment.bytes").parse().unwrap_or(100 << 20),
            },
            features: Features::known(),
            fixed,
        }
    }
}

/// Decides on a working copy of the metadata.
#[derive(Clone, Debug)]
pub struct Controller<'a> {
    image: MetadataImage,
    settings: &'a Settings,
}

/// An error for one part of a request.
type Refusal = (ErrorCode, String);

impl<'a> Controller<'a> {
    /// Begins with a copy of the committed metadata.
    #[must_use]
    pub fn new(image: MetadataImage, settings: &'a Settings) -> Self {
        Self { image, settings }
    }

    /// The working copy, with all that was decided so far.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// The working copy, which is the metadata as soon as its records are committed.
    #[must_use]
    pub fn into_image(self) -> MetadataImage {
        self.image
    }

    /// Applies decided records to the working copy.
    fn decided(&mut self, records: &[MetadataRecord]) {
        let mut delta = MetadataDelta::default();
        for record in records {
            self.image
                .apply(record, &mut delta)
                .expect("the controller's own records fit the image they were decided on");
        }
    }

    /// Where a topic's values come from, for brokers without values of their own.
    fn topic_layers<'b>(&'b self, set: &'b ConfigMap) -> Layers<'b> {
        let layers = self.image.topic_layers("", BrokerId(-1), &self.settings.fixed);
        Layers { resource: set, ..layers }
    }
}

/// A new topic id, of the kind that Kafka draws: not one that its tools would take for an option.
fn new_topic_id(image: &MetadataImage, entropy: &mut dyn FnMut() -> u64) -> Uuid {
    loop {
        let (high, low) = (entropy(), entropy());
        let bits = (u128::from(high) << 64) | u128::from(low);
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let id = Uuid(bits.to_be_bytes());
        if !id.to_string().starts_with('-') && image.topic_by_id(&id).is_none() {
            return id;
        }
    }
}

/// What is named more than once in a request.
fn named_twice<T: Ord>(named: impl Iterator<Item = T>) -> BTreeSet<T> {
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for name in named {
        if let Some(name) = once.replace(name) {
            twice.insert(name);
        }
    }
    twice
}

/// A refusal as two fields of a response.
fn code_and_message(refusal: Refusal) -> (i16, Option<Str>) {
    (refusal.0.code(), Some(Str::from(refusal.1)))
}

#[cfg(test)]
mod tests;
