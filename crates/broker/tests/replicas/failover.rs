//! Leaders that change: nothing that was acknowledged is lost, doubled or moved.

use std::time::Duration;

use ottla_partition::partition::Observer as _;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::ProducerId;

use crate::cluster::Cluster;
use crate::support::{batch_of, latest, produce, produce_until_acknowledged, read_all, until};

const PRODUCER: ProducerId = ProducerId(7);

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_goes_on_through_dead_leaders() {
    let mut cluster = Cluster::start(3).await;
    cluster.metadata.create("t", 1, &[("min.insync.replicas", "2")]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let mut produced = Vec::new();
    let mut sequence = 0;
    for round in 0..4 {
        for _ in 0..10 {
            let values = vec![format!("v{sequence}")];
            let batch = batch_of(&values, PRODUCER, 0, sequence);
            assert_eq!(produce_until_acknowledged(&cluster, "t", batch).await, i64::from(sequence));
            produced.extend(values);
            sequence += 1;
        }
        // One more, which nobody hears of: it is sent again to the next leader.
        let leader = cluster.leader("t").id;
        let last = batch_of(&[format!("v{sequence}")], PRODUCER, 0, sequence);
        let client = cluster.leader("t").client().await;
        assert_eq!(produce(&client, "t", last.clone(), 1).await.0, ErrorCode::None, "{round}");
        let disk = cluster.kill(leader).await;
        let left: Vec<_> = cluster.nodes.values().collect();
        cluster.metadata.pass(20_000, &left);
        assert_ne!(cluster.leader("t").id, leader, "{round}");
        assert_eq!(produce_until_acknowledged(&cluster, "t", last).await, i64::from(sequence), "{round}");
        produced.push(format!("v{sequence}"));
        sequence += 1;
        let client = cluster.leader("t").client().await;
        assert_eq!(latest(&client, "t").await, (ErrorCode::None, i64::from(sequence)));
        assert_eq!(read_all(&client, "t").await, produced, "{round}");
        cluster.start_node(leader, disk).await;
        cluster.until_in_sync("t", 3).await;
    }
    let logs = (1..=3).map(|id| {
        let partition = cluster.partition(id, "t").unwrap();
        partition.with_open_log(|log| {
            let slice = log.read(log.start_offset(), log.end_offset(), usize::MAX, true).unwrap();
            let mut bytes = vec![0; slice.len_bytes()];
            slice.read_at(&mut bytes, 0).unwrap();
            bytes
        })
    });
    let logs: Vec<_> = logs.collect();
    assert!(logs.iter().all(|log| *log == logs[0]), "replicas are equal");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_disk_hangs_is_offline() {
    let cluster = Cluster::start(1).await;
    cluster.metadata.create("t", 1, &[]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let client = cluster.leader("t").client().await;
    assert_eq!(produce(&client, "t", batch_of(&["a".into()], PRODUCER, 0, 0), -1).await.0, ErrorCode::None);
    let logs = cluster.nodes[&1].state.logs.clone();
    logs.flush_begins(cluster.partition(1, "t").unwrap().key());
    assert!(!logs.fence_hung(Duration::from_secs(60)), "it may still come back");
    assert_eq!(logs.offline().count(), 0);
    assert!(logs.fence_hung(Duration::ZERO) && !logs.fence_hung(Duration::ZERO), "told once");
    assert_eq!(logs.offline().count(), 1);
    assert_eq!(
        produce(&client, "t", batch_of(&["b".into()], PRODUCER, 0, 1), -1).await.0,
        ErrorCode::KafkaStorageError
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_deposed_answers_nobody() {
    let cluster = Cluster::start(2).await;
    cluster.metadata.create("t", 1, &[]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let old = cluster.leader("t");
    let client = old.client().await;
    assert_eq!(produce(&client, "t", batch_of(&["a".into()], PRODUCER, 0, 0), -1).await.0, ErrorCode::None);
    // The controller hears nothing of it for a while; it lives, and learns that another leads.
    cluster.metadata.pass(20_000, &[&cluster.nodes[&(3 - old.id)]]);
    let new = cluster.leader("t");
    assert_ne!(old.id, new.id);
    let partition = cluster.partition(old.id, "t").unwrap();
    until("it follows", || partition.following().is_some()).await;
    assert_eq!(
        produce(&client, "t", batch_of(&["b".into()], PRODUCER, 0, 1), -1).await.0,
        ErrorCode::NotLeaderOrFollower
    );
    cluster.stop().await;
}
