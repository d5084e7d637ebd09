//! The named bounds of this crate. What a user may configure arrives in `ServerOptions`; these are its defaults and the
//! bounds that are nobody's business to configure.

/// Bytes of a frame's length prefix.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// `socket.request.max.bytes`: Kafka's default of 100 MiB.
pub const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Requests of one connection whose reply has not been written yet; at this many the connection is not read.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 100;

/// `socket.listen.backlog.size`: Kafka's default.
pub const LISTEN_BACKLOG: i32 = 50;

/// `connections.max.idle.ms`: Kafka's default.
pub const IDLE_MS_MAX: u64 = 600_000;
