//! Settings of groups: each test shows what another value changes.

use ottla_broker::groups::partition_of;
use ottla_protocol::generated::ErrorCode::{
    GroupMaxSizeReached, InvalidSessionTimeout, MemberIdRequired, OffsetMetadataTooLarge,
};
use ottla_protocol::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use ottla_protocol::generated::join_group::JoinGroupResponse;
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::records::{BatchHeader, CompressionType};
use ottla_storage::files::faulty::FaultyFiles;
use ottla_transport::client::Client;

use crate::group_requests::{join, new_member};
use crate::support::{NONE, Running, code, until};

const TOPIC: &str = "__consumer_offsets";

async fn started(overrides: &[&str]) -> Running {
    started_on(&FaultyFiles::new(), overrides).await
}

async fn started_on(files: &FaultyFiles, overrides: &[&str]) -> Running {
    let mut all = vec!["log.dirs=/data"];
    all.extend(overrides);
    let broker = Running::start_with(files, &all).await;
    assert_eq!(broker.find_coordinator("any", 0).await.error_code, NONE);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn session_timeouts_have_bounds() {
    let bounds: [(&[&str], i32, i32); 3] = [
        (&[], 6_000, 1_800_000),
        (&["group.min.session.timeout.ms=10"], 10, 1_800_000),
        (&["group.max.session.timeout.ms=7000"], 6_000, 7_000),
    ];
    for (overrides, least, most) in bounds {
        let broker = started(overrides).await;
        let asked = [
            (least, MemberIdRequired),
            (most, MemberIdRequired),
            (least - 1, InvalidSessionTimeout),
            (most + 1, InvalidSessionTimeout),
        ];
        for (timeout_ms, wanted) in asked {
            let response: JoinGroupResponse =
                broker.client.call(&join("g", "", timeout_ms), 9).await.unwrap();
            assert_eq!(response.error_code, code(wanted), "{timeout_ms} of {least} to {most}");
        }
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rebalance_is_delayed() {
    for (overrides, is_delayed) in
        [("group.initial.rebalance.delay.ms=0", false), ("group.initial.rebalance.delay.ms=600000", true)]
    {
        let broker = started(&[overrides]).await;
        let request = join("g", &new_member(&broker, "g").await, 10_000);
        let other = Client::connect(broker.broker.addresses()[0]).await.unwrap();
        let joined = tokio::spawn(async move { other.call::<_, JoinGroupResponse>(&request, 9).await });
        if is_delayed {
            let waits = || async { broker.group_state("g").await == "PreparingRebalance" };
            until("the member has joined", waits).await;
            assert!(!joined.is_finished());
        } else {
            let response = joined.await.unwrap().unwrap();
            assert_eq!((response.error_code, response.generation_id), (NONE, 1));
        }
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_a_largest_size() {
    for (overrides, second) in [(&[][..], MemberIdRequired), (&["group.max.size=1"], GroupMaxSizeReached)] {
        let mut all = vec!["group.initial.rebalance.delay.ms=0"];
        all.extend(overrides);
        let broker = started(&all).await;
        let first = join("g", &new_member(&broker, "g").await, 10_000);
        let response: JoinGroupResponse = broker.client.call(&first, 9).await.unwrap();
        assert_eq!(response.error_code, NONE);
        let response: JoinGroupResponse = broker.client.call(&join("g", "", 10_000), 9).await.unwrap();
        assert_eq!(response.error_code, code(second));
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_commits_have_a_largest_size() {
    for (overrides, most) in [(&[][..], 4096), (&["offset.metadata.max.bytes=3"], 3)] {
        let broker = started(overrides).await;
        assert_eq!(broker.create("t", 1, &[]).await, NONE);
        assert_eq!(broker.commit_with("g", ("t", 0), 1, &"x".repeat(most)).await, NONE);
        let refused = broker.commit_with("g", ("t", 0), 2, &"x".repeat(most + 1)).await;
        assert_eq!(refused, code(OffsetMetadataTooLarge));
        assert_eq!(broker.committed("g", "t").await, 1);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_is_made_as_configured() {
    let configured: [(&[&str], usize, &str); 2] = [
        (&[], 50, "104857600"),
        (&["offsets.topic.num.partitions=3", "offsets.topic.segment.bytes=2000000"], 3, "2000000"),
    ];
    for (overrides, count, segment_bytes) in configured {
        let broker = started(overrides).await;
        assert_eq!(broker.partition_metadata(TOPIC, count - 1).await.replica_nodes, [1], "no more live");
        assert_eq!(broker.partition_count(TOPIC).await, count);
        assert_eq!(broker.config_of(TOPIC, "segment.bytes").await, segment_bytes);
        assert_eq!(broker.config_of(TOPIC, "cleanup.policy").await, "compact");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_compressed_as_configured() {
    let codecs = [
        ("0", CompressionType::None),
        ("1", CompressionType::Gzip),
        ("2", CompressionType::Snappy),
        ("3", CompressionType::Lz4),
        ("4", CompressionType::Zstd),
    ];
    let files = FaultyFiles::new();
    for (offset, (codec, wanted)) in (0..).zip(codecs) {
        let codec = format!("offsets.topic.compression.codec={codec}");
        let broker = started_on(&files, &["offsets.topic.num.partitions=1", &codec]).await;
        if offset == 0 {
            assert_eq!(broker.create("t", 1, &[]).await, NONE);
        }
        let loaded = || async { broker.fetch_group("g", "t").await.0 == NONE };
        until("the groups are loaded", loaded).await;
        assert_eq!(
            broker.committed("g", "t").await,
            offset - 1,
            "what was stored with another codec is read"
        );
        assert_eq!(broker.commit("g", "t", offset).await, NONE);
        let fetched = broker.fetch(TOPIC, offset).await;
        let header = BatchHeader::parse(fetched.records.as_bytes().unwrap()).unwrap();
        assert_eq!(header.attributes.compression(), Ok(wanted));
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_loaded_in_pieces() {
    let files = FaultyFiles::new();
    let broker = started_on(&files, &[]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    for offset in 0..50 {
        assert_eq!(broker.commit("g", "t", offset).await, NONE);
    }
    broker.stop().await;
    let mut reads = Vec::new();
    for overrides in [&[][..], &["offsets.load.buffer.size=1"]] {
        let before = files.read_count();
        let broker = started_on(&files, overrides).await;
        let loaded = || async { broker.fetch_group("g", "t").await.0 == NONE };
        until("the groups are loaded", loaded).await;
        assert_eq!(broker.committed("g", "t").await, 49);
        broker.stop().await;
        reads.push(files.read_count() - before);
    }
    assert!(reads[1] >= reads[0] + 49, "one piece, or one for each batch: {reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_offsets_are_looked_for_at_the_interval() {
    let broker = started(&["offsets.retention.check.interval.ms=20"]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.commit("g", "t", 1).await, NONE);
    assert_eq!(broker.commit_for("h", "t", 1).await, NONE);
    until("what was kept for 1 ms is gone", || async { broker.committed("h", "t").await == -1 }).await;
    assert_eq!(broker.committed("g", "t").await, 1, "kept for offsets.retention.minutes");
    broker.stop().await;
    let broker = started(&[]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.commit_for("h", "t", 1).await, NONE);
    assert_eq!(broker.committed("h", "t").await, 1, "nobody has looked");
    broker.stop().await;
}

#[test]
fn where_a_group_lives_follows_from_the_number_of_partitions() {
    assert_eq!((partition_of("g", 50), partition_of("g", 3)), (3, 1));
}

impl Running {
    async fn partition_count(&self, topic: &str) -> usize {
        use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
        let topics = vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let response: MetadataResponse = self.client.call(&request, 12).await.unwrap();
        response.topics[0].partitions.len()
    }

    async fn config_of(&self, topic: &str, name: &str) -> String {
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: topic.into(),
            configuration_keys: Some(vec![name.into()]),
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let response: DescribeConfigsResponse = self.client.call(&request, 4).await.unwrap();
        response.results[0].configs[0].value.as_ref().unwrap().to_string()
    }

    /// Commits with a retention of 1 ms, as old clients may.
    async fn commit_for(&self, group: &str, topic: &str, committed_offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition { committed_offset, ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            retention_time_ms: 1,
            topics: vec![OffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: OffsetCommitResponse = self.client.call(&request, 4).await.unwrap();
        response.topics[0].partitions[0].error_code
    }
}
