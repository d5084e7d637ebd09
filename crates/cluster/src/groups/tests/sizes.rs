//! group.max.size.

use super::check;

#[test]
fn a_full_group_lets_nobody_in() {
    check(
        "
        > set delay=0 size=1
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > join g as=b v=3
        #2 join GROUP_MAX_SIZE_REACHED id=
        > join g as=b
        #3 join GROUP_MAX_SIZE_REACHED id=
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #4 sync [t-0]
        > join g id=a
        #5 join gen=2 range id=a leader=a a(t)
        > sync g id=a gen=2 give=a:t-0
        store g gen=2 range leader=a a[t-0]
        #6 sync [t-0]
        > leave g who=a
        #7 leave NONE a:NONE
        store g gen=3
        > join g as=b v=3
        #8 join gen=4 range id=b leader=b b(t)
        ",
    );
}

#[test]
fn an_id_that_was_given_counts_until_its_time_is_over() {
    check(
        "
        > set delay=0 size=2
        > join g as=a session=6000
        #1 join MEMBER_ID_REQUIRED id=a
        > join g as=b session=6000
        #2 join MEMBER_ID_REQUIRED id=b
        > join g as=c session=6000
        #3 join GROUP_MAX_SIZE_REACHED id=
        > join g id=b session=6000
        #4 join gen=1 range id=b leader=b b(t)
        > join g as=c session=6000
        #5 join GROUP_MAX_SIZE_REACHED id=
        > at 6000
        store g gen=2
        > join g as=c session=6000
        #6 join MEMBER_ID_REQUIRED id=c
        > join g id=c session=6000
        #7 join gen=3 range id=c leader=c c(t)
        > heartbeat g id=b gen=1
        #8 heartbeat UNKNOWN_MEMBER_ID
        ",
    );
}

#[test]
fn those_who_come_first_to_a_rebalance_stay() {
    check(
        "
        > set delay=100 size=2
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
        > join g id=a
        > set size=1
        > join g id=b
        #5 join gen=2 range id=a leader=a a(t)
        #6 join GROUP_MAX_SIZE_REACHED id=
        ",
    );
}

#[test]
fn an_instance_that_returns_has_its_seat() {
    check(
        "
        > set delay=0 size=1
        > join g as=a instance=i
        #1 join gen=1 range id=a leader=a a/i(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > join g as=b instance=i
        store g gen=1 range leader=b b[t-0]
        #3 join gen=1 range id=b leader=b b/i(t) skip
        > join g as=c instance=j
        #4 join GROUP_MAX_SIZE_REACHED id=
        ",
    );
}
