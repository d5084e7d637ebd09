//! What can go wrong: when the coordinator starts, and when it is asked.

use std::io;
use std::path::PathBuf;

use ottla_cluster::features::FeatureMismatch;
use ottla_cluster::image::{ApplyError, RecordError};
use ottla_protocol::generated::ErrorCode;
use ottla_storage::log::LogError;

use crate::entry::EntryError;
use crate::hard_state::HardStateError;
use crate::raft::membership::MembershipError;
use crate::raft::snapshot::SnapshotError;

/// Why the coordinator cannot start. Nothing was changed on disk, unless a write failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The metadata log cannot be opened or read.
    #[error("the metadata log cannot be used: {0}")]
    Log(#[from] LogError),
    /// What must outlive a crash beside the log cannot be read or written.
    #[error("{0}")]
    HardState(#[from] HardStateError),
    /// A log without the file beside it: it is not known what this node has promised.
    #[error("there is a metadata log but no {0}: the directory is incomplete")]
    StateMissing(PathBuf),
    /// The log ends before what was committed.
    #[error(
        "the metadata log ends before entry {end}, but entry {committed} was committed: entries are lost"
    )]
    LogTooShort {
        /// Entries that are there.
        end: i64,
        /// Index of an entry that was committed.
        committed: i64,
    },
    /// An entry is not what this program writes.
    #[error("entry {index} of the metadata log: {error}")]
    Entry {
        /// Its index.
        index: i64,
        /// What is wrong with it.
        error: EntryError,
    },
    /// A record is malformed, or a newer node wrote it.
    #[error("entry {index} of the metadata log: {error}")]
    Record {
        /// Index of its entry.
        index: i64,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A record does not fit what came before.
    #[error("entry {index} of the metadata log: {error}")]
    Apply {
        /// Index of its entry.
        index: i64,
        /// What is wrong with it.
        error: ApplyError,
    },
    /// The directory belongs to another node.
    #[error("the metadata log belongs to {found}, this is {own}: a directory cannot be moved between nodes")]
    OtherNode {
        /// Who wrote it.
        found: String,
        /// Who opens it.
        own: String,
    },
    /// Finalized features that this program cannot work with.
    #[error("{0}")]
    Features(#[from] FeatureMismatch),
    /// The snapshot that stands for the first entries cannot be used.
    #[error("{path}: {error}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: SnapshotError,
    },
    /// An entry does not say who belongs to the quorum.
    #[error("entry {index} of the metadata log: {error}")]
    Membership {
        /// Its index.
        index: i64,
        /// What is wrong with it.
        error: MembershipError,
    },
    /// The Raft library does not start on what is there.
    #[error("the metadata quorum cannot be joined: {0}")]
    Raft(String),
    /// The configuration makes no quorum.
    #[error("{0}")]
    Quorum(String),
    /// A former member has lost its metadata log, and is told of no quorum that it could join.
    #[error(
        "this directory belonged to a member of cluster {cluster_id}, but its metadata log is gone: it founds no other cluster; \
         configure controller.quorum.bootstrap.servers to join the one that there is"
    )]
    Wiped {
        /// The cluster.
        cluster_id: String,
    },
    /// The mark of a member cannot be used.
    #[error("{path} is damaged: {why}")]
    Mark {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The directory's identity cannot be read.
    #[error("{0}")]
    Meta(#[from] ottla_storage::meta::MetaError),
    /// Files, or the threads, could not be made.
    #[error("the coordinator cannot be started: {0}")]
    Io(#[from] io::Error),
}

/// Why a request was not decided, or its decision not committed. Nothing of it is in effect, but for [`RequestError::Fenced`] and
/// [`RequestError::LeadershipLost`]: then it may be, later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The coordinator has stopped.
    #[error("the coordinator has stopped")]
    Stopped,
    /// Another node leads the quorum, or none does.
    #[error("this coordinator does not lead the metadata quorum")]
    NotLeader,
    /// Another node came to lead the quorum before it was known whether the decision is committed.
    #[error(
        "this coordinator lost the lead of the metadata quorum: whether the request is in effect is not known"
    )]
    LeadershipLost,
    /// A write or sync of the metadata log failed: what is on disk is unknown, so nothing is decided any more.
    #[error("the coordinator is fenced: {0}")]
    Fenced(String),
    /// The disk is full. Requests that give space back are still served.
    #[error("there is no space left for the metadata log")]
    NoSpace,
    /// No coordinator gave an answer in time. Nothing of the request is in effect.
    #[error("the metadata quorum could not be reached, or had no leader, in time")]
    TimedOut,
    /// The coordinator that was asked belongs to another cluster.
    #[error("the coordinator belongs to another cluster: {0}")]
    OtherCluster(String),
    /// The decision cannot be written down; a defect.
    #[error("a decision cannot be written: {0}")]
    Unwritable(String),
}

impl RequestError {
    /// What a client is told.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Stopped | Self::NotLeader | Self::LeadershipLost => ErrorCode::NotController,
            Self::TimedOut => ErrorCode::RequestTimedOut,
            Self::OtherCluster(_) => ErrorCode::InconsistentClusterId,
            Self::Fenced(_) | Self::NoSpace => ErrorCode::KafkaStorageError,
            Self::Unwritable(_) => ErrorCode::UnknownServerError,
        }
    }
}
