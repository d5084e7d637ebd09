//! Keys of a consumer, share or streams group.

use super::super::Check::Any;
use super::super::Scope::Group;
use super::super::Type::{Boolean, Int, Text};
use super::reasons::{NEW_GROUPS, SHARE, STREAMS};
use super::same;
use crate::config::Key;

/// The keys, sorted by name.
pub(super) const GROUP: &[Key] = &[
    Key::new("consumer.assignment.interval.ms", Int, Some("1000"), Group, Any, NEW_GROUPS)
        .synonyms(&[same("group.consumer.assignment.interval.ms")]),
    Key::new("consumer.heartbeat.interval.ms", Int, Some("5000"), Group, Any, NEW_GROUPS)
        .synonyms(&[same("group.consumer.heartbeat.interval.ms")]),
    Key::new("consumer.session.timeout.ms", Int, Some("45000"), Group, Any, NEW_GROUPS)
        .synonyms(&[same("group.consumer.session.timeout.ms")]),
    Key::new("share.assignment.interval.ms", Int, Some("1000"), Group, Any, SHARE)
        .synonyms(&[same("group.share.assignment.interval.ms")]),
    Key::new("share.auto.offset.reset", Text, Some("latest"), Group, Any, SHARE),
    Key::new("share.delivery.count.limit", Int, Some("5"), Group, Any, SHARE)
        .synonyms(&[same("group.share.delivery.count.limit")]),
    Key::new("share.heartbeat.interval.ms", Int, Some("5000"), Group, Any, SHARE)
        .synonyms(&[same("group.share.heartbeat.interval.ms")]),
    Key::new("share.isolation.level", Text, Some("read_uncommitted"), Group, Any, SHARE),
    Key::new("share.partition.max.record.locks", Int, Some("2000"), Group, Any, SHARE)
        .synonyms(&[same("group.share.partition.max.record.locks")]),
    Key::new("share.record.lock.duration.ms", Int, Some("30000"), Group, Any, SHARE)
        .synonyms(&[same("group.share.record.lock.duration.ms")]),
    Key::new("share.renew.acknowledge.enable", Boolean, Some("true"), Group, Any, SHARE),
    Key::new("share.session.timeout.ms", Int, Some("45000"), Group, Any, SHARE)
        .synonyms(&[same("group.share.session.timeout.ms")]),
    Key::new("streams.assignment.interval.ms", Int, Some("1000"), Group, Any, STREAMS)
        .synonyms(&[same("group.streams.assignment.interval.ms")]),
    Key::new("streams.heartbeat.interval.ms", Int, Some("5000"), Group, Any, STREAMS)
        .synonyms(&[same("group.streams.heartbeat.interval.ms")]),
    Key::new("streams.initial.rebalance.delay.ms", Int, Some("3000"), Group, Any, STREAMS)
        .synonyms(&[same("group.streams.initial.rebalance.delay.ms")]),
    Key::new("streams.num.standby.replicas", Int, Some("0"), Group, Any, STREAMS)
        .synonyms(&[same("group.streams.num.standby.replicas")]),
    Key::new("streams.session.timeout.ms", Int, Some("45000"), Group, Any, STREAMS)
        .synonyms(&[same("group.streams.session.timeout.ms")]),
];
