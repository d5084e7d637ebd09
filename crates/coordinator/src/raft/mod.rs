//! Consensus on the metadata log: what the Raft library is told about our types, files, state and network. Nothing outside this
//! module knows the library. Whoever it is, what it appends is on disk before it hears of it ([`disk`]), and what it applies becomes
//! the image that everybody reads ([`machine`]).

pub(crate) mod disk;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod membership;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod quorum;
pub(crate) mod recovery;
pub(crate) mod seat;
pub(crate) mod snapshot;
pub(crate) mod steward;
pub(crate) mod wire;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{Config, EntryPayload, OptionalSend, RaftTypeConfig, SnapshotPolicy, alias};
use ottla_cluster::image::{MetadataRecord, RecordError};
use ottla_protocol::ids::Uuid;

use crate::entry::{EntryKind, LogEntry};
use crate::limits::{ELECTION_TIMEOUT_MS_MAX, ELECTION_TIMEOUT_MS_MIN, HEARTBEAT_MS};
use membership::MembershipError;

/// The metadata quorum. One leader in a term at most; a term is a leader epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Change;
    type R = ();
    type NodeId = VoterId;
    type Node = VoterNode;
    type Term = i32;
    type LeaderId = leader_id_std::LeaderId<i32, VoterId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Change, VoterId, VoterNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type EntryId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<VoterId, VoterNode>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;

/// A node of the quorum: its id and the id of its directory. A node whose disk was replaced is another one, so that nobody takes it
/// for the one that has promised things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId {
    /// `node.id`.
    pub id: i32,
    /// `directory.id` of its metadata log's directory.
    pub directory_id: Uuid,
}

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.directory_id)
    }
}

/// Where a node of the quorum is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoterNode {
    /// Its controller listeners, the one for the quorum first.
    pub endpoints: Vec<VoterEndpoint>,
}

/// One address of a node of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterEndpoint {
    /// Name of the listener.
    pub name: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for VoterEndpoint {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What an entry changes: metadata records, each in its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) records: Vec<Bytes>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.records.len())
    }
}

/// The place of an entry; indexes are never negative here.
pub(crate) fn entry_id(term: i32, index: i64) -> EntryId {
    EntryId::new(leader_id_std::LeaderId::new(term, NOBODY).to_committed(), to_u64(index))
}

/// Voter of a term in which nobody has a vote.
pub(crate) const NOBODY: VoterId = VoterId { id: -1, directory_id: Uuid([0; 16]) };

/// The library counts indexes from 0 without a sign; the log has -1 for "none", which never gets here.
pub(crate) fn to_u64(index: i64) -> u64 {
    u64::try_from(index).expect("an entry's index is not negative")
}

/// Back again.
pub(crate) fn to_i64(index: u64) -> i64 {
    i64::try_from(index).expect("nobody has written so many entries")
}

/// An entry as it stands on disk. Its proposer is the leader of its term where `vote` knows it.
pub(crate) fn to_log_entry(entry: &Entry, vote: Option<&Vote>) -> Result<LogEntry, MembershipError> {
    let term = entry.log_id.committed_leader_id().term;
    let proposer = vote.filter(|vote| vote.leader_id.term == term).map(|vote| vote.leader_id.voted_for.id);
    let kind = match &entry.payload {
        EntryPayload::Blank => EntryKind::Blank,
        EntryPayload::Normal(change) => EntryKind::Records(change.records.clone()),
        EntryPayload::Membership(members) => EntryKind::Membership(membership::encode(members)?),
    };
    Ok(LogEntry { index: to_i64(entry.log_id.index), term, node_id: proposer.unwrap_or(-1), kind })
}

/// An entry as the library sees it.
pub(crate) fn from_log_entry(entry: LogEntry) -> Result<Entry, MembershipError> {
    let payload = match entry.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Records(records) => EntryPayload::Normal(Change { records }),
        EntryKind::Membership(voters) => EntryPayload::Membership(membership::decode(voters)?),
    };
    Ok(Entry { log_id: entry_id(entry.term, entry.index), payload })
}

/// The metadata records of an entry.
pub(crate) fn records(entry: &Entry) -> Result<Vec<MetadataRecord>, RecordError> {
    match &entry.payload {
        EntryPayload::Normal(change) => change.records.iter().cloned().map(MetadataRecord::decode).collect(),
        EntryPayload::Blank | EntryPayload::Membership(_) => Ok(Vec::new()),
    }
}

/// How the library behaves here. Snapshots are made when we say so: a full disk must not stop a node.
pub(crate) fn config(cluster_id: &str, kept_entries: u64) -> Arc<Config> {
    let config = Config {
        cluster_name: cluster_id.to_owned(),
        election_timeout_min: ELECTION_TIMEOUT_MS_MIN,
        election_timeout_max: ELECTION_TIMEOUT_MS_MAX,
        heartbeat_interval: HEARTBEAT_MS,
        snapshot_policy: SnapshotPolicy::Never,
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: kept_entries,
        // A quorum of one has no clock to watch; others switch it on.
        enable_tick: false,
        enable_pre_vote: Some(true),
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    Arc::new(config.validate().expect("constants that fit each other"))
}

/// Whether nobody but `id` belongs to the quorum: no voter, nobody who listens, no change under way.
pub(crate) fn is_alone(members: &Membership, id: VoterId) -> bool {
    members.get_joint_config().len() == 1
        && members.voter_ids().eq([id])
        && members.nodes().all(|(node, _)| *node == id)
}
