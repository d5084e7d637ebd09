//! The codec against its witnesses: recorded sessions, the schema tables, and an independent crate.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic anywhere and print its counts"
)]

mod corpus;
mod filler;
mod oracle;
mod sessions;
mod tables;
