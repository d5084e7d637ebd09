//! Who a log directory and a partition's directory belong to: `meta.properties` and `partition.metadata`, as Kafka writes
//! them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_protocol::ids::{BrokerId, Uuid};

use crate::checkpoint;
use crate::files::Files;

/// Name of a log directory's identity file.
pub const META_PROPERTIES_FILE: &str = "meta.properties";
/// Name of the file in a partition's directory that names the topic's id.
pub const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// Why an identity file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The contents are not what was written, or of a version that is not known here.
    #[error("{} is unreadable ({why}); restore it from a copy: it says to which cluster and node the data belong", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A log directory's identity (`meta.properties`, version 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// The cluster, as text (Kafka's are ids in base64).
    pub cluster_id: String,
    /// The node.
    pub node_id: BrokerId,
    /// This directory; drawn once, never reused.
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// Reads the file in a log directory; `None` when there is none.
    pub fn read(files: &dyn Files, log_dir: &Path) -> Result<Option<Self>, MetaError> {
        read(files, log_dir.join(META_PROPERTIES_FILE), Self::decode)
    }

    /// Replaces the file in a log directory, durably.
    pub fn write(&self, files: &dyn Files, log_dir: &Path) -> io::Result<()> {
        checkpoint::write_atomically(files, &log_dir.join(META_PROPERTIES_FILE), self.encode().as_bytes())
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { cluster_id, node_id, directory_id } = self;
        format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n")
    }

    /// Reads the file's text: `key=value` lines, `#` begins a comment, unknown keys are ignored.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not key=value"))?;
            // Java writes ':' and '=' in values with a backslash before them.
            let value = value.trim().replace('\\', "");
            if values.insert(key.trim(), value).is_some() {
                return Err(format!("{} is there twice", key.trim()));
            }
        }
        let get = |key: &str| {
            let value = values.get(key).filter(|value| !value.is_empty());
            value.cloned().ok_or_else(|| format!("{key} is missing"))
        };
        match get("version")?.as_str() {
            "1" => {}
            other => return Err(format!("version {other}, known is 1")),
        }
        let node_id = get("node.id")?;
        let node_id = node_id.parse().map_err(|_| format!("node.id {node_id:?} is not a number"))?;
        let directory_id = get("directory.id")?;
        let directory_id = Uuid::parse(&directory_id)
            .filter(|id| !id.is_zero())
            .ok_or_else(|| format!("directory.id {directory_id:?} is not an id"))?;
        Ok(Self { cluster_id: get("cluster.id")?, node_id: BrokerId(node_id), directory_id })
    }
}

/// Which topic a partition's directory belongs to (`partition.metadata`, version 0): a topic deleted and made again has
/// another id, and old data must not come back under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The topic's id.
    pub topic_id: Uuid,
}

impl PartitionMetadata {
    /// Reads the file in a partition's directory; `None` when there is none.
    pub fn read(files: &dyn Files, partition_dir: &Path) -> Result<Option<Self>, MetaError> {
        read(files, partition_dir.join(PARTITION_METADATA_FILE), Self::decode)
    }

    /// Replaces the file in a partition's directory, durably.
    pub fn write(&self, files: &dyn Files, partition_dir: &Path) -> io::Result<()> {
        let path = partition_dir.join(PARTITION_METADATA_FILE);
        checkpoint::write_atomically(files, &path, self.encode().as_bytes())
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("version: 0\ntopic_id: {}", self.topic_id)
    }

    /// Reads the file's text; the error says what is wrong.
    pub fn decode(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        match lines.next().and_then(|line| line.strip_prefix("version:")).map(str::trim) {
            Some("0") => {}
            Some(other) => return Err(format!("version {other}, known is 0")),
            None => return Err("no version in its first line".to_owned()),
        }
        let topic_id = lines.next().and_then(|line| line.strip_prefix("topic_id:")).map(str::trim);
        let topic_id = topic_id.and_then(Uuid::parse).filter(|id| !id.is_zero());
        match (topic_id, lines.next()) {
            (Some(topic_id), None) => Ok(Self { topic_id }),
            (None, _) => Err("no topic id in its second line".to_owned()),
            (_, Some(_)) => Err("more than two lines".to_owned()),
        }
    }
}

fn read<T>(
    files: &dyn Files,
    path: PathBuf,
    decode: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, MetaError> {
    let contents = match checkpoint::read_whole(files, &path) {
        Ok(None) => return Ok(None),
        Ok(Some(contents)) => contents,
        Err(source) => return Err(MetaError::Io { path, source }),
    };
    let text = std::str::from_utf8(&contents).map_err(|_| "not text".to_owned());
    match text.and_then(decode) {
        Ok(value) => Ok(Some(value)),
        Err(why) => Err(MetaError::Unreadable { path, why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_KAFKA: &str = "#\n#Sun Nov 22 20:56:50 UTC 2026\nnode.id=1\ndirectory.id=k27iQs8yRKyLG1ZXtWvfAw\n\
                              version=1\ncluster.id=q94HsDmOQB2N0MRuyM8UHw\n";

    #[test]
    fn meta_properties_round_trip_and_read_kafkas() {
        let from_kafka = MetaProperties::decode(FROM_KAFKA).expect("Kafka's own");
        assert_eq!(from_kafka.node_id, BrokerId(1));
        assert_eq!(from_kafka.cluster_id, "q94HsDmOQB2N0MRuyM8UHw");
        assert_eq!(from_kafka.directory_id.to_string(), "k27iQs8yRKyLG1ZXtWvfAw");
        assert_eq!(MetaProperties::decode(&from_kafka.encode()), Ok(from_kafka));
    }

    #[test]
    fn what_is_wrong_with_meta_properties_is_said() {
        let without = |line: &str| FROM_KAFKA.replace(line, "");
        let cases = [
            (String::new(), "version is missing"),
            (FROM_KAFKA[..70].to_owned(), "version is missing"),
            (without("node.id=1\n"), "node.id is missing"),
            (without("cluster.id=q94HsDmOQB2N0MRuyM8UHw\n"), "cluster.id is missing"),
            (without("q94HsDmOQB2N0MRuyM8UHw"), "cluster.id is missing"),
            (FROM_KAFKA.replace("version=1", "version=0"), "version 0, known is 1"),
            (FROM_KAFKA.replace("node.id=1", "node.id=one"), "node.id \"one\" is not a number"),
            (FROM_KAFKA.replace("k27i", ""), "directory.id \"Qs8yRKyLG1ZXtWvfAw\" is not an id"),
            (format!("{FROM_KAFKA}node.id=2\n"), "node.id is there twice"),
            (format!("{FROM_KAFKA}\0\0\0"), "\"\\0\\0\\0\" is not key=value"),
        ];
        for (text, why) in cases {
            assert_eq!(MetaProperties::decode(&text), Err(why.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn partition_metadata_round_trips_and_says_what_is_wrong() {
        let text = "version: 0\ntopic_id: 8mJ0KsfnRxW2Fcmq4KY2vw";
        let metadata = PartitionMetadata::decode(text).expect("Kafka's own");
        assert_eq!(metadata.encode(), text);
        for broken in
            ["", "version: 1\ntopic_id: 8mJ0KsfnRxW2Fcmq4KY2vw", "version: 0\n", "version: 0\ntopic_id: x"]
        {
            assert!(PartitionMetadata::decode(broken).is_err(), "{broken:?}");
        }
        assert!(PartitionMetadata::decode(&format!("{text}\nmore")).is_err());
    }
}
