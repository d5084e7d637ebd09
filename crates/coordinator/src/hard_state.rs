//! What a voter must never forget beside its log: term, vote, and how far the log is committed. One small JSON file in the spirit
//! of Kafka's `quorum-state`, with a checksum, replaced as a whole.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_storage::files::{Files, Open};
use serde::{Deserialize, Serialize};

/// Name of the file, in the directory of the metadata log.
pub(crate) const FILE_NAME: &str = "quorum-state";
/// Version of its contents. Version 0, from before the Raft library, knew quorums of one only.
const VERSION: u32 = 1;
/// The term that the founder of a cluster leads in.
pub(crate) const FIRST_TERM: i32 = 1;
/// More than any such file has.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HardState {
    /// The cluster that the node belongs to.
    pub cluster_id: String,
    /// The node itself, so that a directory is not taken for another's.
    pub node_id: i32,
    /// The node's directory.
    pub directory_id: String,
    /// Highest term that the node has seen.
    pub term: i32,
    /// Node that it voted for in that term; -1 for none.
    pub voted_id: i32,
    /// Directory of that node.
    pub voted_directory_id: String,
    /// Every entry up to this index is committed; -1 for none. The log may be further.
    pub committed: i64,
    /// Whether a majority gave that node their votes in that term, so that it leads. Not in version 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote_granted: Option<bool>,
    /// Last entry that went out of the log because a snapshot holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<EntryPlace>,
    /// The first voters, where this node founded a cluster with others: what its first entry says, should a crash come before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founders: Option<Vec<Founder>>,
}

/// One of the first voters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Founder {
    pub node_id: i32,
    pub directory_id: String,
    /// Name of its controller listener.
    pub listener: String,
    /// Where that is reached; empty where nobody is to reach it.
    pub host: String,
    pub port: u16,
}

/// Where an entry is in the history of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryPlace {
    pub index: i64,
    pub term: i32,
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(flatten)]
    state: HardState,
    #[serde(rename = "data_version")]
    version: u32,
    crc32c: u32,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HardStateError {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Its contents are damaged.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("{path} has version {version}, this program knows {VERSION}: it is too old")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl HardState {
    /// Whether this node founded its cluster and leads it in the first term: then the first entries are its own to write, also
    /// after a crash before they were.
    pub(crate) fn is_founder(&self) -> bool {
        let is_own = self.voted_id == self.node_id && self.voted_directory_id == self.directory_id;
        is_own && self.vote_granted == Some(true) && self.term == FIRST_TERM
    }

    /// Reads it from `dir`; `None` when there is none.
    pub(crate) fn read(files: &Arc<dyn Files>, dir: &Path) -> Result<Option<Self>, HardStateError> {
        let path = dir.join(FILE_NAME);
        let bytes = match read_file(files, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HardStateError::Io { path, error }),
        };
        let damaged = |reason: String| HardStateError::Damaged { path: path.clone(), reason };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if document.version > VERSION {
            return Err(HardStateError::TooNew { path, version: document.version });
        }
        if document.crc32c != document.state.checksum() {
            return Err(damaged("the checksum is wrong".to_owned()));
        }
        let mut state = document.state;
        if document.version == 0 {
            // A quorum of one has its own vote, and that is a majority.
            state.vote_granted = Some(true);
        }
        Ok(Some(state))
    }

    /// Replaces the file in `dir`, durably: written beside, synced, renamed, directory synced.
    pub(crate) fn write(&self, files: &Arc<dyn Files>, dir: &Path) -> Result<(), HardStateError> {
        self.write_unsynced(files, dir)?;
        let path = dir.join(FILE_NAME);
        files.sync_dir(dir).map_err(|error| HardStateError::Io { path, error })
    }

    /// The same without the directory's sync, for a first start: the log's first sync brings both names to disk, in the order of
    /// their making, and nothing is promised before.
    pub(crate) fn write_unsynced(&self, files: &Arc<dyn Files>, dir: &Path) -> Result<(), HardStateError> {
        let path = dir.join(FILE_NAME);
        let document = Document { state: self.clone(), version: VERSION, crc32c: self.checksum() };
        let mut bytes =
            serde_json::to_vec(&document).expect("a struct of numbers and strings has a JSON form");
        bytes.push(b'\n');
        let written = || -> io::Result<()> {
            let beside = dir.join(format!("{FILE_NAME}.tmp"));
            let file = files.open(&beside, Open::Create)?;
            file.set_len(0)?;
            file.write_all_at(&mut [IoSlice::new(&bytes)], 0)?;
            file.sync_data()?;
            files.rename(&beside, &path)
        };
        written().map_err(|error| HardStateError::Io { path: path.clone(), error })
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c(&serde_json::to_vec(self).expect("a struct of numbers and strings has a JSON form"))
    }
}

/// Reads a small file.
pub(crate) fn read_file(files: &Arc<dyn Files>, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, Open::Read)?;
    let size_bytes = file.size_bytes()?;
    if size_bytes > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    let mut bytes = vec![0; usize::try_from(size_bytes).expect("bounded above")];
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], at as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => at += count,
        }
    }
    Ok(bytes)
}
