//! The broker's own limits; those with a name of Kafka's are in the configuration.

/// Compressed batches up to this size are walked on the connection's own thread.
pub const COMPRESSED_INLINE_BYTES_MAX: usize = 64 * 1024;
