//! The wire: messages, frames, record batches, compression, error codes and the schema tables. Everything here is
//! generated from `protocol-spec` or written by hand beside it; nothing here knows sockets, files or clocks.

pub mod frame;
pub mod generated;
pub mod ids;
pub mod records;
pub mod schema;
pub mod wire;
