//! Keys of a topic.

use super::super::Check::{Any, AtLeast, Between, Fraction, GzipLevel, Lists, OneOf, ThrottledReplicas};
use super::super::Scope::Topic;
use super::super::Status::{Fixed, Honoured, NotUsed};
use super::super::Type::{Boolean, Double, Int, List, Long, Text};
use super::reasons::{NO_PREALLOCATION, QUOTAS, TIERED};
use super::{CODECS, hours, minutes, same};
use crate::config::Key;

/// The keys, sorted by name.
pub(super) const TOPIC: &[Key] = &[
    Key::new(
        "cleanup.policy",
        List,
        Some("delete"),
        Topic,
        Lists(&["compact", "delete"]),
        Honoured("delete drops old segments; compact keeps the last record of every key and refuses records without one."),
    )
    .synonyms(&[same("log.cleanup.policy")]),
    Key::new(
        "compression.gzip.level",
        Int,
        Some("-1"),
        Topic,
        GzipLevel,
        Honoured("Level of gzip when compression.type recompresses."),
    )
    .synonyms(&[same("compression.gzip.level")]),
    Key::new(
        "compression.lz4.level",
        Int,
        Some("9"),
        Topic,
        Between(1, 17),
        NotUsed("Ottla's LZ4 compressor has one level."),
    )
    .synonyms(&[same("compression.lz4.level")]),
    Key::new(
        "compression.type",
        Text,
        Some("producer"),
        Topic,
        OneOf(CODECS),
        Honoured("Codec of stored batches; producer keeps what the producer chose."),
    )
    .synonyms(&[same("compression.type")]),
    Key::new(
        "compression.zstd.level",
        Int,
        Some("3"),
        Topic,
        Between(-131_072, 22),
        Honoured("Level of zstd when compression.type recompresses."),
    )
    .synonyms(&[same("compression.zstd.level")]),
    Key::new(
        "delete.retention.ms",
        Long,
        Some("86400000"),
        Topic,
        AtLeast(0),
        Honoured("How long tombstones stay after the compaction that first reached them."),
    )
        .synonyms(&[same("log.cleaner.delete.retention.ms")]),
    Key::new(
        "file.delete.delay.ms",
        Long,
        Some("60000"),
        Topic,
        AtLeast(0),
        Honoured("How long the files of a dropped segment stay on disk under another name."),
    )
    .synonyms(&[same("log.segment.delete.delay.ms")]),
    Key::new(
        "flush.messages",
        Long,
        Some("9223372036854775807"),
        Topic,
        AtLeast(1),
        Honoured("A partition is synced when that many records are unsynced."),
    )
    .synonyms(&[same("log.flush.interval.messages")]),
    Key::new(
        "flush.ms",
        Long,
        Some("9223372036854775807"),
        Topic,
        AtLeast(0),
        Honoured("A record is unsynced for at most that long."),
    )
    .synonyms(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    Key::new("follower.replication.throttled.replicas", List, Some(""), Topic, ThrottledReplicas, QUOTAS),
    Key::new(
        "index.interval.bytes",
        Int,
        Some("4096"),
        Topic,
        AtLeast(0),
        Honoured("Bytes of log between two entries of the index."),
    )
    .synonyms(&[same("log.index.interval.bytes")]),
    Key::new("leader.replication.throttled.replicas", List, Some(""), Topic, ThrottledReplicas, QUOTAS),
    Key::new("local.retention.bytes", Long, Some("-2"), Topic, AtLeast(-2), TIERED)
        .synonyms(&[same("log.local.retention.bytes")]),
    Key::new("local.retention.ms", Long, Some("-2"), Topic, AtLeast(-2), TIERED)
        .synonyms(&[same("log.local.retention.ms")]),
    Key::new(
        "max.compaction.lag.ms",
        Long,
        Some("9223372036854775807"),
        Topic,
        AtLeast(1),
        Honoured("Age at which records are compacted, however little of the log is dirty."),
    )
        .synonyms(&[same("log.cleaner.max.compaction.lag.ms")]),
    Key::new(
        "max.message.bytes",
        Int,
        Some("1048588"),
        Topic,
        AtLeast(0),
        Honoured("Largest record batch, as it is stored."),
    )
    .synonyms(&[same("message.max.bytes")]),
    Key::new(
        "message.timestamp.after.max.ms",
        Long,
        Some("3600000"),
        Topic,
        AtLeast(0),
        Honoured("How far ahead of the broker a record may be dated."),
    )
    .synonyms(&[same("log.message.timestamp.after.max.ms")]),
    Key::new(
        "message.timestamp.before.max.ms",
        Long,
        Some("9223372036854775807"),
        Topic,
        AtLeast(0),
        Honoured("How far behind the broker a record may be dated."),
    )
    .synonyms(&[same("log.message.timestamp.before.max.ms")]),
    Key::new(
        "message.timestamp.type",
        Text,
        Some("CreateTime"),
        Topic,
        OneOf(&["CreateTime", "LogAppendTime"]),
        Honoured("CreateTime keeps the times of producers, LogAppendTime puts those of the broker."),
    )
    .synonyms(&[same("log.message.timestamp.type")]),
    Key::new(
        "min.cleanable.dirty.ratio",
        Double,
        Some("0.5"),
        Topic,
        Fraction,
        Honoured("A log is compacted when a larger share of it has not been."),
    )
        .synonyms(&[same("log.cleaner.min.cleanable.ratio")]),
    Key::new(
        "min.compaction.lag.ms",
        Long,
        Some("0"),
        Topic,
        AtLeast(0),
        Honoured("Records that are younger are not compacted."),
    )
        .synonyms(&[same("log.cleaner.min.compaction.lag.ms")]),
    Key::new(
        "min.insync.replicas",
        Int,
        Some("1"),
        Topic,
        AtLeast(1),
        Honoured("Replicas that must be in sync: with fewer acks=all is refused, and nothing new is committed."),
    )
    .synonyms(&[same("min.insync.replicas")]),
    Key::new(
        "ottla.durability",
        Text,
        Some("durable"),
        Topic,
        OneOf(&["durable", "replicated"]),
        Honoured("durable: acks=all means on disk; replicated: in memory of the in-sync replicas, as Kafka."),
    )
    .synonyms(&[same("ottla.durability")]),
    Key::new("preallocate", Boolean, Some("false"), Topic, Any, NO_PREALLOCATION)
        .synonyms(&[same("log.preallocate")]),
    Key::new("remote.log.copy.disable", Boolean, Some("false"), Topic, Any, TIERED),
    Key::new("remote.log.delete.on.disable", Boolean, Some("false"), Topic, Any, TIERED),
    Key::new(
        "remote.storage.enable",
        Boolean,
        Some("false"),
        Topic,
        Any,
        Fixed("there is no tiered storage"),
    ),
    Key::new(
        "retention.bytes",
        Long,
        Some("-1"),
        Topic,
        Any,
        Honoured("Size above which the oldest segments of a partition are dropped; -1 for none."),
    )
    .synonyms(&[same("log.retention.bytes")]),
    Key::new(
        "retention.ms",
        Long,
        Some("604800000"),
        Topic,
        AtLeast(-1),
        Honoured("Age above which segments are dropped; -1 for none."),
    )
    .synonyms(&[
        same("log.retention.ms"),
        minutes("log.retention.minutes"),
        hours("log.retention.hours"),
    ]),
    Key::new(
        "segment.bytes",
        Int,
        Some("1073741824"),
        Topic,
        AtLeast(1_048_576),
        Honoured("Size at which a new segment begins."),
    )
    .synonyms(&[same("log.segment.bytes")]),
    Key::new(
        "segment.index.bytes",
        Int,
        Some("10485760"),
        Topic,
        AtLeast(4),
        Honoured("Size of an index at which a new segment begins."),
    )
    .synonyms(&[same("log.index.size.max.bytes")]),
    Key::new(
        "segment.jitter.ms",
        Long,
        Some("0"),
        Topic,
        AtLeast(0),
        Honoured("Random part taken off segment.ms, so that partitions do not roll at once."),
    )
    .synonyms(&[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")]),
    Key::new(
        "segment.ms",
        Long,
        Some("604800000"),
        Topic,
        AtLeast(1),
        Honoured("Age at which a new segment begins."),
    )
    .synonyms(&[same("log.roll.ms"), hours("log.roll.hours")]),
    Key::new("unclean.leader.election.enable", Boolean, Some("false"), Topic, Any, Honoured("Whether a replica that is not in sync may lead when no other can: records may then be lost."))
        .synonyms(&[same("unclean.leader.election.enable")]),
];
