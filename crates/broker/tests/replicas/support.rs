//! The requests that the tests send.

use std::time::{Duration, Instant};

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use ottla_protocol::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use ottla_protocol::generated::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::{Batches, Builder, Compression, DecompressLimit};
use ottla_protocol::wire::Records;
use ottla_transport::client::Client;

use crate::cluster::Cluster;

/// Whoever waits longer has waited for nothing.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Waits for `condition`, which is looked at again and again.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        pause().await;
    }
}

pub fn batch(values: &[String]) -> Vec<u8> {
    batch_of(values, ProducerId::NONE, -1, -1)
}

pub fn batch_of(values: &[String], id: ProducerId, epoch: i16, sequence: i32) -> Vec<u8> {
    let mut builder = Builder::new(Compression::None).producer(id, epoch, sequence);
    for value in values {
        builder.append(ottla_broker::state::now_ms(), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// Error and base offset of one batch that is produced to partition 0.
pub async fn produce(client: &Client, topic: &str, batch: Vec<u8>, acks: i16) -> (ErrorCode, i64) {
    produce_to(client, topic, 0, batch, acks).await
}

/// Error and base offset of one batch.
pub async fn produce_to(
    client: &Client,
    topic: &str,
    index: i32,
    batch: Vec<u8>,
    acks: i16,
) -> (ErrorCode, i64) {
    let data = PartitionProduceData { index, records: Records::Bytes(batch.into()), ..Default::default() };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks, timeout_ms: 20_000, topic_data: vec![topic], ..Default::default() };
    let response: ProduceResponse = client.call(&request, 9).await.unwrap();
    let answer = &response.responses[0].partition_responses[0];
    (ErrorCode::from_code(answer.error_code).unwrap(), answer.base_offset)
}

/// Produces with acks=all to whoever leads, until it is acknowledged.
pub async fn produce_until_acknowledged(cluster: &Cluster, topic: &str, batch: Vec<u8>) -> i64 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let client = cluster.leader(topic).client().await;
        let (code, offset) = produce(&client, topic, batch.clone(), -1).await;
        if code == ErrorCode::None {
            return offset;
        }
        assert!(Instant::now() < deadline, "never acknowledged: {code:?}");
        pause().await;
    }
}

/// The values that a consumer reads from partition 0, from its start.
pub async fn read_all(client: &Client, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    loop {
        let from = i64::try_from(values.len()).unwrap();
        let partition =
            FetchPartition { fetch_offset: from, partition_max_bytes: 1 << 20, ..Default::default() };
        let wanted = FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
        let request = FetchRequest { max_bytes: 1 << 20, topics: vec![wanted], ..Default::default() };
        let response: FetchResponse = client.call(&request, 11).await.unwrap();
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, 0, "{data:?}");
        let Records::Bytes(bytes) = &data.records else { return values };
        if bytes.is_empty() {
            return values;
        }
        for batch in Batches::new(bytes).verifying() {
            let batch = batch.unwrap();
            let mut records = batch.records(DecompressLimit::default()).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
}

/// Error and offset of the end of partition 0, as a consumer is told.
pub async fn latest(client: &Client, topic: &str) -> (ErrorCode, i64) {
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let wanted = ListOffsetsTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = ListOffsetsRequest { topics: vec![wanted], ..Default::default() };
    let response: ListOffsetsResponse = client.call(&request, 7).await.unwrap();
    let found = &response.topics[0].partitions[0];
    (ErrorCode::from_code(found.error_code).unwrap(), found.offset)
}
