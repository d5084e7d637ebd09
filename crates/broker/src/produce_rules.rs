//! What a topic's configuration asks of the batches that are produced to it, worked out once per change of configuration.

use ottla_protocol::records::validate::{Recompression, TimestampRule, ValidateOptions};

/// The rules of one topic.
#[derive(Clone, Debug)]
pub struct ProduceRules {
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// `message.timestamp.type` is LogAppendTime.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// See above.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub recompression: Recompression,
    /// `cleanup.policy` has compact: every record needs a key.
    pub compacted: bool,
}

impl ProduceRules {
    /// The options of one validation.
    #[must_use]
    pub fn options(&self, allow_zstd: bool, now_ms: i64) -> ValidateOptions {
        let timestamps = if self.log_append_time {
            TimestampRule::LogAppendTime { now_ms }
        } else {
            TimestampRule::CreateTime {
                now_ms,
                before_max_ms: self.timestamp_before_max_ms,
                after_max_ms: self.timestamp_after_max_ms,
            }
        };
        ValidateOptions {
            batch_bytes_max: self.message_bytes_max,
            timestamps,
            recompression: self.recompression,
            require_keys: self.compacted,
            allow_zstd,
        }
    }

    /// Whether batches in another codec are rewritten.
    #[must_use]
    pub fn recompresses(&self) -> bool {
        !matches!(self.recompression, Recompression::Producer)
    }
}
