//! What can go wrong with one partition. The broker turns each into exactly one Kafka error code.

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_storage::log::LogError;
use thiserror::Error;

/// Why a partition could not do what was asked.
#[derive(Debug, Error)]
pub enum PartitionError {
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The caller knows an older leader epoch.
    #[error("leader epoch {asked} is older than {current}")]
    FencedEpoch {
        /// The caller's epoch.
        asked: LeaderEpoch,
        /// The partition's.
        current: LeaderEpoch,
    },
    /// The caller knows a newer leader epoch than this broker.
    #[error("leader epoch {asked} is newer than {current}")]
    UnknownEpoch {
        /// The caller's epoch.
        asked: LeaderEpoch,
        /// The partition's.
        current: LeaderEpoch,
    },
    /// The offset is not in the log, or not visible yet.
    #[error("offset {asked} is outside of {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        asked: Offset,
        /// First offset of the log.
        start: Offset,
        /// The bound for this reader.
        end: Offset,
    },
    /// acks=all while the ISR is smaller than `min.insync.replicas`.
    #[error("the ISR has {isr} members, {needed} are needed")]
    NotEnoughReplicas {
        /// Members of the ISR.
        isr: usize,
        /// What `min.insync.replicas` asks for.
        needed: usize,
    },
    /// The ISR became too small after the append: the records may be committed later, or never.
    #[error("the ISR fell to {isr} members before the records were committed, {needed} are needed")]
    NotEnoughReplicasAfterAppend {
        /// Members of the ISR.
        isr: usize,
        /// What `min.insync.replicas` asks for.
        needed: usize,
    },
    /// A follower's request comes from an earlier life of its broker.
    #[error("the broker that asks has registered again since")]
    StaleBrokerEpoch,
    /// What the leader sent is not what a leader sends: damaged on the way, or on its disk.
    #[error("{0}")]
    Corrupt(String),
    /// A gap in an idempotent producer's sequence numbers.
    #[error("{0}")]
    OutOfOrderSequence(String),
    /// An idempotent producer that a newer incarnation has replaced.
    #[error("{0}")]
    InvalidProducerEpoch(String),
    /// A batch outside of the transaction that its producer has open.
    #[error("{0}")]
    InvalidTxnState(String),
    /// The file system is full. Reads go on; writes resume when there is room.
    #[error("no space left on the log directory's device")]
    NoSpace,
    /// A batch that no segment can hold.
    #[error("{0}")]
    TooLarge(String),
    /// A read or a file operation failed; the log can be used on.
    #[error("{0}")]
    Storage(String),
    /// The log cannot be used any more: a write or sync failed, or recovery found damage.
    #[error("{0}")]
    Failed(String),
}

/// Why a partition went offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The log cannot be opened: it is damaged, or its files cannot be read. Other logs of the directory are as they were.
    Open,
    /// A write or sync failed, not for want of space: what is on disk is unknown, and the whole log directory is suspect.
    Write,
}

impl From<LogError> for PartitionError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NoSpace => Self::NoSpace,
            LogError::OffsetOutOfRange { asked, start, end } => Self::OffsetOutOfRange { asked, start, end },
            LogError::InvalidAppend(reason) => Self::TooLarge(reason),
            LogError::Failed(_) | LogError::Damaged(_) => Self::Failed(error.to_string()),
            LogError::Io { .. } => Self::Storage(error.to_string()),
        }
    }
}
