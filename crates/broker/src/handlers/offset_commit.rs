//! OffsetCommit: how far a group has read.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_cluster::image::{MetadataImage, TopicImage};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};

use crate::groups::{Answered, not_of};
use crate::state::State;

/// First version that names topics by id (KIP-848).
const TOPIC_IDS_SINCE: i16 = 10;

/// Answers for partitions that do not exist, and hands the others to the group; the reply comes when they are on disk.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    mut request: OffsetCommitRequest,
    version: i16,
) -> Answered<OffsetCommitResponse> {
    let image = state.image();
    let mut response = OffsetCommitResponse::default();
    let mut known = Vec::with_capacity(request.topics.len());
    for topic in std::mem::take(&mut request.topics) {
        let (answer, topic) = sort_out(&image, topic, version);
        response.topics.push(answer);
        if !topic.partitions.is_empty() {
            known.push(topic);
        }
    }
    if known.is_empty() {
        return Answered::Now(response);
    }
    request.topics = known;
    let group_id = request.group_id.clone();
    let reply = state.groups.ask_to_store(state, &group_id, client, Request::Commit { request, version });
    reply.map(move |reply| {
        match reply {
            Ok(Reply::Commit(stored)) => fill(&mut response, &stored),
            Ok(other) => not_of("OffsetCommit", &other),
            Err(code) => fail(&mut response, code),
        }
        response
    })
}

/// The answer to a topic, in which partitions that exist have no error so far, and those partitions.
fn sort_out(
    image: &MetadataImage,
    mut topic: OffsetCommitRequestTopic,
    version: i16,
) -> (OffsetCommitResponseTopic, OffsetCommitRequestTopic) {
    let found = if version >= TOPIC_IDS_SINCE {
        image.topic_by_id(&topic.topic_id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic_by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    if let (true, Ok(found)) = (version >= TOPIC_IDS_SINCE, &found) {
        topic.name = (&*found.name).into();
    }
    let code_of = |index| match &found {
        Ok(found) if has_partition(found, index) => ErrorCode::None,
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(code) => *code,
    };
    let answers = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: code_of(partition.partition_index).code(),
        ..Default::default()
    });
    let answer = OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: answers.collect(),
        ..Default::default()
    };
    topic.partitions.retain(|partition| code_of(partition.partition_index) == ErrorCode::None);
    (answer, topic)
}

fn has_partition(topic: &TopicImage, index: i32) -> bool {
    usize::try_from(index).is_ok_and(|index| index < topic.partitions.len())
}

/// The group answers in the order in which it was asked: for the partitions without an error so far.
fn fill(response: &mut OffsetCommitResponse, stored: &OffsetCommitResponse) {
    let mut codes = stored.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in unanswered(response) {
        let stored = codes.next().expect("the group answers for each partition");
        assert_eq!(stored.partition_index, partition.partition_index, "the group keeps the order");
        partition.error_code = stored.error_code;
    }
}

fn fail(response: &mut OffsetCommitResponse, code: ErrorCode) {
    for partition in unanswered(response) {
        partition.error_code = code.code();
    }
}

fn unanswered(
    response: &mut OffsetCommitResponse,
) -> impl Iterator<Item = &mut OffsetCommitResponsePartition> {
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    partitions.filter(|partition| partition.error_code == ErrorCode::None.code())
}
