use super::*;
use crate::config::resolve::ConfigMap;

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn tables_are_sorted_and_their_defaults_valid() {
    let families =
        std::iter::once(keys::TOPIC).chain(std::iter::once(keys::GROUP)).chain(keys::BROKER.iter().copied());
    for family in families {
        for pair in family.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} and {}", pair[0].name, pair[1].name);
        }
        for key in family {
            if let Some(default) = key.default {
                assert_eq!(key.validate(default), Ok(()), "{}", key.name);
            }
            for synonym in key.synonyms {
                assert!(broker_key(synonym.name).is_some(), "{} of {}", synonym.name, key.name);
            }
        }
    }
}

#[test]
fn every_key_of_kafka_is_there_once() {
    assert_eq!(topic_keys().count(), 34, "Kafka's 33 and ottla.durability");
    assert_eq!(group_keys().count(), 17);
    let names: std::collections::BTreeSet<_> = broker_keys().iter().map(|key| key.name).collect();
    assert_eq!(names.len(), broker_keys().len());
    assert_eq!(names.len(), BROKER_COUNT);
}

/// Kafka's keys and three of Ottla's own.
const BROKER_COUNT: usize = 343;

#[test]
fn values_are_refused_with_kafkas_words() {
    let error = |name: &str, value: &str| {
        let key = topic_key(name).or_else(|| broker_key(name)).expect("the key exists");
        key.validate(value).err().map(|error| error.0)
    };
    assert_eq!(
        error("retention.ms", "abc").unwrap(),
        "Invalid value abc for configuration retention.ms: Not a number of type LONG"
    );
    assert_eq!(
        error("retention.ms", "-2").unwrap(),
        "Invalid value -2 for configuration retention.ms: Value must be at least -1"
    );
    assert_eq!(
        error("cleanup.policy", "shred").unwrap(),
        "Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete"
    );
    assert_eq!(
        error("remote.storage.enable", "true").unwrap(),
        "Invalid value true for configuration remote.storage.enable: it is always false: there is no tiered storage"
    );
    assert!(error("preallocate", "yes").unwrap().ends_with("Expected value to be either true or false"));
    assert_eq!(error("preallocate", "TRUE"), None);
    assert_eq!(error("cleanup.policy", "compact, delete"), None);
    assert_eq!(error("compression.gzip.level", "-1"), None);
    assert!(error("compression.gzip.level", "0").is_some());
    assert!(error("compression.zstd.level", "23").is_some());
    assert!(error("segment.bytes", "1048575").is_some());
    assert!(error("num.partitions", "99999999999").is_some());
    assert_eq!(error("follower.replication.throttled.replicas", "0:1,5:2"), None);
    assert!(error("follower.replication.throttled.replicas", "0:1,x").is_some());
    assert!(error("ssl.key.password", "x").is_none());
}

#[test]
fn the_strongest_layer_wins_and_units_are_converted() {
    let topic = map(&[("retention.ms", "5")]);
    let cluster = map(&[("log.retention.ms", "7")]);
    let fixed = map(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]);
    let none = map(&[]);
    let retention = |resource: &ConfigMap, cluster: &ConfigMap, fixed: &ConfigMap| {
        TopicConfig::resolve(&Layers { resource, broker: &none, cluster, fixed }).retention_ms
    };
    assert_eq!(retention(&topic, &cluster, &fixed), Some(5));
    assert_eq!(retention(&none, &cluster, &fixed), Some(7));
    assert_eq!(retention(&none, &none, &fixed), Some(180_000));
    assert_eq!(retention(&none, &none, &none), Some(604_800_000));
    assert_eq!(retention(&map(&[("retention.ms", "-1")]), &none, &none), None);
    assert_eq!(retention(&none, &none, &map(&[("log.retention.hours", "-1")])), None);

    let layers = Layers { resource: &none, broker: &none, cluster: &cluster, fixed: &fixed };
    let entry = layers.entry(topic_key("retention.ms").unwrap());
    assert_eq!((entry.value.as_deref(), entry.source), (Some("7"), Source::DynamicDefaultBroker));
    let seen: Vec<_> =
        entry.synonyms.iter().map(|s| format!("{}={}", s.name, s.value.as_deref().unwrap())).collect();
    assert_eq!(
        seen,
        ["log.retention.ms=7", "log.retention.minutes=3", "log.retention.hours=2", "log.retention.hours=168"]
    );
}

#[test]
fn a_stored_value_that_is_not_valid_any_more_counts_as_unset() {
    let resource =
        map(&[("segment.bytes", "14"), ("cleanup.policy", "compact,delete"), ("compression.type", "zstd")]);
    let config = TopicConfig::resolve(&Layers { resource: &resource, ..Layers::default() });
    assert_eq!(config.segment_bytes, 1_073_741_824);
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
    assert_eq!(config.compression, CompressionType::Zstd(3));
    assert_eq!(config.durability, Durability::Durable);
}

#[test]
fn topic_values_are_checked_together() {
    assert_eq!(
        TopicConfig::validate(&map(&[("nonsense", "1")])),
        Err(ConfigError("Unknown topic config name: nonsense".to_owned()))
    );
    let crossed = map(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")]);
    assert!(TopicConfig::validate(&crossed).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let fixed = map(&[("ssl.key.password", "geheim")]);
    let entry = Layers { fixed: &fixed, ..Layers::default() }.entry(broker_key("ssl.key.password").unwrap());
    assert_eq!(entry.value, None);
    assert!(entry.synonyms.iter().all(|synonym| synonym.value.is_none()));
    assert!(entry.sensitive);
}

#[test]
fn only_what_is_honoured_can_be_changed() {
    let read_only = |name| broker_key(name).unwrap().is_read_only();
    assert!(read_only("num.partitions"), "Kafka's scope");
    assert!(read_only("num.io.threads"), "no effect");
    assert!(!read_only("log.retention.ms"));
}

#[test]
fn the_page_lists_every_key() {
    let page = docs::render();
    let all = topic_keys().chain(group_keys()).chain(broker_keys());
    for key in all {
        assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
    }
    assert!(
        page.contains("| `log.dir` | list | `./ottla-data` (Kafka: `/tmp/kafka-logs`) | start | honoured |")
    );
}

/// A broker key that gives a topic key its default is honoured if the topic key is: set at the start, and, where that is
/// allowed, at run time.
#[test]
fn the_brokers_value_is_the_topics_default() {
    let candidates = ["1", "2", "14", "1048576", "compact", "gzip", "LogAppendTime", "replicated", "true"];
    let mut shown = 0;
    for key in topic_keys().filter(|key| key.is_honoured()) {
        // A level counts where the topic asks for its codec.
        let codec = key.name.strip_prefix("compression.").and_then(|rest| rest.strip_suffix(".level"));
        let resource = codec.map_or_else(ConfigMap::new, |codec| map(&[("compression.type", codec)]));
        let before = TopicConfig::resolve(&Layers { resource: &resource, ..Layers::default() });
        for synonym in key.synonyms {
            let broker = broker_key(synonym.name).expect("checked above");
            let valid = candidates.iter().filter(|value| broker.validate(value).is_ok());
            let changes = |layers: &dyn Fn(&ConfigMap) -> TopicConfig| {
                valid.clone().any(|value| layers(&map(&[(synonym.name, value)])) != before)
            };
            let at_start = |fixed: &ConfigMap| {
                TopicConfig::resolve(&Layers { resource: &resource, fixed, ..Layers::default() })
            };
            assert!(changes(&at_start), "{} does not change {}", synonym.name, key.name);
            let at_run_time = |cluster: &ConfigMap| {
                TopicConfig::resolve(&Layers { resource: &resource, cluster, ..Layers::default() })
            };
            assert!(broker.is_read_only() || changes(&at_run_time), "{} at run time", synonym.name);
            shown += 1;
        }
    }
    assert!(shown > 20, "{shown}");
}
