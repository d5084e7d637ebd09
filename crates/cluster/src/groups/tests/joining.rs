//! JoinGroup: ids, protocols, what is refused, the vote.

use super::check;

#[test]
fn a_new_member_comes_back_with_its_id() {
    check(
        "
        > set delay=0
        > join g as=a
        #1 join MEMBER_ID_REQUIRED id=a
        > join g id=a
        #2 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0,t-1
        store g gen=1 range leader=a a[t-0,t-1]
        #3 sync [t-0,t-1]
        > heartbeat g id=a gen=1
        #4 heartbeat NONE
        > join g id=nobody
        #5 join UNKNOWN_MEMBER_ID id=nobody
        > join other id=a
        #6 join UNKNOWN_MEMBER_ID id=a
        ",
    );
}

#[test]
fn an_old_client_needs_no_id() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        ",
    );
}

#[test]
fn a_member_that_never_comes_back_with_its_id_is_forgotten() {
    check(
        "
        > join g as=a session=7000
        #1 join MEMBER_ID_REQUIRED id=a
        > join g as=b session=9000
        #2 join MEMBER_ID_REQUIRED id=b
        > list
        g classic Empty ''
        > at 6999
        > list
        g classic Empty ''
        > at 7000
        > join g id=a
        #3 join UNKNOWN_MEMBER_ID id=a
        > join g id=b session=9000
        > at 10001
        #4 join gen=1 range id=b leader=b b(t)
        > list
        g classic CompletingRebalance 'consumer'
        ",
    );
}

#[test]
fn what_cannot_be_is_refused() {
    check(
        "
        > join  as=a
        #1 join INVALID_GROUP_ID id=
        > join g as=a session=5999
        #2 join INVALID_SESSION_TIMEOUT id=
        > join g as=a session=1800001
        #3 join INVALID_SESSION_TIMEOUT id=
        > join g as=a protocols=
        #4 join INCONSISTENT_GROUP_PROTOCOL id=
        > join g as=a type=
        #5 join INCONSISTENT_GROUP_PROTOCOL id=
        > list
        ",
    );
}

#[test]
fn a_protocol_that_not_all_support_is_refused() {
    check(
        "
        > set delay=0
        > join g as=a v=3 protocols=range:t|sticky:t
        #1 join gen=1 range id=a leader=a a(t)
        > join g as=b v=3 protocols=roundrobin:t
        #2 join INCONSISTENT_GROUP_PROTOCOL id=
        > join g as=b v=3 type=connect protocols=range:t
        #3 join INCONSISTENT_GROUP_PROTOCOL id=
        > join g as=b v=3 protocols=sticky:t
        > join g id=a protocols=range:t|sticky:t
        #5 join gen=2 sticky id=a leader=a a(t) b(t)
        #4 join gen=2 sticky id=b leader=a
        > sync g id=a gen=2 type=consumer protocol=range
        #6 sync INCONSISTENT_GROUP_PROTOCOL
        > sync g id=a gen=2 type=connect protocol=sticky
        #7 sync INCONSISTENT_GROUP_PROTOCOL
        > sync g id=a gen=2 type=consumer protocol=sticky give=a:t-0;b:t-1
        store g gen=2 sticky leader=a a[t-0] b[t-1]
        #8 sync [t-0]
        > sync g id=b gen=2
        #9 sync [t-1]
        ",
    );
}

#[test]
fn most_votes_win_and_the_oldest_decides_between_equals() {
    check(
        "
        > set delay=100
        > join g as=a v=3 protocols=range:t|sticky:t
        > join g as=b v=3 protocols=sticky:t|range:t
        > join g as=c v=3 protocols=sticky:t|range:t
        > at 200
        #1 join gen=1 sticky id=a leader=a a(t) b(t) c(t)
        #2 join gen=1 sticky id=b leader=a
        #3 join gen=1 sticky id=c leader=a
        > leave g v=2 id=c
        #4 leave NONE
        > join g id=b protocols=sticky:t|range:t
        > join g id=a protocols=range:t|sticky:t
        #6 join gen=2 range id=a leader=a a(t) b(t)
        #5 join gen=2 range id=b leader=a
        ",
    );
}

#[test]
fn any_protocol_type_is_opaque() {
    check(
        "
        > set delay=0
        > join g as=a v=3 type=connect protocols=default:xyz
        #1 join gen=1 default id=a leader=a a(xyz)
        > sync g id=a gen=1 give=a:!anything
        store g gen=1 default leader=a a[anything]
        #2 sync [anything]
        > describe g
        NONE Stable connect default
        a client= host=/1.2.3.4 (xyz) [anything]
        > explain g
        Stable 1
        0 joined: member a joined
        1 stable: 1 members by default, 0 partitions moved, because member a joined
        ",
    );
}

#[test]
fn a_follower_whose_answer_was_lost_gets_the_generation_again() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > join g id=b
        #3 join gen=1 range id=b leader=a
        > join g id=a
        #4 join gen=1 range id=a leader=a a(t) b(t)
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #5 sync [t-0]
        > sync g id=b gen=1
        #6 sync [t-1]
        > join g id=b
        #7 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        #8 sync [t-1]
        > join g id=a
        > heartbeat g id=b gen=1
        #10 heartbeat REBALANCE_IN_PROGRESS
        ",
    );
}

#[test]
fn a_changed_subscription_rebalances() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=b gen=1
        > join g id=b protocols=range:t,u
        #3 sync REBALANCE_IN_PROGRESS
        > join g id=a
        #5 join gen=2 range id=a leader=a a(t) b(t,u)
        #4 join gen=2 range id=b leader=a
        > sync g id=a gen=2 give=a:t-0;b:t-1,u-0
        store g gen=2 range leader=a a[t-0] b[t-1,u-0]
        #6 sync [t-0]
        > sync g id=b gen=2
        #7 sync [t-1,u-0]
        ",
    );
}

#[test]
fn who_joins_twice_gives_up_the_first() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g id=a
        #1 join REBALANCE_IN_PROGRESS id=a
        > at 200
        #2 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #3 sync [t-0]
        ",
    );
}

#[test]
fn generations_and_ids_of_the_past() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=0
        #2 sync ILLEGAL_GENERATION
        > sync g id=b gen=1
        #3 sync UNKNOWN_MEMBER_ID
        > sync h id=a gen=1
        #4 sync UNKNOWN_MEMBER_ID
        > heartbeat g id=a gen=2
        #5 heartbeat ILLEGAL_GENERATION
        > heartbeat g id=b gen=1
        #6 heartbeat UNKNOWN_MEMBER_ID
        > heartbeat h id=a gen=1
        #7 heartbeat UNKNOWN_MEMBER_ID
        > heartbeat  id=a gen=1
        #8 heartbeat INVALID_GROUP_ID
        > sync  id=a gen=1
        #9 sync INVALID_GROUP_ID
        > heartbeat g id=a gen=1
        #10 heartbeat NONE
        ",
    );
}
