//! Settings of listeners and their memory, each test showing what another value changes; and replies that cannot be sent.

use std::io::ErrorKind;
use std::time::Duration;

use ottla_protocol::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};
use ottla_storage::files::faulty::FaultyFiles;
use ottla_transport::client::Client;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{DEADLINE, NONE, Running, until};

/// How long a request is watched that must not be answered.
const UNANSWERED: Duration = Duration::from_millis(300);
/// A frame that is promised, and the part of it that comes: two such parts are more than the memory for requests.
const FRAME_BYTES: u32 = 60_000;
const PART_BYTES: u32 = 40_000;
const LITTLE_MEMORY: [&str; 2] = ["socket.request.max.bytes=65536", "queued.max.request.bytes=65536"];

async fn started(overrides: &[&str]) -> Running {
    let mut all = vec!["log.dirs=/data"];
    all.extend(overrides);
    Running::start_with(&FaultyFiles::new(), &all).await
}

/// Connections that have sent two parts of frames, which the broker has read.
async fn parts_of_frames(broker: &Running) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(broker.broker.addresses()[0]).await.unwrap();
        connection.write_all(&FRAME_BYTES.to_be_bytes()).await.unwrap();
        connection.write_all(&[0; PART_BYTES as usize]).await.unwrap();
        connections.push(connection);
        until("the part is read", || {
            let exposition = ottla_broker::metrics::exposition::text(&broker.shell.metrics);
            let held = exposition.lines().find_map(|line| line.strip_prefix("ottla_request_memory_bytes "));
            let held: usize = held.expect("the gauge is there").parse().unwrap();
            std::future::ready(held >= connections.len() * PART_BYTES as usize)
        })
        .await;
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_hold_no_more_memory_than_they_may() {
    for (overrides, is_answered) in [(&[][..], true), (&LITTLE_MEMORY[..], false)] {
        let broker = started(overrides).await;
        let parts = parts_of_frames(&broker).await;
        let request = MetadataRequest::default();
        let ask = || broker.client.call::<_, MetadataResponse>(&request, 12);
        let answered = tokio::time::timeout(UNANSWERED, ask()).await;
        assert_eq!(answered.is_ok(), is_answered);
        drop(parts);
        tokio::time::timeout(DEADLINE, ask()).await.expect("room again").unwrap();
        broker.stop().await;
    }
}

/// What the two kernels take of a connection from which the broker does not read.
async fn unread_bytes(overrides: &[&str]) -> usize {
    let mut all = LITTLE_MEMORY.to_vec();
    all.extend(overrides);
    let broker = started(&all).await;
    let parts = parts_of_frames(&broker).await;
    let mut connection = TcpStream::connect(broker.broker.addresses()[0]).await.unwrap();
    connection.write_all(&FRAME_BYTES.to_be_bytes()).await.unwrap();
    let mut taken = 0;
    while let Ok(writable) = tokio::time::timeout(UNANSWERED, connection.writable()).await {
        writable.unwrap();
        match connection.try_write(&[0; 4096]) {
            Ok(count) => taken += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    drop((connection, parts));
    broker.stop().await;
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_buffer_is_as_large_as_it_is_set() {
    let small = unread_bytes(&["socket.receive.buffer.bytes=8192"]).await;
    let large = unread_bytes(&["socket.receive.buffer.bytes=100000"]).await;
    assert!(small + 50_000 < large, "{small} and {large} bytes were taken");
}

/// What is said about a name that is nearly as long as a text may be does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_written_ends_its_connection_alone() {
    let broker = started(&[]).await;
    let resource = DescribeConfigsResource {
        resource_type: 4,
        resource_name: "x".repeat(32_760).into(),
        ..Default::default()
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let hostile = Client::connect(broker.broker.addresses()[0]).await.unwrap();
    let answer = hostile.call::<_, DescribeConfigsResponse>(&request, 1).await;
    assert!(answer.is_err(), "{answer:?}");
    let exposition = ottla_broker::metrics::exposition::text(&broker.shell.metrics);
    assert!(
        exposition.contains("ottla_requests_total{api=\"DescribeConfigs\"} 1\n"),
        "it ends in order, counted"
    );
    assert_eq!(broker.create("t", 1, &[]).await, NONE, "other connections notice nothing");
    broker.stop().await;
}
