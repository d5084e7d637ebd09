//! Every version of every API that the broker advertises, sent to it: each reply decodes to the last byte and says what it
//! should.

mod administration;
mod groups;

use std::collections::BTreeMap;

use ottla_integration_tests::batch::Batch;
use ottla_integration_tests::requests::{self, Topic};
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, BrokerOptions, wire};
use ottla_protocol::generated::alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse};
use ottla_protocol::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use ottla_protocol::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use ottla_protocol::generated::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ottla_protocol::generated::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};
use ottla_protocol::generated::incremental_alter_configs::{
    self, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ottla_protocol::generated::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::generated::{ApiKey, ErrorCode};
use ottla_protocol::wire::Message;

/// What must be served: key, first and last version advertised.
const SERVED: &[(i16, i16, i16)] = &[
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (32, 1, 4),
    (33, 0, 2),
    (35, 1, 5),
    (37, 0, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (55, 0, 2),
    (57, 0, 2),
    (60, 0, 2),
    (64, 0, 0),
    (74, 0, 1),
    (75, 0, 0),
    (80, 0, 1),
    (81, 0, 0),
    (1000, 0, 0),
    (1010, 0, 0),
];

const T0: i64 = 1_700_000_000_000;

/// A broker, a connection, and which versions of which API have been tried.
struct World {
    _broker: Broker,
    connection: Connection,
    advertised: BTreeMap<i16, (i16, i16)>,
    tried: BTreeMap<i16, (i16, i16)>,
}

impl World {
    fn new() -> World {
        let broker = BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start();
        let mut connection = Connection::open(broker.address());
        let reply: ApiVersionsResponse = connection.ask(&ApiVersionsRequest::default(), 0);
        let advertised =
            reply.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        World { _broker: broker, connection, advertised, tried: BTreeMap::new() }
    }

    /// Sends `request(version)` in every advertised version that is answered, and hands each reply to `check`.
    fn each<Q: Message, R: Message>(&mut self, request: impl Fn(i16) -> Q, check: impl Fn(i16, R)) {
        let key = Q::KEY.expect("a request has a key");
        let (first, last) = self.advertised[&key];
        for version in first.max(Q::VERSIONS.0)..=last {
            let reply = self.connection.ask(&request(version), version);
            check(version, reply);
        }
        self.tried.insert(key, (first, last));
    }
}

#[test]
fn every_advertised_version_is_served() {
    let mut world = World::new();
    let wanted: BTreeMap<i16, (i16, i16)> =
        SERVED.iter().map(|(key, first, last)| (*key, (*first, *last))).collect();
    assert_eq!(world.advertised, wanted);
    let topic = world.connection.create_topic("versions", 3, &[]);
    discovery(&mut world, &topic);
    data(&mut world, &topic);
    produce_below_3_is_refused(&mut world);
    offsets(&mut world, &topic);
    records_and_producers(&mut world, &topic);
    topics(&mut world);
    configs(&mut world);
    cluster(&mut world, &topic);
    groups::groups(&mut world, &topic);
    administration::administration(&mut world, &topic);
    assert_eq!(world.tried, wanted, "each advertised API was tried in each version");
}

fn discovery(world: &mut World, topic: &Topic) {
    world.each(
        |version| {
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request.client_software_name = "versions".into();
                request.client_software_version = "1".into();
            }
            request
        },
        |version, reply: ApiVersionsResponse| {
            assert_eq!((reply.error_code, reply.api_keys.len()), (0, SERVED.len()), "{version}");
        },
    );
    world.each(
        |_| {
            let asked = MetadataRequestTopic { name: Some(topic.name.as_str().into()), ..Default::default() };
            MetadataRequest {
                topics: Some(vec![asked]),
                allow_auto_topic_creation: true,
                ..Default::default()
            }
        },
        |version, reply: MetadataResponse| {
            assert_eq!(reply.topics.len(), 1, "{version}");
            assert_eq!((reply.topics[0].error_code, reply.topics[0].partitions.len()), (0, 3), "{version}");
            assert_eq!(reply.brokers.len(), 1, "{version}");
        },
    );
}

/// Produce in each version, then Fetch in each version what Produce wrote.
fn data(world: &mut World, topic: &Topic) {
    let batch = Batch::of(&[b"one", b"two"], T0).encode();
    let (_, last) = world.advertised[&0];
    for (written, version) in (3..=last).enumerate() {
        let reply = world.connection.produce(topic, &batch, version);
        let base = 2 * i64::try_from(written).expect("small");
        assert_eq!((reply.error_code, reply.base_offset), (0, base), "Produce {version}");
    }
    world.tried.insert(0, world.advertised[&0]);
    let end = 2 * i64::from(last - 2);
    let (first, last) = world.advertised[&1];
    for version in first..=last {
        let data = world.connection.fetch(topic, 2, version);
        assert_eq!((data.error_code, data.high_watermark), (0, end), "Fetch {version}");
        let records = requests::records(&data);
        assert_eq!(records[..8], 2_i64.to_be_bytes(), "Fetch {version}: the base offset of the first batch");
        // Beyond base offset, length, leader epoch and magic the bytes are the producer's.
        assert_eq!(records[17..batch.len()], batch[17..], "Fetch {version}");
    }
    world.tried.insert(1, (first, last));
}

/// librdkafka wants to see version 0 advertised, but 0 to 2 have no batches of format 2.
fn produce_below_3_is_refused(world: &mut World) {
    let batch = Batch::of(&[b"old"], T0).encode();
    for version in 0..=2 {
        let mut body = Vec::new();
        body.extend(1_i16.to_be_bytes());
        body.extend(1_000_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        wire::string(&mut body, "versions");
        body.extend(1_i32.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend(u32::try_from(batch.len()).expect("small").to_be_bytes());
        body.extend(&batch);
        let reply = world.connection.call(ApiKey::Produce.code(), version, &body);
        // One topic, its name, one partition, its index, then the error code.
        let at = 4 + 2 + "versions".len() + 4 + 4;
        assert_eq!(
            reply[at..at + 2],
            ErrorCode::UnsupportedVersion.code().to_be_bytes(),
            "Produce {version}"
        );
    }
}

fn offsets(world: &mut World, topic: &Topic) {
    for (timestamp, offset) in [(-2, 0), (-1, 22), (T0, 0), (T0 + 1, -1)] {
        world.each(
            |_| {
                let partition = ListOffsetsPartition {
                    partition_index: 0,
                    current_leader_epoch: -1,
                    timestamp,
                    ..Default::default()
                };
                let asked = ListOffsetsTopic {
                    name: topic.name.as_str().into(),
                    partitions: vec![partition],
                    ..Default::default()
                };
                ListOffsetsRequest { replica_id: -1, topics: vec![asked], ..Default::default() }
            },
            |version, reply: ListOffsetsResponse| {
                let partition = &reply.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.offset), (0, offset), "{timestamp} in {version}");
            },
        );
    }
    world.each(
        |_| {
            let partition = OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: -1,
                leader_epoch: 0,
                ..Default::default()
            };
            let asked = OffsetForLeaderTopic {
                topic: topic.name.as_str().into(),
                partitions: vec![partition],
                ..Default::default()
            };
            OffsetForLeaderEpochRequest { topics: vec![asked], ..Default::default() }
        },
        |version, reply: OffsetForLeaderEpochResponse| {
            let partition = &reply.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.end_offset), (0, 22), "{version}");
        },
    );
}

fn records_and_producers(world: &mut World, topic: &Topic) {
    world.each(
        |_| {
            let partition = DeleteRecordsPartition { partition_index: 0, offset: 4, ..Default::default() };
            let asked = DeleteRecordsTopic {
                name: topic.name.as_str().into(),
                partitions: vec![partition],
                ..Default::default()
            };
            DeleteRecordsRequest { topics: vec![asked], timeout_ms: 10_000, ..Default::default() }
        },
        |version, reply: DeleteRecordsResponse| {
            let partition = &reply.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.low_watermark), (0, 4), "{version}");
        },
    );
    world.each(
        |_| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        },
        |version, reply: InitProducerIdResponse| {
            assert_eq!((reply.error_code, reply.producer_epoch), (0, 0), "{version}");
            assert!(reply.producer_id >= 0, "{version}");
        },
    );
}

fn topics(world: &mut World) {
    world.each(
        |version| {
            let topic = CreatableTopic {
                name: format!("made-{version}").as_str().into(),
                num_partitions: 2,
                replication_factor: 1,
                ..Default::default()
            };
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() }
        },
        |version, reply: CreateTopicsResponse| {
            assert_eq!(reply.topics[0].error_code, 0, "{version}: {:?}", reply.topics[0].error_message);
        },
    );
    world.each(
        |version| {
            let topic = CreatePartitionsTopic {
                name: "made-2".into(),
                count: 3 + i32::from(version),
                ..Default::default()
            };
            CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() }
        },
        |version, reply: CreatePartitionsResponse| {
            assert_eq!(reply.results[0].error_code, 0, "{version}: {:?}", reply.results[0].error_message);
        },
    );
    world.each(
        |version| {
            // Six versions of deletion for six created topics.
            let name = format!("made-{}", version + 1);
            let mut request = DeleteTopicsRequest { timeout_ms: 10_000, ..Default::default() };
            if version >= 6 {
                request.topics =
                    vec![DeleteTopicState { name: Some(name.as_str().into()), ..Default::default() }];
            } else {
                request.topic_names = vec![name.as_str().into()];
            }
            request
        },
        |version, reply: DeleteTopicsResponse| {
            assert_eq!(reply.responses[0].error_code, 0, "{version}");
        },
    );
}

fn configs(world: &mut World) {
    const TOPIC: i8 = 2;
    world.each(
        |_| {
            let asked = DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: "versions".into(),
                configuration_keys: None,
                ..Default::default()
            };
            DescribeConfigsRequest { resources: vec![asked], ..Default::default() }
        },
        |version, reply: DescribeConfigsResponse| {
            assert_eq!(reply.results[0].error_code, 0, "{version}");
            assert!(reply.results[0].configs.len() > 20, "{version}: {}", reply.results[0].configs.len());
        },
    );
    world.each(
        |_| {
            let config = alter_configs::AlterableConfig {
                name: "segment.ms".into(),
                value: Some("1000000".into()),
                ..Default::default()
            };
            let resource = alter_configs::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "versions".into(),
                configs: vec![config],
                ..Default::default()
            };
            AlterConfigsRequest { resources: vec![resource], ..Default::default() }
        },
        |version, reply: AlterConfigsResponse| {
            assert_eq!(reply.responses[0].error_code, 0, "{version}: {:?}", reply.responses[0].error_message);
        },
    );
    world.each(
        |_| {
            let config = incremental_alter_configs::AlterableConfig {
                name: "segment.ms".into(),
                config_operation: 1,
                ..Default::default()
            };
            let resource = incremental_alter_configs::AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "versions".into(),
                configs: vec![config],
                ..Default::default()
            };
            IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }
        },
        |version, reply: IncrementalAlterConfigsResponse| {
            assert_eq!(reply.responses[0].error_code, 0, "{version}: {:?}", reply.responses[0].error_message);
        },
    );
}

fn cluster(world: &mut World, topic: &Topic) {
    world.each(
        |_| DescribeClusterRequest::default(),
        |version, reply: DescribeClusterResponse| {
            assert_eq!((reply.error_code, reply.brokers.len()), (0, 1), "{version}");
            assert!(!reply.cluster_id.is_empty(), "{version}");
        },
    );
    world.each(
        |_| DescribeLogDirsRequest { topics: None, ..Default::default() },
        |version, reply: DescribeLogDirsResponse| {
            assert_eq!(reply.results[0].error_code, 0, "{version}");
            let named = reply.results[0].topics.iter().find(|found| *found.name == *topic.name);
            assert!(named.is_some_and(|found| found.partitions[0].partition_size > 0), "{version}");
        },
    );
    world.each(
        |_| {
            let asked = TopicRequest { name: topic.name.as_str().into(), ..Default::default() };
            DescribeTopicPartitionsRequest {
                topics: vec![asked],
                response_partition_limit: 2,
                ..Default::default()
            }
        },
        |version, reply: DescribeTopicPartitionsResponse| {
            assert_eq!((reply.topics[0].error_code, reply.topics[0].partitions.len()), (0, 2), "{version}");
            let next = reply.next_cursor.expect("a third partition is left");
            assert_eq!(next.partition_index, 2, "{version}");
        },
    );
}

/// A client that is newer than the broker learns in version 0 which versions of ApiVersions there are (KIP-511).
#[test]
fn api_versions_too_new_is_answered_in_version_0() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let body = [2, b'n', 2, b'1', 0];
    let correlation = connection.send_flexible_request(ApiKey::ApiVersions.code(), 99, &body);
    let reply: ApiVersionsResponse = connection.reply_to(correlation, 0);
    assert_eq!(reply.error_code, ErrorCode::UnsupportedVersion.code());
    let ranges: Vec<_> =
        reply.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    assert_eq!(ranges, [(18, 0, 4)]);
    let reply: ApiVersionsResponse = connection.ask(&ApiVersionsRequest::default(), 0);
    assert_eq!(reply.error_code, 0, "the connection goes on");
}

/// Pipelined requests are answered in their order, also where an earlier one waits and a later one is ready.
#[test]
fn replies_leave_in_order() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let topic = connection.create_topic("order", 1, &[]);
    let waiting = connection.send_typed(&requests::fetch_request(&topic, 0, 0, 12), 12);
    let versions = connection.send_typed(&ApiVersionsRequest::default(), 0);
    let batch = Batch::of(&[b"wakes the fetch"], T0).encode();
    let produced = connection.send_typed(&requests::produce_request(&topic, &batch, -1, 9), 9);
    let fetched: ottla_protocol::generated::fetch::FetchResponse = connection.reply_to(waiting, 12);
    assert!(
        !requests::records(&fetched.responses[0].partitions[0]).is_empty(),
        "the fetch that waited first saw what came behind it"
    );
    let _: ApiVersionsResponse = connection.reply_to(versions, 0);
    let _: ottla_protocol::generated::produce::ProduceResponse = connection.reply_to(produced, 9);
}
