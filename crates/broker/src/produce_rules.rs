//! What a topic's configuration asks of the batches that are produced to it, worked out once per change of configuration.

use ottla_cluster::config::{CompressionType, TopicConfig};
use ottla_protocol::records::{Compression, DecompressLimit, TimestampType, ValidateOptions};

/// The rules of one topic.
#[derive(Clone, Debug, Default)]
pub struct ProduceRules(ValidateOptions);

impl ProduceRules {
    /// What `config` asks for.
    #[must_use]
    pub fn new(config: &TopicConfig) -> Self {
        let log_append_time = config.log_append_time;
        Self(ValidateOptions {
            now_ms: 0,
            timestamp_type: if log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            timestamp_before_max_ms: config.timestamp_before_max_ms.unwrap_or(i64::MAX),
            timestamp_after_max_ms: config.timestamp_after_max_ms.unwrap_or(i64::MAX),
            message_bytes_max: usize::try_from(config.max_message_bytes).unwrap_or(0),
            key_required: config.cleanup_policy.compact,
            allow_zstd: true,
            compression: match config.compression {
                CompressionType::Producer => None,
                CompressionType::Uncompressed => Some(Compression::None),
                CompressionType::Gzip(level) => Some(Compression::Gzip(level)),
                CompressionType::Snappy => Some(Compression::Snappy),
                CompressionType::Lz4 => Some(Compression::Lz4),
                CompressionType::Zstd(level) => Some(Compression::Zstd(level)),
            },
            decompress_limit: DecompressLimit::default(),
        })
    }

    /// The options of one validation.
    #[must_use]
    pub fn options(&self, allow_zstd: bool, now_ms: i64) -> ValidateOptions {
        ValidateOptions { now_ms, allow_zstd, ..self.0.clone() }
    }

    /// `message.timestamp.type` is LogAppendTime.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.0.timestamp_type == TimestampType::LogAppendTime
    }

    /// Whether batches in another codec are rewritten.
    #[must_use]
    pub fn recompresses(&self) -> bool {
        self.0.compression.is_some()
    }
}
