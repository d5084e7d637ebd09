//! Bounds of the coordinator.

use std::time::Duration;

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
/// Bytes after which the metadata log goes on in a new segment, so that a purge can remove the old one.
pub const ROLL_BYTES: u64 = 8 * 1024 * 1024;
/// Entries that stay in the log although a snapshot holds them, so that one who is a little behind needs no snapshot.
pub const KEPT_ENTRIES: u64 = 100;
/// Entries after which a snapshot is made.
pub const SNAPSHOT_ENTRIES: u64 = 10_000;
/// Bytes of records after which a snapshot is made.
pub const SNAPSHOT_BYTES: u64 = 20 * 1024 * 1024;
/// Entries just written that are kept in memory, for whoever applies or sends them.
pub const RECENT_ENTRIES_MAX: usize = 64;
/// Bytes of those entries, but for the newest, which may have more by itself.
pub const RECENT_BYTES_MAX: usize = 1024 * 1024;
/// A follower that hears nothing for so long asks for votes, at the earliest. Shorter ones cost leaders their office on a busy
/// machine.
pub const ELECTION_TIMEOUT_MS_MIN: u64 = 500;
/// At the latest.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 1000;
/// How often a leader says that it lives.
pub const HEARTBEAT_MS: u64 = 125;
/// Size of one batch of records in a snapshot.
pub const SNAPSHOT_BATCH_BYTES: usize = 256 * 1024;
/// How long a request may take where its caller says nothing else, in milliseconds: Kafka's `request.timeout.ms`.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// How long a caller waits for a connection to one coordinator before it asks the next.
pub const CONNECT_MS_MAX: u64 = 1000;
/// How long a caller waits for one coordinator's answer to a request that it may repeat.
pub const REPEATABLE_MS_MAX: u64 = 3000;
/// How long a caller waits for one coordinator's answer to a heartbeat.
pub const HEARTBEAT_ANSWER_MS_MAX: u64 = 1000;
/// How long a caller waits before it asks again where nobody leads or a coordinator cannot be reached.
pub const RETRY_PAUSE_MS: u64 = 50;
/// The longest such pause of a feed.
pub const FEED_PAUSE_MS_MAX: u64 = 500;
/// How long a coordinator holds back the answer to a feed that has everything.
pub const FEED_WAIT_MS: i32 = 1000;
/// Longer waits are cut to this.
pub const FEED_WAIT_MS_MAX: i32 = 30_000;
/// How much longer a feed waits for its answer than the coordinator was asked to hold it back.
pub const FEED_ANSWER_MS_MAX: u64 = 2000;
/// Bytes of records after which an answer of the feed takes no further entry, and pieces in which the whole metadata is sent.
pub const FEED_BYTES: i32 = 1024 * 1024;
/// Larger answers are not given, whatever is asked.
pub const FEED_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// Size of a request to a controller listener.
pub const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;
/// How long a stop waits for replies that are not ready or not written.
pub const DRAIN_MAX: Duration = Duration::from_millis(200);
/// How long a connection to another coordinator may take to come about.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long another coordinator may take to answer, where the library sets no shorter time.
pub const PEER_REQUEST_MAX: Duration = Duration::from_secs(10);
/// Pause after another coordinator could not be reached.
pub const PEER_BACKOFF: Duration = Duration::from_millis(100);
/// Bytes of a snapshot that are sent at once.
pub const SNAPSHOT_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of a snapshot that is taken from another coordinator.
pub const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Nodes that are remembered because they said something.
pub const KNOWN_NODES_MAX: usize = 64;
/// How often a node that seeks its quorum says hello.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(200);
/// How long an answer to a hello may take, with the connection.
pub const HELLO_MAX: Duration = Duration::from_millis(1500);
/// How often a node that seeks its quorum says in the log what it waits for.
pub const HELLO_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Most voters that a quorum has.
pub const VOTERS_MAX: usize = 5;
/// How often is looked whether the quorum has to change, at the least.
pub const STEWARD_INTERVAL: Duration = Duration::from_millis(250);
/// A node that was heard within this time lives.
pub const NODE_LIVES: Duration = Duration::from_millis(1500);
/// A node that only listens and was not heard for so long is forgotten.
pub const LISTENER_GONE: Duration = Duration::from_secs(60);
/// A node that lacks no more entries has caught up.
pub const CAUGHT_UP_ENTRIES: u64 = 64;
/// How long a change of the quorum may take before others get their turn.
pub const QUORUM_CHANGE_MAX: Duration = Duration::from_secs(5);
/// How long RemoveRaftVoter waits, whose request names no time.
pub const VOTER_REMOVAL_MAX: Duration = Duration::from_secs(10);
/// How long a leader that stops waits for its successor.
pub const TRANSFER_MAX: Duration = Duration::from_millis(1500);
/// How long a node that is to end waits for a majority.
pub const STOP_WAITS_MAX: Duration = Duration::from_secs(1);
