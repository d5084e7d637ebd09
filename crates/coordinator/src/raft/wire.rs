//! The library's messages to the other nodes and back, as the messages of `protocol-spec`: votes (1001), entries (1002), snapshots
//! (1003).

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::{RaftLeaderId, RaftVote};
use ottla_protocol::generated::raft_append::{AppendedEntry, RaftAppendRequest, RaftAppendResponse};
use ottla_protocol::generated::raft_vote::{RaftVoteRequest, RaftVoteResponse};
use ottla_protocol::ids::Uuid;

use super::{EntryId, Types, Vote, VoterId, entry_id, from_log_entry, to_i64, to_log_entry};
use crate::entry::{EntryError, LogEntry};
use crate::raft::membership::MembershipError;

/// Kinds of RaftVote.
pub(crate) const VOTE: i8 = 0;
/// A question whether there would be a vote.
pub(crate) const PRE_VOTE: i8 = 1;
/// The leader gives up its place.
pub(crate) const TRANSFER: i8 = 2;

/// Results of RaftAppend.
const SUCCESS: i8 = 0;
const PARTIAL: i8 = 1;
const CONFLICT: i8 = 2;
const HIGHER_VOTE: i8 = 3;

/// What is not a message of the library.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("entry {index}: {error}")]
    Entry { index: i64, error: EntryError },
    #[error("entry {index}: {error}")]
    Membership { index: i64, error: MembershipError },
    #[error("{0} is not known: this node is too old for this cluster")]
    Unknown(String),
}

/// From whom to whom a message goes, and of which cluster.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) cluster_id: String,
    pub(crate) from: VoterId,
    pub(crate) to: VoterId,
}

/// A vote from its parts on the wire.
pub(crate) fn vote(term: i32, id: i32, directory_id: Uuid, granted: bool) -> Vote {
    Vote::from_leader_id(LeaderId::new(term, VoterId { id, directory_id }), granted)
}

fn place(id: Option<&EntryId>) -> (i64, i32) {
    id.map_or((-1, 0), |id| (to_i64(id.index), id.committed_leader_id().term))
}

fn entry_at(index: i64, term: i32) -> Option<EntryId> {
    (index >= 0).then(|| entry_id(term, index))
}

fn vote_message(route: &Route, kind: i8, vote: &Vote, last: Option<&EntryId>) -> RaftVoteRequest {
    let (last_index, last_term) = place(last);
    RaftVoteRequest {
        cluster_id: route.cluster_id.as_str().into(),
        target_id: route.to.id,
        target_directory_id: route.to.directory_id,
        sender_id: route.from.id,
        sender_directory_id: route.from.directory_id,
        kind,
        vote_term: vote.leader_id.term,
        voted_id: vote.leader_id.voted_for.id,
        voted_directory_id: vote.leader_id.voted_for.directory_id,
        vote_granted: vote.committed,
        last_index,
        last_term,
        ..RaftVoteRequest::default()
    }
}

/// [`VOTE`] or [`PRE_VOTE`].
pub(crate) fn vote_request(route: &Route, kind: i8, rpc: &VoteRequest<Types>) -> RaftVoteRequest {
    let is_transfer = rpc.leadership_transfer;
    RaftVoteRequest { is_transfer, ..vote_message(route, kind, &rpc.vote, rpc.last_log_id.as_ref()) }
}

/// [`TRANSFER`].
pub(crate) fn transfer_request(route: &Route, rpc: &TransferLeaderRequest<Types>) -> RaftVoteRequest {
    RaftVoteRequest {
        successor_id: rpc.to_node_id().id,
        successor_directory_id: rpc.to_node_id().directory_id,
        ..vote_message(route, TRANSFER, rpc.from_leader(), rpc.last_log_id())
    }
}

/// The vote in a request.
pub(crate) fn voted(request: &RaftVoteRequest) -> Vote {
    vote(request.vote_term, request.voted_id, request.voted_directory_id, request.vote_granted)
}

/// Back from [`vote_request`].
pub(crate) fn read_vote(request: &RaftVoteRequest) -> VoteRequest<Types> {
    let mut rpc = VoteRequest::new(voted(request), entry_at(request.last_index, request.last_term));
    rpc.leadership_transfer = request.is_transfer;
    rpc
}

/// Back from [`transfer_request`].
pub(crate) fn read_transfer(request: &RaftVoteRequest) -> TransferLeaderRequest<Types> {
    let to = VoterId { id: request.successor_id, directory_id: request.successor_directory_id };
    TransferLeaderRequest::new(voted(request), to, entry_at(request.last_index, request.last_term))
}

/// What is answered to a vote.
pub(crate) fn vote_response(answer: &VoteResponse<Types>) -> RaftVoteResponse {
    let (last_index, last_term) = place(answer.last_log_id.as_ref());
    RaftVoteResponse {
        vote_term: answer.vote.leader_id.term,
        voted_id: answer.vote.leader_id.voted_for.id,
        voted_directory_id: answer.vote.leader_id.voted_for.directory_id,
        vote_granted: answer.vote.committed,
        granted: answer.vote_granted,
        last_index,
        last_term,
        ..RaftVoteResponse::default()
    }
}

/// Back from [`vote_response`].
pub(crate) fn read_vote_response(response: &RaftVoteResponse) -> VoteResponse<Types> {
    let vote =
        vote(response.vote_term, response.voted_id, response.voted_directory_id, response.vote_granted);
    VoteResponse::new(vote, entry_at(response.last_index, response.last_term), response.granted)
}

/// Entries for a follower.
pub(crate) fn append_request(
    route: &Route,
    rpc: &AppendEntriesRequest<Types>,
) -> Result<RaftAppendRequest, WireError> {
    let (previous_index, previous_term) = place(rpc.prev_log_id.as_ref());
    let (committed_index, committed_term) = place(rpc.leader_commit.as_ref());
    let entries = rpc.entries.iter().map(|entry| {
        let index = to_i64(entry.log_id.index);
        let entry =
            to_log_entry(entry, Some(&rpc.vote)).map_err(|error| WireError::Membership { index, error })?;
        let bytes = entry.encode_value().map_err(|error| WireError::Entry { index, error })?;
        Ok(AppendedEntry { index, term: entry.term, entry: bytes, ..AppendedEntry::default() })
    });
    Ok(RaftAppendRequest {
        cluster_id: route.cluster_id.as_str().into(),
        target_id: route.to.id,
        target_directory_id: route.to.directory_id,
        sender_id: route.from.id,
        sender_directory_id: route.from.directory_id,
        vote_term: rpc.vote.leader_id.term,
        voted_id: rpc.vote.leader_id.voted_for.id,
        voted_directory_id: rpc.vote.leader_id.voted_for.directory_id,
        vote_granted: rpc.vote.committed,
        previous_index,
        previous_term,
        committed_index,
        committed_term,
        entries: entries.collect::<Result<_, _>>()?,
        ..RaftAppendRequest::default()
    })
}

/// Back from [`append_request`].
pub(crate) fn read_append(request: RaftAppendRequest) -> Result<AppendEntriesRequest<Types>, WireError> {
    let entries = request.entries.into_iter().map(|sent| {
        let (index, bytes): (i64, Bytes) = (sent.index, sent.entry);
        let entry = LogEntry::decode_value(index, sent.term, bytes)
            .map_err(|error| WireError::Entry { index, error })?;
        from_log_entry(entry).map_err(|error| WireError::Membership { index, error })
    });
    Ok(AppendEntriesRequest {
        vote: vote(request.vote_term, request.voted_id, request.voted_directory_id, request.vote_granted),
        prev_log_id: entry_at(request.previous_index, request.previous_term),
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: entry_at(request.committed_index, request.committed_term),
    })
}

/// What is answered to entries.
pub(crate) fn append_response(answer: &AppendEntriesResponse<Types>) -> RaftAppendResponse {
    let response = |result| RaftAppendResponse { result, ..RaftAppendResponse::default() };
    match answer {
        AppendEntriesResponse::Success => response(SUCCESS),
        AppendEntriesResponse::PartialSuccess(matching) => {
            let (matching_index, matching_term) = place(matching.as_ref());
            RaftAppendResponse { matching_index, matching_term, ..response(PARTIAL) }
        }
        AppendEntriesResponse::Conflict => response(CONFLICT),
        AppendEntriesResponse::HigherVote(vote) => RaftAppendResponse {
            vote_term: vote.leader_id.term,
            voted_id: vote.leader_id.voted_for.id,
            voted_directory_id: vote.leader_id.voted_for.directory_id,
            vote_granted: vote.committed,
            ..response(HIGHER_VOTE)
        },
    }
}

/// Back from [`append_response`].
pub(crate) fn read_append_response(
    response: &RaftAppendResponse,
) -> Result<AppendEntriesResponse<Types>, WireError> {
    Ok(match response.result {
        SUCCESS => AppendEntriesResponse::Success,
        PARTIAL => {
            AppendEntriesResponse::PartialSuccess(entry_at(response.matching_index, response.matching_term))
        }
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => AppendEntriesResponse::HigherVote(vote(
            response.vote_term,
            response.voted_id,
            response.voted_directory_id,
            response.vote_granted,
        )),
        other => return Err(WireError::Unknown(format!("result {other} of an append"))),
    })
}
