//! Which partition a directory belongs to: `<topic>-<partition>`, and the suffixes Kafka adds while one is on its way out.

use std::fmt;

/// Longest file name that common file systems take, in bytes.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Suffix of a directory whose partition is deleted and whose files are still to be removed.
const DELETED_SUFFIX: &str = "-delete";
/// Suffix of a directory that was set aside because nobody knows its partition.
const STRAY_SUFFIX: &str = "-stray";
/// Suffix of a directory that Kafka was moving to another log directory.
const FUTURE_SUFFIX: &str = "-future";

/// A topic's name and a partition's index in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Box<str>,
    /// Index of the partition in the topic, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Joins the two.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// Reads a directory's name (`orders-3`). `None` when it is not a partition's: a name that a topic cannot have, no
    /// index, an index written in another way than we write it.
    #[must_use]
    pub fn parse_dir_name(name: &str) -> Option<Self> {
        let (topic, index) = name.rsplit_once('-')?;
        let canonical = index == "0" || (index.starts_with(|c: char| matches!(c, '1'..='9')));
        let partition: i32 = index.parse().ok()?;
        (canonical && is_topic_name(topic)).then(|| Self::new(topic, partition))
    }

    /// The directory's name, which is also how Kafka shows a partition.
    #[must_use]
    pub fn dir_name(&self) -> String {
        self.to_string()
    }

    /// The name a directory gets while it waits for its removal: `<topic>-<partition>.<32 hex digits>-delete`, the topic
    /// cut where the whole would be longer than a file name may be (as Kafka does).
    #[must_use]
    pub fn deleted_dir_name(&self, unique: u128) -> String {
        self.suffixed_dir_name(unique, DELETED_SUFFIX)
    }

    /// The name a directory gets that is set aside, alike but ending in `-stray`.
    #[must_use]
    pub fn stray_dir_name(&self, unique: u128) -> String {
        self.suffixed_dir_name(unique, STRAY_SUFFIX)
    }

    fn suffixed_dir_name(&self, unique: u128, suffix: &str) -> String {
        let suffix = format!("-{}.{unique:032x}{suffix}", self.partition);
        let kept = self.topic.len().min(FILE_NAME_BYTES_MAX - suffix.len());
        format!("{}{suffix}", &self.topic[..kept])
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What a directory inside a log directory is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirKind {
    /// A partition's directory.
    Partition(TopicPartition),
    /// A deleted partition's directory; nothing in it is needed.
    Deleted,
    /// The metadata log's directory, which the coordinator owns.
    Metadata,
    /// Something else, left alone.
    Other,
}

/// Tells by `name` what a directory is.
#[must_use]
pub fn dir_kind(name: &str) -> DirKind {
    if name == METADATA_DIR {
        return DirKind::Metadata;
    }
    if let Some(rest) = name.strip_suffix(DELETED_SUFFIX) {
        // A topic may itself end in "-delete": then there is an index behind it and no ".<hex>" before it.
        let hex = rest.rsplit_once('.').map_or("", |(_, hex)| hex);
        let is_ours = hex.len() == 32 && hex.bytes().all(|c| c.is_ascii_hexdigit());
        return if is_ours { DirKind::Deleted } else { DirKind::Other };
    }
    if [STRAY_SUFFIX, FUTURE_SUFFIX].iter().any(|suffix| name.ends_with(suffix)) {
        return DirKind::Other;
    }
    TopicPartition::parse_dir_name(name).map_or(DirKind::Other, DirKind::Partition)
}

/// Directory of the metadata log's only partition.
pub const METADATA_DIR: &str = "__cluster_metadata-0";

/// Kafka's rule: 1 to 249 of ASCII letters, digits, `.`, `_` and `-`, and neither `.` nor `..`.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= TOPIC_NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_names_round_trip() {
        for name in ["orders-0", "a-b-c-17", "with.dot_and-dash-2147483647", "x-delete-0", "-0-0"] {
            let parsed = TopicPartition::parse_dir_name(name).expect(name);
            assert_eq!(parsed.dir_name(), name);
            assert_eq!(dir_kind(name), DirKind::Partition(parsed));
        }
        for name in [
            "orders",
            "orders-",
            "-1",
            "orders--1x",
            "orders-01",
            "orders-+1",
            "orders-2147483648",
            "a b-0",
            "..-0",
        ] {
            assert_eq!(TopicPartition::parse_dir_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_on_the_way_out_are_told_apart() {
        let deleted = TopicPartition::new("orders", 3).deleted_dir_name(0xabc);
        assert_eq!(deleted, "orders-3.00000000000000000000000000000abc-delete");
        assert_eq!(dir_kind(&deleted), DirKind::Deleted);
        let stray = TopicPartition::new("orders", 3).stray_dir_name(0xabc);
        assert_eq!(stray, "orders-3.00000000000000000000000000000abc-stray");
        assert_eq!(dir_kind(&stray), DirKind::Other);
        assert_eq!(dir_kind("orders-3.00000000000000000000000000000abc-future"), DirKind::Other);
        assert_eq!(dir_kind("my-important-delete"), DirKind::Other);
        assert_eq!(dir_kind(METADATA_DIR), DirKind::Metadata);
        assert_eq!(dir_kind("lost+found"), DirKind::Other);
    }

    #[test]
    fn the_longest_topic_still_has_a_name_when_deleted() {
        let long = TopicPartition::new(&"t".repeat(TOPIC_NAME_BYTES_MAX), i32::MAX);
        let name = long.deleted_dir_name(u128::MAX);
        assert_eq!(name.len(), FILE_NAME_BYTES_MAX);
        assert_eq!(dir_kind(&name), DirKind::Deleted);
    }
}
