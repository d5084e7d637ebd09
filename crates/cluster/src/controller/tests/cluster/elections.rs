//! Preferred and unclean elections.

use super::*;

#[test]
fn leaders_are_elected_on_request() {
    let mut c = Cluster::with_topic(3, &[1, 2]);
    c.elect(0, Some(&[("a", 0), ("a", 1), ("b", 0)]));
    c.elect(1, Some(&[("a", 0)]));
    c.elect(2, None);
    c.elect(0, None);
    c.check(
        "elect a-0 ELECTION_NOT_NEEDED: Leader election not needed for topic partition.
        elect a-1 UNKNOWN_TOPIC_OR_PARTITION: No such partition as a-1
        elect b-0 UNKNOWN_TOPIC_OR_PARTITION: No such topic as b
        elect a-0 ELECTION_NOT_NEEDED: Leader election not needed for topic partition.
        elect INVALID_REQUEST",
    );
    c.kill(1);
    c.beat(1);
    c.elect(0, None);
    c.isr("a", &[2, 1]);
    c.elect(0, None);
    c.show();
    c.check(
        "broker 1 is fenced: it was not heard of any more
        beat 1 NONE
        elect a-0 PREFERRED_LEADER_NOT_AVAILABLE: No eligible leader is available for a-0
        isr NONE
        elect a-0 NONE
        a-0 led by 1 in 2/3 of 1,2 isr 2,1",
    );
    c.kill(1);
    c.kill(2);
    c.elect(1, None);
    c.check(
        "broker 1 is fenced: it was not heard of any more
        broker 2 is fenced: it was not heard of any more
        elect a-0 ELIGIBLE_LEADERS_NOT_AVAILABLE: No eligible leader is available for a-0",
    );
}

#[test]
fn unclean_elections_happen_where_and_when_they_are_allowed() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.script.create(vec![assigned("b", &[(0, &[1, 2])])], false);
    c.isr("a", &[1]);
    c.isr("b", &[1]);
    c.kill(1);
    c.script.text.clear();
    c.show();
    c.script.alter(2, "b", &[("unclean.leader.election.enable", 0, Some("true"))]);
    c.show();
    c.beat(1);
    c.show();
    c.check(
        "a-0 led by -1 in 1/2 of 1,2 isr 1
        b-0 led by -1 in 1/2 of 1,2 isr 1
        2 'b' NONE
        a-0 led by -1 in 1/2 of 1,2 isr 1
        b-0 led by 2 in 2/3 of 1,2 isr 2 recovering
        beat 1 NONE
        a-0 led by 1 in 2/3 of 1,2 isr 1
        b-0 led by 2 in 2/3 of 1,2 isr 2 recovering",
    );
    // Where it is allowed beforehand, nobody has to ask.
    c.isr("b", &[2]);
    c.kill(2);
    c.script.text.clear();
    c.show();
    c.check(
        "a-0 led by 1 in 2/3 of 1,2 isr 1
        b-0 led by 1 in 3/5 of 1,2 isr 1 recovering",
    );
}

/// The topic's own value goes before the brokers' default, which goes before what was set at the start.
#[test]
fn the_brokers_default_may_allow_unclean_elections() {
    let leaderless = |fixed: &[(&str, &str)]| {
        let mut c = Cluster::new(2, fixed);
        let careful = with(assigned("b", &[(0, &[1, 2])]), "unclean.leader.election.enable", Some("false"));
        c.script.create(vec![assigned("a", &[(0, &[1, 2])]), careful], false);
        c.isr("a", &[1]);
        c.isr("b", &[1]);
        c.kill(1);
        c.script.text.clear();
        c
    };
    let mut c = leaderless(&[("unclean.leader.election.enable", "true")]);
    c.show();
    c.check(
        "a-0 led by 2 in 1/2 of 1,2 isr 2 recovering
        b-0 led by -1 in 1/2 of 1,2 isr 1",
    );
    let mut c = leaderless(&[]);
    c.script.alter(4, "", &[("unclean.leader.election.enable", 0, Some("true"))]);
    c.show();
    c.check(
        "4 '' NONE
        a-0 led by 2 in 2/3 of 1,2 isr 2 recovering
        b-0 led by -1 in 1/2 of 1,2 isr 1",
    );
}

#[test]
fn leadership_goes_back_to_preferred_leaders_by_and_by() {
    let fixed = [("leader.imbalance.check.interval.seconds", "5")];
    let mut c = Cluster::new(2, &fixed);
    c.script.create(vec![assigned("a", &[(0, &[1, 2]), (1, &[1, 2]), (2, &[2, 1])])], false);
    c.kill(1);
    c.beat(1);
    c.isr("a", &[2, 1]);
    c.script.text.clear();
    c.pass(3000, &[1, 2]);
    c.pass(3000, &[1, 2]);
    c.show();
    c.check(
        "1 partition(s) go back to their preferred leader
        a-0 led by 1 in 2/3 of 1,2 isr 2,1
        a-1 led by 2 in 1/1 of 1,2 isr 2
        a-2 led by 2 in 0/1 of 2,1 isr 2",
    );
    let mut c = Cluster::new(2, &[("auto.leader.rebalance.enable", "false")]);
    c.script.create(vec![assigned("a", &[(0, &[1, 2])])], false);
    c.kill(1);
    c.beat(1);
    c.isr("a", &[2, 1]);
    c.script.text.clear();
    for _ in 0..200 {
        c.pass(3000, &[1, 2]);
    }
    c.check("");
}

#[test]
fn a_round_of_rebalancing_has_an_end_and_a_next_one() {
    let count = ELECTIONS_PER_REBALANCE_MAX + 5;
    let mut c = Cluster::new(2, &[]);
    let replicas: Vec<(i32, &[i32])> = (0i32..).take(count).map(|n| (n, &[1, 2][..])).collect();
    c.script.create(vec![assigned("a", &replicas)], false);
    c.kill(1);
    c.beat(1);
    let topic = c.script.image().topic_by_name("a").unwrap().clone();
    let rejoin = topic.partitions().map(|(partition_id, _)| {
        let isr = Some(vec![2, 1]);
        PartitionChangeRecord { topic_id: topic.id, partition_id, isr, ..Default::default() }.into()
    });
    c.script.commit(rejoin.collect());
    c.script.text.clear();
    let mut at = |ms: i64| {
        c.now_ms = ms;
        c.tenure.heard(BrokerId(1), c.epoch(1), 0, ms);
        c.tenure.heard(BrokerId(2), c.epoch(2), 0, ms);
        c.pass(0, &[]);
    };
    at(300_000);
    at(300_001);
    at(300_002);
    c.check("1000 partition(s) go back to their preferred leader\n5 partition(s) go back to their preferred leader");
}
