//! Both ends of a framed connection: a server with ordered replies and limits, a client with pipelining.
//!
//! A frame is a 4-byte big-endian length and that many bytes. This crate owns sockets, buffers and their limits; it must
//! never know what a request means.

pub mod client;
pub mod limits;
mod pool;
pub mod server;
