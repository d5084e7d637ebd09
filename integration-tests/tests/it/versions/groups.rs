//! The APIs of groups: ten groups of one member, each joined with another version.

use bytes::Bytes;
use ottla_integration_tests::requests::Topic;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_protocol::generated::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::generated::explain_groups::{ExplainGroupsRequest, ExplainGroupsResponse};
use ottla_protocol::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use ottla_protocol::generated::list_groups::{ListGroupsRequest, ListGroupsResponse};
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use ottla_protocol::generated::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use ottla_protocol::wire::Str;

use super::World;

/// First version in which a member must come back with the id it was given (KIP-394).
const ID_REQUIRED_SINCE: i16 = 4;
/// A consumer's subscription to nothing, and an assignment of nothing.
const NOTHING: &[u8] = &[0; 10];

pub fn groups(world: &mut World, topic: &Topic) {
    find(world);
    let members = join(world);
    assigned(world, &members);
    commits(world, topic, &members[0]);
    fetched(world, topic);
    shown(world);
    left(world, topic, &members);
}

fn name(version: i16) -> Str {
    format!("g{version}").into()
}

fn find(world: &mut World) {
    world.each(
        |version| {
            if version >= 4 {
                FindCoordinatorRequest { coordinator_keys: vec![name(0), name(1)], ..Default::default() }
            } else {
                FindCoordinatorRequest { key: name(0), ..Default::default() }
            }
        },
        |version, reply: FindCoordinatorResponse| {
            if version >= 4 {
                let found: Vec<_> = reply.coordinators.iter().map(|c| (c.error_code, c.node_id)).collect();
                assert_eq!(found, [(0, 1), (0, 1)], "{version}");
            } else {
                assert_eq!((reply.error_code, reply.node_id), (0, 1), "{version}");
            }
        },
    );
}

/// The id of the member of group `g<version>`, for each version of JoinGroup.
fn join(world: &mut World) -> Vec<Str> {
    let (first, last) = world.advertised[&11];
    let mut members = Vec::new();
    for version in first..=last {
        let mut request = JoinGroupRequest {
            group_id: name(version),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(NOTHING),
                ..Default::default()
            }],
            ..Default::default()
        };
        if version >= ID_REQUIRED_SINCE {
            let reply: JoinGroupResponse = world.connection.ask(&request, version);
            assert_eq!(reply.error_code, ErrorCode::MemberIdRequired.code(), "{version}");
            request.member_id = reply.member_id;
        }
        let reply: JoinGroupResponse = world.connection.ask(&request, version);
        assert_eq!((reply.error_code, reply.generation_id), (0, 1), "{version}");
        assert_eq!((reply.leader.as_str(), reply.members.len()), (reply.member_id.as_str(), 1), "{version}");
        members.push(reply.member_id);
    }
    world.tried.insert(11, (first, last));
    members
}

fn assigned(world: &mut World, members: &[Str]) {
    let member = |version: i16| members[usize::try_from(version).expect("not negative")].clone();
    world.each(
        |version| {
            let assignment = SyncGroupRequestAssignment {
                member_id: member(version),
                assignment: Bytes::from_static(NOTHING),
                ..Default::default()
            };
            SyncGroupRequest {
                group_id: name(version),
                generation_id: 1,
                member_id: member(version),
                protocol_type: (version >= 5).then(|| "consumer".into()),
                protocol_name: (version >= 5).then(|| "range".into()),
                assignments: vec![assignment],
                ..Default::default()
            }
        },
        |version, reply: SyncGroupResponse| {
            assert_eq!((reply.error_code, &*reply.assignment), (0, NOTHING), "{version}");
        },
    );
    world.each(
        |version| HeartbeatRequest {
            group_id: name(version),
            generation_id: 1,
            member_id: member(version),
            ..Default::default()
        },
        |version, reply: HeartbeatResponse| assert_eq!(reply.error_code, 0, "{version}"),
    );
}

/// Version `v` commits offset `v` in the group `g0`.
fn commits(world: &mut World, topic: &Topic, member: &Str) {
    world.each(
        |version| {
            let partition = OffsetCommitRequestPartition {
                partition_index: 2,
                committed_offset: i64::from(version),
                committed_leader_epoch: if version >= 6 { 0 } else { -1 },
                committed_metadata: Some("word".into()),
                ..Default::default()
            };
            let asked = OffsetCommitRequestTopic {
                name: topic.name.as_str().into(),
                topic_id: topic.id,
                partitions: vec![partition],
                ..Default::default()
            };
            OffsetCommitRequest {
                group_id: name(0),
                generation_id_or_member_epoch: 1,
                member_id: member.clone(),
                topics: vec![asked],
                ..Default::default()
            }
        },
        |version, reply: OffsetCommitResponse| {
            let partition = &reply.topics[0].partitions[0];
            assert_eq!((partition.partition_index, partition.error_code), (2, 0), "{version}");
            assert_eq!(reply.topics[0].topic_id == topic.id, version >= 10, "{version}");
        },
    );
}

fn fetched(world: &mut World, topic: &Topic) {
    let topic_name = || Str::from(topic.name.as_str());
    world.each(
        |version| {
            if version >= 8 {
                let asked = OffsetFetchRequestTopics {
                    name: topic_name(),
                    topic_id: topic.id,
                    partition_indexes: vec![1, 2],
                    ..Default::default()
                };
                let groups = [(name(0), Some(vec![asked])), (name(0), None)].map(|(group_id, topics)| {
                    OffsetFetchRequestGroup { group_id, topics, ..Default::default() }
                });
                return OffsetFetchRequest { groups: groups.into(), ..Default::default() };
            }
            let asked = OffsetFetchRequestTopic {
                name: topic_name(),
                partition_indexes: vec![1, 2],
                ..Default::default()
            };
            OffsetFetchRequest { group_id: name(0), topics: Some(vec![asked]), ..Default::default() }
        },
        |version, reply: OffsetFetchResponse| {
            let word = Some("word");
            if version < 8 {
                let found = reply.topics[0].partitions.iter();
                let found: Vec<_> = found
                    .map(|p| (p.partition_index, p.error_code, p.committed_offset, p.metadata.as_deref()))
                    .collect();
                assert_eq!(found, [(1, 0, -1, Some("")), (2, 0, 10, word)], "{version}");
                return;
            }
            let found = |group: usize| -> Vec<_> {
                let partitions = reply.groups[group].topics[0].partitions.iter();
                partitions
                    .map(|p| (p.partition_index, p.error_code, p.committed_offset, p.metadata.as_deref()))
                    .collect()
            };
            assert_eq!(found(0), [(1, 0, -1, Some("")), (2, 0, 10, word)], "{version}");
            assert_eq!(found(1), [(2, 0, 10, word)], "{version}: all that is committed");
            assert_eq!(reply.groups[0].topics[0].topic_id == topic.id, version >= 10, "{version}");
        },
    );
}

fn shown(world: &mut World) {
    world.each(
        |_| DescribeGroupsRequest { groups: vec![name(0), "nobody".into()], ..Default::default() },
        |version, reply: DescribeGroupsResponse| {
            let (group, nobody) = (&reply.groups[0], &reply.groups[1]);
            assert_eq!((group.error_code, &*group.group_state, group.members.len()), (0, "Stable", 1));
            assert_eq!((&*group.protocol_type, &*group.protocol_data), ("consumer", "range"), "{version}");
            let code = if version >= 6 { ErrorCode::GroupIdNotFound.code() } else { 0 };
            assert_eq!((nobody.error_code, &*nobody.group_state), (code, "Dead"), "{version}");
        },
    );
    world.each(
        |version| {
            let mut request = ListGroupsRequest::default();
            if version >= 4 {
                request.states_filter = vec!["stable".into(), "completingrebalance".into()];
            }
            if version >= 5 {
                request.types_filter = vec!["Classic".into()];
            }
            request
        },
        |version, reply: ListGroupsResponse| {
            let listed: Vec<_> = reply.groups.iter().map(|group| group.group_id.clone()).collect();
            assert_eq!((reply.error_code, listed), (0, (0..10).map(name).collect()), "{version}");
            let state = if version >= 4 { "Stable" } else { "" };
            assert_eq!(&*reply.groups[0].group_state, state, "{version}");
        },
    );
    world.each(
        |_| ExplainGroupsRequest { group_ids: vec![name(0), "nobody".into()], ..Default::default() },
        |version, reply: ExplainGroupsResponse| {
            let (group, nobody) = (&reply.groups[0], &reply.groups[1]);
            assert_eq!((group.error_code, group.generation_id), (0, 1), "{version}");
            assert!(!group.events.is_empty(), "{version}");
            assert_eq!(nobody.error_code, ErrorCode::GroupIdNotFound.code(), "{version}");
        },
    );
}

/// The members of `g0` to `g5` leave; what is left of those groups is deleted.
fn left(world: &mut World, topic: &Topic, members: &[Str]) {
    world.each(
        |version| {
            let member_id = members[usize::try_from(version).expect("not negative")].clone();
            let mut request = LeaveGroupRequest { group_id: name(version), ..Default::default() };
            if version >= 3 {
                request.members = vec![MemberIdentity { member_id, ..Default::default() }];
            } else {
                request.member_id = member_id;
            }
            request
        },
        |version, reply: LeaveGroupResponse| {
            assert_eq!(reply.error_code, 0, "{version}");
            assert!(reply.members.iter().all(|member| member.error_code == 0), "{version}");
            assert_eq!(reply.members.len(), usize::from(version >= 3), "{version}");
        },
    );
    world.each(
        |_| OffsetDeleteRequest {
            group_id: name(0),
            topics: vec![OffsetDeleteRequestTopic {
                name: topic.name.as_str().into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 2 }],
            }],
        },
        |_, reply: OffsetDeleteResponse| {
            assert_eq!((reply.error_code, reply.topics[0].partitions[0].error_code), (0, 0));
        },
    );
    // With its last offset `g0` is gone by itself.
    world.each(
        |version| DeleteGroupsRequest {
            groups_names: vec![name(version + 1), name(9)],
            ..Default::default()
        },
        |version, reply: DeleteGroupsResponse| {
            let codes: Vec<_> = reply.results.iter().map(|r| (&*r.group_id, r.error_code)).collect();
            let not_empty = ErrorCode::NonEmptyGroup.code();
            assert_eq!(codes, [(&*name(version + 1), 0), ("g9", not_empty)], "{version}");
        },
    );
}
