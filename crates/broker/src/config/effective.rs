//! The configuration in force: what was set at run time (in the metadata image) over what the broker started with over the
//! defaults. Resolved anew from each image, never kept beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_cluster::config::{Layers, TopicConfig, broker_key};
use ottla_cluster::controller::INTERNAL_TOPICS;
use ottla_cluster::image::{MetadataImage, Resource};
use ottla_cluster::replica::Durability;
use ottla_protocol::ids::BrokerId;
use ottla_storage::log::LogConfig;

use super::{BrokerConfig, ConfigError, ConnectionLimits, Reader};

/// Broker keys that can be changed at run time and are not defaults of topic keys.
#[derive(Clone, Debug, PartialEq)]
pub struct DynamicConfig {
    /// `max.connections*`.
    pub connections: ConnectionLimits,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_dir: usize,
    /// `log.cleaner.*`.
    pub cleaner: CleanerConfig,
}

/// How logs are compacted; a part of [`DynamicConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerConfig {
    /// `log.cleaner.backoff.ms`.
    pub backoff: Duration,
    /// `log.cleaner.dedupe.buffer.size`.
    pub dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`, reads and writes together.
    pub bytes_per_second: f64,
}

impl DynamicConfig {
    /// The values in force on this broker. A stored value that is not valid counts as unset, so that a broker always starts.
    pub fn resolve(config: &BrokerConfig, image: &MetadataImage) -> DynamicConfig {
        DynamicConfig::of(&layers(config, image, &Resource::Broker(BrokerId(config.node_id))))
    }

    fn of(layers: &Layers<'_>) -> DynamicConfig {
        let number = |name| usize::try_from(number(layers, name)).unwrap_or(0);
        let overrides = layers.broker_value(OVERRIDES).unwrap_or_default();
        DynamicConfig {
            connections: ConnectionLimits {
                max: number("max.connections"),
                max_per_ip: number("max.connections.per.ip"),
                max_per_ip_overrides: per_ip_overrides(&overrides).unwrap_or_default(),
            },
            producer_id_expiration: Duration::from_millis(
                u64::try_from(self::number(layers, "producer.id.expiration.ms")).unwrap_or(0),
            ),
            recovery_threads_per_dir: number("num.recovery.threads.per.data.dir"),
            cleaner: CleanerConfig {
                backoff: Duration::from_millis(number("log.cleaner.backoff.ms") as u64),
                dedupe_buffer_bytes: number("log.cleaner.dedupe.buffer.size") as u64,
                load_factor: real(layers, "log.cleaner.io.buffer.load.factor"),
                io_buffer_bytes: number("log.cleaner.io.buffer.size"),
                bytes_per_second: real(layers, "log.cleaner.io.max.bytes.per.second"),
            },
        }
    }
}

const OVERRIDES: &str = "max.connections.per.ip.overrides";

/// What is set where on a resource: what the registry resolves and describes.
pub fn layers<'a>(config: &'a BrokerConfig, image: &'a MetadataImage, resource: &Resource) -> Layers<'a> {
    image.layers(resource, BrokerId(config.node_id), &config.fixed)
}

/// The configuration of a topic on this broker.
pub fn topic(config: &BrokerConfig, image: &MetadataImage, topic: &str) -> TopicConfig {
    let resolved = TopicConfig::resolve(&image.topic_layers(topic, BrokerId(config.node_id), &config.fixed));
    // Whoever made it and whatever it says: what is acknowledged to groups and transactions must not be lost.
    let durability = if INTERNAL_TOPICS.contains(&topic) { Durability::Durable } else { resolved.durability };
    TopicConfig { durability, ..resolved }
}

/// What the logs of a topic are told.
pub fn log_config(topic: &TopicConfig) -> LogConfig {
    let bytes = |value: i32| u64::try_from(value).unwrap_or(0);
    LogConfig {
        segment_bytes: bytes(topic.segment_bytes),
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        index_interval_bytes: bytes(topic.index_interval_bytes),
        segment_index_bytes: bytes(topic.segment_index_bytes),
        retention_ms: topic.retention_ms.unwrap_or(-1),
        retention_bytes: topic.retention_bytes.unwrap_or(-1),
        file_delete_delay_ms: topic.file_delete_delay_ms,
        delete_enabled: topic.cleanup_policy.delete,
        compact_enabled: topic.cleanup_policy.compact,
        min_cleanable_dirty_ratio: topic.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
    }
}

/// Checks the static values of keys that only this module takes apart.
pub(super) fn check_fixed(r: &Reader<'_>) -> Result<(), ConfigError> {
    let text = r.text(OVERRIDES).unwrap_or_default();
    per_ip_overrides(&text).map(drop).map_err(|reason| {
        r.bad(OVERRIDES, reason, "write address:count pairs between commas, for example 10.0.0.1:100,[::1]:5")
    })
}

/// A numeric broker key with a default; a stored value that is not valid counts as unset.
fn number(layers: &Layers<'_>, name: &str) -> i64 {
    text(layers, name).trim().parse().expect("a valid value of a numeric key is a number")
}

/// Like [`number`], for a decimal number.
fn real(layers: &Layers<'_>, name: &str) -> f64 {
    text(layers, name).trim().parse().expect("a valid value of a decimal key is a number")
}

fn text(layers: &Layers<'_>, name: &str) -> String {
    let key = broker_key(name).expect("the broker asks for keys of the registry");
    let valid = layers.broker_value(name).filter(|value| key.validate(value).is_ok());
    valid.or_else(|| key.default.map(str::to_owned)).expect("the key has a default")
}

/// `address:count` pairs between commas; an IPv6 address may stand in brackets.
fn per_ip_overrides(text: &str) -> Result<BTreeMap<String, usize>, String> {
    let mut overrides = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (host, count) = item.rsplit_once(':').ok_or_else(|| format!("{item} has no colon"))?;
        let count = count.trim().parse().map_err(|_| format!("{count} in {item} is not a count"))?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("{item} has no address"));
        }
        overrides.insert(host.to_owned(), count);
    }
    Ok(overrides)
}

#[cfg(test)]
mod tests {
    use ottla_cluster::config::{Durability, Entry};
    use ottla_cluster::image::MetadataDelta;
    use ottla_protocol::generated::records::metadata::ConfigRecord;

    use super::*;
    use crate::config::StaticSettings;
    use crate::describe;

    fn config(overrides: &[&str]) -> BrokerConfig {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        BrokerConfig::from_settings(StaticSettings::gather(None, [], &overrides).unwrap()).unwrap()
    }

    fn image(set: &[(Resource, &str, &str)]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (resource, name, value) in set {
            let (resource_type, resource_name) = resource.to_wire();
            let record = ConfigRecord {
                resource_type,
                resource_name: resource_name.into(),
                name: (*name).into(),
                value: Some((*value).into()),
                ..ConfigRecord::default()
            };
            image.apply(&record.into(), &mut MetadataDelta::default()).unwrap();
        }
        image
    }

    const OWN: Resource = Resource::Broker(BrokerId(1));
    const OTHER: Resource = Resource::Broker(BrokerId(2));

    fn topic_t() -> Resource {
        Resource::Topic("t".to_owned())
    }

    #[test]
    fn a_topic_has_its_own_values_over_dynamic_over_static_ones() {
        let config =
            config(&["log.retention.hours=2", "log.segment.bytes=2097152", "message.max.bytes=1000"]);
        let image = image(&[
            (topic_t(), "max.message.bytes", "3000"),
            (topic_t(), "ottla.durability", "replicated"),
            (OWN, "message.max.bytes", "2000"),
            (OTHER, "log.segment.bytes", "9999999"),
            (Resource::Brokers, "log.cleanup.policy", "compact"),
        ]);
        let own = topic(&config, &image, "t");
        assert_eq!((own.max_message_bytes, own.durability), (3000, Durability::Replicated));
        let log = log_config(&own);
        assert_eq!((log.retention_ms, log.retention_bytes, log.segment_bytes), (7_200_000, -1, 2_097_152));
        assert!(log.compact_enabled && !log.delete_enabled);
        assert_eq!(topic(&config, &image, "other").max_message_bytes, 2000);
    }

    #[test]
    fn the_defaults_of_a_log_are_kafkas() {
        let defaults = log_config(&topic(&config(&[]), &MetadataImage::default(), "t"));
        assert_eq!(defaults, LogConfig::default());
    }

    #[test]
    fn broker_values_change_at_run_time_and_nonsense_counts_as_unset() {
        let config = config(&["max.connections=10", "max.connections.per.ip.overrides=10.0.0.1:7"]);
        let before = DynamicConfig::resolve(&config, &MetadataImage::default());
        assert_eq!((before.connections.max, before.connections.max_per_ip), (10, 2_147_483_647));
        assert_eq!(before.connections.max_per_ip_overrides, BTreeMap::from([("10.0.0.1".to_owned(), 7)]));
        assert_eq!(before.producer_id_expiration, Duration::from_secs(86_400));
        let image = image(&[
            (Resource::Brokers, "max.connections", "20"),
            (OWN, "max.connections.per.ip", "many"),
            (OWN, OVERRIDES, "[::1]:3,localhost:4"),
            (OWN, "producer.id.expiration.ms", "5"),
            (Resource::Brokers, "num.recovery.threads.per.data.dir", "7"),
        ]);
        let after = DynamicConfig::resolve(&config, &image);
        assert_eq!((after.connections.max, after.connections.max_per_ip), (20, 2_147_483_647));
        let overrides = BTreeMap::from([("::1".to_owned(), 3), ("localhost".to_owned(), 4)]);
        assert_eq!(after.connections.max_per_ip_overrides, overrides);
        assert_eq!(after.producer_id_expiration, Duration::from_millis(5));
        assert_eq!((before.recovery_threads_per_dir, after.recovery_threads_per_dir), (2, 7));
    }

    fn shown(entries: &[Entry], name: &str) -> String {
        let entry = entries.iter().find(|entry| entry.name == name).expect("the key is described");
        let synonyms = entry.synonyms.iter().map(|synonym| {
            format!(
                "{}={}/{}",
                synonym.name,
                synonym.value.as_deref().unwrap_or("null"),
                synonym.source.code()
            )
        });
        let value = entry.value.as_deref().unwrap_or("null");
        format!(
            "{value}/{} read_only={} {}",
            entry.source.code(),
            entry.read_only,
            synonyms.collect::<Vec<_>>().join(" ")
        )
    }

    #[test]
    fn described_values_tell_where_they_come_from() {
        let config = config(&["message.max.bytes=1000", "num.partitions=3"]);
        let image = image(&[
            (topic_t(), "max.message.bytes", "3000"),
            (OWN, "message.max.bytes", "2000"),
            (Resource::Brokers, "message.max.bytes", "1500"),
        ]);
        let entries =
            |resource: &Resource, names| describe::entries(&config, &image, resource, names).unwrap();
        let all = "message.max.bytes=2000/2 message.max.bytes=1500/3 message.max.bytes=1000/4 message.max.bytes=1048588/5";
        assert_eq!(
            shown(&entries(&topic_t(), None), "max.message.bytes"),
            format!("3000/1 read_only=false max.message.bytes=3000/1 {all}")
        );
        let own = entries(&OWN, None);
        assert_eq!(shown(&own, "message.max.bytes"), format!("2000/2 read_only=false {all}"));
        assert_eq!(shown(&own, "num.partitions"), "3/4 read_only=true num.partitions=3/4 num.partitions=1/5");
        let names = ["num.partitions".to_owned(), "nonsense".to_owned()];
        let one = entries(&OWN, Some(&names));
        assert_eq!(one.len(), 1);
        let cluster = entries(&Resource::Brokers, None);
        assert_eq!(cluster.len(), 1);
        assert_eq!(cluster[0].value.as_deref(), Some("1500"));
        let other = describe::entries(&config, &image, &OTHER, None).unwrap_err();
        assert_eq!(other.to_string(), "Unexpected broker id, expected 1 or empty string, but received 2");
    }
}
