//! Questions about a group on the raw connection: who is in it, what is committed, why it is so.

use ottla_protocol::generated::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup,
};
use ottla_protocol::generated::explain_groups::{
    ExplainGroupsRequest, ExplainGroupsResponse, ExplainedGroup,
};
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};

use crate::wire::Connection;

impl Connection {
    /// DescribeGroups 5 of one group.
    pub fn describe_group(&mut self, group: &str) -> DescribedGroup {
        let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
        let mut reply: DescribeGroupsResponse = self.ask(&request, 5);
        reply.groups.remove(0)
    }

    /// ExplainGroups of one group.
    pub fn explain_group(&mut self, group: &str) -> ExplainedGroup {
        let request = ExplainGroupsRequest { group_ids: vec![group.into()], ..Default::default() };
        let mut reply: ExplainGroupsResponse = self.ask(&request, 0);
        reply.groups.remove(0)
    }

    /// OffsetFetch 8: the committed offsets of the partitions `0..count`, -1 for none; the group's error instead, if any.
    pub fn committed(&mut self, group: &str, topic: &str, count: i32) -> Result<Vec<i64>, i16> {
        let topics = OffsetFetchRequestTopics {
            name: topic.into(),
            partition_indexes: (0..count).collect(),
            ..Default::default()
        };
        let asked = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![topics]),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
        let mut reply: OffsetFetchResponse = self.ask(&request, 8);
        let group = reply.groups.remove(0);
        if group.error_code != 0 {
            return Err(group.error_code);
        }
        let partitions = &group.topics[0].partitions;
        assert!((0..count).eq(partitions.iter().map(|partition| partition.partition_index)));
        partitions
            .iter()
            .map(|partition| match partition.error_code {
                0 => Ok(partition.committed_offset),
                code => Err(code),
            })
            .collect()
    }

    /// OffsetCommit 8 of partition 0 by a client without a group of members; gives the error code.
    pub fn commit_alone(&mut self, group: &str, topic: &str, offset: i64, metadata: &str) -> i16 {
        let reply: OffsetCommitResponse =
            self.ask(&commit_request(group, -1, "", topic, offset, metadata), 8);
        reply.topics[0].partitions[0].error_code
    }
}

/// A commit of one offset of partition 0, for a version before 10.
pub fn commit_request(
    group: &str,
    generation: i32,
    member: &str,
    topic: &str,
    offset: i64,
    metadata: &str,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![topic],
        ..Default::default()
    }
}
