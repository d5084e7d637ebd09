//! What administrators ask of a cluster, and what brokers tell each other.

use ottla_protocol::generated::ErrorCode::{
    BrokerIdNotRegistered, ElectionNotNeeded, NoReassignmentInProgress,
};
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignableTopic,
};
use ottla_protocol::generated::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use ottla_protocol::generated::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::generated::report_durable::ReportDurableRequest;
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{
    FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::*;

pub(super) fn administration(world: &mut World, topic: &Topic) {
    // Followers' reports are not answered; what comes behind one is.
    world.connection.send_typed(&ReportDurableRequest::default(), 0);
    let report = ApiKey::ReportDurable.code();
    world.tried.insert(report, world.advertised[&report]);
    partitions(world, topic);
    world.each(
        |_| UnregisterBrokerRequest { broker_id: 77, ..Default::default() },
        |version, reply: UnregisterBrokerResponse| {
            assert_eq!(reply.error_code, BrokerIdNotRegistered.code(), "{version}");
        },
    );
    world.each(
        |_| ListConfigResourcesRequest::default(),
        |version, reply: ListConfigResourcesResponse| assert_eq!(reply.error_code, 0, "{version}"),
    );
    world.each(
        |_| {
            let update = FeatureUpdateKey {
                feature: "ottla.version".into(),
                max_version_level: 1,
                ..Default::default()
            };
            UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() }
        },
        |version, reply: UpdateFeaturesResponse| assert_eq!(reply.error_code, 0, "{version}"),
    );
    quorum(world);
}

fn partitions(world: &mut World, topic: &Topic) {
    world.each(
        |_| {
            let name = topic.name.as_str().into();
            let asked = TopicPartitions { topic: name, partitions: vec![0], ..Default::default() };
            ElectLeadersRequest { topic_partitions: Some(vec![asked]), ..Default::default() }
        },
        |version, reply: ElectLeadersResponse| {
            let result = &reply.replica_election_results[0].partition_result[0];
            assert_eq!(result.error_code, ElectionNotNeeded.code(), "{version}");
        },
    );
    world.each(
        |_| {
            let partition =
                ReassignablePartition { partition_index: 0, replicas: None, ..Default::default() };
            let name = topic.name.as_str().into();
            let asked = ReassignableTopic { name, partitions: vec![partition], ..Default::default() };
            AlterPartitionReassignmentsRequest { topics: vec![asked], ..Default::default() }
        },
        |version, reply: AlterPartitionReassignmentsResponse| {
            let code = reply.responses[0].partitions[0].error_code;
            assert_eq!(code, NoReassignmentInProgress.code(), "{version}");
        },
    );
    world.each(
        |_| ListPartitionReassignmentsRequest::default(),
        |version, reply: ListPartitionReassignmentsResponse| {
            assert_eq!((reply.error_code, reply.topics.len()), (0, 0), "{version}");
        },
    );
}

fn quorum(world: &mut World) {
    world.each(
        |_| {
            let partition = RequestPartitionData { partition_index: 0, ..Default::default() };
            let topic_name = "__cluster_metadata".into();
            let asked = RequestTopicData { topic_name, partitions: vec![partition], ..Default::default() };
            DescribeQuorumRequest { topics: vec![asked], ..Default::default() }
        },
        |version, reply: DescribeQuorumResponse| {
            let shown = &reply.topics[0].partitions[0];
            assert_eq!((shown.error_code, shown.current_voters.len()), (0, 1), "{version}");
        },
    );
    // Nobody can be added at no address, and the only voter cannot go.
    world.each(
        |_| AddRaftVoterRequest { voter_id: 2, timeout_ms: 100, ..Default::default() },
        |version, reply: AddRaftVoterResponse| assert_ne!(reply.error_code, 0, "{version}"),
    );
    world.each(
        |_| RemoveRaftVoterRequest { voter_id: 1, ..Default::default() },
        |version, reply: RemoveRaftVoterResponse| assert_ne!(reply.error_code, 0, "{version}"),
    );
}
