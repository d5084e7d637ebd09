//! The wire: messages, frames, record batches, compression, error codes and the schema tables. Everything here is
//! generated from `protocol-spec` or written by hand beside it; nothing here knows sockets, files or clocks.

pub mod frame;
pub mod generated;
pub mod ids;
pub mod records;
<<<<<<< HEAD
=======
pub mod schema;
>>>>>>> main
pub mod wire;
