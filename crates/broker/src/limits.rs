//! The broker's own limits; those with a name of Kafka's are in the configuration.

/// Compressed batches up to this size are walked on the connection's own thread.
pub const COMPRESSED_INLINE_BYTES_MAX: usize = 64 * 1024;

/// How long a stop waits for replies that are on their way.
pub const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Log files may take up one in so many of the descriptors that the process may open.
pub const DESCRIPTOR_SHARE: u64 = 2;

/// Partitions of `__consumer_offsets` that are loaded at once: each holds `offsets.load.buffer.size` bytes meanwhile.
pub const GROUP_LOADS_MAX: usize = 2;
