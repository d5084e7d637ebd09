//! What goes: by age, with its topic, with its group.

use super::check;

#[test]
fn offsets_of_clients_without_a_group_go_by_their_age() {
    check(
        "
        > set retention=1000
        > commit g of=t-0:1
        store g t-0:1
        #1 commit t-0:NONE
        > at 500
        > commit g of=t-1:2
        store g t-1:2
        #2 commit t-1:NONE
        > at 999
        > expire
        > at 1000
        > expire
        store g t-0 gone
        > fetch g
        t-1:2
        > at 1500
        > expire
        store g t-1 gone
        store g gone
        > list
        ",
    );
}

#[test]
fn offsets_of_an_empty_group_go_when_it_has_been_empty_for_so_long() {
    check(
        "
        > set retention=1000 delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #2 sync [t-0]
        > commit g id=a gen=1 of=t-0:1,u-0:2
        store g t-0:1
        store g u-0:2
        #3 commit t-0:NONE u-0:NONE
        > at 5000
        > leave g who=a
        #4 leave NONE a:NONE
        store g gen=2
        > at 5999
        > expire
        > at 6000
        > expire
        store g t-0 gone
        store g u-0 gone
        store g gone
        > list
        ",
    );
}

#[test]
fn offsets_of_topics_that_nobody_subscribes_to_go() {
    check(
        "
        > set retention=1000 delay=0
        > join g as=a v=3 session=60000
        #1 join gen=1 range id=a leader=a a(t)
        > commit g of=t-0:1
        #2 commit t-0:UNKNOWN_MEMBER_ID
        > sync g id=a gen=1 give=a:t-0
        store g gen=1 range leader=a a[t-0]
        #3 sync [t-0]
        > commit g id=a gen=1 of=t-0:1,u-0:2
        store g t-0:1
        store g u-0:2
        #4 commit t-0:NONE u-0:NONE
        > at 999
        > expire
        > at 1000
        > expire
        store g u-0 gone
        > fetch g
        t-0:1
        ",
    );
}

#[test]
fn an_opaque_group_that_lives_keeps_its_offsets() {
    check(
        "
        > set retention=1000 delay=0
        > join g as=a v=3 type=connect session=60000
        #1 join gen=1 range id=a leader=a a(t)
        > sync g id=a gen=1
        store g gen=1 range leader=a a[]
        #2 sync []
        > commit g id=a gen=1 of=t-0:1
        store g t-0:1
        #3 commit t-0:NONE
        > at 2000
        > expire
        ",
    );
}

#[test]
fn old_clients_choose_their_own_retention() {
    check(
        "
        > set retention=1000
        > commit g of=t-0:1 retention=5000
        store g t-0:1
        #1 commit t-0:NONE
        > at 2000
        > expire
        > restart
        > at 4999
        > expire
        > at 5000
        > expire
        store g t-0 gone
        store g gone
        ",
    );
}

#[test]
fn a_group_without_offsets_goes_when_it_is_empty() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > leave g who=a
        #2 leave NONE a:NONE
        store g gen=2
        > join g as=b
        #3 join MEMBER_ID_REQUIRED id=b
        > expire
        > at 10000
        > expire
        store g gone
        > list
        ",
    );
}

#[test]
fn an_offset_that_is_being_written_does_not_go() {
    check(
        "
        > set retention=1000
        > commit g of=t-0:1
        store g t-0:1
        #1 commit t-0:NONE
        > at 1000
        > hold
        > commit g of=t-0:2
        store g t-0:2
        > expire
        > stored
        #2 commit t-0:NONE
        > fetch g
        t-0:2
        ",
    );
}

#[test]
fn offsets_go_with_their_topic() {
    check(
        "
        > commit g of=t-0:1,u-0:2
        store g t-0:1
        store g u-0:2
        #1 commit t-0:NONE u-0:NONE
        > commit h of=t-0:1
        store h t-0:1
        #2 commit t-0:NONE
        > delete-topics t,x
        store g t-0 gone
        store h t-0 gone
        > list
        g classic Empty ''
        > fetch g
        u-0:2
        ",
    );
}

#[test]
fn an_empty_group_can_be_deleted() {
    check(
        "
        > set delay=0
        > join g as=a v=3
        #1 join gen=1 range id=a leader=a a(t)
        > delete g
        #2 delete NON_EMPTY_GROUP
        > leave g who=a
        #3 leave NONE a:NONE
        store g gen=2
        > commit g of=t-0:1
        store g t-0:1
        #4 commit t-0:NONE
        > delete g
        store g t-0 gone
        store g gone
        #5 delete NONE
        > list
        > delete g
        #6 delete GROUP_ID_NOT_FOUND
        > delete
        #7 delete INVALID_GROUP_ID
        > restart
        > list
        ",
    );
}

#[test]
fn while_a_group_is_deleted_nobody_comes_in() {
    check(
        "
        > commit g of=t-0:1
        store g t-0:1
        #1 commit t-0:NONE
        > hold
        > commit g of=t-1:1
        store g t-1:1
        > delete g
        store g t-0 gone
        store g t-1 gone
        store g gone
        > join g as=a
        #4 join COORDINATOR_NOT_AVAILABLE id=
        > commit g of=t-0:2
        #5 commit t-0:COORDINATOR_NOT_AVAILABLE
        > delete g
        #6 delete GROUP_ID_NOT_FOUND
        > describe g
        NONE Dead
        > stored
        #2 commit t-1:NONE
        > stored
        #3 delete NONE
        > list
        > fetch g
        ",
    );
}

#[test]
fn a_deletion_that_fails_leaves_the_group() {
    check(
        "
        > commit g of=t-0:1
        store g t-0:1
        #1 commit t-0:NONE
        > hold
        > delete g
        store g t-0 gone
        store g gone
        > fail not-available
        #2 delete COORDINATOR_NOT_AVAILABLE
        > list
        g classic Empty ''
        > fetch g
        t-0:1
        ",
    );
}
