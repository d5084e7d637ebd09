//! Static members (KIP-345): one that comes back within its session disturbs nobody, a second one with its id fences it.

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, wait_until};

use super::group::Group;
use super::load;
use super::member::{Client, What};
use super::table::broker;
use crate::rd;

const PARTITIONS: i32 = 6;
const IDS: [&str; 3] = ["first", "second", "third"];

/// What assignment and revocation each member has told so far.
fn moves(group: &Group) -> Vec<Vec<What>> {
    let told = |what: &What| matches!(what, What::Assigned(_) | What::Revoked(_) | What::Lost(_));
    group
        .members
        .iter()
        .map(|member| member.diary.read().into_iter().map(|event| event.what).filter(told).collect())
        .collect()
}

fn generation(broker: &Broker) -> i32 {
    let explained = Connection::open(broker.address()).explain_group("static");
    assert_eq!((explained.error_code, &*explained.group_state), (0, "Stable"));
    explained.generation_id
}

fn restarts(client: Client, strategy: &str) {
    let broker = broker();
    rd::create_topic(&broker, "static", PARTITIONS, &[]);
    let mut group = Group::new("static", "static", PARTITIONS, strategy);
    for id in IDS {
        let settings = group.settings(client).instance(id);
        group.join_as(&broker, settings);
    }
    group.settle(&broker, &[2, 2, 2]);
    let settled = generation(&broker);
    // Each in turn, the leader among them; the second is killed instead of stopped.
    for turn in 0..IDS.len() {
        let owned = group.members[0].owned();
        let settings = group.members[0].settings.clone();
        if turn == 1 && client != Client::Librdkafka {
            group.kill(0);
        } else {
            group.close(0);
        }
        let others = moves(&group);
        group.join_as(&broker, settings);
        group.settle(&broker, &[2, 2, 2]);
        assert_eq!(group.members[2].owned(), owned, "it has again what it had");
        assert_eq!(generation(&broker), settled, "no rebalance");
        assert_eq!(moves(&group)[..2], others, "the others notice nothing");
    }
    if client != Client::Aiokafka {
        fences(&broker, &mut group, settled);
    }
    group.close_all();
}

/// A second one with the id of the first takes its place, and nobody else notices. aiokafka (0.14) is left out: it commits
/// without its instance id, takes the refusal for a lost session, and joins again, so that two of them fence each other for ever.
fn fences(broker: &Broker, group: &mut Group, settled: i32) {
    let twin = group.members[0].settings.clone();
    let others = moves(group)[1..].to_vec();
    group.join_as(broker, twin);
    wait_until(std::time::Duration::from_secs(30), "the twin's partitions", || {
        (group.members[3].owned().len() == 2).then_some(())
    });
    // kafka-python hears of it by its heartbeat, but says so only when it commits.
    load::fill(broker, "static", PARTITIONS, 1);
    let why = group.give_up(0);
    assert!(why.to_lowercase().contains("fenced"), "{why}");
    group.settle(broker, &[2, 2, 2]);
    assert_eq!(generation(broker), settled, "no rebalance");
    assert_eq!(moves(group)[..2], others, "the others notice nothing");
}

#[test]
fn of_librdkafka() {
    restarts(Client::Librdkafka, "range");
}

#[test]
fn of_confluent_kafka() {
    restarts(Client::Confluent, "cooperative-sticky");
}

#[test]
fn of_kafka_python() {
    restarts(Client::KafkaPython, "range");
}

#[test]
fn of_aiokafka() {
    restarts(Client::Aiokafka, "roundrobin");
}
