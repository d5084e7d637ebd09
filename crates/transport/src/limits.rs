//! The named bounds of this crate. What a user may configure arrives in `ServerOptions`; these are its defaults and the
//! bounds that are nobody's business to configure.

use std::time::Duration;

/// Bytes of a frame's length prefix.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// `socket.request.max.bytes`: Kafka's default of 100 MiB.
pub const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Requests of one connection whose reply has not been written yet; at this many the connection is not read.
pub const IN_FLIGHT_REQUESTS_MAX: usize = 100;

/// `socket.listen.backlog.size`. Kafka's default of 50 overflows when some hundred clients come back at once, and each of those
/// beyond it waits a second for its next try.
pub const LISTEN_BACKLOG: i32 = 1024;

/// `connections.max.idle.ms`: Kafka's default.
pub const IDLE_MS_MAX: u64 = 600_000;

/// A frame up to this size gets its whole buffer at once; a longer one starts with this much and grows as bytes arrive.
pub const FRAME_BYTES_AT_ONCE_MAX: usize = 1024 * 1024;

/// Look-ahead of a connection: frames that fit are read many at a time and copied out.
pub const LOOK_AHEAD_BYTES: usize = 8 * 1024;

/// How far a read for a large frame reaches past its end, to learn the next length by the same system call.
pub const FRAME_TAIL_BYTES: usize = 1024;

/// Replies are read from disk and written to the socket in pieces of at most this size.
pub const REPLY_CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Room left in a chunk that is worth no further read of a body.
pub const REPLY_CHUNK_ROOM_BYTES_MIN: usize = 16 * 1024;

/// Replies that may wait for more of their kind while the connection has further requests to read.
pub const REPLIES_COMBINED_MAX: usize = 32;

/// Bytes of requests handled before the replies that are ready leave.
pub const REQUEST_BYTES_PER_REPLY_WRITE: usize = 256 * 1024;

/// Bytes of requests handled before the other connections of the thread get their turn.
pub const REQUEST_BYTES_PER_TURN: usize = 1024 * 1024;

/// Bytes of unused buffers that a server keeps for the next frame or chunk.
pub const POOL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Larger buffers are not kept.
pub const POOLED_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Unused buffers are given back to the system after this time without demand.
pub const POOL_IDLE_MAX: Duration = Duration::from_secs(10);

/// While `queued.max.request.bytes` is used up, one connection at a time may complete its frame, within this time.
pub const OVERDRAFT_MAX: Duration = Duration::from_secs(30);

/// Faults that may come in floods (refused connections, failed accepts) are logged once per this time.
pub const LOG_PAUSE: Duration = Duration::from_secs(5);

/// Connections that end by a fault of the client get at most so many lines per `LOG_PAUSE`.
pub const ENDED_LINES_MAX: u32 = 50;

/// Pause after a failed accept, such as for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often idle connections are looked for, at the least.
pub const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A client's bound for a response: a fetch may be somewhat larger than what it asked for.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
