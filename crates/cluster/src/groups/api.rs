//! What goes into a shard and what comes out: requests, replies, actions, records and the settings it obeys.

use bytes::Bytes;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_protocol::generated::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::generated::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use ottla_protocol::generated::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::wire::{DecodeError, Str};

pub use super::event::Event;

/// Two clocks: deadlines by the monotonic one, what is written down by the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub mono_ms: i64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// The broker's settings for groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.max.size`: members of one group.
    pub size_max: usize,
    /// `offset.metadata.max.bytes`; counted in UTF-16 units, as Kafka does.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3000,
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 1_800_000,
            size_max: i32::MAX as usize,
            offset_metadata_bytes_max: 4096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
        }
    }
}

/// Names a request whose reply may come much later; given by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names a write; given by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreId(pub u64);

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// `client.id`, may be empty.
    pub id: Str,
    /// Where it comes from, as Kafka writes it: `/1.2.3.4`.
    pub host: Str,
}

/// What a client asks of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// JoinGroup; `new_member_id` is the member's id if it needs one (`<client.id or instance id>-<uuid>`).
    Join {
        /// As it came.
        request: JoinGroupRequest,
        /// Version of the request: ids are required from 4, assignments may be skipped from 9.
        version: i16,
        /// An id that no one has.
        new_member_id: Str,
    },
    /// SyncGroup.
    Sync(SyncGroupRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup; below version 3 `member_id` alone is looked at.
    Leave {
        /// As it came.
        request: LeaveGroupRequest,
        /// Version of the request.
        version: i16,
    },
    /// OffsetCommit; topics by name (and id where it is known); partitions that do not exist were taken out.
    Commit {
        /// What is left of the request.
        request: OffsetCommitRequest,
        /// Version of the request.
        version: i16,
    },
    /// OffsetDelete; partitions that do not exist were taken out.
    DeleteOffsets(OffsetDeleteRequest),
    /// One group of DeleteGroups.
    DeleteGroup(Str),
}

/// The answer to a [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Join`].
    Join(JoinGroupResponse),
    /// To [`Request::Sync`].
    Sync(SyncGroupResponse),
    /// To [`Request::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// To [`Request::Leave`], in the form of its version.
    Leave(LeaveGroupResponse),
    /// To [`Request::Commit`]; topics and partitions in the order of the request.
    Commit(OffsetCommitResponse),
    /// To [`Request::DeleteOffsets`].
    DeleteOffsets(OffsetDeleteResponse),
    /// To [`Request::DeleteGroup`].
    DeleteGroup(ErrorCode),
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a reply.
    Reply {
        /// The request that it answers; each is answered exactly once.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// Write these as one batch; answer with `GroupShard::handle_stored` in the order of the log, once committed or failed.
    Store {
        /// To be given back.
        id: StoreId,
        /// Never empty.
        records: Vec<GroupRecord>,
    },
    /// For the log: one line.
    Tell(Event),
}

/// Key and value in Kafka's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Version (16 bits) and key.
    pub key: Bytes,
    /// Version (16 bits) and value; `None` for a tombstone.
    pub value: Option<Bytes>,
}

/// Why a write failed. The driver maps the partition's errors to it; whether a client retries follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum StoreError {
    /// This broker does not lead the partition any more.
    #[error("not the coordinator")]
    NotCoordinator,
    /// It could not be replicated in time, or there are not enough replicas.
    #[error("not available")]
    NotAvailable,
    /// The batch is larger than the topic allows.
    #[error("too large")]
    TooLarge,
    /// Anything else.
    #[error("failed")]
    Failed,
}

impl StoreError {
    /// What a client is told, as Kafka's coordinator does.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::NotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge | Self::Failed => ErrorCode::UnknownServerError,
        }
    }
}

/// What a record that was replayed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It belongs to classic groups and their offsets.
    Applied,
    /// Of another kind (the new consumer protocol, share groups, ..): not looked at.
    Skipped,
}

/// Why a record of the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The bytes are not what they claim to be.
    #[error("a group record is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A newer broker wrote it.
    #[error("{name} has version {version}, this broker knows up to {known}")]
    UnknownVersion {
        /// The record.
        name: &'static str,
        /// Its version.
        version: i16,
        /// The highest that this broker knows.
        known: i16,
    },
}
