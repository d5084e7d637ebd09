//! Keys of a broker about its network, threads, and whatever else.

use super::super::Check::{Any, AtLeast, OneOf};
use super::super::Scope::{ClusterWide, PerBroker, ReadOnly};
use super::super::Status::{Honoured, NotUsed};
use super::super::Type::{Class, Int, List, Long, Text};
use super::NONE;
use super::reasons::{JAVA, METRICS, NO_PURGATORY, NO_QUEUE, NO_THREADS, QUOTAS};
use crate::config::Key;

/// The keys, sorted by name.
pub(super) const BROKER_SERVER: &[Key] = &[
    Key::new(
        "advertised.listeners",
        List,
        NONE,
        ReadOnly,
        Any,
        Honoured("The addresses that clients are told to connect to; those of listeners when unset."),
    ),
    Key::new("alter.config.policy.class.name", Class, NONE, ReadOnly, Any, JAVA),
    Key::new("background.threads", Int, Some("10"), ClusterWide, AtLeast(1), NO_THREADS),
    Key::new("config.providers", List, Some(""), PerBroker, Any, JAVA),
    Key::new(
        "connections.max.idle.ms",
        Long,
        Some("600000"),
        ReadOnly,
        Any,
        Honoured("A connection without a request for that long is closed."),
    ),
    Key::new("cordoned.log.dirs", List, Some(""), PerBroker, Any, NotUsed("no directory is kept from new partitions")),
    Key::new("create.topic.policy.class.name", Class, NONE, ReadOnly, Any, JAVA),
    Key::new("delete.records.purgatory.purge.interval.requests", Int, Some("1"), ReadOnly, Any, NO_PURGATORY),
    Key::new(
        "fetch.max.bytes",
        Int,
        Some("57671680"),
        ReadOnly,
        AtLeast(1024),
        Honoured("Upper bound of one Fetch reply."),
    ),
    Key::new("fetch.purgatory.purge.interval.requests", Int, Some("1000"), ReadOnly, Any, NO_PURGATORY),
    Key::new("kafka.metrics.polling.interval.secs", Int, Some("10"), ReadOnly, Any, METRICS),
    Key::new("kafka.metrics.reporters", List, Some(""), ReadOnly, Any, METRICS),
    Key::new(
        "listener.security.protocol.map",
        Text,
        Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        ReadOnly,
        Any,
        Honoured("The security protocol of each listener name; only PLAINTEXT is served."),
    ),
    Key::new(
        "listeners",
        List,
        Some("PLAINTEXT://127.0.0.1:9092"),
        ReadOnly,
        Any,
        Honoured("The addresses that the broker listens on."),
    )
    .differs_from_kafka(Some("PLAINTEXT://:9092")),
    Key::new("max.connection.creation.rate", Int, Some("2147483647"), ClusterWide, AtLeast(0), QUOTAS),
    Key::new(
        "max.connections",
        Int,
        Some("2147483647"),
        ClusterWide,
        AtLeast(0),
        Honoured("Connections open at once; more are closed."),
    ),
    Key::new(
        "max.connections.per.ip",
        Int,
        Some("2147483647"),
        ClusterWide,
        AtLeast(0),
        Honoured("Connections open at once from one address; more are closed."),
    ),
    Key::new(
        "max.connections.per.ip.overrides",
        Text,
        Some(""),
        ClusterWide,
        Any,
        Honoured("Other bounds for single addresses: address:count,..."),
    ),
    Key::new(
        "max.incremental.fetch.session.cache.slots",
        Int,
        Some("1000"),
        ReadOnly,
        AtLeast(0),
        Honoured("Incremental fetch sessions kept at once."),
    ),
    Key::new(
        "max.request.partition.size.limit",
        Int,
        Some("2000"),
        ReadOnly,
        AtLeast(1),
        Honoured("Partitions in one reply to DescribeTopicPartitions."),
    ),
    Key::new(
        "metric.reporters",
        List,
        Some("org.apache.kafka.common.metrics.JmxReporter"),
        ClusterWide,
        Any,
        METRICS,
    ),
    Key::new("metrics.num.samples", Int, Some("2"), ReadOnly, Any, METRICS),
    Key::new("metrics.recording.level", Text, Some("INFO"), ReadOnly, Any, METRICS),
    Key::new("metrics.sample.window.ms", Long, Some("30000"), ReadOnly, Any, METRICS),
    Key::new("node.id", Int, Some("1"), ReadOnly, AtLeast(0), Honoured("The id of this node; 1 when unset."))
        .differs_from_kafka(NONE),
    Key::new("num.io.threads", Int, Some("8"), ClusterWide, AtLeast(1), NO_THREADS),
    Key::new("num.network.threads", Int, Some("3"), ClusterWide, AtLeast(1), NO_THREADS),
    Key::new(
        "ottla.durability",
        Text,
        Some("durable"),
        ClusterWide,
        OneOf(&["durable", "replicated"]),
        Honoured("Default of the topic key of that name."),
    ),
    Key::new(
        "ottla.http.listener",
        Text,
        Some("127.0.0.1:9095"),
        ReadOnly,
        Any,
        Honoured("Address of /healthz, /readyz and /metrics; empty for none."),
    ),
    Key::new(
        "ottla.log.format",
        Text,
        Some("human"),
        ReadOnly,
        OneOf(&["human", "json"]),
        Honoured("How log lines look: human for people, json for one JSON object a line."),
    ),
    Key::new("producer.purgatory.purge.interval.requests", Int, Some("1000"), ReadOnly, Any, NO_PURGATORY),
    Key::new(
        "queued.max.request.bytes",
        Long,
        Some("-1"),
        ReadOnly,
        Any,
        Honoured("Bytes of requests held in memory at once; -1 leaves the bound to Ottla (256 MiB)."),
    ),
    Key::new("queued.max.requests", Int, Some("500"), ReadOnly, AtLeast(1), NO_QUEUE),
    Key::new("request.timeout.ms", Int, Some("30000"), ReadOnly, Any, NotUsed("requests between nodes have limits of their own")),
    Key::new("socket.connection.setup.timeout.max.ms", Long, Some("30000"), ReadOnly, Any, NotUsed("connections between nodes have limits of their own")),
    Key::new("socket.connection.setup.timeout.ms", Long, Some("10000"), ReadOnly, Any, NotUsed("connections between nodes have limits of their own")),
    Key::new(
        "socket.listen.backlog.size",
        Int,
        Some("1024"),
        ReadOnly,
        AtLeast(1),
        Honoured(
            "Backlog of the listening sockets, which the system may bound; beyond it a client waits a second or more.",
        ),
    )
    .differs_from_kafka(Some("50")),
    Key::new(
        "socket.receive.buffer.bytes",
        Int,
        Some("-1"),
        ReadOnly,
        Any,
        Honoured("SO_RCVBUF of client connections; -1 leaves it to the system, which adapts it."),
    )
    .differs_from_kafka(Some("102400")),
    Key::new(
        "socket.request.max.bytes",
        Int,
        Some("104857600"),
        ReadOnly,
        AtLeast(1),
        Honoured("Largest request; a larger one closes the connection."),
    ),
    Key::new(
        "socket.send.buffer.bytes",
        Int,
        Some("-1"),
        ReadOnly,
        Any,
        Honoured("SO_SNDBUF of client connections; -1 leaves it to the system, which adapts it."),
    )
    .differs_from_kafka(Some("102400")),
    Key::new("telemetry.max.bytes", Int, Some("1048576"), ReadOnly, Any, METRICS),
];
