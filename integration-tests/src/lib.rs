//! Shared support of the integration tests: a real broker process on ports of its own, the clients that are programs, a
//! raw connection for what no well-behaved client sends, and record batches encoded by hand, as a second opinion.
//! Everything here panics on failure: it serves tests only.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod healthy;
pub mod process;
pub mod requests;
pub mod wait;
pub mod wire;

pub use broker::{Broker, BrokerOptions};
pub use healthy::HealthyClient;
pub use wait::wait_until;
