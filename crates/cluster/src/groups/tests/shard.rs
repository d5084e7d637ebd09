//! Rules that need more than a script: transactions in the log, records that cannot be read, limits, many members.

use ottla_protocol::ids::ProducerId;

use super::*;
use crate::groups::limits::{
    EVENTS_PER_GROUP_MAX, ID_BYTES_MAX, MEMBER_PROTOCOLS_BYTES_MAX, REMOVALS_PER_STORE_MAX,
};

const NOW: Now = Now { mono_ms: 0, wall_ms: WALL_MS };

/// The records of a script.
fn log_of(events: &[&str]) -> Vec<GroupRecord> {
    let mut script = Script::default();
    for event in events {
        script.run(event);
    }
    script.log
}

fn shown(shard: &GroupShard, stable: bool) -> Vec<String> {
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        }]),
        ..OffsetFetchRequestGroup::default()
    };
    Show { shard }.fetched(&group, stable)
}

#[test]
fn what_a_transaction_wrote_counts_once_it_is_committed() {
    let log = log_of(&["commit g of=t-0:1", "commit g of=t-0:2"]);
    for (committed, expected) in [(true, "t-0:2"), (false, "t-0:1")] {
        let mut shard = GroupShard::new(GroupConfig::default());
        shard.replay(&log[0].key, log[0].value.as_deref(), None).unwrap();
        shard.replay(&log[1].key, log[1].value.as_deref(), Some(ProducerId(7))).unwrap();
        assert_eq!(shown(&shard, false), ["t-0:1"]);
        assert_eq!(shown(&shard, true), ["t-0:-1 UNSTABLE_OFFSET_COMMIT"]);
        shard.replay_marker(ProducerId(8), true);
        assert_eq!(shown(&shard, false), ["t-0:1"]);
        shard.replay_marker(ProducerId(7), committed);
        assert_eq!(shown(&shard, true), [expected]);
    }
}

#[test]
fn a_group_of_an_aborted_transaction_alone_does_not_stay() {
    let log = log_of(&["commit g of=t-0:1"]);
    let mut shard = GroupShard::new(GroupConfig::default());
    shard.replay(&log[0].key, log[0].value.as_deref(), Some(ProducerId(7))).unwrap();
    assert_eq!(shard.groups_count(), 1);
    shard.replay_marker(ProducerId(7), false);
    assert_eq!(shard.groups_count(), 0);
}

#[test]
fn records_that_cannot_be_read_are_errors_and_other_keys_are_not() {
    let log = log_of(&["commit g of=t-0:1"]);
    let value = log[0].value.as_deref().unwrap();
    let mut shard = GroupShard::new(GroupConfig::default());
    assert!(matches!(shard.replay(&log[0].key, Some(&value[..5]), None), Err(ReplayError::Malformed(_))));
    assert!(matches!(shard.replay(&log[0].key[..4], None, None), Err(ReplayError::Malformed(_))));
    let newer = [&[0, 9], &value[2..]].concat();
    let error = shard.replay(&log[0].key, Some(&newer), None).unwrap_err();
    assert_eq!(error.to_string(), "OffsetCommitValue has version 9, this broker knows up to 4");
    assert_eq!(shard.replay(&[0, 3, 0, 1, b'g'], Some(&[1]), None), Ok(Replayed::Skipped));
    assert_eq!(shard.groups_count(), 0);
}

fn code_of(actions: &[Action]) -> ErrorCode {
    match &actions[0] {
        Action::Reply { reply: Reply::Join(response), .. } => {
            ErrorCode::from_code(response.error_code).unwrap()
        }
        Action::Reply { reply: Reply::Commit(response), .. } => {
            ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn join_code(change: impl FnOnce(&mut JoinGroupRequest)) -> ErrorCode {
    let mut shard = GroupShard::new(GroupConfig::default());
    let mut request = join(&Words { group: "g", all: BTreeMap::new() });
    change(&mut request);
    let request = Request::Join { request, version: 9, new_member_id: "a".into() };
    code_of(&shard.handle(NOW, Ticket(1), &Client::default(), request))
}

#[test]
fn what_no_record_could_hold_is_refused() {
    let long = || "x".repeat(ID_BYTES_MAX + 1);
    assert_eq!(join_code(|_| {}), ErrorCode::MemberIdRequired);
    assert_eq!(join_code(|r| r.group_id = long().into()), ErrorCode::InvalidGroupId);
    assert_eq!(join_code(|r| r.protocol_type = long().into()), ErrorCode::InvalidRequest);
    assert_eq!(join_code(|r| r.group_instance_id = Some(long().into())), ErrorCode::InvalidRequest);
    assert_eq!(join_code(|r| r.protocols[0].name = long().into()), ErrorCode::InvalidRequest);
    let large = vec![0; MEMBER_PROTOCOLS_BYTES_MAX].into();
    assert_eq!(join_code(|r| r.protocols[0].metadata = large), ErrorCode::InvalidRequest);
    let mut script = Script::default();
    let event = format!("commit {} of=t-0:1", long());
    assert_eq!(script.run(&event), ["#1 commit t-0:INVALID_GROUP_ID"]);
}

#[test]
fn explanations_have_an_end() {
    let mut script = Script::default();
    script.run("set delay=0");
    for round in 0..EVENTS_PER_GROUP_MAX {
        script.run(&format!("join g as=a{round} v=3"));
        script.run(&format!("leave g who=a{round}"));
    }
    let events = script.shard.explain("g").unwrap().events;
    assert_eq!(events.len(), EVENTS_PER_GROUP_MAX);
    assert_eq!(events.last().unwrap().kind, "empty");
}

#[test]
fn reasons_are_short_and_few() {
    let mut script = Script::default();
    script.run("set delay=100");
    for member in 0..12 {
        script.run(&format!("join g as=a{member} v=3 reason={}", "é".repeat(300)));
    }
    script.run("at 200");
    script.run("sync g id=a0 gen=1");
    let events = script.shard.explain("g").unwrap().events;
    let stable = events.iter().find(|event| event.kind == "stable").unwrap();
    assert!(stable.text.ends_with("; and 4 more"), "{}", stable.text);
    assert!(events[0].text.len() < 250, "{}", events[0].text);
}

#[test]
fn many_tombstones_go_in_several_writes() {
    let mut script = Script::default();
    for partition in 0..=REMOVALS_PER_STORE_MAX {
        script.run(&format!("commit g of=t-{partition}:1"));
    }
    script.holds = true;
    script.run("delete g");
    let sizes: Vec<_> = script.in_flight.iter().map(|(_, records)| records.len()).collect();
    assert_eq!(sizes, [REMOVALS_PER_STORE_MAX, 2]);
    assert_eq!(script.run("stored"), [""; 0]);
    assert_eq!(script.run("stored").len(), 1);
    assert_eq!(script.shard.groups_count(), 0);
}

#[test]
fn a_thousand_members_take_one_generation() {
    let mut script = Script::default();
    script.run("set delay=100");
    for member in 0..1000 {
        script.run(&format!("join g as=m{member} v=3 session=20000"));
    }
    assert_eq!(script.run("at 200").len(), 1000);
    for member in 1..1000 {
        script.run(&format!("sync g id=m{member} gen=1"));
    }
    // One record and a thousand answers.
    assert_eq!(script.run("sync g id=m0 gen=1 give=m0:t-0").len(), 1001);
    for group in 0..10_000 {
        script.run(&format!("commit g{group} of=t-0:1"));
    }
    for at_ms in [5_000, 10_000, 15_000] {
        script.run(&format!("at {at_ms}"));
        for member in 0..1000 {
            script.run(&format!("heartbeat g id=m{member} gen=1"));
        }
    }
    script.run("at 34999");
    assert_eq!((script.shard.groups_count(), script.shard.members_count()), (10_001, 1000));
    script.run("at 35000");
    assert_eq!(script.shard.members_count(), 0);
    assert_eq!(script.shard.groups["g"].generation, 2);
}
