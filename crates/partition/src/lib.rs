//! One replica of one partition, synchronous: the log joined with the replica machine. Owns the order of append, sync,
//! acknowledge and truncate; knows no network and no runtime.

pub mod append;
pub mod clean;
pub mod error;
pub mod flush;
pub mod follow;
pub mod partition;
pub mod read;
pub mod replicate;
pub mod wait;

pub use error::PartitionError;
pub use partition::{Partition, PartitionKey, TopicSettings};
