//! Requests of administrators about brokers, partitions' places and the quorum, handed to the controller.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_protocol::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::generated::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Control;

impl Control {
    /// AlterPartitionReassignments.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> AlterPartitionReassignmentsResponse {
        let decided = self.coordinator.alter_partition_reassignments(request).await;
        let failed = |code: ErrorCode| AlterPartitionReassignmentsResponse {
            error_code: code.code(),
            ..Default::default()
        };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// ElectLeaders.
    pub async fn elect_leaders(&self, request: ElectLeadersRequest) -> ElectLeadersResponse {
        let named = request.topic_partitions.clone().unwrap_or_default();
        let decided = self.coordinator.elect_leaders(request).await;
        self.applied(decided).await.unwrap_or_else(|code| {
            // Version 0 has no other place for an error.
            let failed = named.into_iter().map(|topic| {
                let partition_result = topic.partitions.into_iter().map(|partition_id| PartitionResult {
                    partition_id,
                    error_code: code.code(),
                    ..Default::default()
                });
                ReplicaElectionResult {
                    topic: topic.topic,
                    partition_result: partition_result.collect(),
                    ..Default::default()
                }
            });
            ElectLeadersResponse {
                error_code: code.code(),
                replica_election_results: failed.collect(),
                ..Default::default()
            }
        })
    }

    /// ListPartitionReassignments.
    pub async fn list_partition_reassignments(
        &self,
        request: ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let decided = self.coordinator.list_partition_reassignments(request).await;
        let failed = |code: ErrorCode| ListPartitionReassignmentsResponse {
            error_code: code.code(),
            ..Default::default()
        };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// UnregisterBroker.
    pub async fn unregister_broker(&self, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
        let decided = self.coordinator.unregister_broker(request).await;
        let failed =
            |code: ErrorCode| UnregisterBrokerResponse { error_code: code.code(), ..Default::default() };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// UpdateFeatures.
    pub async fn update_features(&self, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
        let decided = self.coordinator.update_features(request).await;
        let failed =
            |code: ErrorCode| UpdateFeaturesResponse { error_code: code.code(), ..Default::default() };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// AddRaftVoter.
    pub async fn add_raft_voter(&self, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
        let decided = self.coordinator.add_raft_voter(request).await;
        let failed = |code: ErrorCode| AddRaftVoterResponse { error_code: code.code(), ..Default::default() };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// DescribeQuorum.
    pub async fn describe_quorum(&self, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
        let decided = self.coordinator.describe_quorum(request).await;
        let failed =
            |code: ErrorCode| DescribeQuorumResponse { error_code: code.code(), ..Default::default() };
        self.applied(decided).await.unwrap_or_else(failed)
    }

    /// RemoveRaftVoter.
    pub async fn remove_raft_voter(&self, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
        let decided = self.coordinator.remove_raft_voter(request).await;
        let failed =
            |code: ErrorCode| RemoveRaftVoterResponse { error_code: code.code(), ..Default::default() };
        self.applied(decided).await.unwrap_or_else(failed)
    }
}
