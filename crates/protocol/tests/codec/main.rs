//! The codec against its witnesses: recorded sessions, the schema tables, and an independent crate.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod filler;
mod oracle;
mod sessions;
mod tables;
