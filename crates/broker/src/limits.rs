//! The broker's own limits; those with a name of Kafka's are in the configuration.

use std::time::Duration;

/// Compressed batches up to this size are walked on the connection's own thread.
pub const COMPRESSED_INLINE_BYTES_MAX: usize = 64 * 1024;

/// How long a stop waits for replies that are on their way.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A log directory in which a write or sync takes longer is offline: its partitions are led elsewhere. Longer than what a healthy disk
/// under the heaviest load was seen to take, by far.
pub const DISK_HANG_MAX: Duration = Duration::from_secs(10);

/// Fetch sessions that one follower may have: one for each of its fetchers, and those of connections that it has given up.
pub const FOLLOWER_SESSIONS_MAX: usize = 16;

/// Log files may take up one in so many of the descriptors that the process may open.
pub const DESCRIPTOR_SHARE: u64 = 2;

/// Partitions of `__consumer_offsets` that are loaded at once: each holds `offsets.load.buffer.size` bytes meanwhile.
pub const GROUP_LOADS_MAX: usize = 2;

/// Bytes of a client's name in the id of its member, which is remembered, told and written many times. Kafka's clients take no
/// longer names of static members.
pub const MEMBER_ID_PREFIX_BYTES_MAX: usize = 249;

/// How long a broker that stops waits for others to lead what it led.
pub const CONTROLLED_SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// How often a broker that stops asks whether it may.
pub const STOPPING_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);

/// Replicas whose log directory the controller is told in one request.
pub const ASSIGNMENTS_MAX: usize = 2_000;

/// Between two tries of what a broker needs from the coordinators before it can start.
pub const START_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How often a broker that waits for the coordinators says so.
pub const WAIT_NOTICE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a broker that cannot go on may take to close: a disk that hangs never lets it.
pub const FATAL_STOP_MAX: Duration = Duration::from_secs(15);
