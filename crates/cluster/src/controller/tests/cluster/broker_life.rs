//! Registration, heartbeats, sessions, controlled shutdown, directories.

use super::*;

#[test]
fn a_broker_serves_when_it_has_read_its_own_registration() {
    let mut c = Cluster::new(0, &[]);
    c.admit(1, 1);
    let behind = BrokerHeartbeatRequest { current_metadata_offset: 0, ..c.heartbeat(1) };
    c.beat_as(&behind);
    let fenced = BrokerHeartbeatRequest { want_fence: true, ..c.heartbeat(1) };
    c.beat_as(&fenced);
    c.beat(1);
    c.beat_as(&fenced);
    c.beat(1);
    c.beat_as(&BrokerHeartbeatRequest { broker_epoch: 0, ..c.heartbeat(1) });
    c.beat(2);
    c.check(
        "admit 1 NONE
        beat 1 fenced behind NONE
        beat 1 fenced NONE
        beat 1 NONE
        beat 1 fenced NONE
        beat 1 NONE
        beat 1 fenced behind STALE_BROKER_EPOCH
        beat 2 fenced behind BROKER_ID_NOT_REGISTERED",
    );
}

#[test]
fn a_second_process_with_the_same_id_is_refused_while_the_first_lives() {
    let mut c = Cluster::with_topic(1, &[1]);
    let epoch = c.epoch(1);
    c.admit(1, 2);
    c.admit(1, 1);
    assert_eq!(c.epoch(1), epoch, "the same process keeps its epoch");
    c.show();
    c.pass(4000, &[]);
    c.admit(1, 2);
    assert!(c.epoch(1) > epoch);
    c.beat(1);
    c.show();
    c.check(
        "admit 1 DUPLICATE_BROKER_REGISTRATION
        admit 1 NONE
        a-0 led by 1 in 0/0 of 1 isr 1
        broker 1 is fenced: it was not heard of any more
        admit 1 NONE
        beat 1 NONE
        a-0 led by 1 in 2/2 of 1 isr 1",
    );
}

#[test]
fn a_process_that_was_reset_and_started_again_is_taken_before_its_session_ends() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.kill(1);
    c.admit(1, 2);
    c.show();
    c.check(
        "broker 1 is fenced: it was not heard of any more
        admit 1 NONE
        a-0 led by 2 in 1/1 of 1,2 isr 2",
    );
}

#[test]
fn silence_fences_after_the_session_and_not_before() {
    let mut c = Cluster::with_topic(3, &[1, 2, 3]);
    assert_eq!(c.tenure.next_deadline_ms(), 0, "new brokers: is there something to raise?");
    c.pass(0, &[]);
    assert_eq!(c.tenure.next_deadline_ms(), 4000);
    c.pass(3999, &[2, 3]);
    c.show();
    assert_eq!(c.tenure.next_deadline_ms(), 4000);
    c.pass(1, &[]);
    c.show();
    c.check(
        "a-0 led by 1 in 0/0 of 1,2,3 isr 1,2,3
        broker 1 is fenced: it was not heard of any more
        a-0 led by 2 in 1/1 of 1,2,3 isr 2,3",
    );
    c.beat(1);
    c.isr("a", &[2, 3, 1]);
    c.show();
    c.check("beat 1 NONE\nisr NONE\na-0 led by 2 in 1/2 of 1,2,3 isr 2,3,1");
}

#[test]
fn replicas_that_cannot_serve_are_known() {
    let mut c = Cluster::with_topic(4, &[1, 2, 3, 4]);
    let offline = |c: &Cluster| {
        let partition = c.script.image().topic_by_name("a").unwrap().partitions[0].clone();
        c.script.image().offline_replicas(&partition).map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(offline(&c), []);
    c.kill(2);
    assert_eq!(offline(&c), [2], "fenced");
    c.unregister(3);
    assert_eq!(offline(&c), [2, 3], "gone");
    let failed = BrokerHeartbeatRequest { offline_log_dirs: vec![Uuid([4; 16])], ..c.heartbeat(4) };
    c.beat_as(&failed);
    assert_eq!(offline(&c), [2, 3, 4], "its directory has failed");
}

#[test]
fn a_session_is_as_long_as_it_is_set() {
    let mut c = Cluster::new(2, &[("broker.session.timeout.ms", "700")]);
    c.pass(699, &[2]);
    c.check("");
    c.pass(1, &[2]);
    c.check("broker 1 is fenced: it was not heard of any more");
}

#[test]
fn a_reset_connection_fences_unless_another_is_there_or_comes() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    let (one, epoch) = (BrokerId(1), c.epoch(1));
    c.pass(1, &[1, 2]);
    // A connection that comes before the end of the old one is noticed.
    c.tenure.handle_connected(one, epoch, 1);
    c.tenure.handle_connected(one, epoch, 2);
    c.tenure.handle_disconnected(one, 1, c.now_ms);
    c.pass(RECONNECT_MS, &[2]);
    // One that comes in time.
    c.tenure.handle_disconnected(one, 2, c.now_ms);
    c.pass(RECONNECT_MS - 1, &[2]);
    c.tenure.handle_connected(one, epoch, 3);
    c.pass(RECONNECT_MS, &[1, 2]);
    c.check("");
    // None, though a heartbeat was still on its way. A reset of something unknown does not count.
    c.tenure.handle_disconnected(one, 3, c.now_ms);
    c.tenure.handle_disconnected(BrokerId(2), 9, c.now_ms);
    c.pass(RECONNECT_MS, &[1, 2]);
    c.check("broker 1 is fenced: it was not heard of any more");
}

#[test]
fn a_controller_that_stood_still_fences_nobody_for_it() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.pass(1, &[1, 2]);
    c.now_ms += 20_000;
    c.tick(&[]);
    c.check("");
    c.pass(999, &[1]);
    c.check("");
    c.pass(1, &[1]);
    c.check("broker 2 is fenced: it was not heard of any more");
}

#[test]
fn a_new_controller_gives_every_broker_a_whole_session() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.now_ms = 1_000_000;
    c.tenure = Tenure::new(c.script.image(), &c.script.settings, c.now_ms);
    c.admit(1, 2);
    c.pass(3_999, &[2]);
    c.check("admit 1 DUPLICATE_BROKER_REGISTRATION");
    c.pass(1, &[]);
    c.check("broker 1 is fenced: it was not heard of any more");
}

#[test]
fn a_broker_that_stops_hands_its_leadership_over_first() {
    let mut c = Cluster::with_topic(3, &[1, 2]);
    let stop = |c: &Cluster| BrokerHeartbeatRequest { want_shut_down: true, ..c.heartbeat(1) };
    c.beat_as(&stop(&c));
    c.show();
    // Brokers 2 and 3 have not read yet that broker 2 leads.
    c.beat_as(&stop(&c));
    c.beat(2);
    c.beat_as(&stop(&c));
    c.isr("a", &[2, 1]);
    c.beat(3);
    c.beat_as(&stop(&c));
    c.beat_as(&stop(&c));
    c.show();
    c.check(
        "beat 1 NONE
        a-0 led by 2 in 1/1 of 1,2 isr 2
        beat 1 NONE
        beat 2 NONE
        beat 1 NONE
        isr INELIGIBLE_REPLICA
        beat 3 NONE
        beat 1 fenced may stop NONE
        beat 1 fenced may stop NONE
        a-0 led by 2 in 1/1 of 1,2 isr 2",
    );
    // It leads nothing and is in no ISR: it may stop at once.
    let mut c = Cluster::with_topic(3, &[1, 2]);
    c.beat_as(&BrokerHeartbeatRequest { want_shut_down: true, ..c.heartbeat(3) });
    c.check("beat 3 fenced may stop NONE");
}

#[test]
fn the_last_of_an_isr_stays_in_it_and_leads_again() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.kill(2);
    c.kill(1);
    c.show();
    c.beat(2);
    c.show();
    c.beat(1);
    c.show();
    c.check(
        "broker 2 is fenced: it was not heard of any more
        broker 1 is fenced: it was not heard of any more
        a-0 led by -1 in 1/2 of 1,2 isr 1
        beat 2 NONE
        a-0 led by -1 in 1/2 of 1,2 isr 1
        beat 1 NONE
        a-0 led by 1 in 2/3 of 1,2 isr 1",
    );
}

#[test]
fn an_unregistered_broker_is_in_no_isr() {
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.unregister(1);
    c.unregister(1);
    c.beat(1);
    c.show();
    c.check(
        "unregister 1 NONE
        unregister 1 BROKER_ID_NOT_REGISTERED: Broker ID 1 is not currently registered
        beat 1 fenced behind BROKER_ID_NOT_REGISTERED
        a-0 led by 2 in 1/1 of 1,2 isr 2",
    );
}

/// A registration of broker `id` with directories 1 and so on.
fn with_directories(id: i32, incarnation: u8, dirs: &[u8]) -> BrokerRegistrationRequest {
    BrokerRegistrationRequest {
        incarnation_id: Uuid([incarnation; 16]),
        log_dirs: dirs.iter().map(|dir| Uuid([*dir; 16])).collect(),
        ..registration(id, -1)
    }
}

/// Topics `a` and `b` on brokers 1 and 2, `c` on broker 1 alone, which has directories 11 and 12.
fn two_directories() -> Cluster {
    let mut c = Cluster::new(2, &[]);
    c.pass(4000, &[2]);
    c.admit_as(&with_directories(1, 2, &[11, 12]));
    c.beat(1);
    for name in ["a", "b", "c"] {
        let replicas: &[i32] = if name == "c" { &[1] } else { &[1, 2] };
        c.script.create(vec![assigned(name, &[(0, replicas)])], false);
    }
    c.script.text.clear();
    c
}

#[test]
fn partitions_of_a_failed_directory_go_elsewhere() {
    let mut c = two_directories();
    let topics: Vec<_> = c.script.image().topics().map(|topic| topic.id).collect();
    let epoch = c.epoch(1);
    let assignment = |topic: usize, dir: u8| DirectoryAssignment {
        topic: topics[topic],
        partition: 0,
        directory: Uuid([dir; 16]),
    };
    let all = [assignment(0, 11), assignment(1, 12), assignment(2, 11), assignment(0, 13)];
    let results = c.script.decide(|controller, _| controller.assign_directories(BrokerId(1), epoch, &all));
    use ErrorCode::{LogDirNotFound, None, NotLeaderOrFollower, ReplicaNotAvailable};
    assert_eq!(results, [None, None, None, LogDirNotFound]);
    let failed = BrokerHeartbeatRequest { offline_log_dirs: vec![Uuid([11; 16])], ..c.heartbeat(1) };
    c.beat_as(&failed);
    c.beat_as(&failed);
    c.show();
    c.check(
        "beat 1 NONE
        beat 1 NONE
        a-0 led by 2 in 1/2 of 1,2 isr 2
        b-0 led by 1 in 0/1 of 1,2 isr 1,2
        c-0 led by -1 in 1/2 of 1 isr 1",
    );
    // The replica of `a` may begin anew in the other directory; that of `c` is the only one with its records.
    let again = [assignment(0, 12), assignment(2, 12)];
    let results = c.script.decide(|controller, _| controller.assign_directories(BrokerId(1), epoch, &again));
    assert_eq!(results, [None, ReplicaNotAvailable]);
    let other = c.epoch(2);
    let foreign = [assignment(2, 2)];
    let results =
        c.script.decide(|controller, _| controller.assign_directories(BrokerId(2), other, &foreign));
    assert_eq!(results, [NotLeaderOrFollower]);
    // With all gone it cannot serve, but it is known where its replicas were.
    let dirs = vec![Uuid([11; 16]), Uuid([12; 16])];
    c.beat_as(&BrokerHeartbeatRequest { offline_log_dirs: dirs, ..c.heartbeat(1) });
    c.show();
    c.check(
        "beat 1 fenced NONE
        a-0 led by 2 in 1/3 of 1,2 isr 2
        b-0 led by 2 in 1/2 of 1,2 isr 2
        c-0 led by -1 in 1/2 of 1 isr 1",
    );
    // The directory is back with the next start.
    c.kill(1);
    c.admit_as(&with_directories(1, 3, &[11, 12]));
    c.beat(1);
    c.script.text.clear();
    c.show();
    c.check(
        "a-0 led by 2 in 1/3 of 1,2 isr 2
        b-0 led by 2 in 1/2 of 1,2 isr 2
        c-0 led by 1 in 2/3 of 1 isr 1",
    );
}

#[test]
fn a_broker_with_an_empty_disk_leads_nothing_that_others_still_have() {
    // In sync, but others are too.
    let mut c = Cluster::with_topic(2, &[1, 2]);
    c.kill(1);
    c.admit_as(&with_directories(1, 2, &[91]));
    c.beat(1);
    c.show();
    // The only one in sync: nobody leads, neither the one without records nor the one that lacks some.
    c.isr("a", &[2, 1]);
    c.kill(2);
    c.kill(1);
    c.admit_as(&with_directories(1, 3, &[92]));
    c.beat(1);
    c.beat(2);
    c.show();
    c.check(
        "broker 1 is fenced: it was not heard of any more
        admit 1 NONE
        beat 1 NONE
        a-0 led by 2 in 1/2 of 1,2 isr 2
        isr NONE
        broker 2 is fenced: it was not heard of any more
        broker 1 is fenced: it was not heard of any more
        admit 1 NONE
        beat 1 NONE
        beat 2 NONE
        a-0 led by -1 in 3/5 of 1,2 isr 1",
    );
    c.elect(1, Some(&[("a", 0)]));
    c.show();
    c.check("elect a-0 NONE\na-0 led by 2 in 4/6 of 1,2 isr 2 recovering");
}

#[test]
fn without_a_known_directory_the_worst_is_assumed_where_there_are_others() {
    let mut c = Cluster::new(1, &[]);
    c.admit_as(&with_directories(2, 1, &[21, 22]));
    c.beat(2);
    c.script.create(vec![assigned("a", &[(0, &[2, 1])]), assigned("b", &[(0, &[2])])], false);
    c.isr("a", &[2]);
    c.kill(2);
    c.admit_as(&with_directories(2, 2, &[22, 23]));
    c.beat(2);
    c.script.text.clear();
    c.show();
    c.check(
        "a-0 led by -1 in 1/3 of 2,1 isr 2
        b-0 led by 2 in 2/2 of 2 isr 2",
    );
}
