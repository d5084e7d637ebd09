//! Bounds of the coordinator.

/// Requests that wait to be decided; more wait at the sender.
pub const QUEUE_REQUESTS_MAX: usize = 4096;
/// Requests that are decided together and become one log entry.
pub const GROUP_REQUESTS_MAX: usize = 4096;
/// Records after which a group takes no further request. One request may go beyond it.
pub const GROUP_RECORDS_MAX: usize = 20_000;
/// Entries that are kept in memory for feeds; older ones are read from the log again.
pub const FEED_ENTRIES_MAX: usize = 256;
/// Records of those entries, but for the newest, which may have more by itself.
pub const FEED_RECORDS_MAX: usize = 4096;
/// Entries that a feed hands out at once.
pub const FEED_BATCH_ENTRIES_MAX: usize = 256;
/// Bytes that are read from the log at once.
pub const READ_BYTES: usize = 1024 * 1024;
/// Size of one segment of the metadata log.
pub const SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes that are kept on disk so that deletions can be committed when it is full.
pub const RESERVE_BYTES: usize = 256 * 1024;
