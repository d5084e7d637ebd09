//! Keys of a broker about the quorum, replication and quotas.

use super::super::Check::{Any, AtLeast};
use super::super::Scope::{ClusterWide, ReadOnly};
use super::super::Status::{Honoured, NotUsed};
use super::super::Type::{Boolean, Class, Int, List, Long, Text};
use super::NONE;
use super::reasons::{
    JAVA, METADATA_LOG, NO_EARLY_START, NO_IDLE_ENTRIES, NO_THREADS, PATIENT, QUOTAS, RAFT,
};
use crate::config::Key;

/// The keys, sorted by name.
pub(super) const BROKER_CLUSTER: &[Key] = &[
    Key::new("alter.log.dirs.replication.quota.window.num", Int, Some("11"), ReadOnly, Any, QUOTAS),
    Key::new("alter.log.dirs.replication.quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, QUOTAS),
    Key::new("auto.leader.rebalance.enable", Boolean, Some("true"), ReadOnly, Any, Honoured("Whether preferred leaders that are in sync get their partitions back by themselves.")),
    Key::new("broker.heartbeat.interval.ms", Int, Some("500"), ReadOnly, AtLeast(1), Honoured("How often a broker tells the controller that it lives."))
        .differs_from_kafka(Some("2000")),
    Key::new("broker.id", Int, Some("-1"), ReadOnly, AtLeast(-1), Honoured("The old name of node.id.")),
    Key::new(
        "broker.rack",
        Text,
        NONE,
        ReadOnly,
        Any,
        Honoured("The rack that Metadata shows and placement spreads over."),
    ),
    Key::new("broker.session.timeout.ms", Int, Some("4000"), ReadOnly, AtLeast(1), Honoured("A broker that was not heard of for so long is fenced: it leads nothing and is in no ISR. One whose connection to the controller breaks and is not made anew is fenced after half a second."))
        .differs_from_kafka(Some("9000")),
    Key::new("client.quota.callback.class", Class, NONE, ReadOnly, Any, JAVA),
    Key::new("controlled.shutdown.enable", Boolean, Some("true"), ReadOnly, Any, Honoured("Whether a broker that stops hands its leadership over first.")),
    Key::new(
        "controller.listener.names",
        List,
        Some(""),
        ReadOnly,
        Any,
        Honoured("Names of the listeners on which coordinators serve each other, brokers and administrators; a broker without the role controller does not open them."),
    ),
    Key::new("controller.quorum.append.linger.ms", Int, Some("25"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.auto.join.enable", Boolean, Some("true"), ReadOnly, Any, Honoured("Whether a coordinator that is no voter yet asks to become one; the number of voters stays odd.")).differs_from_kafka(Some("false")),
    Key::new("controller.quorum.bootstrap.servers", List, Some(""), ReadOnly, Any, Honoured("Addresses (host:port) at which a node looks for coordinators that run.")),
    Key::new("controller.quorum.election.backoff.max.ms", Int, Some("1000"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.election.timeout.ms", Int, Some("1000"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.fetch.max.bytes", Int, Some("1048576"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.fetch.snapshot.max.bytes", Int, Some("1048576"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.fetch.timeout.ms", Int, Some("2000"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.request.timeout.ms", Int, Some("2000"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.retry.backoff.ms", Int, Some("20"), ReadOnly, Any, RAFT),
    Key::new("controller.quorum.voters", List, Some(""), ReadOnly, Any, Honoured("The coordinators that found a cluster (id@host:port, an odd number), and where brokers look for them.")),
    Key::new("controller.quota.window.num", Int, Some("11"), ReadOnly, Any, QUOTAS),
    Key::new("controller.quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, QUOTAS),
    Key::new("controller.socket.timeout.ms", Int, Some("30000"), ReadOnly, Any, RAFT),
    Key::new("early.start.listeners", List, Some(""), ReadOnly, Any, NO_EARLY_START),
    Key::new("initial.broker.registration.timeout.ms", Int, Some("60000"), ReadOnly, Any, PATIENT),
    Key::new("inter.broker.listener.name", Text, NONE, ReadOnly, Any, Honoured("The listener on which other brokers reach this one; unset, the first whose protocol is security.inter.broker.protocol.")),
    Key::new("leader.imbalance.check.interval.seconds", Long, Some("300"), ReadOnly, AtLeast(1), Honoured("How often it is looked whether preferred leaders can get partitions back.")),
    Key::new(
        "metadata.log.dir",
        Text,
        NONE,
        ReadOnly,
        Any,
        Honoured("Where the metadata log lives; the first of log.dirs when unset."),
    ),
    Key::new(
        "metadata.log.max.record.bytes.between.snapshots",
        Long,
        Some("20971520"),
        ReadOnly,
        Any,
        METADATA_LOG,
    ),
    Key::new("metadata.log.max.snapshot.interval.ms", Long, Some("3600000"), ReadOnly, Any, METADATA_LOG),
    Key::new("metadata.log.segment.bytes", Int, Some("1073741824"), ReadOnly, Any, METADATA_LOG),
    Key::new("metadata.log.segment.ms", Long, Some("604800000"), ReadOnly, Any, METADATA_LOG),
    Key::new("metadata.max.idle.interval.ms", Int, Some("500"), ReadOnly, Any, NO_IDLE_ENTRIES),
    Key::new("metadata.max.retention.bytes", Long, Some("104857600"), ReadOnly, Any, METADATA_LOG),
    Key::new("metadata.max.retention.ms", Long, Some("604800000"), ReadOnly, Any, METADATA_LOG),
    Key::new("num.replica.alter.log.dirs.threads", Int, NONE, ReadOnly, Any, NO_THREADS),
    Key::new("num.replica.fetchers", Int, Some("1"), ClusterWide, Any, NotUsed("a follower has one fetcher for each leader, which asks for all partitions at once")),
    Key::new("process.roles", List, Some(""), ReadOnly, Any, Honoured("broker, controller or both; unset, a broker with a coordinator of its own.")),
    Key::new("quota.window.num", Int, Some("11"), ReadOnly, Any, QUOTAS),
    Key::new("quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, QUOTAS),
    Key::new("replica.fetch.backoff.ms", Int, Some("1000"), ReadOnly, AtLeast(0), Honoured("The longest pause of a follower after an error; the first is a twentieth of it.")),
    Key::new("replica.fetch.max.bytes", Int, Some("1048576"), ReadOnly, AtLeast(0), Honoured("Bytes of one partition that a follower asks for at once; a larger batch comes nevertheless.")),
    Key::new("replica.fetch.min.bytes", Int, Some("1"), ReadOnly, AtLeast(0), Honoured("Bytes that a follower's request waits for.")),
    Key::new("replica.fetch.response.max.bytes", Int, Some("10485760"), ReadOnly, AtLeast(0), Honoured("Bytes of all partitions that a follower asks for at once.")),
    Key::new("replica.fetch.wait.max.ms", Int, Some("500"), ReadOnly, AtLeast(0), Honoured("How long a follower's request waits when there is nothing new.")),
    Key::new("replica.high.watermark.checkpoint.interval.ms", Long, Some("5000"), ReadOnly, Any, NotUsed("high watermarks are written down with the recovery points")),
    Key::new("replica.lag.time.max.ms", Long, Some("30000"), ReadOnly, AtLeast(1), Honoured("A follower that has not been level with its leader for so long is not in sync any more; on a durable topic what it has on disk counts.")),
    Key::new("replica.selector.class", Text, NONE, ReadOnly, Any, JAVA),
    Key::new("replica.socket.receive.buffer.bytes", Int, Some("65536"), ReadOnly, Any, NotUsed("buffers between brokers are left to the system")),
    Key::new("replica.socket.timeout.ms", Int, Some("30000"), ReadOnly, AtLeast(1), Honoured("A follower's request that is not answered for so long has failed.")),
    Key::new("replication.quota.window.num", Int, Some("11"), ReadOnly, Any, QUOTAS),
    Key::new("replication.quota.window.size.seconds", Int, Some("1"), ReadOnly, Any, QUOTAS),
    Key::new("unclean.leader.election.enable", Boolean, Some("false"), ClusterWide, Any, Honoured("Default of the topic key of that name.")),
];
