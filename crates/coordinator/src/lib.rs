//! The metadata quorum: the committed metadata log and the controller's driver.
//!
//! The controller of `ottla-cluster` decides; this crate does its I/O. Decisions become entries of the metadata log, which a Raft
//! library (behind the module `raft`) commits, and are told to nobody before they are. Brokers follow the committed entries through
//! [`MetadataFeed`]. The quorum is one node inside the broker's process, or three or five anywhere. Must never know what is in a partition.

mod coordinator;
mod decision;
mod driver;
mod entry;
mod error;
mod feed;
mod founding;
mod handle;
mod hard_state;
mod leadership;
pub mod limits;
mod local;
mod mark;
mod metadata_log;
mod opening;
pub mod process;
mod question;
mod raft;
mod remote;
mod reserve;
mod server;
pub mod settings;
mod voters;

pub use coordinator::{Coordinator, CoordinatorOptions, LOG_DIRECTORY, QuorumOptions, SnapshotLimits};
pub use entry::{EntryError, EntryKind, LogEntry};
pub use error::{OpenError, RequestError};
pub use feed::{FeedEntry, FeedError, ImageReplica, MetadataFeed};
pub use handle::{Committed, CoordinatorHandle};
pub use hard_state::HardStateError;
pub use ottla_cluster::features::{OTTLA_FEATURE, OTTLA_FEATURE_LEVEL};
pub use ottla_process::config::Voter;
pub use raft::membership::MembershipError;
pub use raft::snapshot::SnapshotError;
pub use raft::{VoterEndpoint, VoterId, VoterNode};
pub use remote::RemoteOptions;

#[cfg(test)]
mod tests;
