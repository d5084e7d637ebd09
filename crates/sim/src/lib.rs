//! Several brokers made of the broker's own machines (`ottla_cluster`, `ottla_partition`, `ottla_storage`) on a simulated network,
//! disk and clock. A seed decides everything: what goes wrong and when, who is faster. After every event it is looked whether what
//! must hold does (`history`, one file for each invariant); in the end everything is healed, and must serve.
//!
//! What is simulated must not know real time, real files, threads or the order of hashes: equal seeds give equal traces.

mod broker;
#[cfg(feature = "planted-bugs")]
mod bugs;
mod client;
mod disk;
mod env;
mod faults;
mod history;
mod message;
mod quorum;
mod random;
mod trace;
mod world;

#[cfg(feature = "planted-bugs")]
pub use bugs::catch_all;
pub use world::{Report, run};

/// The topic that is written and read.
const TOPIC: &str = "data";
/// Its partitions.
const PARTITIONS: i32 = 2;
/// Where groups live.
const OFFSETS: &str = "__consumer_offsets";
