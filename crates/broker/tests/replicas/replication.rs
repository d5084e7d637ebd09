//! Followers that follow: what is acknowledged when, and who is in sync.

use ottla_protocol::generated::ErrorCode;

use crate::cluster::Cluster;
use crate::support::{batch, latest, produce, produce_to, read_all, until};

fn values(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("v{i}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_all_is_on_every_disk_and_the_logs_are_equal() {
    let cluster = Cluster::start(3).await;
    cluster.metadata.create("t", 1, &[("min.insync.replicas", "2")]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let client = cluster.leader("t").client().await;
    for i in 0..50 {
        let acknowledged = produce(&client, "t", batch(&values(i..i + 1)), -1).await;
        assert_eq!(acknowledged, (ErrorCode::None, i64::try_from(i).unwrap()));
        for id in 1..=3 {
            let durable = cluster.partition(id, "t").unwrap().with_open_log(|log| log.durable_offset().0);
            assert!(durable > Some(i64::try_from(i).unwrap()), "broker {id}, record {i}: {durable:?}");
        }
    }
    assert_eq!(read_all(&client, "t").await, values(0..50));
    assert_eq!(latest(&client, "t").await, (ErrorCode::None, 50));
    until("the high watermark on all", || {
        (1..=3).all(|id| cluster.partition(id, "t").unwrap().high_watermark().0 == 50)
    })
    .await;
    assert_eq!(cluster.metadata.isr("t"), [1, 2, 3].into());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_followed_at_once() {
    let cluster = Cluster::start(2).await;
    cluster.metadata.create("t", 300, &[]);
    let reached = cluster.metadata.index();
    for node in cluster.nodes.values() {
        node.state.image.clone().wait_for(|image| image.index() >= reached).await.unwrap();
    }
    let leader = cluster.leader("t");
    let client = leader.client().await;
    assert_eq!(produce(&client, "t", batch(&values(0..9)), -1).await.0, ErrorCode::None);
    assert_eq!(produce(&client, "t", batch(&values(9..20)), -1).await.0, ErrorCode::None);
    let image = leader.state.image();
    let topic = image.topic_by_name("t").unwrap();
    let led = topic.partitions().filter(|(index, partition)| *index > 0 && partition.leader.0 == leader.id);
    let led: Vec<i32> = led.map(|(index, _)| index).collect();
    assert!(led.len() > 100, "{} of 300", led.len());
    for index in led {
        let acknowledged = produce_to(&client, "t", index, batch(&values(0..3)), -1).await;
        assert_eq!(acknowledged, (ErrorCode::None, 0), "{index}: the other one has it too");
    }
    assert_eq!(cluster.metadata.isr("t"), [1, 2].into());
    assert_eq!(read_all(&client, "t").await, values(0..20));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_gone_leaves_the_isr_and_one_that_is_back_joins_it() {
    let mut cluster = Cluster::start(3).await;
    cluster.metadata.create("t", 1, &[("min.insync.replicas", "2")]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let client = cluster.leader("t").client().await;
    assert_eq!(produce(&client, "t", batch(&values(0..10)), -1).await.0, ErrorCode::None);
    let leader = cluster.leader("t").id;
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    let disk = cluster.kill(others[0]).await;
    // It is held up until the follower is late, and then answered.
    assert_eq!(produce(&client, "t", batch(&values(10..20)), -1).await, (ErrorCode::None, 10));
    assert_eq!(cluster.metadata.isr("t"), [leader, others[1]].into());
    let other_disk = cluster.kill(others[1]).await;
    assert_eq!(
        produce(&client, "t", batch(&values(20..30)), -1).await.0,
        ErrorCode::NotEnoughReplicasAfterAppend
    );
    assert_eq!(produce(&client, "t", batch(&values(30..40)), -1).await.0, ErrorCode::NotEnoughReplicas);
    assert_eq!(read_all(&client, "t").await, values(0..20), "too few have the rest");
    cluster.metadata.pass(20_000, &[&cluster.nodes[&leader]]);
    cluster.start_node(others[0], disk).await;
    cluster.start_node(others[1], other_disk).await;
    cluster.until_in_sync("t", 3).await;
    assert_eq!(produce(&client, "t", batch(&values(30..40)), -1).await, (ErrorCode::None, 30));
    assert_eq!(read_all(&client, "t").await, values(0..40));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_disk_is_filled_from_the_leader() {
    let mut cluster = Cluster::start(2).await;
    cluster.metadata.create("t", 1, &[]);
    until("a leader", || cluster.leader("t").state.image().topic_by_name("t").is_some()).await;
    let client = cluster.leader("t").client().await;
    for i in 0..20 {
        assert_eq!(produce(&client, "t", batch(&values(i * 10..i * 10 + 10)), -1).await.0, ErrorCode::None);
    }
    let leader = cluster.leader("t").id;
    let follower = 3 - leader;
    drop(cluster.kill(follower).await);
    cluster.metadata.pass(20_000, &[&cluster.nodes[&leader]]);
    cluster.start_node(follower, ottla_storage::files::faulty::FaultyFiles::new()).await;
    cluster.until_in_sync("t", 2).await;
    let ends = |id| cluster.partition(id, "t").unwrap().with_open_log(|log| log.durable_offset().0);
    assert_eq!((ends(leader), ends(follower)), (Some(200), Some(200)));
    cluster.stop().await;
}
