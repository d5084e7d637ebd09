//! The topic in which groups are kept: made on demand with settings of its own, and then left alone by clients.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::create_topics::{CreatableTopic, CreatableTopicConfig};

use super::placement::active_count;
use super::{Controller, INTERNAL_TOPICS, OFFSETS_TOPIC, Refusal};

/// The least that `segment.bytes` may be; Kafka takes less for `offsets.topic.segment.bytes`.
const SEGMENT_BYTES_MIN: i32 = 1 << 20;

impl Controller<'_> {
    /// `__consumer_offsets` as `offsets.topic.*` wants it, on no more replicas than there are brokers that live.
    pub(super) fn offsets_topic(&self) -> CreatableTopic {
        let settings = &self.settings.offsets_topic;
        let live = i16::try_from(active_count(&self.image)).unwrap_or(i16::MAX);
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", settings.segment_bytes.max(SEGMENT_BYTES_MIN).to_string()),
            // Not left to the brokers' default: an offset that was acknowledged must not be lost.
            ("ottla.durability", "durable".to_owned()),
        ];
        CreatableTopic {
            name: OFFSETS_TOPIC.into(),
            num_partitions: settings.num_partitions,
            replication_factor: settings.replication_factor.min(live).max(1),
            configs: configs
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.into(),
                    value: Some(value.into()),
                    ..CreatableTopicConfig::default()
                })
                .collect(),
            ..CreatableTopic::default()
        }
    }
}

/// Where a group or a transactional id lives follows from the number of partitions: were it changed, what is stored could not be
/// found any more.
pub(super) fn refuse_internal(name: &str, what: &str) -> Result<(), Refusal> {
    if !INTERNAL_TOPICS.contains(&name) {
        return Ok(());
    }
    let text = format!(
        "{name} is internal: {what}, since where a group or a transactional id is kept follows from its partitions."
    );
    Err((ErrorCode::InvalidRequest, text))
}
