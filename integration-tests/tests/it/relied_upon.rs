//! What clients rely on although the protocol's tables do not say it: each of these made one of them fail.

use ottla_integration_tests::Broker;
use ottla_integration_tests::wire::Connection;
use ottla_protocol::generated::ApiKey;
use ottla_protocol::generated::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::generated::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ottla_protocol::generated::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};

/// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS by Kafka's codes.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS and IDEMPOTENT_WRITE.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// librdkafka 2.16 leaves three bytes behind the message when it asks for all topics, and Kafka does not mind.
#[test]
fn bytes_behind_a_request_are_ignored() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("present", 1, &[]);
    let all_topics_as_sent = [0, 0, 0, 0, 1, 0, 0];
    let correlation = connection.send_flexible_request(ApiKey::Metadata.code(), 13, &all_topics_as_sent);
    let reply: MetadataResponse = connection.reply_to(correlation, 13);
    assert_eq!(reply.topics.len(), 1);
    assert_eq!(reply.topics[0].name.as_deref(), Some("present"));
}

/// The Java client's describeTopics does not survive null for the eligible leader replicas.
#[test]
fn eligible_leader_replicas_are_lists() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("described", 2, &[]);
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: "described".into(), ..Default::default() }],
        response_partition_limit: 10,
        ..Default::default()
    };
    let reply: DescribeTopicPartitionsResponse = connection.ask(&request, 0);
    assert_eq!(reply.topics[0].topic_authorized_operations, TOPIC_OPERATIONS);
    assert_eq!(reply.topics[0].partitions.len(), 2);
    for partition in &reply.topics[0].partitions {
        assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
        assert_eq!(partition.last_known_elr, Some(Vec::new()));
    }
}

#[test]
fn allowed_operations_are_told_to_who_asks() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("open", 1, &[]);
    for asked in [false, true] {
        let expected = |operations| if asked { operations } else { i32::MIN };
        let request =
            DescribeClusterRequest { include_cluster_authorized_operations: asked, ..Default::default() };
        let reply: DescribeClusterResponse = connection.ask(&request, 0);
        assert_eq!(reply.cluster_authorized_operations, expected(CLUSTER_OPERATIONS));
        let request = MetadataRequest {
            topics: None,
            include_cluster_authorized_operations: asked,
            include_topic_authorized_operations: asked,
            ..Default::default()
        };
        let reply: MetadataResponse = connection.ask(&request, 10);
        assert_eq!(reply.cluster_authorized_operations, expected(CLUSTER_OPERATIONS));
        assert_eq!(reply.topics[0].topic_authorized_operations, expected(TOPIC_OPERATIONS));
    }
}

/// A partition that nobody has written to has no directory yet, and is there all the same.
#[test]
fn new_partitions_are_in_the_log_directory() {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("fresh", 3, &[]);
    let reply: DescribeLogDirsResponse = connection.ask(&DescribeLogDirsRequest::default(), 4);
    let topic = &reply.results[0].topics[0];
    let sizes: Vec<_> = topic.partitions.iter().map(|p| (p.partition_index, p.partition_size)).collect();
    assert_eq!(sizes, [(0, 0), (1, 0), (2, 0)]);
}
