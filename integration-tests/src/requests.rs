//! The few requests that most tests need, built for any version.

use bytes::Bytes;
use ottla_protocol::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ottla_protocol::generated::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Records;

use crate::wire::Connection;

/// A topic by both its names; a version takes the one that it knows.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
}

impl Connection {
    /// Creates a topic and learns its id.
    pub fn create_topic(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Topic {
        let configs = settings.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
            ..Default::default()
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let reply: CreateTopicsResponse = self.ask(&request, 7);
        assert_eq!(reply.topics[0].error_code, 0, "{name}: {:?}", reply.topics[0].error_message);
        Topic { name: name.to_owned(), id: reply.topics[0].topic_id }
    }

    /// Produces to partition 0 with acks=all and returns the partition's reply.
    pub fn produce(&mut self, topic: &Topic, batch: &[u8], version: i16) -> PartitionProduceResponse {
        let reply: ProduceResponse = self.ask(&produce_request(topic, batch, -1, version), version);
        let mut topics = reply.responses;
        topics.remove(0).partition_responses.remove(0)
    }

    /// Reads partition 0 from `offset`, waiting up to a second for at least one byte.
    pub fn fetch(&mut self, topic: &Topic, offset: i64, version: i16) -> PartitionData {
        let reply: FetchResponse = self.ask(&fetch_request(topic, 0, offset, version), version);
        assert_eq!(reply.error_code, 0);
        let mut topics = reply.responses;
        topics.remove(0).partitions.remove(0)
    }

    /// Metadata of one topic by name, without creating it.
    pub fn metadata(&mut self, topic: &str) -> MetadataResponse {
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.ask(&request, 12)
    }
}

/// One batch for partition 0.
pub fn produce_request(topic: &Topic, batch: &[u8], acks: i16, version: i16) -> ProduceRequest {
    let partition = PartitionProduceData {
        index: 0,
        records: Records::Bytes(Bytes::copy_from_slice(batch)),
        ..Default::default()
    };
    let mut data = TopicProduceData { partition_data: vec![partition], ..Default::default() };
    if version >= 13 {
        data.topic_id = topic.id;
    } else {
        data.name = topic.name.as_str().into();
    }
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![data], ..Default::default() }
}

/// One partition from `offset`, without a session.
pub fn fetch_request(topic: &Topic, partition: i32, offset: i64, version: i16) -> FetchRequest {
    let partition = FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let mut asked = FetchTopic { partitions: vec![partition], ..Default::default() };
    if version >= 13 {
        asked.topic_id = topic.id;
    } else {
        asked.topic = topic.name.as_str().into();
    }
    FetchRequest {
        max_wait_ms: 1_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![asked],
        ..Default::default()
    }
}

/// The bytes of a partition's records, empty if there are none.
pub fn records(data: &PartitionData) -> Bytes {
    data.records.as_bytes().cloned().unwrap_or_default()
}
