//! What travels between nodes, and what nodes wait for.

use std::sync::Arc;

use bytes::Bytes;
use ottla_cluster::groups::{Reply, Request};
use ottla_cluster::image::MetadataRecord;
use ottla_cluster::replica::{DurableReport, FollowerFetch};
use ottla_protocol::generated::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::generated::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use ottla_protocol::generated::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::create_topics::CreateTopicsRequest;
use ottla_protocol::generated::elect_leaders::ElectLeadersRequest;
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};

/// A node: coordinators are 101 and on, brokers 1 and on, clients 1001 and on.
pub(crate) type Address = u32;

/// Tells requests apart; an answer names its request.
pub(crate) type Correlation = u64;

/// A partition.
pub(crate) type Tp = (Uuid, i32);

/// An entry of the metadata log.
pub(crate) type Entry = Arc<Vec<MetadataRecord>>;

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// To the controller.
    Control(Correlation, ControlRequest),
    /// Its answer; `None`: it is not the controller.
    Controlled(Correlation, Option<ControlAnswer>),
    /// A connection of a broker to the controller was reset.
    Closed { broker: BrokerId, connection: u64 },
    /// Entries from an index on, to any coordinator; waits for some.
    Feed(Correlation, i64),
    /// Entries from that index on.
    Fed(Correlation, i64, Vec<Entry>),
    /// A follower fetches.
    ReplicaFetch(Correlation, Vec<ReplicaAsked>),
    /// What it gets, in the order of the request.
    ReplicaFetched(Correlation, Vec<ReplicaGiven>),
    /// A follower tells what it has on disk.
    Durable(Vec<(Tp, DurableReport)>),
    /// A client asks a broker.
    Ask(Correlation, ClientRequest),
    /// And gets an answer.
    Answer(Correlation, ClientAnswer),
}

/// What the controller is asked.
#[derive(Clone, Debug)]
pub(crate) enum ControlRequest {
    Register(BrokerRegistrationRequest),
    Heartbeat(BrokerHeartbeatRequest, u64),
    Alter(AlterPartitionRequest),
    Create(CreateTopicsRequest),
    Elect(ElectLeadersRequest),
    Reassign(AlterPartitionReassignmentsRequest),
}

/// What the controller says.
#[derive(Clone, Debug)]
pub(crate) enum ControlAnswer {
    Register(BrokerRegistrationResponse),
    Heartbeat(BrokerHeartbeatResponse),
    Alter(AlterPartitionResponse),
    Done,
}

/// One partition of a follower's fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplicaAsked {
    pub tp: Tp,
    pub fetch: FollowerFetch,
}

/// One partition of the answer to it.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaGiven {
    pub tp: Tp,
    pub fetch: FollowerFetch,
    pub answer: Given,
}

/// What a follower is given.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    /// Batches, and the leader's high watermark and log start.
    Records { batches: Bytes, high_watermark: Offset, log_start: Offset },
    /// Where the logs part.
    Diverging { epoch: LeaderEpoch, end: Offset },
    /// The leader's bounds.
    OutOfRange { start: Offset, end: Offset },
    /// Not served.
    Refused,
}

/// What a client asks a broker.
#[derive(Clone, Debug)]
pub(crate) enum ClientRequest {
    /// Who leads.
    Metadata,
    /// A batch.
    Produce { tp: Tp, acks_all: bool, batch: Bytes },
    /// Committed batches from an offset on.
    Fetch { tp: Tp, offset: Offset, epoch: LeaderEpoch },
    /// Something of a group, in that partition of the offsets topic.
    Group { partition: i32, request: Box<Request> },
    /// Committed offsets of a group.
    Offsets { partition: i32, group: &'static str },
}

/// What a client hears.
#[derive(Clone, Debug)]
pub(crate) enum ClientAnswer {
    /// Leaders with their epochs.
    Metadata(Arc<Vec<(Tp, Address, LeaderEpoch)>>),
    /// First offset of the batch.
    Produced(Result<Offset, Failure>),
    /// Batches and the high watermark.
    Fetched(Result<(Bytes, Offset), Failure>),
    /// Of a group.
    Group(Result<Box<Reply>, Failure>),
    /// Offsets by partition.
    Offsets(Result<Vec<(i32, i64)>, Failure>),
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Ask another broker, or again.
    Retry,
    /// The high watermark did not come so far in time, or the leadership ended.
    Unknown,
    /// A gap in the sequence.
    OutOfOrder,
    /// The offset is not in the log.
    OutOfRange,
}

/// What a node waits for.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// A broker's process begins.
    Start,
    /// Register again unless it is registered.
    Register,
    /// The next heartbeat, if none was sent since.
    Heartbeat(Correlation),
    /// Ask for metadata again, if the last request was that one.
    Feed(Correlation),
    /// Fetch from that leader again; if that request is still out, it is given up.
    Fetch(Address, Option<Correlation>),
    /// Begin a sync.
    Flush(Tp),
    /// The sync that is under way comes back.
    Flushed(Tp),
    /// Partitions, parked requests and groups have something due.
    Upkeep,
    /// Write checkpoints.
    Checkpoint,
    /// An answer to these proposals did not come.
    Proposed(Correlation),
    /// The controller's next look at its tenure.
    Tick(u64),
    /// The proposal of that term is committed.
    Commit(u64, u64),
    /// A new controller is elected.
    Elected(u64),
    /// A coordinator has applied what there is.
    Applied,
    /// A parked feed request is answered empty.
    FeedDue(Correlation),
    /// A client does what it does next.
    Client(u64),
}
