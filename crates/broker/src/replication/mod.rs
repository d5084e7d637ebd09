//! Replication between brokers: what partitions ask for is gathered here and sent.

mod outbox;

pub use outbox::{Outbox, Report, Reports};
