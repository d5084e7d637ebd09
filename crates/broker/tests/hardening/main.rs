//! A broker whose disk fails, fills up or loses power, and whose topics are changed and deleted under load: in memory files
//! that do so on demand, a real socket, our own client.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod administration;
mod bounds;
mod compaction;
mod configs;
mod deletion;
mod disks;
mod gates;
mod group_keys;
mod group_requests;
mod groups;
mod static_keys;
mod support;
mod transport_keys;
