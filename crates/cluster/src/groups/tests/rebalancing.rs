//! Rebalances: who is waited for and how long, sessions, SyncGroups that do not come.

use super::check;

#[test]
fn the_first_rebalance_waits_for_more_members() {
    check(
        "
        > join g as=a v=3 rebalance=10000
        > at 2000
        > join g as=b v=3 rebalance=10000
        > at 2999
        > at 3000
        > join g as=c v=3 rebalance=10000
        > at 5999
        > at 6000
        > at 8999
        > at 9000
        #1 join gen=1 range id=a leader=a a(t) b(t) c(t)
        #2 join gen=1 range id=b leader=a
        #3 join gen=1 range id=c leader=a
        ",
    );
}

#[test]
fn the_wait_ends_with_the_rebalance_timeout() {
    check(
        "
        > join g as=a v=3 rebalance=7000
        > at 1000
        > join g as=b v=3 rebalance=7000
        > at 3000
        > join g as=c v=3 rebalance=7000
        > at 6000
        > join g as=d v=3 rebalance=7000
        > at 6999
        > at 7000
        #1 join gen=1 range id=a leader=a a(t) b(t) c(t) d(t)
        #2 join gen=1 range id=b leader=a
        #3 join gen=1 range id=c leader=a
        #4 join gen=1 range id=d leader=a
        ",
    );
}

#[test]
fn without_a_delay_the_first_member_goes_ahead() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > join g as=b v=3
        > heartbeat g id=a gen=1
        #3 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a
        #4 join gen=2 range id=a leader=a a(t) b(t)
        #2 join gen=2 range id=b leader=a
        ",
    );
}

#[test]
fn who_does_not_rejoin_in_time_is_removed() {
    check(
        "
        > set delay=100
        > join g as=a v=3 rebalance=5000
        > join g as=b v=3 rebalance=5000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > join g as=c v=3 rebalance=5000
        > heartbeat g id=a gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > heartbeat g id=b gen=1
        #7 heartbeat REBALANCE_IN_PROGRESS
        > sync g id=b gen=1
        #8 sync REBALANCE_IN_PROGRESS
        > join g id=b rebalance=5000
        > at 5199
        > at 5200
        #9 join gen=2 range id=b leader=b b(t) c(t)
        #5 join gen=2 range id=c leader=b
        > heartbeat g id=a gen=1
        #10 heartbeat UNKNOWN_MEMBER_ID
        > sync g id=b gen=2 give=b:t-0;c:t-1
        store g gen=2 range leader=b b[t-0] c[t-1]
        #11 sync [t-0]
        > sync g id=c gen=2
        #12 sync [t-1]
        ",
    );
}

#[test]
fn a_session_ends_without_heartbeats() {
    check(
        "
        > set delay=100
        > join g as=a v=3 session=6000
        > join g as=b v=3 session=6000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > at 4000
        > heartbeat g id=a gen=1
        #5 heartbeat NONE
        > at 6199
        > describe g
        NONE Stable consumer range
        a client= host=/1.2.3.4 (t) [t-0]
        b client= host=/1.2.3.4 (t) [t-1]
        > at 6200
        > heartbeat g id=a gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a session=6000
        #7 join gen=2 range id=a leader=a a(t)
        > sync g id=a gen=2 give=a:t-0,t-1
        store g gen=2 range leader=a a[t-0,t-1]
        #8 sync [t-0,t-1]
        > at 12200
        store g gen=3
        > describe g
        NONE Empty consumer
        ",
    );
}

#[test]
fn who_waits_for_a_rebalance_has_no_session() {
    check(
        "
        > set delay=100
        > join g as=a v=3 session=6000
        > join g as=b v=3 session=6000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1
        store g gen=1 range leader=a a[] b[]
        #3 sync []
        > sync g id=b gen=1
        #4 sync []
        > join g id=a session=6000
        > at 6199
        > heartbeat g id=b gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > at 12000
        > heartbeat g id=b gen=1
        #7 heartbeat REBALANCE_IN_PROGRESS
        > join g id=b session=6000
        #5 join gen=2 range id=a leader=a a(t) b(t)
        #8 join gen=2 range id=b leader=a
        ",
    );
}

#[test]
fn who_waits_for_the_leader_has_no_session() {
    check(
        "
        > set delay=100
        > join g as=a v=3 session=6000
        > join g as=b v=3 session=6000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > at 6000
        > heartbeat g id=a gen=1
        #4 heartbeat NONE
        > at 11000
        > heartbeat g id=a gen=1
        #5 heartbeat NONE
        > sync g id=a gen=1 give=b:t-0
        store g gen=1 range leader=a a[] b[t-0]
        #6 sync []
        #3 sync [t-0]
        > at 15000
        > heartbeat g id=a gen=1
        #7 heartbeat NONE
        > at 16999
        > describe g
        NONE Stable consumer range
        a client= host=/1.2.3.4 (t) []
        b client= host=/1.2.3.4 (t) [t-0]
        > at 17000
        > describe g
        NONE PreparingRebalance consumer
        a client= host=/1.2.3.4 () []
        ",
    );
}

#[test]
fn a_new_member_waits_at_most_five_minutes() {
    check(
        "
        > set delay=100
        > join g as=a v=3 rebalance=400000 session=1800000
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > join g as=b v=3 rebalance=400000
        > at 300199
        > at 300200
        #3 join UNKNOWN_MEMBER_ID id=
        > heartbeat g id=a gen=1
        #4 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a rebalance=400000 session=1800000
        #5 join gen=2 range id=a leader=a a(t)
        ",
    );
}

#[test]
fn a_commit_and_a_sync_keep_the_session() {
    check(
        "
        > set delay=0
        > join g as=a v=3 session=6000
        #1 join gen=1 range id=a leader=a a(t)
        > at 5000
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > at 10000
        > commit g id=a gen=1 of=t-0:1
        store g t-0:1
        #3 commit t-0:NONE
        > at 15000
        > sync g id=a gen=1
        #4 sync [t-0]
        > at 20999
        > at 21000
        store g gen=2
        ",
    );
}

#[test]
fn who_does_not_sync_in_time_is_removed() {
    check(
        "
        > set delay=100
        > join g as=a v=3 rebalance=5000 session=60000
        > join g as=b v=3 rebalance=5000 session=60000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > at 5199
        > describe g
        NONE Stable consumer range
        a client= host=/1.2.3.4 (t) [t-0]
        b client= host=/1.2.3.4 (t) [t-1]
        > at 5200
        > heartbeat g id=a gen=1
        #4 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a rebalance=5000 session=60000
        #5 join gen=2 range id=a leader=a a(t)
        > sync g id=a gen=2 give=a:t-0,t-1
        store g gen=2 range leader=a a[t-0,t-1]
        #6 sync [t-0,t-1]
        ",
    );
}

#[test]
fn a_leader_that_does_not_sync_is_replaced() {
    check(
        "
        > set delay=100
        > join g as=a v=3 rebalance=5000 session=60000
        > join g as=b v=3 rebalance=5000 session=60000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > at 5200
        #3 sync REBALANCE_IN_PROGRESS
        > join g id=b rebalance=5000 session=60000
        #4 join gen=2 range id=b leader=b b(t)
        > sync g id=b gen=2 give=b:t-0,t-1
        store g gen=2 range leader=b b[t-0,t-1]
        #5 sync [t-0,t-1]
        ",
    );
}

#[test]
fn whom_the_leader_forgot_gets_nothing() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > sync g id=a gen=1 give=a:t-0,t-1;ghost:t-2
        store g gen=1 range leader=a a[t-0,t-1] b[]
        #4 sync [t-0,t-1]
        #3 sync []
        ",
    );
}

#[test]
fn a_join_in_the_middle_of_an_assignment_starts_over() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > join g as=c v=3
        #3 sync REBALANCE_IN_PROGRESS
        > sync g id=a gen=1 give=a:t-0;b:t-1
        #5 sync REBALANCE_IN_PROGRESS
        > join g id=a
        > join g id=b
        #6 join gen=2 range id=a leader=a a(t) b(t) c(t)
        #7 join gen=2 range id=b leader=a
        #4 join gen=2 range id=c leader=a
        ",
    );
}

#[test]
fn a_pending_member_is_waited_for() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > join g as=b session=6000
        #3 join MEMBER_ID_REQUIRED id=b
        > join g id=a
        > sync g id=a gen=2 give=a:t-0
        #5 sync ILLEGAL_GENERATION
        > join g as=c session=6000
        #6 join MEMBER_ID_REQUIRED id=c
        > join g id=a
        #4 join REBALANCE_IN_PROGRESS id=a
        > join g id=b session=6000
        > at 6200
        #7 join gen=2 range id=a leader=a a(t) b(t)
        #8 join gen=2 range id=b leader=a
        ",
    );
}
