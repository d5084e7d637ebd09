//! Requests of consumer groups.

use ottla_protocol::generated::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::generated::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponsePartitions,
};

use crate::support::{NONE, Running};

impl Running {
    pub async fn find_coordinator(&self, key: &str, key_type: i8) -> Coordinator {
        let coordinator_keys = vec![key.into()];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        let mut response: FindCoordinatorResponse = self.client.call(&request, 4).await.unwrap();
        response.coordinators.remove(0)
    }

    /// Commits `offset` of partition 0 without being a member; gives the error code.
    pub async fn commit(&self, group: &str, topic: &str, offset: i64) -> i16 {
        self.commit_with(group, (topic, 0), offset, "").await
    }

    pub async fn commit_with(
        &self,
        group: &str,
        (topic, partition_index): (&str, i32),
        committed_offset: i64,
        metadata: &str,
    ) -> i16 {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_metadata: Some(metadata.into()),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            topics: vec![OffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: OffsetCommitResponse = self.client.call(&request, 8).await.unwrap();
        response.topics[0].partitions[0].error_code
    }

    /// The group's error code, and what it has committed of partition 0.
    pub async fn fetch_group(
        &self,
        group: &str,
        topic: &str,
    ) -> (i16, Option<OffsetFetchResponsePartitions>) {
        let topics = vec![OffsetFetchRequestTopics {
            name: topic.into(),
            partition_indexes: vec![0],
            ..Default::default()
        }];
        let group =
            OffsetFetchRequestGroup { group_id: group.into(), topics: Some(topics), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let mut response: OffsetFetchResponse = self.client.call(&request, 8).await.unwrap();
        let mut group = response.groups.remove(0);
        let partition = group.topics.pop().and_then(|mut topic| topic.partitions.pop());
        (group.error_code, partition)
    }

    /// As DescribeGroups names it.
    pub async fn group_state(&self, group: &str) -> String {
        let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
        let response: DescribeGroupsResponse = self.client.call(&request, 5).await.unwrap();
        response.groups[0].group_state.to_string()
    }

    /// What the group has committed of partition 0; -1 for nothing.
    pub async fn committed(&self, group: &str, topic: &str) -> i64 {
        let (error_code, partition) = self.fetch_group(group, topic).await;
        assert_eq!(error_code, NONE);
        partition.unwrap().committed_offset
    }
}

/// JoinGroup of a consumer with an id, or of one that needs none yet.
pub fn join(group: &str, member_id: &str, session_timeout_ms: i32) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An id of a member that joins with version 9, which gets one at once and comes back with it.
pub async fn new_member(broker: &Running, group: &str) -> ottla_protocol::wire::Str {
    let response: JoinGroupResponse = broker.client.call(&join(group, "", 10_000), 9).await.unwrap();
    assert_eq!(response.error_code, ottla_protocol::generated::ErrorCode::MemberIdRequired.code());
    response.member_id
}
