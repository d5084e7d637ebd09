//! Offsets that a group has committed.

use std::collections::BTreeMap;

use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse,
};
use ottla_protocol::wire::Str;

use crate::client::Client;
use crate::coordinator;
use crate::error::{Error, check};
use crate::offsets::TopicPartition;

/// Topics by name.
const OFFSET_COMMIT_VERSIONS: (i16, i16) = (2, 9);
/// One group a request; from 8 on there may be many.
const OFFSET_FETCH_VERSIONS: (i16, i16) = (1, 7);
/// The retention that the group has.
const KEEP_FOREVER: i64 = -1;

/// Who commits: a member in its generation, or nobody in particular.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub group: Str,
    pub generation: i32,
    pub member: Str,
    pub instance: Option<Str>,
}

impl Committer {
    /// An administrator: only a group without members takes that.
    pub fn outside(group: &str) -> Committer {
        Committer { group: Str::from(group), generation: -1, member: Str::default(), instance: None }
    }
}

/// Commits offsets.
///
/// # Errors
/// [`Error::Group`] with `UnknownMemberId`, `IllegalGeneration`, `RebalanceInProgress` when the partitions have gone to
/// others; [`Error::Partition`].
pub(crate) async fn commit(
    client: &Client,
    committer: &Committer,
    offsets: &[(TopicPartition, i64)],
) -> Result<(), Error> {
    let mut request = OffsetCommitRequest {
        group_id: committer.group.clone(),
        generation_id_or_member_epoch: committer.generation,
        member_id: committer.member.clone(),
        group_instance_id: committer.instance.clone(),
        retention_time_ms: KEEP_FOREVER,
        ..OffsetCommitRequest::default()
    };
    for (place, offset) in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: place.partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(Str::default()),
            ..OffsetCommitRequestPartition::default()
        };
        match request.topics.iter_mut().find(|topic| topic.name == place.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => request.topics.push(OffsetCommitRequestTopic {
                name: place.topic.clone(),
                partitions: vec![partition],
                ..OffsetCommitRequestTopic::default()
            }),
        }
    }
    let judge = |response: &OffsetCommitResponse| {
        for topic in &response.topics {
            for partition in &topic.partitions {
                check(partition.error_code, |code| match Error::group(&committer.group, code) {
                    error if is_of_group(&error) => error,
                    _ => Error::partition(&topic.name, partition.partition_index, code),
                })?;
            }
        }
        Ok(())
    };
    coordinator::ask(client, &committer.group, &request, OFFSET_COMMIT_VERSIONS, judge).await?;
    Ok(())
}

fn is_of_group(error: &Error) -> bool {
    use crate::ErrorCode as Code;
    let code = error.code();
    coordinator::is_elsewhere(error)
        || matches!(
            code,
            Some(
                Code::UnknownMemberId
                    | Code::IllegalGeneration
                    | Code::RebalanceInProgress
                    | Code::FencedInstanceId
                    | Code::GroupAuthorizationFailed
                    | Code::InvalidGroupId
            )
        )
}

/// What is committed for `places`, or for all partitions that the group has ever committed. Those without are left out.
///
/// # Errors
/// [`Error::Group`], [`Error::Partition`].
pub(crate) async fn fetch(
    client: &Client,
    group: &str,
    places: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let topics = places.map(|places| {
        let mut topics: Vec<OffsetFetchRequestTopic> = Vec::new();
        for place in places {
            match topics.iter_mut().find(|topic| topic.name == place.topic) {
                Some(topic) => topic.partition_indexes.push(place.partition),
                None => topics.push(OffsetFetchRequestTopic {
                    name: place.topic.clone(),
                    partition_indexes: vec![place.partition],
                    ..OffsetFetchRequestTopic::default()
                }),
            }
        }
        topics
    });
    let request = OffsetFetchRequest { group_id: Str::from(group), topics, ..OffsetFetchRequest::default() };
    let judge = |response: &OffsetFetchResponse| {
        check(response.error_code, |code| Error::group(group, code))?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                check(partition.error_code, |code| {
                    Error::partition(&topic.name, partition.partition_index, code)
                })?;
            }
        }
        Ok(())
    };
    let response = coordinator::ask(client, group, &request, OFFSET_FETCH_VERSIONS, judge).await?;
    let mut committed = BTreeMap::new();
    for topic in &response.topics {
        for partition in topic.partitions.iter().filter(|partition| partition.committed_offset >= 0) {
            let place = TopicPartition { topic: topic.name.detached(), partition: partition.partition_index };
            committed.insert(place, partition.committed_offset);
        }
    }
    Ok(committed)
}
