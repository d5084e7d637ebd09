//! The configuration in force: what was set at run time (in the metadata image) over what the broker started with over the
//! defaults. Resolved anew from each image, never kept beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_cluster::config::{ConfigMap, Layers, NOTHING, TopicConfig, broker_key};
use ottla_cluster::image::{MetadataImage, Resource};
use ottla_protocol::ids::BrokerId;
use ottla_storage::log::LogConfig;

use super::error::ConfigError;
use super::reader::Reader;
use super::{BrokerConfig, ConnectionLimits};

/// Broker keys that can be changed at run time and are not defaults of topic keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicConfig {
    /// `max.connections*`.
    pub connections: ConnectionLimits,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
}

impl DynamicConfig {
    /// The values in force on this broker. A stored value that is not valid counts as unset, so that a broker always starts.
    pub fn resolve(config: &BrokerConfig, image: &MetadataImage) -> DynamicConfig {
        DynamicConfig::of(&layers(config, image, &NOTHING))
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
        }
    }
}

const OVERRIDES: &str = "max.connections.per.ip.overrides";

/// What is set where, for asking the registry about one resource (its values are `resource`; [`NOTHING`] for a broker).
pub fn layers<'a>(config: &'a BrokerConfig, image: &'a MetadataImage, resource: &'a ConfigMap) -> Layers<'a> {
    Layers {
        resource,
        broker: image.config(&Resource::Broker(BrokerId(config.node_id))),
        cluster: image.config(&Resource::Brokers),
        fixed: &config.fixed,
    }
}

/// The configuration of a topic on this broker.
pub fn topic(config: &BrokerConfig, image: &MetadataImage, topic: &str) -> TopicConfig {
    let resource = image.config(&Resource::Topic(topic.to_owned()));
    TopicConfig::resolve(&layers(config, image, resource))
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
        preallocate: false,
        delete_enabled: topic.cleanup_policy.delete,
        compact_enabled: topic.cleanup_policy.compact,
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
    let key = broker_key(name).expect("the broker asks for keys of the registry");
    let valid = layers.broker_value(name).filter(|value| key.validate(value).is_ok());
    let text = valid.or_else(|| key.default.map(str::to_owned)).expect("the key has a default");
    text.trim().parse().expect("a valid value of a numeric key is a number")
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
