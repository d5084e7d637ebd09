//! What other coordinators ask: votes, entries, snapshots, and who this node is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openraft::alias;
use ottla_cluster::features::{OTTLA_FEATURE_LEVEL, OTTLA_FEATURE_LEVEL_MIN};
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::quorum_hello::{
    HelloMember, MemberListener, QuorumHelloRequest, QuorumHelloResponse,
};
use ottla_protocol::generated::raft_append::{RaftAppendRequest, RaftAppendResponse};
use ottla_protocol::generated::raft_snapshot::{RaftSnapshotRequest, RaftSnapshotResponse};
use ottla_protocol::generated::raft_vote::{RaftVoteRequest, RaftVoteResponse};
use ottla_protocol::wire::Str;

use super::ServerState;
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::raft::seat::{Refusal, Said};
use crate::raft::snapshot::Snapshot;
use crate::raft::{Raft, Types, Vote, VoterEndpoint, VoterId, VoterNode, wire};

/// A snapshot that comes in pieces; there is one at a time, from whoever leads.
#[derive(Default)]
pub(super) struct Incoming(Mutex<Option<Pieces>>);

struct Pieces {
    vote: Vote,
    index: i64,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes a piece; the whole once it is there.
    fn take(&self, vote: Vote, request: &RaftSnapshotRequest) -> Result<Option<Vec<u8>>, Refusal> {
        let invalid = |why: String| Refusal { code: ErrorCode::InvalidRequest, why };
        let size_bytes = usize::try_from(request.size_bytes).unwrap_or(usize::MAX);
        if size_bytes > SNAPSHOT_BYTES_MAX {
            return Err(invalid(format!("a snapshot of {} bytes", request.size_bytes)));
        }
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if request.position == 0 {
            *place = Some(Pieces { vote, index: request.index, bytes: Vec::new() });
        }
        let fits = |pieces: &&mut Pieces| {
            pieces.vote == vote
                && pieces.index == request.index
                && i64::try_from(pieces.bytes.len()) == Ok(request.position)
                && pieces.bytes.len() + request.piece.len() <= size_bytes
        };
        let Some(pieces) = place.as_mut().filter(fits) else {
            *place = None;
            return Err(invalid(format!("no piece at {} is expected", request.position)));
        };
        pieces.bytes.extend_from_slice(&request.piece);
        let is_whole = pieces.bytes.len() == size_bytes;
        Ok(if is_whole { place.take().map(|pieces| pieces.bytes) } else { None })
    }
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal { code: ErrorCode::UnknownServerError, why: error.to_string() }
}

/// The node that a message is for, if it comes from who it says: nobody speaks for another.
fn addressed(
    state: &ServerState,
    cluster_id: &str,
    target: VoterId,
    sender: VoterId,
    vote: &Vote,
) -> Result<Raft, Refusal> {
    if vote.leader_id.voted_for != sender {
        let why = format!("{sender} speaks for {}", vote.leader_id.voted_for);
        return Err(Refusal { code: ErrorCode::InvalidVoterKey, why });
    }
    state.seat.addressed(cluster_id, target)
}

/// RaftVote.
pub(super) async fn vote(state: Arc<ServerState>, request: RaftVoteRequest) -> RaftVoteResponse {
    let answered = answer_vote(&state, &request).await;
    answered.unwrap_or_else(|Refusal { code, why }| RaftVoteResponse {
        error_code: code.code(),
        error_message: Some(why.as_str().into()),
        ..RaftVoteResponse::default()
    })
}

async fn answer_vote(state: &ServerState, request: &RaftVoteRequest) -> Result<RaftVoteResponse, Refusal> {
    let target = VoterId { id: request.target_id, directory_id: request.target_directory_id };
    let sender = VoterId { id: request.sender_id, directory_id: request.sender_directory_id };
    let raft = addressed(state, &request.cluster_id, target, sender, &wire::voted(request))?;
    let answer = match request.kind {
        wire::VOTE => raft.vote(wire::read_vote(request)).await.map_err(|error| failed(&error))?,
        wire::PRE_VOTE => raft.pre_vote(wire::read_vote(request)).await.map_err(|error| failed(&error))?,
        wire::TRANSFER => {
            let answer = raft.handle_transfer_leader(wire::read_transfer(request)).await;
            let granted = answer.map_err(|error| failed(&error))?.is_ok();
            return Ok(RaftVoteResponse { granted, ..RaftVoteResponse::default() });
        }
        kind => {
            let why = format!("votes of kind {kind} are not known: this node is too old for this cluster");
            return Err(Refusal { code: ErrorCode::UnsupportedVersion, why });
        }
    };
    Ok(wire::vote_response(&answer))
}

/// RaftAppend.
pub(super) async fn append(state: Arc<ServerState>, request: RaftAppendRequest) -> RaftAppendResponse {
    let answered = answer_append(&state, request).await;
    answered.unwrap_or_else(|Refusal { code, why }| RaftAppendResponse {
        error_code: code.code(),
        error_message: Some(why.as_str().into()),
        ..RaftAppendResponse::default()
    })
}

async fn answer_append(
    state: &ServerState,
    request: RaftAppendRequest,
) -> Result<RaftAppendResponse, Refusal> {
    let target = VoterId { id: request.target_id, directory_id: request.target_directory_id };
    let sender = VoterId { id: request.sender_id, directory_id: request.sender_directory_id };
    let cluster_id = request.cluster_id.clone();
    let rpc = wire::read_append(request)
        .map_err(|error| Refusal { code: ErrorCode::InvalidRequest, why: error.to_string() })?;
    let raft = addressed(state, &cluster_id, target, sender, &rpc.vote)?;
    let answer = raft.append_entries(rpc).await.map_err(|error| failed(&error))?;
    Ok(RaftAppendResponse {
        level_min: OTTLA_FEATURE_LEVEL_MIN,
        level_max: OTTLA_FEATURE_LEVEL,
        ..wire::append_response(&answer)
    })
}

/// RaftSnapshot.
pub(super) async fn snapshot(state: Arc<ServerState>, request: RaftSnapshotRequest) -> RaftSnapshotResponse {
    match answer_snapshot(&state, &request).await {
        Ok(vote) => RaftSnapshotResponse {
            vote_term: vote.leader_id.term,
            voted_id: vote.leader_id.voted_for.id,
            voted_directory_id: vote.leader_id.voted_for.directory_id,
            vote_granted: vote.committed,
            ..RaftSnapshotResponse::default()
        },
        Err(Refusal { code, why }) => RaftSnapshotResponse {
            error_code: code.code(),
            error_message: Some(why.as_str().into()),
            ..RaftSnapshotResponse::default()
        },
    }
}

async fn answer_snapshot(state: &ServerState, request: &RaftSnapshotRequest) -> Result<Vote, Refusal> {
    let target = VoterId { id: request.target_id, directory_id: request.target_directory_id };
    let sender = VoterId { id: request.sender_id, directory_id: request.sender_directory_id };
    let vote =
        wire::vote(request.vote_term, request.voted_id, request.voted_directory_id, request.vote_granted);
    let raft = addressed(state, &request.cluster_id, target, sender, &vote)?;
    let Some(bytes) = state.incoming.take(vote, request)? else { return Ok(vote) };
    let decoded = Snapshot::decode(&bytes)
        .map_err(|error| Refusal { code: ErrorCode::CorruptMessage, why: error.to_string() })?;
    let whole = alias::SnapshotOf::<Types, MetadataImage> { meta: decoded.meta(), snapshot: decoded.image };
    let installed = raft.install_full_snapshot(vote, whole).await.map_err(|error| failed(&error))?;
    Ok(installed.vote)
}

/// QuorumHello.
pub(super) fn hello(state: &ServerState, request: &QuorumHelloRequest) -> QuorumHelloResponse {
    let endpoints = request.listeners.iter().map(|listener| VoterEndpoint {
        name: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
    });
    let sender = VoterId { id: request.node_id, directory_id: request.directory_id };
    let seat = &state.seat;
    let own = seat.cluster_id().borrow().clone();
    let mut response = QuorumHelloResponse {
        cluster_id: own.as_deref().map(Str::from),
        node_id: seat.me.id,
        directory_id: seat.me.directory_id,
        is_member: seat.is_member(),
        ..QuorumHelloResponse::default()
    };
    let theirs = request.cluster_id.as_ref();
    if theirs.is_some_and(|theirs| own.as_deref().is_some_and(|own| own != theirs.as_str())) {
        response.error_code = ErrorCode::InconsistentClusterId.code();
        return response;
    }
    let said = Said {
        node: VoterNode { endpoints: endpoints.collect() },
        wants_to_listen: request.wants_to_listen,
        wants_to_vote: request.wants_to_vote,
        at: Instant::now(),
    };
    seat.note(sender, said);
    let view = seat.view();
    response.leader_epoch = view.term;
    if let Some(leader) = view.leader {
        (response.leader_id, response.leader_directory_id) = (leader.id, leader.directory_id);
    }
    let voters: BTreeSet<_> = view.members.voter_ids().collect();
    let members = view.members.nodes().map(|(id, node)| member(*id, node, voters.contains(id)));
    response.members = members.collect();
    response
}

fn member(id: VoterId, node: &VoterNode, is_voter: bool) -> HelloMember {
    let listeners = node.endpoints.iter().map(|endpoint| MemberListener {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        ..MemberListener::default()
    });
    HelloMember {
        node_id: id.id,
        directory_id: id.directory_id,
        is_voter,
        listeners: listeners.collect(),
        ..HelloMember::default()
    }
}
