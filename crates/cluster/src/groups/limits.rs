//! Bounds on what clients can make a shard remember.

/// Groups in one shard (one partition of `__consumer_offsets`); a group beyond is answered COORDINATOR_NOT_AVAILABLE.
pub const GROUPS_MAX: usize = 100_000;
/// Members that got an id and did not come back with it yet, in one group, whatever `group.max.size` says.
pub const PENDING_MEMBERS_MAX: usize = 10_000;
/// Bytes of names and metadata of all protocols that one member offers.
pub const MEMBER_PROTOCOLS_BYTES_MAX: usize = 1 << 20;
/// How long a new member may wait for its first JoinGroup answer, whatever its session timeout, as in Kafka.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// Tombstones in one write.
pub const REMOVALS_PER_STORE_MAX: usize = 1000;
/// Events that a group remembers for explanations.
pub const EVENTS_PER_GROUP_MAX: usize = 64;
/// Partitions of a group whose movements are remembered.
pub const PARTITIONS_EXPLAINED_MAX: usize = 4096;
/// Reasons that one rebalance lists; the others are counted.
pub const REASONS_PER_REBALANCE_MAX: usize = 8;
/// Bytes of a client's own reason that are kept.
pub const REASON_BYTES_MAX: usize = 200;
/// Bytes of an id or a name: the records of groups write their length with 16 bits.
pub const ID_BYTES_MAX: usize = 32_000;
