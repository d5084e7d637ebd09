//! The dump tool from outside: recorded sessions, Kafka's files, captures, hostile input, a proxy between sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "counts belong to the tests")]

mod captures;
mod files;
mod golden;
mod hostile;
mod proxy;
mod secrets;
mod sessions;
mod support;
mod tables;

#[path = "../../../protocol/tests/codec/filler.rs"]
#[allow(dead_code, reason = "the codec's tests use more of it")]
mod filler;
