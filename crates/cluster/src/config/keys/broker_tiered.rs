//! Keys of a broker about tiered storage.

use super::super::Check::{Any, AtLeast};
use super::super::Scope::{ClusterWide, ReadOnly};
use super::super::Type::{Boolean, Int, Long, Text};
use super::NONE;
use super::reasons::TIERED;
use crate::config::Key;

/// The keys, sorted by name.
pub(super) const BROKER_TIERED: &[Key] = &[
    Key::new("follower.fetch.last.tiered.offset.enable", Boolean, Some("false"), ClusterWide, Any, TIERED),
    Key::new("log.local.retention.bytes", Long, Some("-2"), ClusterWide, AtLeast(-2), TIERED),
    Key::new("log.local.retention.ms", Long, Some("-2"), ClusterWide, AtLeast(-2), TIERED),
    Key::new("remote.fetch.max.wait.ms", Int, Some("500"), ClusterWide, Any, TIERED),
    Key::new("remote.list.offsets.request.timeout.ms", Long, Some("30000"), ClusterWide, Any, TIERED),
    Key::new(
        "remote.log.index.file.cache.total.size.bytes",
        Long,
        Some("1073741824"),
        ClusterWide,
        Any,
        TIERED,
    ),
    Key::new("remote.log.manager.copier.thread.pool.size", Int, Some("10"), ClusterWide, Any, TIERED),
    Key::new(
        "remote.log.manager.copy.max.bytes.per.second",
        Long,
        Some("9223372036854775807"),
        ClusterWide,
        Any,
        TIERED,
    ),
    Key::new("remote.log.manager.copy.quota.window.num", Int, Some("11"), ReadOnly, Any, TIERED),
    Key::new("remote.log.manager.copy.quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, TIERED),
    Key::new("remote.log.manager.expiration.thread.pool.size", Int, Some("10"), ClusterWide, Any, TIERED),
    Key::new(
        "remote.log.manager.fetch.max.bytes.per.second",
        Long,
        Some("9223372036854775807"),
        ClusterWide,
        Any,
        TIERED,
    ),
    Key::new("remote.log.manager.fetch.quota.window.num", Int, Some("11"), ReadOnly, Any, TIERED),
    Key::new("remote.log.manager.fetch.quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, TIERED),
    Key::new("remote.log.manager.follower.thread.pool.size", Int, Some("2"), ClusterWide, Any, TIERED),
    Key::new("remote.log.manager.task.interval.ms", Long, Some("30000"), ReadOnly, Any, TIERED),
    Key::new("remote.log.manager.thread.pool.size", Int, Some("2"), ReadOnly, Any, TIERED),
    Key::new("remote.log.metadata.custom.metadata.max.bytes", Int, Some("128"), ReadOnly, Any, TIERED),
    Key::new(
        "remote.log.metadata.manager.class.name",
        Text,
        Some("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager"),
        ReadOnly,
        Any,
        TIERED,
    ),
    Key::new("remote.log.metadata.manager.class.path", Text, NONE, ReadOnly, Any, TIERED),
    Key::new("remote.log.metadata.manager.impl.prefix", Text, Some("rlmm.config."), ReadOnly, Any, TIERED),
    Key::new("remote.log.metadata.manager.listener.name", Text, NONE, ReadOnly, Any, TIERED),
    Key::new("remote.log.reader.max.pending.tasks", Int, Some("100"), ReadOnly, Any, TIERED),
    Key::new("remote.log.reader.threads", Int, Some("10"), ClusterWide, Any, TIERED),
    Key::new("remote.log.storage.manager.class.name", Text, NONE, ReadOnly, Any, TIERED),
    Key::new("remote.log.storage.manager.class.path", Text, NONE, ReadOnly, Any, TIERED),
    Key::new("remote.log.storage.manager.impl.prefix", Text, Some("rsm.config."), ReadOnly, Any, TIERED),
    Key::new("remote.log.storage.system.enable", Boolean, Some("false"), ReadOnly, Any, TIERED),
];
