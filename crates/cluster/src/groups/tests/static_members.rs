//! Static members: KIP-345 and KIP-814.

use super::check;

#[test]
fn a_member_that_returns_causes_no_rebalance() {
    check(
        "
        > set delay=100
        > join g as=a instance=i client=one
        > join g as=b instance=j client=two
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b instance=j gen=1
        #4 sync [t-1]
        > join g as=b2 instance=j client=three
        store g gen=1 range leader=a a[t-0] b2[t-1]
        #5 join gen=1 range id=b2 leader=a
        > sync g id=b2 instance=j gen=1
        #6 sync [t-1]
        > heartbeat g id=a instance=i gen=1
        #7 heartbeat NONE
        > heartbeat g id=b instance=j gen=1
        #8 heartbeat FENCED_INSTANCE_ID
        > heartbeat g id=b gen=1
        #9 heartbeat UNKNOWN_MEMBER_ID
        > commit g id=b instance=j gen=1 of=t-1:5
        #10 commit t-1:FENCED_INSTANCE_ID
        > commit g id=b2 instance=j gen=1 of=t-1:5
        store g t-1:5
        #11 commit t-1:NONE
        > describe g
        NONE Stable consumer range
        a/i client=one host=/1.2.3.4 (t) [t-0]
        b2/j client=three host=/1.2.3.4 (t) [t-1]
        > restart
        > describe g
        NONE Stable consumer range
        a/i client=one host=/1.2.3.4 (t) [t-0]
        b2/j client=three host=/1.2.3.4 (t) [t-1]
        ",
    );
}

#[test]
fn a_leader_that_returns_is_told_to_keep_the_assignment() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > join g as=b instance=j
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b instance=j gen=1
        #4 sync [t-1]
        > join g as=a2 instance=i
        store g gen=1 range leader=a2 a2[t-0] b[t-1]
        #5 join gen=1 range id=a2 leader=a2 a2/i(t) b/j(t) skip
        > sync g id=a2 instance=i gen=1
        #6 sync [t-0]
        > join g as=a3 instance=i v=8
        store g gen=1 range leader=a3 a3[t-0] b[t-1]
        #7 join gen=1 range id=a3 leader=a2
        > sync g id=a3 instance=i gen=1
        #8 sync [t-0]
        ",
    );
}

#[test]
fn who_wants_something_else_rebalances() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > join g as=b instance=j
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b instance=j gen=1
        #4 sync [t-1]
        > join g as=b2 instance=j protocols=range:t,u
        > heartbeat g id=a instance=i gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a instance=i
        #7 join gen=2 range id=a leader=a a/i(t) b2/j(t,u)
        #5 join gen=2 range id=b2 leader=a
        ",
    );
}

#[test]
fn another_protocol_rebalances() {
    check(
        "
        > set delay=0
        > join g as=a instance=i protocols=range:t|sticky:t
        #1 join gen=1 range id=a leader=a a/i(t)
        > sync g id=a instance=i gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > join g as=a2 instance=i protocols=sticky:t|range:t
        #3 join gen=2 sticky id=a2 leader=a2 a2/i(t)
        ",
    );
}

#[test]
fn the_second_with_an_instance_id_fences_the_first() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > join g as=a2 instance=i
        #1 join FENCED_INSTANCE_ID id=a
        > at 200
        #2 join gen=1 range id=a2 leader=a2 a2/i(t)
        > join g as=b instance=i
        #3 join gen=2 range id=b leader=b b/i(t)
        > heartbeat g id=a2 instance=i gen=1
        #4 heartbeat FENCED_INSTANCE_ID
        > join g id=a2 instance=i
        #5 join FENCED_INSTANCE_ID id=a2
        > sync g id=a2 instance=i gen=1
        #6 sync FENCED_INSTANCE_ID
        > sync g id=b instance=i gen=2 give=b:t-0
        store g gen=2 range leader=b b[t-0]
        #7 sync [t-0]
        > leave g who=a2/i
        #8 leave NONE a2/i:FENCED_INSTANCE_ID
        > leave g who=b/k
        #9 leave NONE b/k:UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn a_fenced_member_that_waits_for_the_leader_is_told() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > join g as=b instance=j
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b instance=j gen=1
        > join g as=b2 instance=j
        #3 sync FENCED_INSTANCE_ID
        > join g id=a instance=i
        #5 join gen=2 range id=a leader=a a/i(t) b2/j(t)
        #4 join gen=2 range id=b2 leader=a
        ",
    );
}

#[test]
fn an_instance_that_stays_away_is_removed_when_its_session_ends() {
    check(
        "
        > set delay=100
        > join g as=a instance=i session=6000
        > join g as=b instance=j session=30000
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b instance=j gen=1 give=b:t-1
        #4 sync [t-1]
        > at 6199
        > heartbeat g id=b instance=j gen=1
        #5 heartbeat NONE
        > at 6200
        > heartbeat g id=b instance=j gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > join g id=b instance=j
        #7 join gen=2 range id=b leader=b b/j(t)
        ",
    );
}

#[test]
fn a_rebalance_does_not_remove_a_static_member() {
    check(
        "
        > set delay=100
        > join g as=a instance=i session=60000 rebalance=5000
        > join g as=b session=60000 v=3 rebalance=5000
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > join g id=b session=60000 protocols=range:u rebalance=5000
        > at 5200
        #5 join gen=2 range id=b leader=b a/i(t) b(u)
        > sync g id=b gen=2 give=a:t-0
        store g gen=2 range leader=b a[t-0] b[]
        #6 sync []
        > join g as=a2 instance=i session=60000 rebalance=5000
        store g gen=2 range leader=b a2[t-0] b[]
        #7 join gen=2 range id=a2 leader=b
        > sync g id=a2 instance=i gen=2
        #8 sync [t-0]
        ",
    );
}

#[test]
fn a_static_member_that_does_not_sync_is_removed() {
    check(
        "
        > set delay=100
        > join g as=a instance=i session=60000 rebalance=5000
        > join g as=b instance=j session=60000 rebalance=5000
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b/j(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > at 5200
        > describe g
        NONE PreparingRebalance consumer
        a/i client= host=/1.2.3.4 () [t-0]
        ",
    );
}

#[test]
fn without_any_member_that_comes_the_rebalance_waits() {
    check(
        "
        > set delay=100
        > join g as=a instance=i session=20000 rebalance=5000
        > join g as=b v=3 session=6000 rebalance=5000
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a instance=i gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > at 6200
        > describe g
        NONE PreparingRebalance consumer
        a/i client= host=/1.2.3.4 () [t-0]
        > at 15000
        > describe g
        NONE PreparingRebalance consumer
        a/i client= host=/1.2.3.4 () [t-0]
        > at 20200
        store g gen=2
        > describe g
        NONE Empty consumer
        ",
    );
}

#[test]
fn a_member_id_that_could_not_be_stored_is_taken_back() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t)
        > sync g id=a instance=i gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > hold
        > join g as=a2 instance=i
        store g gen=1 range leader=a2 a2[t-0]
        > join g as=a3 instance=i
        #3 join FENCED_INSTANCE_ID id=a2
        store g gen=1 range leader=a3 a3[t-0]
        > fail not-available
        > fail not-coordinator
        #4 join NOT_COORDINATOR id=
        > heartbeat g id=a instance=i gen=1
        #5 heartbeat NONE
        > heartbeat g id=a3 instance=i gen=1
        #6 heartbeat FENCED_INSTANCE_ID
        > describe g
        NONE Stable consumer range
        a/i client= host=/1.2.3.4 (t) [t-0]
        ",
    );
}

#[test]
fn a_rebalance_that_comes_first_answers_the_join() {
    check(
        "
        > set delay=100
        > join g as=a instance=i
        > at 200
        #1 join gen=1 range id=a leader=a a/i(t)
        > sync g id=a instance=i gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > hold
        > join g as=a2 instance=i
        store g gen=1 range leader=a2 a2[t-0]
        > join g as=b v=3
        #3 join gen=2 range id=a2 leader=a2 a2/i(t) b(t)
        #4 join gen=2 range id=b leader=a2
        > stored
        ",
    );
}
