//! The dump tool from outside: recorded sessions, Kafka's files, captures, hostile input, a proxy between sockets.

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
