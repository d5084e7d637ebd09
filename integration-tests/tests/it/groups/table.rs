//! Four partitions with one, two, four and five members, by every protocol of every client; each group gets all there is.

use ottla_integration_tests::{Broker, BrokerOptions};

use super::group::Group;
use super::load;
use super::member::Client;
use crate::rd;

const PARTITIONS: i32 = 4;
const EACH: i32 = 200;

pub fn broker() -> Broker {
    BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start()
}

fn table(client: Client) {
    let broker = broker();
    rd::create_topic(&broker, "table", PARTITIONS, &[]);
    load::fill(&broker, "table", PARTITIONS, EACH);
    let mut ends = [i64::from(EACH); 4];
    for strategy in client.strategies() {
        let mut group = Group::new(&format!("table-{strategy}"), "table", PARTITIONS, strategy);
        for sizes in [&[4][..], &[2, 2], &[1; 4], &[0, 1, 1, 1, 1]] {
            while group.members.len() < sizes.len() {
                group.join(&broker, client);
            }
            group.settle(&broker, sizes);
        }
        group.consume(&broker, &ends);
        // What comes now finds each partition at a member of its own.
        load::fill(&broker, "table", PARTITIONS, 1);
        ends.iter_mut().for_each(|end| *end += 1);
        group.consume(&broker, &ends);
        group.close_all();
        group.assert_single_owners();
        assert_eq!(
            group.doubled(),
            0,
            "{strategy}: members that leave in order leave nothing to be read again"
        );
    }
}

#[test]
fn of_librdkafka() {
    table(Client::Librdkafka);
}

#[test]
fn of_confluent_kafka() {
    table(Client::Confluent);
}

#[test]
fn of_kafka_python() {
    table(Client::KafkaPython);
}

#[test]
fn of_aiokafka() {
    table(Client::Aiokafka);
}

/// Two groups of two members each, of all clients: both get everything.
#[test]
fn two_groups_each_get_everything() {
    let broker = broker();
    rd::create_topic(&broker, "both", PARTITIONS, &[]);
    load::fill(&broker, "both", PARTITIONS, EACH);
    let mut groups = [
        ("one", [Client::Librdkafka, Client::KafkaPython]),
        ("other", [Client::Confluent, Client::Aiokafka]),
    ]
    .map(|(name, clients)| {
        let mut group = Group::new(name, "both", PARTITIONS, "range");
        clients.into_iter().for_each(|client| group.join(&broker, client));
        group
    });
    for group in &groups {
        group.settle(&broker, &[2, 2]);
        group.consume(&broker, &[i64::from(EACH); 4]);
    }
    for group in &mut groups {
        group.close_all();
        group.assert_single_owners();
    }
}
