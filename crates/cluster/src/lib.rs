//! Every decision of the cluster, pure: no clock, no randomness, no files, no network. Time and entropy are arguments;
//! what is decided comes back as records and a response.

pub mod config;
pub mod controller;
pub mod features;
pub mod groups;
pub mod image;
pub mod limits;
pub mod planted;
pub mod replica;
