//! Members of groups by the client crate: what they do when their program is slow, and what they tell the coordinator.

use std::sync::Arc;
use std::time::Duration;

use ottla_client_sdk::{Client, GroupConsumer, GroupHandle, Record, StartAt};
use ottla_integration_tests::{Broker, BrokerOptions, wait_until};
use tokio::sync::Notify;

const TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_millis(50);
const WORK_MAX: Duration = Duration::from_millis(300);

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, work).await.expect("in time") });
}

async fn client_with_records(broker: &Broker, topic: &str) -> Client {
    let client = Client::connect(&broker.bootstrap()).await.expect("a broker");
    let new = ottla_client_sdk::NewTopic::new(topic).partitions(2);
    client.admin().create_topic(&new).await.expect("created");
    let producer = client.producer().start().await.expect("a producer");
    for index in 0..10 {
        let record = Record::to(topic).partition(index % 2).value("v");
        producer.send(record).await.expect("taken").await.expect("written");
    }
    producer.close().await.expect("closed");
    client
}

fn member(client: &Client, topic: &str, work_max: Duration) -> GroupConsumer {
    let options = client.consumer().start_at(StartAt::Beginning).group("g").subscribe([topic]);
    options.heartbeat_every(HEARTBEAT).work_max(work_max).start().expect("a member")
}

fn until_it_has(member: &GroupHandle, count: usize) {
    let has = || (member.assignment().len() == count).then_some(());
    tokio::task::block_in_place(|| wait_until(TIMEOUT, "an assignment", has));
}

#[test]
fn a_member_whose_program_is_slow_leaves_and_comes_back() {
    let broker = BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start();
    run(async {
        let client = client_with_records(&broker, "slow").await;
        let mut slow = member(&client, "slow", WORK_MAX);
        slow.recv().await.expect("a record");
        // Its program asks for no more for now.
        let other = member(&client, "slow", TIMEOUT);
        let handle = other.handle().clone();
        until_it_has(&handle, 2);
        assert!(slow.handle().assignment().is_empty());
        let told = client.admin().explain_group("g").await.expect("an explanation");
        let why = "works on a record for too long";
        assert!(told.events.iter().any(|event| event.kind == "left" && event.text.contains(why)), "{told:?}");

        // It asks again, and is given its share.
        let slow_handle = slow.handle().clone();
        let enough = Arc::new(Notify::new());
        let stop = enough.clone();
        let reading = tokio::spawn(async move {
            tokio::select! {
                () = stop.notified() => {}
                () = async { while slow.recv().await.is_ok() {} } => panic!("records come without errors"),
            }
            slow.close().await.expect("closed");
        });
        until_it_has(&slow_handle, 1);
        until_it_has(&handle, 1);
        enough.notify_one();
        reading.await.expect("it ends");
        other.close().await.expect("closed");
        let told = client.admin().explain_group("g").await.expect("an explanation");
        assert!(told.events.iter().any(|event| event.text.contains("its consumer is closed")), "{told:?}");
    });
}

#[test]
fn a_member_that_waits_for_records_is_not_slow() {
    let broker = BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start();
    run(async {
        let client = client_with_records(&broker, "idle").await;
        let mut waiting = member(&client, "idle", WORK_MAX);
        for _ in 0..10 {
            waiting.recv().await.expect("a record");
        }
        // Nothing more comes for several times as long as it may work.
        assert!(tokio::time::timeout(WORK_MAX * 4, waiting.recv()).await.is_err());
        assert_eq!(waiting.handle().assignment().len(), 2);
        let told = client.admin().explain_group("g").await.expect("an explanation");
        assert!(told.events.iter().all(|event| event.kind != "left"), "{told:?}");
        waiting.close().await.expect("closed");
    });
}
