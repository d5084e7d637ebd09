//! What every process of Ottla's has around it: settings and their sources, the log, signals and the orderly stop, health and
//! metrics over HTTP. Knows nothing of what the process does: brokers and coordinators bring that.

pub mod config;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod options;
pub mod random;
pub mod runner;
pub mod shutdown;
