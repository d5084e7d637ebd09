//! AlterPartition.

use super::*;

#[test]
fn only_the_present_leader_with_present_epochs_changes_the_isr() {
    let mut c = Cluster::with_topic(4, &[1, 2, 3]);
    let ask = |c: &mut Cluster, leader: i32, edit: &dyn Fn(&mut RequestPartitionData)| {
        let mut request = c.altered(leader, "a", &[1, 2]);
        edit(&mut request.topics[0].partitions[0]);
        c.isr_as(&request);
    };
    ask(&mut c, 2, &|_| ());
    ask(&mut c, 1, &|asked| asked.leader_epoch += 1);
    ask(&mut c, 1, &|asked| asked.leader_epoch -= 1);
    ask(&mut c, 1, &|asked| asked.partition_epoch += 1);
    ask(&mut c, 1, &|asked| asked.partition_epoch -= 1);
    ask(&mut c, 1, &|asked| asked.partition_index = 1);
    ask(&mut c, 1, &|asked| asked.leader_recovery_state = 1);
    ask(&mut c, 1, &|asked| asked.new_isr_with_epochs[1].broker_epoch -= 1);
    for isr in [&[2, 3][..], &[1, 4], &[1, 1], &[]] {
        let request = c.altered(1, "a", isr);
        c.isr_as(&request);
    }
    let mut stale = c.altered(1, "a", &[1]);
    stale.broker_epoch -= 1;
    stale.topics.clear();
    c.isr_as(&stale);
    let mut unknown = c.altered(1, "a", &[1]);
    unknown.topics[0].topic_id = Uuid([9; 16]);
    c.isr_as(&unknown);
    c.show();
    ask(&mut c, 1, &|_| ());
    // Nothing new is no error and no record; version 2 knows no epochs of brokers.
    ask(&mut c, 1, &|_| ());
    ask(&mut c, 1, &|asked| {
        asked.new_isr_with_epochs.clear();
        asked.new_isr = vec![1, 3];
    });
    c.show();
    c.check(
        "isr INVALID_REQUEST
        isr NOT_CONTROLLER
        isr FENCED_LEADER_EPOCH
        isr NOT_CONTROLLER
        isr INVALID_UPDATE_VERSION
        isr UNKNOWN_TOPIC_OR_PARTITION
        isr INVALID_REQUEST
        isr INELIGIBLE_REPLICA
        isr INVALID_REQUEST
        isr INVALID_REQUEST
        isr INVALID_REQUEST
        isr INVALID_REQUEST
        isr STALE_BROKER_EPOCH
        isr UNKNOWN_TOPIC_ID
        a-0 led by 1 in 0/0 of 1,2,3 isr 1,2,3
        isr NONE
        isr NONE
        isr NONE
        a-0 led by 1 in 0/2 of 1,2,3 isr 1,3",
    );
}

#[test]
fn a_broker_that_does_not_serve_comes_into_no_isr() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.kill(2);
    c.isr("a", &[1, 2]);
    c.admit(2, 2);
    c.isr("a", &[1, 2]);
    c.beat(2);
    c.isr("a", &[1, 2]);
    c.check(
        "broker 2 is fenced: it was not heard of any more
        isr INELIGIBLE_REPLICA
        admit 2 NONE
        isr INELIGIBLE_REPLICA
        beat 2 NONE
        isr NONE",
    );
}

#[test]
fn a_leader_out_of_an_unclean_election_recovers_before_others_join() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.isr("a", &[1]);
    c.kill(1);
    c.elect(1, None);
    c.beat(1);
    c.show();
    let mut both = c.altered(2, "a", &[2, 1]);
    both.topics[0].partitions[0].leader_recovery_state = 1;
    c.isr_as(&both);
    c.isr("a", &[2, 1]);
    c.show();
    c.check(
        "isr NONE
        broker 1 is fenced: it was not heard of any more
        elect a-0 NONE
        beat 1 NONE
        a-0 led by 2 in 2/3 of 1,2 isr 2 recovering
        isr INVALID_REQUEST
        isr NONE
        a-0 led by 2 in 2/4 of 1,2 isr 2,1",
    );
}
