//! OffsetCommit and OffsetFetch.

use super::check;

#[test]
fn a_client_without_a_group_commits() {
    check(
        "
        > commit g of=t-0:5@3,t-1:7 metadata=note
        store g t-0:5@3
        store g t-1:7
        #1 commit t-0:NONE t-1:NONE
        > fetch g
        t-0:5@3 note
        t-1:7 note
        > fetch g of=t-0,t-2,u-0
        t-0:5@3 note
        t-2:-1
        u-0:-1
        > fetch h of=t-0
        t-0:-1
        > fetch h
        > commit g of=t-0:4
        store g t-0:4
        #2 commit t-0:NONE
        > fetch g
        t-0:4
        t-1:7 note
        > describe g
        NONE Empty
        > commit g gen=0 of=t-0:9
        #3 commit t-0:UNKNOWN_MEMBER_ID
        > commit h gen=3 of=t-0:9 v=8
        #4 commit t-0:ILLEGAL_GENERATION
        > commit h gen=3 of=t-0:9 v=9
        #5 commit t-0:GROUP_ID_NOT_FOUND
        > list
        g classic Empty ''
        ",
    );
}

#[test]
fn the_empty_group_id_may_commit() {
    check(
        "
        > commit  of=t-0:5
        store  t-0:5
        #1 commit t-0:NONE
        > fetch  of=t-0
        t-0:5
        ",
    );
}

#[test]
fn an_offset_is_seen_once_it_is_stored() {
    check(
        "
        > hold
        > commit g of=t-0:5
        store g t-0:5
        > fetch g of=t-0
        t-0:-1
        > stored
        #1 commit t-0:NONE
        > fetch g of=t-0
        t-0:5
        > commit g of=t-0:6
        store g t-0:6
        > commit g of=t-0:7
        store g t-0:7
        > stored
        #2 commit t-0:NONE
        > fetch g of=t-0
        t-0:6
        > fail not-available
        #3 commit t-0:COORDINATOR_NOT_AVAILABLE
        > fetch g of=t-0
        t-0:6
        > commit h of=t-0:6
        store h t-0:6
        > list
        g classic Empty ''
        h classic Empty ''
        > fail not-coordinator
        #4 commit t-0:NOT_COORDINATOR
        > list
        g classic Empty ''
        ",
    );
}

#[test]
fn a_member_commits_in_its_generation() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > commit g id=a gen=1 of=t-0:1
        #2 commit t-0:REBALANCE_IN_PROGRESS
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #3 sync [t-0]
        > commit g id=a gen=1 of=t-0:1
        store g t-0:1
        #4 commit t-0:NONE
        > commit g id=a gen=0 of=t-0:2
        #5 commit t-0:ILLEGAL_GENERATION
        > commit g id=b gen=1 of=t-0:2
        #6 commit t-0:UNKNOWN_MEMBER_ID
        > commit g of=t-0:2
        #7 commit t-0:UNKNOWN_MEMBER_ID
        > commit g id=a of=t-0:2
        #8 commit t-0:ILLEGAL_GENERATION
        > commit g id=a instance=i gen=1 of=t-0:2
        #9 commit t-0:UNKNOWN_MEMBER_ID
        > fetch g
        t-0:1
        ",
    );
}

#[test]
fn during_a_rebalance_members_may_still_commit() {
    check(
        "
        > set delay=100
        > join g as=a v=3
        > at 200
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > join g as=b v=3
        > commit g id=a gen=1 of=t-0:3
        store g t-0:3
        #4 commit t-0:NONE
        > join g id=a
        #5 join gen=2 range id=a leader=a a(t) b(t)
        #3 join gen=2 range id=b leader=a
        > commit g id=a gen=2 of=t-0:4
        #6 commit t-0:REBALANCE_IN_PROGRESS
        > commit g id=a gen=1 of=t-0:4
        #7 commit t-0:ILLEGAL_GENERATION
        ",
    );
}

#[test]
fn metadata_that_is_too_long_is_refused_alone() {
    check(
        "
        > set metadata=4
        > commit g of=t-0:5 metadata=12345
        #1 commit t-0:OFFSET_METADATA_TOO_LARGE
        > commit g of=t-0:5 metadata=1234
        store g t-0:5
        #2 commit t-0:NONE
        > commit g of=t-1:5 metadata=éüöä
        store g t-1:5
        #3 commit t-1:NONE
        > fetch g
        t-0:5 1234
        t-1:5 éüöä
        ",
    );
}

#[test]
fn an_offset_is_deleted_where_nobody_subscribes() {
    check(
        "
        > set delay=0
        > commit g of=t-0:1,u-0:2,u-1:3
        store g t-0:1
        store g u-0:2
        store g u-1:3
        #1 commit t-0:NONE u-0:NONE u-1:NONE
        > delete-offsets g of=u-1,u-9
        store g u-1 gone
        #2 delete-offsets NONE u-1:NONE u-9:NONE
        > fetch g
        t-0:1
        u-0:2
        > join g as=a v=3
        #3 join gen=1 range id=a leader=a a(t)
        > delete-offsets g of=t-0,u-0
        store g u-0 gone
        #4 delete-offsets NONE t-0:GROUP_SUBSCRIBED_TO_TOPIC u-0:NONE
        > fetch g
        t-0:1
        > delete-offsets h of=t-0
        #5 delete-offsets GROUP_ID_NOT_FOUND
        > delete-offsets  of=t-0
        #6 delete-offsets INVALID_GROUP_ID
        ",
    );
}

#[test]
fn only_consumers_can_be_asked_what_they_subscribe_to() {
    check(
        "
        > set delay=0
        > join g as=a v=3 type=connect
        #1 join gen=1 range id=a leader=a a(t)
        > delete-offsets g of=t-0
        #2 delete-offsets NON_EMPTY_GROUP
        ",
    );
}

#[test]
fn an_offset_that_is_being_written_is_deleted_too() {
    check(
        "
        > hold
        > commit g of=t-0:1
        store g t-0:1
        > delete-offsets g of=t-0
        store g t-0 gone
        > stored
        #1 commit t-0:NONE
        > fetch g
        t-0:1
        > stored
        #2 delete-offsets NONE t-0:NONE
        > list
        ",
    );
}
