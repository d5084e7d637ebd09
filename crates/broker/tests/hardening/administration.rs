//! Requests of administrators, in every version that is served.

use ottla_cluster::controller::METADATA_TOPIC;
use ottla_protocol::generated::ErrorCode::{
    BrokerIdNotRegistered, ElectionNotNeeded, InvalidReplicaAssignment, InvalidUpdateVersion,
    MismatchedEndpointType, NoReassignmentInProgress, UnknownTopicOrPartition, UnsupportedEndpointType,
};
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignableTopic,
};
use ottla_protocol::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
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
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{
    FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use ottla_storage::files::faulty::FaultyFiles;

use crate::support::{NONE, Running, code};

async fn started() -> Running {
    let broker = Running::start(&FaultyFiles::new()).await;
    assert_eq!(broker.create("t", 2, &[]).await, NONE);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_elected_by_request() {
    let broker = started().await;
    for version in 0..=2 {
        let named = |topic: &str| TopicPartitions {
            topic: topic.into(),
            partitions: vec![0, 7],
            ..Default::default()
        };
        let topic_partitions = Some(vec![named("t"), named("u")]);
        let request = ElectLeadersRequest { topic_partitions, ..Default::default() };
        let response: ElectLeadersResponse = broker.client.call(&request, version).await.unwrap();
        let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let codes: Vec<_> = results.map(|result| result.error_code).collect();
        let unknown = code(UnknownTopicOrPartition);
        assert_eq!(codes, [code(ElectionNotNeeded), unknown, unknown, unknown], "version {version}");
        let all = ElectLeadersRequest::default();
        let response: ElectLeadersResponse = broker.client.call(&all, version).await.unwrap();
        assert_eq!((response.error_code, response.replica_election_results.len()), (NONE, 0));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_moved_by_request() {
    let broker = started().await;
    for version in 0..=1 {
        let to = |partition_index, replicas| ReassignablePartition {
            partition_index,
            replicas,
            ..Default::default()
        };
        let partitions = vec![to(0, Some(vec![1])), to(1, Some(vec![1, 2])), to(1, None), to(9, None)];
        let topic = ReassignableTopic { name: "t".into(), partitions, ..Default::default() };
        let request = AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
        let response: AlterPartitionReassignmentsResponse =
            broker.client.call(&request, version).await.unwrap();
        assert_eq!(response.error_code, NONE);
        let codes: Vec<_> = response.responses[0].partitions.iter().map(|p| p.error_code).collect();
        let expected = [
            NONE,
            code(InvalidReplicaAssignment),
            code(NoReassignmentInProgress),
            code(UnknownTopicOrPartition),
        ];
        assert_eq!(codes, expected, "version {version}");
    }
    let request = ListPartitionReassignmentsRequest::default();
    let response: ListPartitionReassignmentsResponse = broker.client.call(&request, 0).await.unwrap();
    assert_eq!((response.error_code, response.topics.len()), (NONE, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_shown_and_finalized() {
    let broker = started().await;
    let request = ApiVersionsRequest::default();
    let shown: ApiVersionsResponse = broker.client.call(&request, 3).await.unwrap();
    let supported: Vec<_> =
        shown.supported_features.iter().map(|f| (f.name.as_str(), f.min_version, f.max_version)).collect();
    assert_eq!(supported, [("ottla.version", 1, 1)]);
    let finalized: Vec<_> =
        shown.finalized_features.iter().map(|f| (f.name.as_str(), f.max_version_level)).collect();
    assert_eq!(finalized, [("ottla.version", 1)]);
    assert!(shown.finalized_features_epoch >= 0);
    for version in 0..=2 {
        for (level, expected) in [(1, NONE), (2, code(InvalidUpdateVersion))] {
            let update = FeatureUpdateKey {
                feature: "ottla.version".into(),
                max_version_level: level,
                ..Default::default()
            };
            let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
            let response: UpdateFeaturesResponse = broker.client.call(&request, version).await.unwrap();
            assert_eq!(response.error_code, expected, "version {version} level {level}");
            assert_eq!(response.error_message.is_some(), expected != NONE);
            assert_eq!(response.results.len(), usize::from(version < 2 && expected == NONE));
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_resources_are_listed() {
    let broker = started().await;
    let request = UnregisterBrokerRequest { broker_id: 7, ..Default::default() };
    let response: UnregisterBrokerResponse = broker.client.call(&request, 0).await.unwrap();
    assert_eq!(response.error_code, code(BrokerIdNotRegistered));

    for (endpoint_type, expected) in
        [(1, NONE), (2, code(MismatchedEndpointType)), (3, code(UnsupportedEndpointType))]
    {
        let request =
            DescribeClusterRequest { endpoint_type, include_fenced_brokers: true, ..Default::default() };
        let response: DescribeClusterResponse = broker.client.call(&request, 2).await.unwrap();
        assert_eq!(response.error_code, expected);
        let brokers: Vec<_> = response.brokers.iter().map(|b| (b.broker_id, b.is_fenced)).collect();
        assert_eq!(brokers, if expected == NONE { vec![(1, false)] } else { Vec::new() });
    }

    let listed = |resource_types: &[i8], version| {
        let request =
            ListConfigResourcesRequest { resource_types: resource_types.to_vec(), ..Default::default() };
        let client = &broker.client;
        async move {
            let response: ListConfigResourcesResponse = client.call(&request, version).await.unwrap();
            assert_eq!(response.error_code, NONE);
            let names =
                response.config_resources.iter().map(|r| (r.resource_type, r.resource_name.to_string()));
            names.collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(&[], 0).await, []);
    assert_eq!(listed(&[], 1).await, [(4, "1".to_owned()), (2, "t".to_owned())]);
    assert_eq!(listed(&[2], 1).await, [(2, "t".to_owned())]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_shown_and_stays_odd() {
    let broker = started().await;
    for version in 0..=2 {
        let partition = RequestPartitionData { partition_index: 0, ..Default::default() };
        let name = METADATA_TOPIC.into();
        let topic = RequestTopicData { topic_name: name, partitions: vec![partition], ..Default::default() };
        let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
        let response: DescribeQuorumResponse = broker.client.call(&request, version).await.unwrap();
        assert_eq!(response.error_code, NONE);
        let shown = &response.topics[0].partitions[0];
        let voters: Vec<_> = shown.current_voters.iter().map(|voter| voter.replica_id).collect();
        assert_eq!((shown.error_code, shown.leader_id, voters), (NONE, 1, vec![1]), "version {version}");
        let directory = shown.current_voters[0].replica_directory_id;
        assert_eq!(directory.is_zero(), version < 2);
        assert!(shown.high_watermark > 0 && shown.observers.is_empty());
    }
    // The only voter cannot go, and nobody can be added at no address.
    let request = RemoveRaftVoterRequest { voter_id: 1, ..Default::default() };
    let response: RemoveRaftVoterResponse = broker.client.call(&request, 0).await.unwrap();
    assert_ne!(response.error_code, NONE);
    for version in 0..=1 {
        let request = AddRaftVoterRequest { voter_id: 2, timeout_ms: 100, ..Default::default() };
        let response: AddRaftVoterResponse = broker.client.call(&request, version).await.unwrap();
        assert_ne!(response.error_code, NONE, "version {version}");
    }
    broker.stop().await;
}
