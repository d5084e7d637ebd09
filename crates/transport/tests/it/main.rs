//! Real sockets: order, bad input, limits, bodies, stop, client.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod bad_input;
mod bodies;
mod client;
mod limits;
mod order;
mod stop;
mod support;
