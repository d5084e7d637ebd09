//! The topic keys that are honoured, with their types.

use super::key::Key;
use super::resolve::{ConfigMap, Layers};
use super::topic_key;
use super::value::{ConfigError, parse_list};
use crate::replica::Durability;

/// `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CleanupPolicy {
    /// Old segments are dropped.
    pub delete: bool,
    /// The last value of every key is kept, and a record without a key is refused.
    pub compact: bool,
}

/// `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Batches stay as the producer made them.
    Producer,
    /// Batches are stored uncompressed.
    Uncompressed,
    /// Batches are stored with gzip at this level; -1 is the codec's own default.
    Gzip(i32),
    /// Batches are stored with snappy.
    Snappy,
    /// Batches are stored with lz4.
    Lz4,
    /// Batches are stored with zstd at this level.
    Zstd(i32),
}

/// All honoured topic keys. A limit that is not set (negative, or Kafka's largest number) is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with its level
    pub compression: CompressionType,
    /// `retention.ms`
    pub retention_ms: Option<i64>,
    /// `retention.bytes`
    pub retention_bytes: Option<i64>,
    /// `segment.bytes`
    pub segment_bytes: i32,
    /// `segment.ms`
    pub segment_ms: i64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`
    pub segment_index_bytes: i32,
    /// `index.interval.bytes`
    pub index_interval_bytes: i32,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `flush.messages`
    pub flush_messages: Option<i64>,
    /// `flush.ms`
    pub flush_ms: Option<i64>,
    /// `max.message.bytes`
    pub max_message_bytes: i32,
    /// `message.timestamp.type` is LogAppendTime
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: Option<i64>,
    /// `min.insync.replicas`
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election: bool,
    /// `ottla.durability`
    pub durability: Durability,
}

impl TopicConfig {
    /// The values in force. A stored value that is no longer valid counts as unset, so that a broker always starts.
    #[must_use]
    pub fn resolve(layers: &Layers<'_>) -> Self {
        let values = Values(layers);
        Self {
            cleanup_policy: values.cleanup_policy(),
            compression: values.compression(),
            retention_ms: not_negative(values.long("retention.ms")),
            retention_bytes: not_negative(values.long("retention.bytes")),
            segment_bytes: values.int("segment.bytes"),
            segment_ms: values.long("segment.ms"),
            segment_jitter_ms: values.long("segment.jitter.ms"),
            segment_index_bytes: values.int("segment.index.bytes"),
            index_interval_bytes: values.int("index.interval.bytes"),
            min_cleanable_dirty_ratio: values.real("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: values.long("min.compaction.lag.ms"),
            max_compaction_lag_ms: values.long("max.compaction.lag.ms"),
            delete_retention_ms: values.long("delete.retention.ms"),
            file_delete_delay_ms: values.long("file.delete.delay.ms"),
            flush_messages: not_endless(values.long("flush.messages")),
            flush_ms: not_endless(values.long("flush.ms")),
            max_message_bytes: values.int("max.message.bytes"),
            log_append_time: values.text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: not_endless(values.long("message.timestamp.before.max.ms")),
            timestamp_after_max_ms: not_endless(values.long("message.timestamp.after.max.ms")),
            min_insync_replicas: values.int("min.insync.replicas"),
            unclean_leader_election: values
                .text("unclean.leader.election.enable")
                .eq_ignore_ascii_case("true"),
            durability: values.durability(),
        }
    }

    /// Checks what a client wants to set on a topic: every key by itself, then all together.
    pub fn validate(set: &ConfigMap) -> Result<(), ConfigError> {
        for (name, value) in set {
            let key =
                topic_key(name).ok_or_else(|| ConfigError(format!("Unknown topic config name: {name}")))?;
            key.validate(value)?;
        }
        let values = Layers { resource: set, ..Layers::default() };
        let values = Values(&values);
        let (least, most) = (values.long("min.compaction.lag.ms"), values.long("max.compaction.lag.ms"));
        if least > most {
            return Err(ConfigError(format!(
                "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
            )));
        }
        Ok(())
    }
}

struct Values<'a>(&'a Layers<'a>);

impl Values<'_> {
    fn text(&self, name: &str) -> String {
        let key = key(name);
        let set = self.0.value(key).filter(|value| key.validate(value).is_ok());
        set.or_else(|| key.default.map(str::to_owned))
            .expect("every honoured topic key has a default")
            .trim()
            .to_owned()
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name).parse().expect("a value that passed validation, or a default, is a number")
    }

    fn real(&self, name: &str) -> f64 {
        self.text(name).parse().expect("a value that passed validation, or a default, is a number")
    }

    fn int(&self, name: &str) -> i32 {
        self.text(name).parse().expect("a value that passed validation, or a default, is a number")
    }

    fn cleanup_policy(&self) -> CleanupPolicy {
        let text = self.text("cleanup.policy");
        let has = |policy| parse_list(&text).any(|item| item == policy);
        CleanupPolicy { delete: has("delete"), compact: has("compact") }
    }

    fn compression(&self) -> CompressionType {
        match self.text("compression.type").as_str() {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip(self.int("compression.gzip.level")),
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4,
            "zstd" => CompressionType::Zstd(self.int("compression.zstd.level")),
            _ => CompressionType::Producer,
        }
    }

    fn durability(&self) -> Durability {
        if self.text("ottla.durability") == "replicated" {
            Durability::Replicated
        } else {
            Durability::Durable
        }
    }
}

fn key(name: &str) -> &'static Key {
    topic_key(name).expect("the honoured topic keys are in the table")
}

fn not_negative(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

fn not_endless(value: i64) -> Option<i64> {
    (value != i64::MAX).then_some(value)
}
