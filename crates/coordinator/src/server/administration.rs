//! What administrators' clients ask a coordinator itself (KIP-919): who the coordinators are, and what the controller decides. A node
//! that does not lead says so; the client finds the leader by DescribeCluster.

use std::sync::Arc;

use ottla_cluster::features::Features;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_protocol::generated::api_versions::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::generated::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use ottla_protocol::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use ottla_protocol::wire::Str;

use super::ServerState;
use crate::decision::Origin;
use crate::error::RequestError;
use crate::question::Question;
use crate::raft::VoterNode;

/// `EndpointType`: brokers, which have listeners of their own.
const BROKERS: i8 = 1;
/// `EndpointType`: controllers.
const CONTROLLERS: i8 = 2;

/// ApiVersions: what is served here, the levels of features that this program knows, and those that the cluster has finalized.
pub(super) fn api_versions(state: &ServerState, api_keys: Vec<ApiVersion>) -> ApiVersionsResponse {
    let image = state.local.published.image();
    let known = Features::known();
    let supported = known.iter().map(|(name, levels)| SupportedFeatureKey {
        name: name.into(),
        min_version: levels.min,
        max_version: levels.max,
        ..SupportedFeatureKey::default()
    });
    let finalized = image.features().map(|(name, level)| FinalizedFeatureKey {
        name: name.into(),
        max_version_level: level,
        min_version_level: level,
        ..FinalizedFeatureKey::default()
    });
    ApiVersionsResponse {
        api_keys,
        supported_features: supported.collect(),
        finalized_features_epoch: image.index(),
        finalized_features: finalized.collect(),
        ..ApiVersionsResponse::default()
    }
}

/// DescribeCluster: the members of the quorum at the listener named `listener`, or else where others of the quorum reach them, and which
/// of them leads.
pub(super) fn describe_cluster(
    state: &ServerState,
    request: &DescribeClusterRequest,
    listener: &str,
) -> DescribeClusterResponse {
    let refused = match request.endpoint_type {
        CONTROLLERS => None,
        BROKERS => Some((ErrorCode::MismatchedEndpointType, "this listener serves controllers, not brokers")),
        _ => {
            Some((ErrorCode::UnsupportedEndpointType, "the endpoint type is 1 (brokers) or 2 (controllers)"))
        }
    };
    if let Some((code, text)) = refused {
        let error_message = Some(text.into());
        return DescribeClusterResponse { error_code: code.code(), error_message, ..Default::default() };
    }
    let view = state.seat.view();
    let at = |node: &VoterNode| {
        let named = node.endpoints.iter().find(|endpoint| endpoint.name == listener);
        named.or(node.endpoints.first()).cloned()
    };
    let nodes = view.members.membership().nodes().filter_map(|(id, logged)| {
        let said = state.seat.others().get(id).map(|said| said.node.clone());
        let own = (*id == state.seat.me).then(|| state.seat.node.clone());
        let endpoint = at(&said.or(own).unwrap_or_else(|| logged.clone()))?;
        Some(DescribeClusterBroker {
            broker_id: id.id,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            ..DescribeClusterBroker::default()
        })
    });
    DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: state.seat.cluster_id().borrow().as_deref().unwrap_or_default().into(),
        controller_id: view.leader.map_or(-1, |leader| leader.id),
        brokers: nodes.collect(),
        ..DescribeClusterResponse::default()
    }
}

/// A request of an administrator that the leader answers.
pub(super) trait Administration: Question {
    /// The response that says only what went wrong.
    fn refused(error_code: i16, error_message: Str) -> Self::Response;
}

/// Answers a request, if this node leads.
pub(super) async fn ask<Q: Administration>(state: Arc<ServerState>, request: Q) -> Q::Response {
    match request.answer(&state.local, Origin::Process).await {
        Ok(committed) => committed.response,
        Err(error) => Q::refused(error.error_code().code(), Str::from(RequestError::to_string(&error))),
    }
}

impl Administration for ElectLeadersRequest {
    fn refused(error_code: i16, _: Str) -> ElectLeadersResponse {
        ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() }
    }
}

impl Administration for AlterPartitionReassignmentsRequest {
    fn refused(error_code: i16, text: Str) -> AlterPartitionReassignmentsResponse {
        let error_message = Some(text);
        AlterPartitionReassignmentsResponse { error_code, error_message, ..Default::default() }
    }
}

impl Administration for ListPartitionReassignmentsRequest {
    fn refused(error_code: i16, text: Str) -> ListPartitionReassignmentsResponse {
        let error_message = Some(text);
        ListPartitionReassignmentsResponse { error_code, error_message, ..Default::default() }
    }
}

impl Administration for UnregisterBrokerRequest {
    fn refused(error_code: i16, text: Str) -> UnregisterBrokerResponse {
        UnregisterBrokerResponse { error_code, error_message: Some(text), ..Default::default() }
    }
}

impl Administration for UpdateFeaturesRequest {
    fn refused(error_code: i16, text: Str) -> UpdateFeaturesResponse {
        UpdateFeaturesResponse { error_code, error_message: Some(text), ..Default::default() }
    }
}

impl Administration for DescribeQuorumRequest {
    fn refused(error_code: i16, text: Str) -> DescribeQuorumResponse {
        DescribeQuorumResponse { error_code, error_message: Some(text), ..Default::default() }
    }
}

impl Administration for AddRaftVoterRequest {
    fn refused(error_code: i16, text: Str) -> AddRaftVoterResponse {
        AddRaftVoterResponse { error_code, error_message: Some(text), ..Default::default() }
    }
}

impl Administration for RemoveRaftVoterRequest {
    fn refused(error_code: i16, text: Str) -> RemoveRaftVoterResponse {
        RemoveRaftVoterResponse { error_code, error_message: Some(text), ..Default::default() }
    }
}
