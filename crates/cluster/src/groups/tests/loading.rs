//! A shard from its log.

use super::check;

#[test]
fn members_are_kept_with_fresh_sessions() {
    check(
        "
        > set delay=100
        > join g as=a v=3 client=one session=6000
        > join g as=b instance=i session=8000
        > at 200
        #1 join gen=1 range id=a leader=a a(t) b/i(t)
        #2 join gen=1 range id=b leader=a
        > sync g id=a gen=1 give=a:t-0;b:t-1
        store g gen=1 range leader=a a[t-0] b[t-1]
        #3 sync [t-0]
        > sync g id=b gen=1
        #4 sync [t-1]
        > commit g id=a gen=1 of=t-0:5@2 metadata=note
        store g t-0:5@2
        #5 commit t-0:NONE
        > at 5000
        > restart
        > describe g
        NONE Stable consumer range
        a client=one host=/1.2.3.4 (t) [t-0]
        b/i client= host=/1.2.3.4 (t) [t-1]
        > fetch g
        t-0:5@2 note
        > explain g
        Stable 1
        1 loaded: loaded with 2 members
        partition t-0 went to a at generation 1 because the log says so
        partition t-1 went to b at generation 1 because the log says so
        > heartbeat g id=a gen=1
        #6 heartbeat NONE
        > sync g id=b gen=1
        #7 sync [t-1]
        > at 10999
        > heartbeat g id=b gen=1
        #8 heartbeat NONE
        > at 11000
        > join g id=b
        #9 join gen=2 range id=b leader=b b/i(t)
        ",
    );
}

#[test]
fn a_group_that_is_too_large_now_rebalances() {
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
        > set size=1
        > restart
        > heartbeat g id=a gen=1
        #4 heartbeat REBALANCE_IN_PROGRESS
        > join g id=b
        > join g id=a
        #5 join gen=2 range id=b leader=b b(t)
        #6 join GROUP_MAX_SIZE_REACHED id=
        ",
    );
}

#[test]
fn the_last_word_counts() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > commit g id=a gen=1 of=t-0:1,t-1:1
        store g t-0:1
        store g t-1:1
        #3 commit t-0:NONE t-1:NONE
        > commit g id=a gen=1 of=t-0:2
        store g t-0:2
        #4 commit t-0:NONE
        > delete-topics x
        > leave g who=a
        #5 leave NONE a:NONE
        store g gen=2
        > delete-offsets g of=t-1
        store g t-1 gone
        #6 delete-offsets NONE t-1:NONE
        > restart
        > describe g
        NONE Empty consumer
        > fetch g
        t-0:2
        > heartbeat g id=a gen=1
        #7 heartbeat UNKNOWN_MEMBER_ID
        > join g as=b v=3
        #8 join gen=3 range id=b leader=b b(t)
        ",
    );
}
