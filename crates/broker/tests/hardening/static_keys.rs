//! Settings that are read at the start: each test shows what another value changes.

use std::path::Path;

use ottla_protocol::generated::ErrorCode::{InvalidReplicationFactor, TopicDeletionDisabled};
use ottla_protocol::generated::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use ottla_protocol::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};
use ottla_protocol::ids::Offset;
use ottla_protocol::wire::Records;
use ottla_storage::checkpoint::OffsetCheckpoint;
use ottla_storage::files::faulty::FaultyFiles;
use ottla_storage::names::TopicPartition;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::{NONE, Running, batch, code, until};

async fn started(overrides: &[&str]) -> Running {
    let mut all = vec!["log.dirs=/data"];
    all.extend(overrides);
    Running::start_with(&FaultyFiles::new(), &all).await
}

/// A full fetch of both partitions of `t` that asks for a session: its id, and the bytes of the records.
async fn fetch_all(broker: &Running) -> (i32, usize) {
    let partition =
        |partition| FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    let partitions = vec![partition(0), partition(1)];
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: 0,
        topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let response: FetchResponse = broker.client.call(&request, 12).await.unwrap();
    let size = |records: &Records| records.as_bytes().map_or(0, bytes::Bytes::len);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    (response.session_id, partitions.map(|partition| size(&partition.records)).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_max_bytes_bounds_a_reply() {
    let mut sizes = Vec::new();
    for overrides in [&[][..], &["fetch.max.bytes=1024"]] {
        let broker = started(overrides).await;
        assert_eq!(broker.create("t", 2, &[]).await, NONE);
        for index in [0, 1] {
            let answer = broker.try_produce(("t", index), batch(100), -1).await.unwrap();
            assert_eq!(answer.error_code, NONE);
        }
        sizes.push(fetch_all(&broker).await.1);
        broker.stop().await;
    }
    assert_eq!(sizes[0], 2 * sizes[1], "only the first batch, which is larger than the bound, is given");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_sessions_are_as_many_as_there_are_slots() {
    for (overrides, second) in [(&[][..], true), (&["max.incremental.fetch.session.cache.slots=1"], false)] {
        let broker = started(overrides).await;
        assert_eq!(broker.create("t", 2, &[]).await, NONE);
        assert_ne!(fetch_all(&broker).await.0, 0);
        assert_eq!(fetch_all(&broker).await.0 != 0, second);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_partitions_is_bounded() {
    for (overrides, page) in [(&[][..], 5), (&["max.request.partition.size.limit=2"], 2)] {
        let broker = started(overrides).await;
        assert_eq!(broker.create("t", 5, &[]).await, NONE);
        let request = DescribeTopicPartitionsRequest { response_partition_limit: 100, ..Default::default() };
        let response: DescribeTopicPartitionsResponse = broker.client.call(&request, 0).await.unwrap();
        assert_eq!(response.topics[0].partitions.len(), page);
        assert_eq!(response.next_cursor.is_some(), page < 5);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_points_are_written_at_the_interval() {
    let broker = started(&["log.flush.offset.checkpoint.interval.ms=50"]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(3), -1).await, (NONE, 0));
    let path = Path::new("/data/recovery-point-offset-checkpoint");
    let written = || {
        let read = OffsetCheckpoint::read(&broker.files, path).unwrap();
        read.get(&TopicPartition::new("t", 0)) == Some(Offset(3))
    };
    until("the recovery point is written", || std::future::ready(written())).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_and_deleted_as_the_start_says() {
    let broker = started(&["delete.topic.enable=false", "default.replication.factor=2"]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.delete("t").await, code(TopicDeletionDisabled));
    assert_eq!(broker.create_replicated("u", -1).await, code(InvalidReplicationFactor));
    broker.stop().await;
    let broker = started(&[]).await;
    assert_eq!(broker.create_replicated("u", -1).await, NONE);
    assert_eq!(broker.delete("u").await, NONE);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_shows_who_the_broker_is() {
    let broker = started(&[
        "broker.id=7",
        "broker.rack=r1",
        "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names=CONTROLLER",
        "advertised.listeners=PLAINTEXT://a.host:1234",
    ])
    .await;
    assert_eq!(broker.broker.addresses().len(), 1, "the controller's listener is left out");
    let response: MetadataResponse = broker.client.call(&MetadataRequest::default(), 12).await.unwrap();
    let shown = &response.brokers[0];
    assert_eq!((shown.node_id, &*shown.host, shown.port), (7, "a.host", 1234));
    assert_eq!(shown.rack.as_deref(), Some("r1"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let broker = started(&["connections.max.idle.ms=100"]).await;
    let mut idle = TcpStream::connect(broker.broker.addresses()[0]).await.unwrap();
    let read = tokio::time::timeout(crate::support::DEADLINE, idle.read(&mut [0; 1])).await;
    assert_eq!(read.expect("closed in time").unwrap(), 0);
    broker.stop().await;
}
