//! A broker on a file system in memory, and the requests that the tests send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_broker::broker::Broker;
use ottla_broker::config::StaticSettings;
use ottla_broker::health::Health;
use ottla_broker::shutdown::Shutdown;
use ottla_broker::{BrokerConfig, Metrics, Shell};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use ottla_protocol::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use ottla_protocol::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use ottla_protocol::generated::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition,
};
use ottla_protocol::generated::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_protocol::records::{Builder, Compression};
use ottla_protocol::wire::Records;
use ottla_storage::files::Files;
use ottla_storage::files::faulty::FaultyFiles;
use ottla_transport::client::{Client, ClientError};

/// Whoever waits longer has waited for nothing.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub const NONE: i16 = 0;

pub fn code(code: ErrorCode) -> i16 {
    code.code()
}

/// A broker that runs, and a connection to it.
pub struct Running {
    pub broker: Broker,
    pub shell: Shell,
    pub client: Client,
    pub files: FaultyFiles,
}

/// One partition's batch of records `0..count`, dated now.
pub fn batch(count: usize) -> Vec<u8> {
    batch_of(&vec![(ottla_broker::state::now_ms(), "some value"); count], Compression::None)
}

pub fn batch_of(records: &[(i64, &str)], compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new(compression);
    for (timestamp, value) in records {
        builder.append(*timestamp, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

impl Running {
    /// With one log directory, `/data`.
    pub async fn start(files: &FaultyFiles) -> Running {
        Running::start_with(files, &["log.dirs=/data"]).await
    }

    pub async fn start_with(files: &FaultyFiles, overrides: &[&str]) -> Running {
        Running::start_on(files, files.shared(), overrides).await
    }

    /// On `storage`, which is made of `files`.
    pub async fn start_on(files: &FaultyFiles, storage: Arc<dyn Files>, overrides: &[&str]) -> Running {
        let mut overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        overrides.insert(0, "listeners=PLAINTEXT://127.0.0.1:0".to_owned());
        let settings = StaticSettings::gather(None, [], &overrides).unwrap();
        let config = BrokerConfig::from_settings(settings).unwrap();
        let shell = Shell {
            metrics: Arc::new(Metrics::new()),
            health: Arc::new(Health::default()),
            control: tokio::runtime::Handle::current(),
            shutdown: Shutdown::new(),
        };
        let broker = Broker::start_on(config, shell.clone(), storage).await.unwrap();
        shell.health.set_started();
        let client = Client::connect(broker.addresses()[0]).await.unwrap();
        Running { broker, shell, client, files: files.clone() }
    }

    pub async fn stop(self) {
        let Running { broker, client, .. } = self;
        drop(client);
        broker.stop().await;
    }

    pub fn health(&self) -> String {
        self.shell.health.state().to_string()
    }

    /// With one partition.
    pub async fn create_replicated(&self, name: &str, replication_factor: i16) -> i16 {
        let topic =
            CreatableTopic { name: name.into(), num_partitions: 1, replication_factor, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let response: CreateTopicsResponse = self.client.call(&request, 7).await.unwrap();
        response.topics[0].error_code
    }

    pub async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: (*name).into(),
                    value: Some((*value).into()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let response: CreateTopicsResponse = self.client.call(&request, 7).await.unwrap();
        response.topics[0].error_code
    }

    pub async fn delete(&self, name: &str) -> i16 {
        let topic = DeleteTopicState { name: Some(name.into()), ..Default::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], ..Default::default() };
        let response: DeleteTopicsResponse = self.client.call(&request, 6).await.unwrap();
        response.responses[0].error_code
    }

    /// Error code and offset of one batch.
    pub async fn produce(&self, topic: &str, batch: Vec<u8>, acks: i16) -> (i16, i64) {
        let answer = self.try_produce((topic, 0), batch, acks).await.unwrap();
        (answer.error_code, answer.base_offset)
    }

    pub async fn try_produce(
        &self,
        (topic, index): (&str, i32),
        batch: Vec<u8>,
        acks: i16,
    ) -> Result<PartitionProduceResponse, ClientError> {
        let records = Records::Bytes(Bytes::from(batch));
        let request = ProduceRequest {
            acks,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![PartitionProduceData { index, records, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response: ProduceResponse = self.client.call(&request, 12).await?;
        Ok(response.responses.remove(0).partition_responses.remove(0))
    }

    pub async fn fetch(&self, topic: &str, offset: i64) -> PartitionData {
        self.fetch_waiting(topic, offset, 0).await
    }

    pub async fn fetch_waiting(&self, topic: &str, offset: i64, max_wait_ms: i32) -> PartitionData {
        let partition = FetchPartition {
            partition: 0,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response: FetchResponse = self.client.call(&request, 12).await.unwrap();
        assert_eq!(response.error_code, NONE);
        response.responses.remove(0).partitions.remove(0)
    }

    pub async fn list_offsets(&self, topic: &str, timestamp: i64) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response: ListOffsetsResponse = self.client.call(&request, 9).await.unwrap();
        response.topics.remove(0).partitions.remove(0)
    }

    /// First offset, and the offset after the last visible one.
    pub async fn bounds(&self, topic: &str) -> (i64, i64) {
        (self.list_offsets(topic, -2).await.offset, self.list_offsets(topic, -1).await.offset)
    }

    /// Error code and the new first offset.
    pub async fn delete_records(&self, topic: &str, offset: i64) -> (i16, i64) {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![DeleteRecordsPartition { offset, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: DeleteRecordsResponse = self.client.call(&request, 2).await.unwrap();
        let answer = &response.topics[0].partitions[0];
        (answer.error_code, answer.low_watermark)
    }

    /// Sets a key of a topic (resource type 2) or, with an empty name, of all brokers (4).
    pub async fn configure(&self, topic: &str, name: &str, value: &str) {
        let resource = AlterConfigsResource {
            resource_type: if topic.is_empty() { 4 } else { 2 },
            resource_name: topic.into(),
            configs: vec![AlterableConfig {
                name: name.into(),
                config_operation: 0,
                value: Some(value.into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let response: IncrementalAlterConfigsResponse = self.client.call(&request, 1).await.unwrap();
        assert_eq!(response.responses[0].error_code, NONE, "{:?}", response.responses[0].error_message);
    }

    pub async fn partition_metadata(&self, topic: &str, index: usize) -> MetadataResponsePartition {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut response: MetadataResponse = self.client.call(&request, 12).await.unwrap();
        response.topics.remove(0).partitions.remove(index)
    }
}

/// Asks until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let end = Instant::now() + DEADLINE;
    while !ask().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
