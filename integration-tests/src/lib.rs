//! Shared support of the integration tests: a real broker process on ports of its own, the clients that are programs, a
//! raw connection for what no well-behaved client sends, and record batches encoded by hand, as a second opinion.
//! Everything here panics on failure: it serves tests only.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod cluster;
pub mod crowd;
pub mod groups;
pub mod healthy;
pub mod process;
pub mod requests;
pub mod wait;
pub mod wire;

pub use broker::{Broker, BrokerOptions};
pub use cluster::{Cluster, Node};
pub use healthy::HealthyClient;
pub use wait::wait_until;

/// Where brokers' data and the files of the ceilings go: on the disk of the build, because a temporary directory may be in
/// memory, where nothing of durability can be seen.
#[must_use]
pub fn work_directory() -> std::path::PathBuf {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/work");
    std::fs::create_dir_all(&path).expect("the build directory can be written");
    path
}
