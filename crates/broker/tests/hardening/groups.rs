//! Groups over a disk that fails, fills up, stalls or loses power.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_broker::groups::partition_of;
use ottla_broker::shutdown::Reason;
use ottla_protocol::generated::ErrorCode::{
    CoordinatorLoadInProgress, CoordinatorNotAvailable, GroupIdNotFound, InvalidRequest,
    InvalidTopicException, NotCoordinator, TransactionalIdAuthorizationFailed, UnknownTopicOrPartition,
};
use ottla_protocol::generated::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::generated::explain_groups::{ExplainGroupsRequest, ExplainGroupsResponse};
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::JoinGroupResponse;
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation, Survival};
use ottla_transport::client::Client;

use crate::gates::{Gate, GatedFiles};
use crate::group_requests::{join, new_member};
use crate::support::{DEADLINE, NONE, Running, batch, code, until};

const TOPIC: &str = "__consumer_offsets";
/// The log of the partition in which group `g` lives, of the 50.
const LOG_OF_G: &str = "__consumer_offsets-3/00000000000000000000.log";

#[test]
fn g_lives_in_partition_3() {
    assert_eq!(partition_of("g", 50), 3);
}

async fn with_topic(files: &FaultyFiles) -> Running {
    let broker = Running::start(files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_group_makes_the_topic_and_clients_leave_it_alone() {
    let broker = with_topic(&FaultyFiles::new()).await;
    let request = MetadataRequest { topics: None, ..Default::default() };
    let before: MetadataResponse = broker.client.call(&request, 12).await.unwrap();
    assert_eq!(before.topics.len(), 1, "nobody has asked for a group");
    let found = broker.find_coordinator("g", 0).await;
    let port = i32::from(broker.broker.addresses()[0].port());
    assert_eq!((found.error_code, found.node_id, found.port), (NONE, 1, port));
    let after: MetadataResponse = broker.client.call(&request, 12).await.unwrap();
    let topics: Vec<_> =
        after.topics.iter().map(|t| (t.name.as_deref(), t.is_internal, t.partitions.len())).collect();
    assert_eq!(topics, [(Some(TOPIC), true, 50), (Some("t"), false, 1)]);
    assert_eq!(broker.produce(TOPIC, batch(1), -1).await.0, code(InvalidTopicException));
    assert_eq!(broker.delete(TOPIC).await, code(InvalidRequest));
    // Coordinators that there are not: a code with which clients give up.
    let transaction = broker.find_coordinator("x", 1).await;
    assert_eq!(transaction.error_code, code(TransactionalIdAuthorizationFailed));
    assert!(transaction.error_message.unwrap().contains("transactions are not served"));
    assert_eq!(broker.find_coordinator("x", 2).await.error_code, code(InvalidRequest));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_answered_when_they_are_on_disk() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    for group in ["a", "b", "g"] {
        assert_eq!(broker.committed(group, "t").await, -1);
        for offset in 0..5 {
            assert_eq!(broker.commit(group, "t", offset).await, NONE);
            assert_eq!(broker.committed(group, "t").await, offset);
        }
        assert_eq!(broker.commit_with(group, ("t", 0), 7, "a word").await, NONE);
    }
    assert_eq!(broker.commit("g", "unknown", 1).await, code(UnknownTopicOrPartition));
    assert_eq!(broker.commit_with("g", ("t", 1), 1, "").await, code(UnknownTopicOrPartition));
    let at = files.operation_count();
    broker.stop().await;
    for survival in [Survival::SyncedOnly, Survival::All, Survival::AnyPages] {
        let broker = Running::start(&files.crash_image(at, survival, 1)).await;
        for group in ["a", "b", "g"] {
            until("the groups are loaded", || async { broker.fetch_group(group, "t").await.0 == NONE }).await;
            let partition = broker.fetch_group(group, "t").await.1.unwrap();
            assert_eq!(
                (partition.committed_offset, partition.metadata.as_deref()),
                (7, Some("a word")),
                "{survival:?} {group}"
            );
        }
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_commits_and_takes_them_again() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    assert_eq!(broker.commit("g", "t", 1).await, NONE);
    files.set_available_bytes(0);
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: LOG_OF_G.to_owned(),
        after: 0,
        error: ErrorKind::StorageFull,
        written_bytes: 7,
    });
    assert_eq!(broker.commit("g", "t", 2).await, code(CoordinatorNotAvailable));
    assert_eq!(broker.committed("g", "t").await, 1, "what was committed is told");
    files.heal();
    files.set_available_bytes(64 << 20);
    until("commits are taken again", || async { broker.commit("g", "t", 3).await == NONE }).await;
    assert_eq!(broker.committed("g", "t").await, 3);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_synced_is_not_acknowledged() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    assert_eq!(broker.commit("g", "t", 1).await, NONE);
    files.fail(Fault {
        operation: Operation::Sync,
        path_suffix: LOG_OF_G.to_owned(),
        after: 0,
        error: ErrorKind::Other,
        written_bytes: 0,
    });
    assert_eq!(broker.commit("g", "t", 2).await, code(NotCoordinator));
    let Reason::Fatal(_) = broker.shell.shutdown.requested().await else { panic!("not a signal") };
    broker.stop().await;
    files.heal();
    let broker = Running::start(&files).await;
    until("the groups are loaded", || async { broker.fetch_group("g", "t").await.0 == NONE }).await;
    assert!([1, 2].contains(&broker.committed("g", "t").await));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_before_all_is_loaded() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    assert_eq!(broker.commit("g", "t", 5).await, NONE);
    broker.stop().await;
    let gated = GatedFiles::new(files.clone());
    gated.close(Gate::Read, LOG_OF_G);
    let broker = Running::start_on(&files, Arc::new(gated.clone()), &["log.dirs=/data"]).await;
    assert_eq!(broker.fetch_group("g", "t").await, (code(CoordinatorLoadInProgress), None));
    assert_eq!(broker.commit("g", "t", 6).await, code(CoordinatorLoadInProgress));
    let heartbeat = HeartbeatRequest { group_id: "g".into(), member_id: "m".into(), ..Default::default() };
    let lives: HeartbeatResponse = broker.client.call(&heartbeat, 4).await.unwrap();
    assert_eq!(lives.error_code, NONE, "whoever was a member may still be one");
    // Groups elsewhere do not wait.
    assert_eq!(broker.commit("h", "t", 6).await, NONE);
    gated.open();
    until("the groups are loaded", || async { broker.fetch_group("g", "t").await.0 == NONE }).await;
    assert_eq!(broker.committed("g", "t").await, 5);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_takes_its_groups_away_and_no_others() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    for offset in 0..3 {
        assert_eq!(broker.commit("g", "t", offset).await, NONE);
        assert_eq!(broker.commit("h", "t", offset).await, NONE);
    }
    let at = files.operation_count();
    broker.stop().await;
    let crashed = files.crash_image(at, Survival::All, 0);
    crashed.flip(&Path::new("/data").join(LOG_OF_G), 70, 0xff).unwrap();
    let broker = Running::start(&crashed).await;
    let failed = || async { broker.fetch_group("g", "t").await.0 == code(CoordinatorNotAvailable) };
    until("the damage is met", failed).await;
    assert_eq!(broker.commit("g", "t", 3).await, code(CoordinatorNotAvailable));
    assert_eq!(broker.find_coordinator("g", 0).await.error_code, code(CoordinatorNotAvailable));
    until("the others are loaded", || async { broker.fetch_group("h", "t").await.0 == NONE }).await;
    assert_eq!(broker.committed("h", "t").await, 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_no_longer_than_its_timeout() {
    let files = FaultyFiles::new();
    let gated = GatedFiles::new(files.clone());
    let overrides = ["log.dirs=/data", "offsets.commit.timeout.ms=50"];
    let broker = Running::start_on(&files, Arc::new(gated.clone()), &overrides).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.commit("g", "t", 1).await, NONE);
    gated.close(Gate::Sync, LOG_OF_G);
    assert_eq!(broker.commit("g", "t", 2).await, code(CoordinatorNotAvailable));
    assert_eq!(broker.committed("g", "t").await, 1, "it is not on disk");
    gated.open();
    until("it takes effect after all", || async { broker.committed("g", "t").await == 2 }).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_topics_take_their_offsets_along() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    assert_eq!(broker.create("u", 1, &[]).await, NONE);
    for topic in ["t", "u"] {
        assert_eq!(broker.commit("g", topic, 4).await, NONE);
    }
    assert_eq!(broker.delete("t").await, NONE);
    until("the offset is gone", || async { broker.committed("g", "t").await == -1 }).await;
    assert_eq!(broker.committed("g", "u").await, 4);
    broker.stop().await;
    let broker = Running::start(&files).await;
    until("the groups are loaded", || async { broker.fetch_group("g", "t").await.0 == NONE }).await;
    assert_eq!((broker.committed("g", "t").await, broker.committed("g", "u").await), (-1, 4));
    broker.stop().await;
}

/// The power goes after a topic is deleted and before its offsets are; or they cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_the_name_of_a_deleted_one_begins_without_offsets() {
    let files = FaultyFiles::new();
    let broker = with_topic(&files).await;
    assert_eq!(broker.commit("g", "t", 4).await, NONE);
    files.set_available_bytes(0);
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: LOG_OF_G.to_owned(),
        after: 0,
        error: ErrorKind::StorageFull,
        written_bytes: 0,
    });
    assert_eq!(broker.delete("t").await, NONE);
    files.heal();
    files.set_available_bytes(64 << 20);
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.committed("g", "t").await, -1);
    broker.stop().await;
    let broker = Running::start(&files).await;
    until("the groups are loaded", || async { broker.fetch_group("g", "t").await.0 == NONE }).await;
    assert_eq!(broker.committed("g", "t").await, -1);
    assert_eq!(broker.commit("g", "t", 1).await, NONE);
    assert_eq!(broker.committed("g", "t").await, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_twice_is_answered_once() {
    let broker = with_topic(&FaultyFiles::new()).await;
    assert_eq!(broker.commit("g", "t", 4).await, NONE);
    let groups = vec!["g".into(), "h".into(), "g".into()];
    let request = DescribeGroupsRequest { groups: groups.clone(), ..Default::default() };
    let described: DescribeGroupsResponse = broker.client.call(&request, 5).await.unwrap();
    let ids: Vec<_> = described.groups.iter().map(|group| &*group.group_id).collect();
    assert_eq!(ids, ["g", "h"]);
    let request = ExplainGroupsRequest { group_ids: groups, ..Default::default() };
    let explained: ExplainGroupsResponse = broker.client.call(&request, 0).await.unwrap();
    assert_eq!(explained.groups.len(), 2);
    let topic =
        OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0, 1, 0], ..Default::default() };
    let topics = Some(vec![topic.clone(), topic]);
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group.clone(), group], ..Default::default() };
    let fetched: OffsetFetchResponse = broker.client.call(&request, 8).await.unwrap();
    assert_eq!(fetched.groups.len(), 1);
    let partitions = fetched.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    let offsets: Vec<_> = partitions.map(|p| (p.partition_index, p.committed_offset)).collect();
    assert_eq!(offsets, [(0, 4), (1, -1)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_ids_are_answered() {
    let broker = with_topic(&FaultyFiles::new()).await;
    let longest = "g".repeat(32_767);
    let groups = vec![longest.as_str().into()];
    let request = DescribeGroupsRequest { groups: groups.clone(), ..Default::default() };
    let described: DescribeGroupsResponse = broker.client.call(&request, 6).await.unwrap();
    assert_eq!(described.groups[0].error_code, code(GroupIdNotFound));
    let request = ExplainGroupsRequest { group_ids: groups, ..Default::default() };
    let explained: ExplainGroupsResponse = broker.client.call(&request, 0).await.unwrap();
    assert_eq!(explained.groups[0].error_code, code(GroupIdNotFound));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_away_who_waits_and_finishes_what_is_written() {
    let overrides = ["log.dirs=/data", "group.initial.rebalance.delay.ms=600000"];
    let broker = Running::start_with(&FaultyFiles::new(), &overrides).await;
    let member = new_member(&broker, "waits").await;
    let request = join("waits", &member, 10_000);
    // On a connection of its own: replies leave in the order of the requests.
    let other = Client::connect(broker.broker.addresses()[0]).await.unwrap();
    let waits = tokio::spawn(async move { other.call::<_, JoinGroupResponse>(&request, 9).await });
    let joined = || async { broker.group_state("waits").await == "PreparingRebalance" };
    until("the member has joined", joined).await;
    let started = Instant::now();
    broker.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4), "nobody is waited for");
    let reply = tokio::time::timeout(DEADLINE, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.error_code, code(NotCoordinator));
}
