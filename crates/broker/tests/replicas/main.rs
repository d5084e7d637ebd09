//! Several brokers in one process that replicate over sockets: what producers, consumers and groups see of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod failover;
mod groups;
mod replication;
mod support;
