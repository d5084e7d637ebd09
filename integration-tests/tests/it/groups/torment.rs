//! Groups that are not left in peace: members join and are killed, the broker is killed, all of it under load.

use ottla_integration_tests::BrokerOptions;
use ottla_integration_tests::wire::Connection;

use super::group::Group;
use super::load::{self, Load, Watch};
use super::member::Client;
use super::table::broker;
use crate::rd;

const PARTITIONS: i32 = 6;
/// The shortest that a broker allows unless told otherwise: how long a killed member is missed.
const SESSION_MS: u32 = 6_000;

/// Every record is consumed, no partition has two owners, no committed offset goes back.
fn join_and_kill(client: Client, strategy: &str) {
    let broker = broker();
    rd::create_topic(&broker, "torment", PARTITIONS, &[]);
    let mut group = Group::new("torment", "torment", PARTITIONS, strategy);
    let load = Load::start(&broker, "torment", PARTITIONS);
    let watch = Watch::start(&broker, "torment", "torment", PARTITIONS);
    let join = |group: &mut Group| {
        let settings = group.settings(client).session_ms(SESSION_MS);
        group.join_as(&broker, settings);
    };
    (0..3).for_each(|_| join(&mut group));
    group.settle(&broker, &[2, 2, 2]);
    // The first is the leader; the next joins while it is missed.
    group.kill(0);
    join(&mut group);
    group.settle(&broker, &[2, 2, 2]);
    group.kill(2);
    group.kill(1);
    join(&mut group);
    group.settle(&broker, &[3, 3]);
    join(&mut group);
    group.settle(&broker, &[2, 2, 2]);
    let ends = load.finish();
    group.consume(&broker, &ends);
    watch.finish();
    group.close_all();
    group.assert_single_owners();
}

#[test]
fn of_confluent_kafka() {
    join_and_kill(Client::Confluent, "cooperative-sticky");
}

#[test]
fn of_kafka_python() {
    join_and_kill(Client::KafkaPython, "range");
}

#[test]
fn of_aiokafka() {
    join_and_kill(Client::Aiokafka, "roundrobin");
}

/// The broker is killed twice under three consuming groups: nothing acknowledged is lost, no commit is, and the next member
/// goes on exactly where the last one stopped.
#[test]
fn broker_killed_under_consuming_groups() {
    let mut broker = BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start();
    rd::create_topic(&broker, "killed", PARTITIONS, &[]);
    let load = Load::start(&broker, "killed", PARTITIONS);
    let clients = [Client::Librdkafka, Client::KafkaPython, Client::Aiokafka];
    let mut groups = clients.map(|client| {
        let mut group = Group::new(&format!("killed-{client:?}"), "killed", PARTITIONS, "range");
        (0..2).for_each(|_| group.join(&broker, client));
        group
    });
    groups.iter().for_each(|group| group.settle(&broker, &[3, 3]));
    for _ in 0..2 {
        let mut connection = Connection::open(broker.address());
        let before: Vec<_> = groups.iter().map(|group| settled_commits(&mut connection, group)).collect();
        broker.kill();
        broker.start();
        let mut connection = Connection::open(broker.address());
        for (group, before) in groups.iter().zip(before) {
            let after = settled_commits(&mut connection, group);
            let kept = before.iter().zip(&after).all(|(before, after)| after >= before);
            assert!(kept, "{}: {before:?} was committed, {after:?} is there after the kill", group.name);
            group.settle(&broker, &[3, 3]);
        }
    }
    let ends = load.finish();
    for group in &mut groups {
        group.consume(&broker, &ends);
        group.close_all();
    }
    load::fill(&broker, "killed", PARTITIONS, 1);
    for (group, client) in groups.iter().zip(clients) {
        let mut next = Group::new(&group.name, "killed", PARTITIONS, "range");
        next.join(&broker, client);
        next.settle(&broker, &[6]);
        let all: Vec<i64> = ends.iter().map(|end| end + 1).collect();
        next.commits(&broker, &all);
        next.close_all();
        let wanted: Vec<_> =
            (0..PARTITIONS).zip(&ends).map(|(partition, end)| (partition, *end, *end)).collect();
        assert_eq!(next.got(), wanted, "{}: one new record of each partition and no old one", group.name);
    }
}

/// The committed offsets, asked for until the coordinator has loaded them: an answer without them would be wrong.
fn settled_commits(connection: &mut Connection, group: &Group) -> Vec<i64> {
    let what = format!("{}'s offsets", group.name);
    ottla_integration_tests::wait_until(std::time::Duration::from_secs(30), &what, || {
        match connection.committed(&group.name, &group.topic, group.partitions) {
            Ok(offsets) => Some(offsets),
            Err(code) => {
                let loading = ottla_protocol::generated::ErrorCode::CoordinatorLoadInProgress.code();
                assert_eq!(code, loading, "{}", group.name);
                None
            }
        }
    })
}
