//! Groups move with the leader of their partition.

use std::time::Instant;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse,
};
use ottla_transport::client::Client;

use crate::cluster::Cluster;
use crate::support::{DEADLINE, pause, until};

const OFFSETS: &str = "__consumer_offsets";

async fn commit(client: &Client, offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
    let response: OffsetCommitResponse = client.call(&request, 7).await.unwrap();
    ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
}

async fn committed(client: &Client) -> (ErrorCode, i64) {
    let topic =
        OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let request =
        OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let response: OffsetFetchResponse = client.call(&request, 7).await.unwrap();
    let code = ErrorCode::from_code(response.error_code).unwrap();
    (code, response.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset))
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_are_there_on_the_next_leader() {
    let mut cluster = Cluster::start(2).await;
    cluster.metadata.create("t", 1, &[]);
    cluster.metadata.create(OFFSETS, 1, &[("cleanup.policy", "compact")]);
    until("a leader", || cluster.leader(OFFSETS).state.image().topic_by_name(OFFSETS).is_some()).await;
    for round in 0..3 {
        let client = cluster.leader(OFFSETS).client().await;
        let deadline = Instant::now() + DEADLINE;
        while commit(&client, 40 + round).await != ErrorCode::None {
            assert!(Instant::now() < deadline, "{round}");
            pause().await;
        }
        let leader = cluster.leader(OFFSETS).id;
        let disk = cluster.kill(leader).await;
        cluster.metadata.pass(20_000, &[&cluster.nodes[&(3 - leader)]]);
        let client = cluster.leader(OFFSETS).client().await;
        loop {
            match committed(&client).await {
                (ErrorCode::None, offset) => break assert_eq!(offset, 40 + round),
                (code, _) => assert!(Instant::now() < deadline, "{round}: {code:?}"),
            }
            pause().await;
        }
        cluster.start_node(leader, disk).await;
        cluster.until_in_sync(OFFSETS, 2).await;
    }
    cluster.stop().await;
}
