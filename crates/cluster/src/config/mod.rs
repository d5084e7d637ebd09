//! What every configuration key is: its name, type, default, where it may be set, and what Ottla makes of it.
//!
//! The registry is the one source for `server.properties`, for DescribeConfigs and the alter requests, and for
//! `docs/configuration.md`.

mod key;
mod keys;
mod resolve;
mod topic;
mod value;

pub mod docs;

pub use crate::replica::Durability;
pub use key::{Key, Scope, Source, Status, Synonym, Type};
pub use resolve::{ConfigMap, Entry, EntrySynonym, Layers, NOTHING};
pub use topic::{CleanupPolicy, CompressionType, TopicConfig};
pub use value::{Check, ConfigError};

/// The topic key of that name.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static Key> {
    keys::TOPIC.binary_search_by(|key| key.name.cmp(name)).ok().map(|i| &keys::TOPIC[i])
}

/// The broker key of that name.
#[must_use]
pub fn broker_key(name: &str) -> Option<&'static Key> {
    keys::BROKER
        .iter()
        .find_map(|family| family.binary_search_by(|key| key.name.cmp(name)).ok().map(|i| &family[i]))
}

/// The group key of that name.
#[must_use]
pub fn group_key(name: &str) -> Option<&'static Key> {
    keys::GROUP.binary_search_by(|key| key.name.cmp(name)).ok().map(|i| &keys::GROUP[i])
}

/// All topic keys, by name.
pub fn topic_keys() -> impl Iterator<Item = &'static Key> {
    keys::TOPIC.iter()
}

/// All group keys, by name.
pub fn group_keys() -> impl Iterator<Item = &'static Key> {
    keys::GROUP.iter()
}

/// All broker keys, by name.
#[must_use]
pub fn broker_keys() -> Vec<&'static Key> {
    let mut all: Vec<_> = keys::BROKER.iter().copied().flatten().collect();
    all.sort_by_key(|key| key.name);
    all
}

#[cfg(test)]
mod tests;
