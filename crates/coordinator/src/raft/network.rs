//! How this node reaches the others of the quorum: a connection to each, made when there is something to say and again after a fault.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2, alias};
use ottla_cluster::features::Levels;
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::raft_append::RaftAppendResponse;
use ottla_protocol::generated::raft_snapshot::{RaftSnapshotRequest, RaftSnapshotResponse};
use ottla_protocol::generated::raft_vote::{RaftVoteRequest, RaftVoteResponse};
use ottla_protocol::wire::{Message, Str};
use ottla_transport::client::{Client, ClientOptions};

use super::seat::Seat;
use super::snapshot::Snapshot;
use super::wire::{self, Route};
use super::{Types, VoterId, VoterNode, to_i64};
use crate::limits::{CONNECT_MAX, PEER_BACKOFF, PEER_REQUEST_MAX, SNAPSHOT_PIECE_BYTES};

/// Makes connections to other nodes.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) seat: Arc<Seat>,
    pub(crate) cluster_id: String,
}

/// The way to one other node.
pub(crate) struct Peer {
    seat: Arc<Seat>,
    route: Route,
    /// What the log said of it when this was made.
    node: VoterNode,
    client: Option<Client>,
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: VoterId, node: &VoterNode) -> Peer {
        let route = Route { cluster_id: self.cluster_id.clone(), from: self.seat.me, to: target };
        Peer { seat: self.seat.clone(), route, node: node.clone(), client: None }
    }
}

/// The library waits a little and tries again, whatever it was.
fn unreachable(error: &dyn std::fmt::Display) -> Unreachable<Types> {
    Unreachable::new(&AnyError::error(error.to_string()))
}

/// Connects to a node of the quorum.
///
/// # Errors
/// The system's, in words.
pub(crate) async fn connect(address: String) -> Result<Client, String> {
    let options = ClientOptions {
        client_id: Some("coordinator".to_owned()),
        connect_max: CONNECT_MAX,
        request_max: PEER_REQUEST_MAX,
        ..ClientOptions::default()
    };
    Client::connect_with(address, options).await.map_err(|error| error.to_string())
}

impl Peer {
    /// Sends a request and waits for its answer, at most `wait_max`. After a fault the next call connects anew: what a connection that
    /// stood still would carry is of no more use.
    async fn call<Q: Message, R: Message>(
        &mut self,
        request: &Q,
        wait_max: Duration,
    ) -> Result<R, Unreachable<Types>> {
        let client = self.client.take();
        let answered = tokio::time::timeout(wait_max, async {
            let client = match client {
                Some(client) => client,
                None => {
                    let endpoint = self.seat.endpoint(self.route.to, &self.node);
                    let endpoint =
                        endpoint.ok_or_else(|| format!("nobody knows where {} is", self.route.to))?;
                    connect(endpoint.to_string()).await?
                }
            };
            let answer = client.call::<Q, R>(request, 0).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((client, answer))
        });
        let (client, answer) = answered
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {wait_max:?}")))
            .map_err(|error| unreachable(&error))?;
        self.client = Some(client);
        Ok(answer)
    }

    /// An answer that refuses is none.
    fn accepted(&mut self, code: i16, message: Option<&Str>) -> Result<(), Unreachable<Types>> {
        if code == ErrorCode::None.code() {
            return Ok(());
        }
        // Perhaps another node is there now, and this one elsewhere.
        self.client = None;
        let code = ErrorCode::from_code(code).map_or_else(|| code.to_string(), |code| code.name().to_owned());
        let message = message.map(Str::as_str).unwrap_or_default();
        Err(unreachable(&format!("{} refuses: {code}: {message}", self.route.to)))
    }

    async fn vote_call(
        &mut self,
        request: &RaftVoteRequest,
        wait_max: Duration,
    ) -> Result<RaftVoteResponse, Unreachable<Types>> {
        let response: RaftVoteResponse = self.call(request, wait_max).await?;
        self.accepted(response.error_code, response.error_message.as_ref())?;
        Ok(response)
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = MetadataImage;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = wire::append_request(&self.route, &rpc).map_err(|error| unreachable(&error))?;
        let response: RaftAppendResponse = self.call(&request, option.hard_ttl()).await?;
        self.accepted(response.error_code, response.error_message.as_ref())?;
        let levels = Levels { min: response.level_min, max: response.level_max };
        self.seat.note_levels(self.route.to, levels);
        Ok(wire::read_append_response(&response).map_err(|error| unreachable(&error))?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = wire::vote_request(&self.route, wire::VOTE, &rpc);
        Ok(wire::read_vote_response(&self.vote_call(&request, option.hard_ttl()).await?))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = wire::vote_request(&self.route, wire::PRE_VOTE, &rpc);
        Ok(wire::read_vote_response(&self.vote_call(&request, option.hard_ttl()).await?))
    }

    async fn full_snapshot(
        &mut self,
        vote: alias::VoteOf<Types>,
        snapshot: alias::SnapshotOf<Types, MetadataImage>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let meta = snapshot.meta;
        let last = meta.last_log_id.ok_or_else(|| unreachable(&"a snapshot of nothing"))?;
        let whole = Snapshot { image: snapshot.snapshot, last, membership: meta.last_membership };
        let bytes = whole.encode().map_err(|error| unreachable(&error))?;
        let sending = async {
            let mut at = 0;
            loop {
                let piece = bytes.slice(at..(at + SNAPSHOT_PIECE_BYTES).min(bytes.len()));
                let position = i64::try_from(at).expect("memory is smaller");
                at += piece.len();
                let request = RaftSnapshotRequest {
                    cluster_id: self.route.cluster_id.as_str().into(),
                    target_id: self.route.to.id,
                    target_directory_id: self.route.to.directory_id,
                    sender_id: self.route.from.id,
                    sender_directory_id: self.route.from.directory_id,
                    vote_term: vote.leader_id.term,
                    voted_id: vote.leader_id.voted_for.id,
                    voted_directory_id: vote.leader_id.voted_for.directory_id,
                    vote_granted: vote.committed,
                    index: to_i64(last.index),
                    term: last.committed_leader_id().term,
                    position,
                    size_bytes: i64::try_from(bytes.len()).expect("memory is smaller"),
                    piece,
                    ..RaftSnapshotRequest::default()
                };
                let response: RaftSnapshotResponse = self.call(&request, PEER_REQUEST_MAX).await?;
                self.accepted(response.error_code, response.error_message.as_ref())?;
                if at == bytes.len() {
                    return Ok::<_, Unreachable<Types>>(wire::vote(
                        response.vote_term,
                        response.voted_id,
                        response.voted_directory_id,
                        response.vote_granted,
                    ));
                }
            }
        };
        // Not cancel-safe, nor need it be: a snapshot that is given up begins anew.
        tokio::select! {
            sent = sending => Ok(SnapshotResponse::new(sent?)),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = wire::transfer_request(&self.route, &rpc);
        let response = self.vote_call(&request, option.hard_ttl()).await?;
        if response.granted {
            return Ok(Ok(()));
        }
        let answer = wire::read_vote_response(&response);
        Ok(Err(TransferLeaderError::VoteChanged { expected: *rpc.from_leader(), actual: answer.vote }))
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(PEER_BACKOFF)))
    }
}
