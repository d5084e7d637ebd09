//! The Ottla broker: listeners, one handler file per API, and the shell around them (configuration, logs, metrics,
//! the HTTP listener, signals). The binary is a thin `main` over this library, so that tests can use the modules.

pub mod assignments;
pub mod broker;
pub mod cleaner;
pub mod config;
pub mod control;
pub mod describe;
pub mod directories;
pub mod disks;
pub mod dispatch;
pub mod errors;
pub mod fetch_sessions;
pub mod groups;
pub mod handlers;
pub mod joining;
pub mod life;
pub mod limits;
pub mod logs;
pub mod maintenance;
pub mod metrics;
pub mod observe;
pub mod operations;
pub mod options;
pub mod process;
pub mod produce_rules;
pub mod producer_ids;
pub mod reconciler;
pub mod recovery;
pub mod registration;
pub mod replication;
pub mod state;
pub mod topics;

pub use config::BrokerConfig;
pub use metrics::Metrics;
pub use ottla_process::{health, shutdown};

use std::sync::Arc;

/// What the shell hands to the broker at its start. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Where everything is counted; served at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// What `/healthz` and `/readyz` answer.
    pub health: Arc<health::Health>,
    /// The small runtime for control traffic (metadata feed, heartbeats, consensus, HTTP): spawn there what must go on while
    /// the main runtime's threads hang in a disk write.
    pub control: tokio::runtime::Handle,
    /// Asks the process for an orderly stop, and tells everybody when it has begun.
    pub shutdown: shutdown::Shutdown,
}
