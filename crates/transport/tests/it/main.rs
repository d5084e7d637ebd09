//! Real sockets: order, bad input, limits, bodies, stop, client.

mod bad_input;
mod bodies;
mod client;
mod limits;
mod order;
mod stop;
mod support;
