//! One group of all clients: each understands what the others' leaders assign.

use super::group::Group;
use super::load::Load;
use super::member::Client;
use super::table::broker;
use crate::rd;

const PARTITIONS: i32 = 4;

fn mixed(strategy: &str) {
    let broker = broker();
    rd::create_topic(&broker, "mixed", PARTITIONS, &[]);
    let load = Load::start(&broker, "mixed", PARTITIONS);
    let mut group = Group::new("mixed", "mixed", PARTITIONS, strategy);
    for (joined, client) in Client::ALL.into_iter().enumerate() {
        group.join(&broker, client);
        group.settle(&broker, [&[4][..], &[2, 2], &[1, 1, 2], &[1; 4]][joined]);
    }
    // The oldest goes and is the leader each time, so that each client comes to assign for the others.
    for sizes in [&[1, 1, 2][..], &[2, 2], &[4]] {
        group.close(0);
        group.settle(&broker, sizes);
    }
    group.consume(&broker, &load.finish());
    group.close_all();
    group.assert_single_owners();
}

#[test]
fn by_range() {
    mixed("range");
}

#[test]
fn by_roundrobin() {
    mixed("roundrobin");
}
