//! Bounds. What is shown comes from strangers: no count, length or compressed stream makes memory grow beyond these.

/// Largest frame that is taken apart; a longer one ends the reading of its connection.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
/// Fields that one message may have. One in memory takes about 100 bytes.
pub const NODES_MAX: usize = 1 << 20;
/// Messages inside of bytes of messages, and so on: an envelope in an envelope.
pub const NESTING_MAX: usize = 4;
/// Bytes that the record batches of one frame may decompress to, together.
pub const DECOMPRESSED_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a batch in a file.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
/// Bytes of what did not decode that are shown.
pub const REST_BYTES_MAX: usize = 4 << 10;
/// Requests of one connection whose responses have not come; the oldest are forgotten.
pub const OPEN_REQUESTS_MAX: usize = 100_000;
/// Connections that are kept in mind; the one that has been quiet for longest is forgotten.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Topic ids whose names are kept in mind.
pub const TOPIC_NAMES_MAX: usize = 200_000;
/// Bytes of segments that came too early, per direction of a connection in a capture; then what is missing is given up.
pub const EARLY_BYTES_MAX: usize = 4 << 20;
/// The same in segments.
pub const EARLY_SEGMENTS_MAX: usize = 8 << 10;
/// Bytes of one packet in a capture.
pub const PACKET_BYTES_MAX: usize = 1 << 20;
/// Bytes of standard input, as text.
pub const HEX_TEXT_BYTES_MAX: usize = 1 << 30;
/// Bytes of small files that are read whole.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;
/// Connections that a proxy serves at a time.
pub const PROXY_CONNECTIONS_MAX: usize = 10_000;
/// Brokers for which a proxy listens.
pub const PROXY_ROUTES_MAX: usize = 1_000;
/// Bytes of frames that a proxy has passed on and not shown yet; beyond that the clients wait.
pub const PROXY_QUEUE_BYTES_MAX: usize = 256 << 20;
/// The same in frames.
pub const PROXY_QUEUE_FRAMES_MAX: usize = 65_536;
