//! The tables of keys, one file per family. They hold Kafka 4.3's names, types, defaults and update modes, and what Ottla makes
//! of each key.

mod broker_cluster;
mod broker_groups;
mod broker_log;
mod broker_security;
mod broker_server;
mod broker_tiered;
mod group;
mod reasons;
mod topic;

use super::Key;
use super::key::Synonym;

/// Keys of a topic.
pub(super) const TOPIC: &[Key] = topic::TOPIC;
/// Keys of a group.
pub(super) const GROUP: &[Key] = group::GROUP;
/// Keys of a broker, by family.
pub(super) const BROKER: &[&[Key]] = &[
    broker_server::BROKER_SERVER,
    broker_log::BROKER_LOG,
    broker_cluster::BROKER_CLUSTER,
    broker_groups::BROKER_GROUPS,
    broker_security::BROKER_SECURITY,
    broker_tiered::BROKER_TIERED,
];

/// A key without a default.
const NONE: Option<&str> = None;
/// The values of `compression.type`.
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const fn same(name: &'static str) -> Synonym {
    Synonym { name, unit: 1 }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, unit: 60_000 }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym { name, unit: 3_600_000 }
}
