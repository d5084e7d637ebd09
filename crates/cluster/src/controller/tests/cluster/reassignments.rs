//! Partitions that move.

use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

use super::*;

#[test]
fn a_partition_moves_when_the_new_replicas_are_in_sync() {
    let mut c = Cluster::with_topic(5, &[1, 2]);
    c.reassign("a", Some(&[3, 4]));
    c.show();
    c.isr("a", &[1, 2, 3]);
    c.isr("a", &[1, 2, 3, 4]);
    c.show();
    c.check(
        "reassign NONE
        a-0 led by 1 in 0/1 of 3,4,1,2 isr 1,2 adding 3,4 removing 1,2
        isr NONE
        isr NEW_LEADER_ELECTED
        a-0 led by 3 in 1/3 of 3,4 isr 3,4",
    );
    // Fewer, more, and another order.
    c.reassign("a", Some(&[4]));
    c.reassign("a", Some(&[4, 5]));
    c.isr("a", &[4, 5]);
    c.reassign("a", Some(&[5, 4]));
    c.show();
    c.check(
        "reassign NONE
        reassign NONE
        isr NONE
        reassign NONE
        a-0 led by 4 in 2/7 of 5,4 isr 4,5",
    );
}

#[test]
fn a_move_is_taken_back() {
    let mut c = Cluster::with_topic(4, &[1, 2]);
    c.reassign("a", None);
    c.reassign("a", Some(&[3, 4]));
    c.isr("a", &[1, 2, 3]);
    c.reassign("a", None);
    c.show();
    c.check(
        "reassign NO_REASSIGNMENT_IN_PROGRESS: No partition reassignment is in progress.
        reassign NONE
        isr NONE
        reassign NONE
        a-0 led by 1 in 1/3 of 1,2 isr 1,2",
    );
    // Only a new replica is in sync: taking it back would lose records.
    c.reassign("a", Some(&[3, 4]));
    c.isr("a", &[1, 3]);
    c.kill(1);
    c.reassign("a", None);
    c.show();
    c.script.alter(2, "a", &[("unclean.leader.election.enable", 0, Some("true"))]);
    c.reassign("a", None);
    c.show();
    c.check(
        "reassign NONE
        isr NONE
        broker 1 is fenced: it was not heard of any more
        reassign INVALID_REPLICA_ASSIGNMENT: Unable to revert partition assignment for a:0 because it would require an unclean leader election.
        a-0 led by 3 in 2/6 of 3,4,1,2 isr 3 adding 3,4 removing 1,2
        2 'a' NONE
        reassign NONE
        a-0 led by 2 in 3/7 of 1,2 isr 2 recovering",
    );
}

#[test]
fn a_new_target_replaces_a_move_and_still_waits_for_what_is_not_in_sync() {
    let mut c = Cluster::with_topic(6, &[1, 2, 3]);
    c.reassign("a", Some(&[4, 5, 6]));
    c.isr("a", &[1, 2, 3, 6]);
    c.reassign("a", Some(&[4, 5, 1]));
    c.show();
    c.isr("a", &[1, 2, 3, 4, 5]);
    c.show();
    c.check(
        "reassign NONE
        isr NONE
        reassign NONE
        a-0 led by 1 in 1/3 of 4,5,1,2,3 isr 1,2,3 adding 4,5 removing 2,3
        isr NONE
        a-0 led by 1 in 2/4 of 4,5,1 isr 1,4,5",
    );
}

#[test]
fn a_topic_grows_by_its_own_factor_while_it_moves() {
    let mut c = Cluster::with_topic(4, &[1, 2]);
    c.reassign("a", Some(&[3, 4]));
    c.script.grow("a", 2, Some(&[&[1, 3]]));
    c.script.grow("a", 3, None);
    c.check("reassign NONE\na NONE\na NONE");
    let topic = c.script.image().topic_by_name("a").unwrap();
    assert!(topic.partitions[1..].iter().all(|partition| partition.replicas.len() == 2));
}

#[test]
fn nonsense_is_refused() {
    let mut c = Cluster::with_topic(3, &[1, 2]);
    for replicas in [&[][..], &[1, 1], &[9]] {
        c.reassign("a", Some(replicas));
    }
    c.reassign("b", Some(&[1]));
    c.reassign_as("a", Some(&[1]), false);
    c.reassign_as("a", Some(&[1, 3]), false);
    c.reassign_as("a", Some(&[3, 2]), false);
    c.check(
        "reassign INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes an empty replica list.
        reassign INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes the broker 1 more than once.
        reassign INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 9, but no such broker is registered.
        reassign UNKNOWN_TOPIC_OR_PARTITION: Unable to find a topic named b.
        reassign INVALID_REPLICATION_FACTOR: The replication factor is changed from 2 to 1
        reassign NONE
        reassign NONE",
    );
}

#[test]
fn moves_are_listed() {
    let mut c = Cluster::with_topic(3, &[1, 2]);
    c.script.create(vec![assigned("b", &[(0, &[1])]), assigned("c", &[(0, &[1])])], false);
    c.reassign("a", Some(&[2, 3]));
    c.reassign("b", Some(&[1, 2]));
    c.script.text.clear();
    let list = |c: &mut Cluster, topics: Option<&[(&str, i32)]>| {
        let named = topics.map(|topics| {
            let named = topics.iter().map(|(name, partition)| ListPartitionReassignmentsTopics {
                name: (*name).into(),
                partition_indexes: vec![*partition],
                ..ListPartitionReassignmentsTopics::default()
            });
            named.collect()
        });
        let request = ListPartitionReassignmentsRequest { topics: named, ..Default::default() };
        let response = list_partition_reassignments(c.script.image(), &request);
        for topic in response.topics {
            for p in topic.partitions {
                let (adding, removing) = (p.adding_replicas, p.removing_replicas);
                writeln!(c.script.text, "{} {:?} +{adding:?} -{removing:?}", topic.name, p.replicas).unwrap();
            }
        }
        writeln!(c.script.text, ".").unwrap();
    };
    list(&mut c, None);
    list(&mut c, Some(&[("a", 0), ("a", 1), ("c", 0), ("d", 0)]));
    c.check("a [2, 3, 1] +[3] -[1]\nb [1, 2] +[2] -[]\n.\na [2, 3, 1] +[3] -[1]\n.");
}
