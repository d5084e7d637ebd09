//! LeaveGroup, in all its forms.

use super::check;

#[test]
fn one_leaves_in_the_old_form() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > leave g v=2 id=b
        #5 leave NONE
        > leave g v=2 id=b
        #6 leave UNKNOWN_MEMBER_ID
        > leave h v=2 id=b
        #7 leave UNKNOWN_MEMBER_ID
        > heartbeat g id=a gen=1
        #8 heartbeat REBALANCE_IN_PROGRESS
        > join g id=a
        #9 join gen=2 range id=a leader=a a(t)
        ",
    );
}

#[test]
fn several_leave_at_once() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > join g as=c instance=i
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b(t) c/i(t)
        #2 join gen=1 range id=b leader=a
        #3 join gen=1 range id=c leader=a
        > leave g who=a,x,/i,b/k,/nobody
        #4 leave NONE a:NONE x:UNKNOWN_MEMBER_ID /i:NONE b/k:UNKNOWN_MEMBER_ID /nobody:UNKNOWN_MEMBER_ID
        > join g id=b
        #5 join gen=2 range id=b leader=b b(t)
        > leave h who=a,b
        #6 leave NONE a:UNKNOWN_MEMBER_ID b:UNKNOWN_MEMBER_ID
        > leave  who=a
        #7 leave INVALID_GROUP_ID
        ",
    );
}

#[test]
fn a_static_member_is_known_by_both_ids() {
    check(
        "
        > set delay=0
        > join g as=a instance=i
        #1 join gen=1 range id=a leader=a a/i(t)
        > leave g who=b/i
        #2 leave NONE b/i:FENCED_INSTANCE_ID
        > leave g who=a/i
        #3 leave NONE a/i:NONE
        store g gen=2
        > list
        g classic Empty 'consumer'
        ",
    );
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > commit g id=a gen=1 of=t-0:3
        store g t-0:3
        #3 commit t-0:NONE
        > leave g who=a(closed)
        #4 leave NONE a:NONE
        store g gen=2
        > list
        g classic Empty 'consumer'
        > describe g
        NONE Empty consumer
        > fetch g of=t-0
        t-0:3
        > join g as=b v=3
        #5 join gen=3 range id=b leader=b b(t)
        ",
    );
}

#[test]
fn a_pending_member_leaves() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > join g as=b
        #2 join MEMBER_ID_REQUIRED id=b
        > join g id=a
        #3 join gen=1 range id=a leader=a a(t)
        > leave g who=b
        #4 leave NONE b:NONE
        ",
    );
}

#[test]
fn who_leaves_is_answered_what_it_waits_for() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > join g as=b v=3
        > leave g who=b
        #2 join UNKNOWN_MEMBER_ID id=
        #3 leave NONE b:NONE
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > join g as=c v=3
        > join g id=a
        #5 join gen=2 range id=a leader=a a(t) c(t)
        #4 join gen=2 range id=c leader=a
        > sync g id=c gen=2
        > leave g who=c
        #6 sync UNKNOWN_MEMBER_ID
        #7 leave NONE c:NONE
        ",
    );
}
