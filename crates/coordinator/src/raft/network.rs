//! How the nodes of the quorum reach each other. A quorum of one has nobody to reach.

use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2, alias};
use ottla_cluster::image::MetadataImage;

use super::{Types, VoterId, VoterNode};

/// The network of a node without neighbours.
pub(crate) struct Alone;

impl Alone {
    fn unreachable() -> Unreachable<Types> {
        Unreachable::new(&AnyError::error("a quorum of one has no other nodes"))
    }
}

impl RaftNetworkFactory<Types> for Alone {
    type Network = Self;

    async fn new_client(&mut self, _target: VoterId, _node: &VoterNode) -> Self {
        Self
    }
}

impl RaftNetworkV2<Types> for Alone {
    type SnapshotData = MetadataImage;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(Self::unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(Self::unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(Self::unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: alias::VoteOf<Types>,
        _snapshot: alias::SnapshotOf<Types, MetadataImage>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(Self::unreachable().into())
    }
}
