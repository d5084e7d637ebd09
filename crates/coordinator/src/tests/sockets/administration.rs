//! What administrators' clients ask controller listeners.

use ottla_protocol::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::generated::describe_quorum::DescribeQuorumResponse;
use ottla_protocol::generated::update_features::{
    FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use ottla_transport::client::Client;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn administrators_find_the_leader_and_ask_it() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let voters = cluster.voters();
    for id in [1, 2, 3] {
        cluster.place(id).start(voters.clone());
    }
    let leader = cluster.leader().await;
    cluster.voters_become(&[1, 2, 3]).await;
    for place in &cluster.places {
        let client = Client::connect(place.address).await.unwrap();
        let shown: ApiVersionsResponse = client.call(&ApiVersionsRequest::default(), 3).await.unwrap();
        let features: Vec<_> =
            shown.supported_features.iter().map(|f| (f.name.as_str(), f.max_version)).collect();
        assert_eq!(features, [(OTTLA_FEATURE, OTTLA_FEATURE_LEVEL)]);

        let request = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
        let shown: DescribeClusterResponse = client.call(&request, 2).await.unwrap();
        let nodes: Vec<_> = shown.brokers.iter().map(|node| (node.broker_id, node.port)).collect();
        let expected: Vec<_> = cluster.places.iter().map(|p| (p.id, i32::from(p.address.port()))).collect();
        assert_eq!(nodes, expected);
        let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
        let refused: DescribeClusterResponse = client.call(&request, 1).await.unwrap();
        assert_eq!(refused.error_code, ErrorCode::MismatchedEndpointType.code());

        let described: DescribeQuorumResponse =
            client.call(&DescribeQuorumRequest::default(), 2).await.unwrap();
        let expected = if place.id == leader { ErrorCode::None } else { ErrorCode::NotController };
        assert_eq!(described.error_code, expected.code());
        assert_eq!(described.nodes.len(), if place.id == leader { 3 } else { 0 });
    }
    cluster.stop();
}

/// Whichever coordinator is asked, all have a say: none is left behind by a level that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn levels_are_finalized_with_everybodys_consent() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let voters = cluster.voters();
    for id in [1, 2, 3] {
        cluster.place(id).start(voters.clone());
    }
    let leader = cluster.leader().await;
    let known = || cluster.places.iter().find(|p| p.id == leader).unwrap().seat.features_of_others();
    let began = Instant::now();
    while known().len() != 2 || known().values().any(Option::is_none) {
        moment(began, "the leader does not learn what the others know").await;
    }
    for features in known().into_values().flatten() {
        assert_eq!(features, ottla_cluster::features::Features::known());
    }
    for place in &cluster.places {
        for (level, expected) in [
            (OTTLA_FEATURE_LEVEL, ErrorCode::None),
            (OTTLA_FEATURE_LEVEL + 1, ErrorCode::InvalidUpdateVersion),
        ] {
            let update = FeatureUpdateKey {
                feature: OTTLA_FEATURE.into(),
                max_version_level: level,
                ..Default::default()
            };
            let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
            let answer: UpdateFeaturesResponse =
                place.handle().update_features(request).await.unwrap().response;
            assert_eq!(answer.error_code, expected.code(), "node {}", place.id);
        }
    }
    cluster.stop();
}
