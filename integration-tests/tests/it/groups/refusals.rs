//! What a well-behaved client never asks of a coordinator, and the codes that Kafka answers it with.

use bytes::Bytes;
use ottla_integration_tests::groups::commit_request;
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, BrokerOptions, HealthyClient};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use ottla_protocol::generated::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::generated::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use ottla_protocol::wire::Str;

use super::table::broker;

/// The last version with a member in a request of its own, and before topics go by id.
const COMMIT_VERSION: i16 = 8;

fn join(group: &str, member: &str, metadata: &[u8]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::copy_from_slice(metadata),
        ..Default::default()
    };
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn ask_join(connection: &mut Connection, request: &JoinGroupRequest) -> JoinGroupResponse {
    connection.ask(request, 9)
}

fn heartbeat(
    connection: &mut Connection,
    group: &str,
    generation: i32,
    member: &str,
    instance: Option<&str>,
) -> i16 {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.into(),
        group_instance_id: instance.map(Str::from),
        ..Default::default()
    };
    let reply: HeartbeatResponse = connection.ask(&request, 4);
    reply.error_code
}

fn sync(group: &str, generation: i32, member: &str) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment {
        member_id: member.into(),
        assignment: Bytes::from_static(b"yours"),
        ..Default::default()
    };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: generation,
        member_id: member.into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![assignment],
        ..Default::default()
    }
}

fn ask_sync(connection: &mut Connection, request: &SyncGroupRequest) -> SyncGroupResponse {
    connection.ask(request, 5)
}

fn commit(connection: &mut Connection, request: &OffsetCommitRequest) -> i16 {
    let reply: OffsetCommitResponse = connection.ask(request, COMMIT_VERSION);
    reply.topics[0].partitions[0].error_code
}

/// The codes of a LeaveGroup of one member: the group's and the member's.
fn leave(connection: &mut Connection, group: &str, member: &str, instance: Option<&str>) -> (i16, i16) {
    let member = MemberIdentity {
        member_id: member.into(),
        group_instance_id: instance.map(Str::from),
        ..Default::default()
    };
    let request = LeaveGroupRequest { group_id: group.into(), members: vec![member], ..Default::default() };
    let reply: LeaveGroupResponse = connection.ask(&request, 5);
    (reply.error_code, reply.members.first().map_or(0, |member| member.error_code))
}

/// A group with one member that is stable; its id.
fn stable(connection: &mut Connection, group: &str, metadata: &[u8]) -> Str {
    let required = ask_join(connection, &join(group, "", metadata));
    assert_eq!(required.error_code, ErrorCode::MemberIdRequired.code());
    let joined = ask_join(connection, &join(group, &required.member_id, metadata));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(&*joined.members[0].metadata, metadata, "the leader gets it as it was sent");
    let synced = ask_sync(connection, &sync(group, 1, &joined.member_id));
    assert_eq!((synced.error_code, &*synced.assignment), (0, &b"yours"[..]));
    joined.member_id
}

fn with_topic(broker: &Broker) -> Connection {
    let mut connection = Connection::open(broker.address());
    connection.create_topic("topic", 1, &[]);
    connection
}

#[test]
fn a_group_needs_a_name() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let invalid = ErrorCode::InvalidGroupId.code();
    assert_eq!(ask_join(&mut connection, &join("", "", b"")).error_code, invalid);
    assert_eq!(ask_sync(&mut connection, &sync("", 1, "x")).error_code, invalid);
    assert_eq!(heartbeat(&mut connection, "", 1, "x", None), invalid);
    assert_eq!(leave(&mut connection, "", "x", None).0, invalid);
    // The oldest clients committed under an empty name; that goes on.
    assert_eq!(connection.commit_alone("", "topic", 5, ""), 0);
    assert_eq!(connection.committed("", "topic", 1), Ok(vec![5]));
}

#[test]
fn strangers_are_told_so() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let member = stable(&mut connection, "known", b"");
    let unknown = ErrorCode::UnknownMemberId.code();
    for group in ["known", "nowhere"] {
        assert_eq!(ask_join(&mut connection, &join(group, "stranger", b"")).error_code, unknown, "{group}");
        assert_eq!(ask_sync(&mut connection, &sync(group, 1, "stranger")).error_code, unknown, "{group}");
        assert_eq!(heartbeat(&mut connection, group, 1, "stranger", None), unknown, "{group}");
        assert_eq!(leave(&mut connection, group, "stranger", None), (0, unknown), "{group}");
    }
    assert_eq!(commit(&mut connection, &commit_request("known", 1, "stranger", "topic", 1, "")), unknown);
    assert_eq!(connection.commit_alone("known", "topic", 1, ""), unknown, "a group with members is theirs");
    let request =
        DeleteGroupsRequest { groups_names: vec!["known".into(), "nowhere".into()], ..Default::default() };
    let deleted: DeleteGroupsResponse = connection.ask(&request, 2);
    let codes: Vec<_> = deleted.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NonEmptyGroup.code(), ErrorCode::GroupIdNotFound.code()]);
    assert_eq!(heartbeat(&mut connection, "known", 1, &member, None), 0, "the member noticed nothing");
    assert_eq!(connection.committed("known", "topic", 1), Ok(vec![-1]), "nothing was committed");
}

#[test]
fn other_generations_are_refused() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let member = stable(&mut connection, "old", b"");
    let illegal = ErrorCode::IllegalGeneration.code();
    for generation in [0, 2, i32::MAX, i32::MIN] {
        assert_eq!(heartbeat(&mut connection, "old", generation, &member, None), illegal, "{generation}");
        assert_eq!(ask_sync(&mut connection, &sync("old", generation, &member)).error_code, illegal);
        let request = commit_request("old", generation, &member, "topic", 1, "");
        // Below 0 Kafka takes it for a commit without a group, which a group with members refuses.
        let code = if generation < 0 { ErrorCode::UnknownMemberId.code() } else { illegal };
        assert!([illegal, code].contains(&commit(&mut connection, &request)), "{generation}");
    }
    assert_eq!(commit(&mut connection, &commit_request("nowhere", 1, "x", "topic", 1, "")), illegal);
    assert_eq!(connection.committed("old", "topic", 1), Ok(vec![-1]), "nothing was committed");
    assert_eq!(commit(&mut connection, &commit_request("old", 1, &member, "topic", 1, "")), 0);
    assert_eq!(connection.committed("old", "topic", 1), Ok(vec![1]));
}

#[test]
fn a_second_static_member_fences_the_first() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let mut request = join("fenced", "", b"");
    request.group_instance_id = Some("one".into());
    let first = ask_join(&mut connection, &request);
    assert_eq!((first.error_code, first.generation_id), (0, 1));
    let mut assigned = sync("fenced", 1, &first.member_id);
    assigned.group_instance_id = Some("one".into());
    assert_eq!(ask_sync(&mut connection, &assigned).error_code, 0);
    let second = ask_join(&mut connection, &request);
    assert_eq!((second.error_code, second.generation_id), (0, 1), "no rebalance");
    assert_ne!(second.member_id, first.member_id);
    let fenced = ErrorCode::FencedInstanceId.code();
    assert_eq!(heartbeat(&mut connection, "fenced", 1, &first.member_id, Some("one")), fenced);
    assert_eq!(ask_sync(&mut connection, &assigned).error_code, fenced);
    let mut old = commit_request("fenced", 1, &first.member_id, "topic", 1, "");
    old.group_instance_id = Some("one".into());
    assert_eq!(commit(&mut connection, &old), fenced);
    let mut again = request.clone();
    again.member_id = first.member_id.clone();
    assert_eq!(ask_join(&mut connection, &again).error_code, fenced);
    assert_eq!(leave(&mut connection, "fenced", &first.member_id, Some("one")), (0, fenced));
    assert_eq!(heartbeat(&mut connection, "fenced", 1, &second.member_id, Some("one")), 0);
    assert_eq!(leave(&mut connection, "fenced", "", Some("one")), (0, 0), "an operator needs no member id");
    assert_eq!(&*connection.describe_group("fenced").group_state, "Empty");
}

#[test]
fn protocols_must_agree() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let member = stable(&mut connection, "agreed", b"");
    let inconsistent = ErrorCode::InconsistentGroupProtocol.code();
    let mut other_type = join("agreed", "", b"");
    other_type.protocol_type = "connect".into();
    assert_eq!(ask_join(&mut connection, &other_type).error_code, inconsistent);
    let mut other_name = join("agreed", "", b"");
    other_name.protocols[0].name = "sticky".into();
    assert_eq!(ask_join(&mut connection, &other_name).error_code, inconsistent);
    let mut none = join("agreed", "", b"");
    none.protocols.clear();
    assert_eq!(ask_join(&mut connection, &none).error_code, inconsistent);
    let mut wrong = sync("agreed", 1, &member);
    wrong.protocol_name = Some("sticky".into());
    assert_eq!(ask_sync(&mut connection, &wrong).error_code, inconsistent);
    for session_timeout_ms in [i32::MIN, 0, 5_999, 1_800_001, i32::MAX] {
        let request = JoinGroupRequest { session_timeout_ms, ..join("agreed", "", b"") };
        let code = ask_join(&mut connection, &request).error_code;
        assert_eq!(code, ErrorCode::InvalidSessionTimeout.code(), "{session_timeout_ms}");
    }
    assert_eq!(heartbeat(&mut connection, "agreed", 1, &member, None), 0, "the member noticed nothing");
}

/// What a member says of itself is for its leader alone: the broker passes on what it cannot read.
#[test]
fn metadata_that_nobody_can_read() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let healthy = HealthyClient::start(broker.address());
    let far = [&[0, 3, 0x7f, 0xff, 0xff, 0xff][..], &[0xff; 64]].concat();
    let large = vec![0xa5; 500_000];
    for (number, metadata) in [&b""[..], &[0], &[0xff; 7], &far, &large].into_iter().enumerate() {
        let group = format!("garbage-{number}");
        let member = stable(&mut connection, &group, metadata);
        let described = connection.describe_group(&group);
        assert_eq!(&*described.members[0].member_metadata, metadata);
        assert_eq!(connection.explain_group(&group).error_code, 0);
        assert_eq!(heartbeat(&mut connection, &group, 1, &member, None), 0);
        healthy.goes_on();
    }
    // A group that could not be written down is refused; it costs nobody else anything.
    let huge = ask_join(&mut connection, &join("huge", "", &vec![0; 5 << 20]));
    assert_ne!(huge.error_code, 0);
    healthy.finish();
}

#[test]
fn metadata_of_an_offset_has_a_limit() {
    let broker = broker();
    let mut connection = with_topic(&broker);
    let most = "m".repeat(4096);
    assert_eq!(connection.commit_alone("words", "topic", 1, &most), 0);
    let code = connection.commit_alone("words", "topic", 2, &(most + "m"));
    assert_eq!(code, ErrorCode::OffsetMetadataTooLarge.code());
    assert_eq!(connection.committed("words", "topic", 1), Ok(vec![1]));
    let unknown = connection.commit_alone("words", "no-topic", 1, "");
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn a_group_has_at_most_its_size() {
    let broker =
        BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).set("group.max.size", 1).start();
    let mut connection = with_topic(&broker);
    let member = stable(&mut connection, "full", b"");
    let full = ErrorCode::GroupMaxSizeReached.code();
    let mut other = Connection::open(broker.address());
    let mut reply = ask_join(&mut other, &join("full", "", b""));
    if reply.error_code == ErrorCode::MemberIdRequired.code() {
        reply = ask_join(&mut other, &join("full", &reply.member_id, b""));
    }
    assert_eq!(reply.error_code, full);
    assert_eq!(heartbeat(&mut connection, "full", 1, &member, None), 0, "the member noticed nothing");
    assert_eq!(leave(&mut connection, "full", &member, None), (0, 0));
    stable_again(&mut other);
}

/// There is room again for one.
fn stable_again(connection: &mut Connection) {
    let required = ask_join(connection, &join("full", "", b""));
    assert_eq!(required.error_code, ErrorCode::MemberIdRequired.code());
    assert_eq!(ask_join(connection, &join("full", &required.member_id, b"")).error_code, 0);
}
