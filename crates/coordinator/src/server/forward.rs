//! What brokers and other coordinators want the controller to decide.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ottla_protocol::generated::ApiKey;
use ottla_protocol::generated::add_raft_voter::AddRaftVoterRequest;
use ottla_protocol::generated::allocate_producer_ids::AllocateProducerIdsRequest;
use ottla_protocol::generated::alter_configs::AlterConfigsRequest;
use ottla_protocol::generated::alter_partition::AlterPartitionRequest;
use ottla_protocol::generated::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use ottla_protocol::generated::assign_replicas_to_dirs::AssignReplicasToDirsRequest;
use ottla_protocol::generated::auto_create_topics::AutoCreateTopicsRequest;
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::generated::create_partitions::CreatePartitionsRequest;
use ottla_protocol::generated::create_topics::CreateTopicsRequest;
use ottla_protocol::generated::delete_topics::DeleteTopicsRequest;
use ottla_protocol::generated::describe_quorum::DescribeQuorumRequest;
use ottla_protocol::generated::elect_leaders::ElectLeadersRequest;
use ottla_protocol::generated::forward::{ForwardRequest, ForwardResponse};
use ottla_protocol::generated::incremental_alter_configs::IncrementalAlterConfigsRequest;
use ottla_protocol::generated::list_partition_reassignments::ListPartitionReassignmentsRequest;
use ottla_protocol::generated::remove_raft_voter::RemoveRaftVoterRequest;
use ottla_protocol::generated::unregister_broker::UnregisterBrokerRequest;
use ottla_protocol::generated::update_features::UpdateFeaturesRequest;
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::{Message, Str};

use super::ServerState;
use crate::decision::Origin;
use crate::leadership::Leadership;
use crate::question::Question;
use crate::remote::Failure;

/// Which broker says on which connection that it lives. As many entries as connections, at the most.
#[derive(Debug, Default)]
pub(super) struct ControlConnections(Mutex<BTreeMap<u64, BrokerId>>);

impl ControlConnections {
    fn note(&self, connection: u64, broker: BrokerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(connection, broker);
    }

    fn forget(&self, connection: u64) -> Option<BrokerId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection)
    }
}

/// A connection is over: the driver hears of it when it was a broker's control connection.
pub(super) fn closed(state: &ServerState, connection: u64) {
    if let Some(broker) = state.control.forget(connection) {
        state.local.disconnected(broker, connection);
    }
}

/// What a request came to that was not refused as a whole.
type Done = Result<ForwardResponse, (Failure, String)>;

/// Forward.
pub(super) async fn forward(
    state: Arc<ServerState>,
    connection: u64,
    request: ForwardRequest,
) -> ForwardResponse {
    let own = state.seat.cluster_id().borrow().clone();
    let asked = request.cluster_id.as_deref();
    let done = match (asked, own.as_deref()) {
        (Some(asked), Some(own)) if asked != own => {
            Err((Failure::OtherCluster, format!("this is a coordinator of cluster {own}, not of {asked}")))
        }
        (_, None) => Err((Failure::NotLeader, "this coordinator belongs to no cluster yet".to_owned())),
        (_, Some(_)) => decide(&state, connection, request).await,
    };
    let mut response = done.unwrap_or_else(|(failure, text)| ForwardResponse {
        failure: failure as i8,
        error_message: Some(Str::from(text)),
        ..ForwardResponse::default()
    });
    let leadership = Leadership::of(&state.seat);
    response.leader_epoch = leadership.term;
    if let Some(leader) = leadership.leader {
        response.leader_id = leader.id;
        response.leader_host = Str::from(leader.host);
        response.leader_port = leader.port;
    }
    response
}

/// One match on the API key: what is not in it is no business of the controller.
async fn decide(state: &ServerState, connection: u64, request: ForwardRequest) -> Done {
    let from = (state, connection, request);
    match ApiKey::from_i16(from.2.request_api_key) {
        Some(ApiKey::CreateTopics) => ask::<CreateTopicsRequest>(from).await,
        Some(ApiKey::AutoCreateTopics) => ask::<AutoCreateTopicsRequest>(from).await,
        Some(ApiKey::DeleteTopics) => ask::<DeleteTopicsRequest>(from).await,
        Some(ApiKey::CreatePartitions) => ask::<CreatePartitionsRequest>(from).await,
        Some(ApiKey::IncrementalAlterConfigs) => ask::<IncrementalAlterConfigsRequest>(from).await,
        Some(ApiKey::AlterConfigs) => ask::<AlterConfigsRequest>(from).await,
        Some(ApiKey::AllocateProducerIds) => ask::<AllocateProducerIdsRequest>(from).await,
        Some(ApiKey::BrokerRegistration) => ask::<BrokerRegistrationRequest>(from).await,
        Some(ApiKey::BrokerHeartbeat) => ask::<BrokerHeartbeatRequest>(from).await,
        Some(ApiKey::UnregisterBroker) => ask::<UnregisterBrokerRequest>(from).await,
        Some(ApiKey::AlterPartition) => ask::<AlterPartitionRequest>(from).await,
        Some(ApiKey::ElectLeaders) => ask::<ElectLeadersRequest>(from).await,
        Some(ApiKey::AlterPartitionReassignments) => ask::<AlterPartitionReassignmentsRequest>(from).await,
        Some(ApiKey::ListPartitionReassignments) => ask::<ListPartitionReassignmentsRequest>(from).await,
        Some(ApiKey::DescribeQuorum) => ask::<DescribeQuorumRequest>(from).await,
        Some(ApiKey::AddRaftVoter) => ask::<AddRaftVoterRequest>(from).await,
        Some(ApiKey::RemoveRaftVoter) => ask::<RemoveRaftVoterRequest>(from).await,
        Some(ApiKey::UpdateFeatures) => ask::<UpdateFeaturesRequest>(from).await,
        Some(ApiKey::AssignReplicasToDirs) => ask::<AssignReplicasToDirsRequest>(from).await,
        other => {
            let name =
                other.map_or_else(|| format!("API {}", from.2.request_api_key), |key| key.name().to_owned());
            Err((Failure::Unreadable, format!("{name} is not the controller's")))
        }
    }
}

async fn ask<Q: Question>((state, connection, request): (&ServerState, u64, ForwardRequest)) -> Done {
    let version = request.request_api_version;
    if !(Q::VERSIONS.0..=Q::VERSIONS.1).contains(&version) {
        return Err((Failure::Unreadable, format!("{} version {version} is not known", Q::NAME)));
    }
    let decoded = Q::decode(request.request_body, version)
        .map_err(|error| (Failure::Unreadable, format!("{}: {error}", Q::NAME)))?;
    if let Some(broker) = decoded.lives() {
        // Before it is decided: the connection may be over as soon as it was.
        state.control.note(connection, broker);
    }
    let asked = decoded.answer(&state.local, Origin::Connection(connection)).await;
    let committed = asked.map_err(|error| (Failure::of(&error), error.to_string()))?;
    let response_body =
        committed.response.encode(version).map_err(|error| (Failure::Unwritable, error.to_string()))?;
    Ok(ForwardResponse { index: committed.index, response_body, ..ForwardResponse::default() })
}
