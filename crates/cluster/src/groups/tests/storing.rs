//! Writes that fail, and a broker that does not lead any more.

use super::check;

#[test]
fn an_assignment_that_is_not_stored_starts_over() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > hold
        > tell
        > sync g id=b gen=1
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        > sync g id=a gen=1 give=b:t-0;a:t-1
        #4 sync REBALANCE_IN_PROGRESS
        > fail not-available
        tell the assignment of group g generation 1 was not stored: not available
        #5 sync COORDINATOR_NOT_AVAILABLE
        #3 sync COORDINATOR_NOT_AVAILABLE
        > heartbeat g id=a gen=1
        #6 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a
        > join g id=b
        #7 join gen=2 range id=a leader=a a(t) b(t)
        #8 join gen=2 range id=b leader=a
        ",
    );
}

#[test]
fn nobody_gets_a_part_before_it_is_stored() {
    check(
        "
        > set delay=0
        > hold
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        > describe g
        NONE CompletingRebalance consumer
        a client= host=/1.2.3.4 () []
        > stored
        #2 sync [t-0]
        > describe g
        NONE Stable consumer range
        a client= host=/1.2.3.4 (t) [t-0]
        ",
    );
}

#[test]
fn an_assignment_of_the_past_changes_nothing() {
    check(
        "
        > set delay=0
        > hold
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        > join g as=b v=3
        #2 sync REBALANCE_IN_PROGRESS
        > stored
        > join g id=a
        #4 join gen=2 range id=a leader=a a(t) b(t)
        #3 join gen=2 range id=b leader=a
        > describe g
        NONE CompletingRebalance consumer
        a client= host=/1.2.3.4 () []
        b client= host=/1.2.3.4 () []
        ",
    );
}

#[test]
fn who_waits_is_told_when_the_leader_moves() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > hold
        > commit h of=t-0:1
        store h t-0:1
        > delete-offsets h of=t-0
        store h t-0 gone
        > commit i of=t-0:1
        store i t-0:1
        > delete i
        store i t-0 gone
        store i gone
        > join k as=c v=3
        > join g as=d v=8 instance=i
        #3 sync REBALANCE_IN_PROGRESS
        > resign
        #9 join NOT_COORDINATOR id=d
        #8 join NOT_COORDINATOR id=c
        #4 commit t-0:NOT_COORDINATOR
        #5 delete-offsets NOT_COORDINATOR
        #6 commit t-0:NOT_COORDINATOR
        #7 delete NOT_COORDINATOR
        > list
        ",
    );
}

#[test]
fn too_large_a_write_is_no_reason_to_try_again() {
    check(
        "
        > hold
        > commit g of=t-0:1
        store g t-0:1
        > fail too-large
        #1 commit t-0:UNKNOWN_SERVER_ERROR
        ",
    );
}
