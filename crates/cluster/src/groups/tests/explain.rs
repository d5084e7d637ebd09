//! Why things happened.

use super::check;

#[test]
fn partitions_that_move_say_why() {
    check(
        "
        > set delay=100
        > tell
        > join g as=a v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0,t-1
        store g gen=1 range leader=a a[t-0,t-1]
        #2 sync [t-0,t-1]
        tell group g is stable at generation 1 with 1 members by range: 0 partitions moved, 0 members without partitions, because member a joined
        > join g as=b v=9 reason=scaling
        #3 join MEMBER_ID_REQUIRED id=b
        > join g id=b reason=scaling
        > join g id=a
        #5 join gen=2 range id=a leader=a a(t) b(t)
        #4 join gen=2 range id=b leader=a
        > sync g id=a gen=2 give=a:t-0;b:t-1
        store g gen=2 range leader=a a[t-0] b[t-1]
        #6 sync [t-0]
        tell group g is stable at generation 2 with 2 members by range: 1 partitions moved, 0 members without partitions, because member b joined (scaling)
        > sync g id=b gen=2
        #7 sync [t-1]
        > leave g who=b(closing)
        #8 leave NONE b:NONE
        > join g id=a
        #9 join gen=3 range id=a leader=a a(t)
        > sync g id=a gen=3 give=a:t-0,t-1
        store g gen=3 range leader=a a[t-0,t-1]
        #10 sync [t-0,t-1]
        tell group g is stable at generation 3 with 1 members by range: 1 partitions moved, 0 members without partitions, because member b left (closing)
        > explain g
        Stable 3
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        1 joined: member b joined (scaling)
        2 stable: 2 members by range, 1 partitions moved, because member b joined (scaling)
        2 left: member b left (closing)
        3 stable: 1 members by range, 1 partitions moved, because member b left (closing)
        partition t-0 went to a at generation 1 because member a joined
        partition t-1 moved from b to a at generation 3 because member b left (closing)
        ",
    );
}

#[test]
fn more_members_than_partitions() {
    check(
        "
        > set delay=100
        > tell
        > join g as=a v=3
        > join g as=b v=3
        > join g as=c v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t) c(t)
        #2 join gen=1 range id=b leader=a
        #3 join gen=1 range id=c leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1;c:
        store g gen=1 range leader=a a[t-0] b[t-1] c[]
        #4 sync [t-0]
        tell group g is stable at generation 1 with 3 members by range: 0 partitions moved, 1 members without partitions, because member a joined; member b joined; member c joined
        > explain g
        Stable 1
        0 joined: member a joined
        0 joined: member b joined
        0 joined: member c joined
        1 stable: 3 members by range, 0 partitions moved, because member a joined; member b joined; member c joined
        1 idle: 1 of 3 members have no partition: 2 partitions for 3 members
        partition t-0 went to a at generation 1 because member a joined; member b joined; member c joined
        partition t-1 went to b at generation 1 because member a joined; member b joined; member c joined
        ",
    );
}

#[test]
fn a_cooperative_move_takes_two_generations() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0,t-1
        store g gen=1 range leader=a a[t-0,t-1]
        #2 sync [t-0,t-1]
        > join g as=b v=3
        > join g id=a
        #4 join gen=2 range id=a leader=a a(t) b(t)
        #3 join gen=2 range id=b leader=a
        > sync g id=a gen=2 give=a:t-0
        store g gen=2 range leader=a a[t-0] b[]
        #5 sync [t-0]
        > sync g id=b gen=2
        #6 sync []
        > explain g
        Stable 2
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        1 joined: member b joined
        2 stable: 2 members by range, 0 partitions moved, because member b joined
        2 idle: 1 of 2 members have no partition: 1 partitions for 2 members
        partition t-0 went to a at generation 1 because member a joined
        partition t-1 was taken from a at generation 2 because member b joined
        > join g id=a
        > join g id=b
        #7 join gen=3 range id=a leader=a a(t) b(t)
        #8 join gen=3 range id=b leader=a
        > sync g id=a gen=3 give=a:t-0;b:t-1
        store g gen=3 range leader=a a[t-0] b[t-1]
        #9 sync [t-0]
        > explain g
        Stable 3
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        1 joined: member b joined
        2 stable: 2 members by range, 0 partitions moved, because member b joined
        2 idle: 1 of 2 members have no partition: 1 partitions for 2 members
        2 rebalancing: member a asked to rebalance (the leader asks for it)
        3 stable: 2 members by range, 1 partitions moved, because member a asked to rebalance (the leader asks for it)
        partition t-0 went to a at generation 1 because member a joined
        partition t-1 moved from a to b at generation 3 because member a asked to rebalance (the leader asks for it)
        ",
    );
}

#[test]
fn bytes_that_do_not_decode_are_opaque() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:!garbage
        store g gen=1 range leader=a a[garbage]
        #2 sync [garbage]
        > explain g
        Stable 1
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        > explain h
        nothing
        ",
    );
}

#[test]
fn who_goes_silent_is_named() {
    check(
        "
        > set delay=100
        > join g as=a v=3 session=6000
        > join g as=b v=3 session=60000 instance=i
        > join g as=c v=3 session=60000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b/i(t) c(t)
        #2 join gen=1 range id=b leader=a
        #3 join gen=1 range id=c leader=a
        > sync g id=a gen=1
        store g gen=1 range leader=a a[] b[] c[]
        #4 sync []
        > sync g id=b instance=i gen=1
        #5 sync []
        > sync g id=c gen=1
        #6 sync []
        > at 6200
        > join g id=b instance=i protocols=range:u
        > at 66200
        #7 join gen=2 range id=b leader=b b/i(u)
        > explain g
        CompletingRebalance 2
        0 joined: member a joined
        0 joined: member b joined
        0 joined: member c joined
        1 stable: 3 members by range, 0 partitions moved, because member a joined; member b joined; member c joined
        1 idle: 3 of 3 members have no partition: 0 partitions for 3 members
        1 timed-out: member a timed out
        1 changed: member b changed its subscription
        1 timed-out: member c timed out
        ",
    );
}

#[test]
fn an_empty_group_says_who_had_what() {
    check(
        "
        > set delay=0
        > tell
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        tell group g is stable at generation 1 with 1 members by range: 0 partitions moved, 0 members without partitions, because member a joined
        > leave g who=a
        #3 leave NONE a:NONE
        store g gen=2
        tell group g is empty at generation 2, because member a left without a reason
        > explain g
        Empty 2
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        1 left: member a left without a reason
        2 empty: no members, because member a left without a reason
        partition t-0 was taken from a at generation 2 because member a left without a reason
        ",
    );
}

#[test]
fn a_partition_that_comes_back_has_not_moved() {
    check(
        "
        > set delay=0
        > tell
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        tell group g is stable at generation 1 with 1 members by range: 0 partitions moved, 0 members without partitions, because member a joined
        > join g id=a
        #3 join gen=2 range id=a leader=a a(t)
        > sync g id=a gen=2
        store g gen=2 range leader=a a[]
        #4 sync []
        tell group g is stable at generation 2 with 1 members by range: 0 partitions moved, 1 members without partitions, because member a asked to rebalance (the leader asks for it)
        > join g id=a
        #5 join gen=3 range id=a leader=a a(t)
        > sync g id=a gen=3 give=a:t-0
        store g gen=3 range leader=a a[t-0]
        #6 sync [t-0]
        tell group g is stable at generation 3 with 1 members by range: 0 partitions moved, 0 members without partitions, because member a asked to rebalance (the leader asks for it)
        > explain g
        Stable 3
        0 joined: member a joined
        1 stable: 1 members by range, 0 partitions moved, because member a joined
        1 rebalancing: member a asked to rebalance (the leader asks for it)
        2 stable: 1 members by range, 0 partitions moved, because member a asked to rebalance (the leader asks for it)
        2 idle: 1 of 1 members have no partition: 0 partitions for 1 members
        2 rebalancing: member a asked to rebalance (the leader asks for it)
        3 stable: 1 members by range, 0 partitions moved, because member a asked to rebalance (the leader asks for it)
        partition t-0 came back to a at generation 3 because member a asked to rebalance (the leader asks for it)
        ",
    );
}
