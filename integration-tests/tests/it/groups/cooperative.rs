//! Cooperative rebalances: a partition that stays with its member is never given back.

use std::collections::BTreeSet;

use super::group::Group;
use super::load::Load;
use super::member::{Client, Member, What};
use super::table::broker;
use crate::rd;

const PARTITIONS: i32 = 6;

/// What the member has ever given back.
fn revoked(member: &Member) -> BTreeSet<i32> {
    let lists = member.diary.read().into_iter().filter_map(|event| match event.what {
        What::Revoked(list) | What::Lost(list) => Some(list),
        _ => None,
    });
    lists.flatten().collect()
}

fn moves_only_what_must(client: Client) {
    let broker = broker();
    rd::create_topic(&broker, "moving", PARTITIONS, &[]);
    let load = Load::start(&broker, "moving", PARTITIONS);
    let mut group = Group::new("moving", "moving", PARTITIONS, "cooperative-sticky");
    (0..2).for_each(|_| group.join(&broker, client));
    group.settle(&broker, &[3, 3]);
    let had: Vec<_> = group.members.iter().map(Member::owned).collect();
    let before: Vec<_> = group.members.iter().map(revoked).collect();
    group.join(&broker, client);
    group.settle(&broker, &[2, 2, 2]);
    for (index, had) in had.iter().enumerate() {
        let kept: BTreeSet<_> = group.members[index].owned();
        assert!(kept.is_subset(had), "{had:?} became {kept:?}: one went, none came");
        let now: BTreeSet<_> = revoked(&group.members[index]).difference(&before[index]).copied().collect();
        assert_eq!(now, had - &kept, "only what moved was revoked");
    }
    let before: Vec<_> = group.members.iter().skip(1).map(revoked).collect();
    group.close(0);
    group.settle(&broker, &[3, 3]);
    let after: Vec<_> = group.members.iter().map(revoked).collect();
    assert_eq!(before, after, "who stays gives nothing back when another leaves");
    group.consume(&broker, &load.finish());
    group.close_all();
    group.assert_single_owners();
}

#[test]
fn of_librdkafka() {
    moves_only_what_must(Client::Librdkafka);
}

#[test]
fn of_confluent_kafka() {
    moves_only_what_must(Client::Confluent);
}

#[test]
fn of_kafka_python() {
    moves_only_what_must(Client::KafkaPython);
}
