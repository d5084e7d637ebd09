//! Every decision of the cluster, pure: metadata image, controller, configuration registry.
//!
//! Nothing here reads a clock, draws a random number, opens a file or a socket, or depends on the order of a hash map: time and
//! randomness are arguments, so that everything can be replayed.

pub mod config;
pub mod controller;
pub mod image;
pub mod limits;
pub mod replica;
