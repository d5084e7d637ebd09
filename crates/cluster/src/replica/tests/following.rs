//! What a follower does with what it is sent.

use super::*;

const EPOCH: LeaderEpoch = LeaderEpoch(5);

fn follower(end: i64, durable: i64, high_watermark: i64) -> Replica {
    let mut replica =
        Replica::new(BrokerId(2), Durability::Durable, progress(end, durable), Offset(high_watermark));
    replica.handle_follow(Following { leader: BrokerId(1), epoch: EPOCH });
    replica
}

fn fetched(offset: i64, diverging: Option<(i32, i64)>) -> Fetched {
    Fetched {
        leader_epoch: EPOCH,
        offset: Offset(offset),
        diverging: diverging.map(|(e, o)| epoch_end(e, o)),
    }
}

fn epoch_end(epoch: i32, end: i64) -> EpochEnd {
    EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) }
}

#[test]
fn records_are_appended_once_and_in_their_epoch() {
    let mut replica = follower(10, 10, 0);
    assert_eq!(replica.durable_report(), None, "nothing was compared yet");
    assert_eq!(replica.handle_fetched(&fetched(10, None), None), Step::Append);
    assert_eq!(replica.durable_report(), Some(Offset(10)));
    assert!(replica.handle_appended(progress(12, 10), Offset(99)));
    assert_eq!(replica.high_watermark(), Offset(12), "it does not have more");
    assert_eq!(replica.handle_fetched(&fetched(10, None), None), Step::Drop, "the same answer twice");
    let other = Fetched { leader_epoch: LeaderEpoch(4), ..fetched(12, None) };
    assert_eq!(replica.handle_fetched(&other, None), Step::Drop, "another epoch's answer");
    assert!(!replica.handle_appended(progress(12, 12), Offset(5)), "never back");
    assert_eq!(replica.high_watermark(), Offset(12));
    assert_eq!(replica.durable_report(), Some(Offset(12)));
    // A new leadership compares anew.
    replica.handle_follow(Following { leader: BrokerId(3), epoch: LeaderEpoch(6) });
    assert_eq!(replica.durable_report(), None);
    assert_eq!(replica.handle_fetched(&fetched(12, None), None), Step::Drop);
    replica.handle_unlead();
    assert_eq!(replica.handle_fetched(&fetched(12, None), None), Step::Drop);
    assert_eq!(replica.following(), None);
}

#[test]
fn a_log_is_cut_where_it_parts_from_the_leaders() {
    let cut = |diverging, local| follower(20, 20, 5).handle_fetched(&fetched(20, Some(diverging)), local);
    // Both know the epoch: the shorter one counts.
    assert_eq!(cut((3, 15), Some(epoch_end(3, 18))), Step::Truncate(Offset(15)));
    assert_eq!(cut((3, 15), Some(epoch_end(3, 12))), Step::Truncate(Offset(12)));
    // The leader's epoch is not known here: only what comes before can match.
    assert_eq!(cut((3, 15), Some(epoch_end(2, 14))), Step::Truncate(Offset(14)));
    assert_eq!(cut((3, 12), Some(epoch_end(2, 14))), Step::Truncate(Offset(14)));
    assert_eq!(cut((3, 15), None), Step::Truncate(Offset(15)));
    assert_eq!(cut((3, 99), None), Step::Truncate(Offset(20)));
}

#[test]
fn cutting_committed_records_is_told() {
    let mut replica = follower(20, 20, 12);
    assert_eq!(replica.handle_truncated(progress(15, 15)), None);
    assert_eq!(replica.handle_truncated(progress(10, 10)), Some((Offset(10), Offset(12))));
    assert_eq!(replica.high_watermark(), Offset(10));
}

#[test]
fn a_log_outside_the_leaders_begins_anew_or_is_cut() {
    let ask =
        |start, end| follower(20, 20, 5).handle_out_of_range(&fetched(20, None), Offset(start), Offset(end));
    assert_eq!(ask(30, 40), Step::Restart(Offset(30)));
    assert_eq!(ask(0, 15), Step::Truncate(Offset(15)));
    assert_eq!(ask(0, 25), Step::Drop, "the leader has grown meanwhile");
    let stale = follower(20, 20, 5).handle_out_of_range(&fetched(19, None), Offset(30), Offset(40));
    assert_eq!(stale, Step::Drop);
}
