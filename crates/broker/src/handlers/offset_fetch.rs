//! OffsetFetch: how far groups have read. Up to version 7 about one group, from 8 on about several.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_cluster::groups::Client;
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;

use crate::groups::Answered;
use crate::state::State;

/// First version with several groups.
const GROUPS_SINCE: i16 = 8;
/// First version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;
/// First version with an error for the whole group.
const GROUP_ERROR_SINCE: i16 = 2;

/// Answers at once: only what is committed is told. What is asked for twice is told once (some offsets of a group, and all of
/// them, are two things): with its metadata an answer can be a thousand times as long as the question.
pub fn handle(
    state: &Arc<State>,
    _client: &Client,
    request: OffsetFetchRequest,
    version: i16,
) -> Answered<OffsetFetchResponse> {
    let image = state.image();
    Answered::Now(if version >= GROUPS_SINCE {
        let mut seen = BTreeSet::new();
        let groups = request.groups.into_iter();
        let distinct = groups.filter(|group| seen.insert((group.group_id.clone(), group.topics.is_none())));
        let groups = distinct.map(|group| {
            if version >= TOPIC_IDS_SINCE {
                by_id(state, &image, group, request.require_stable)
            } else {
                fetch(state, &image, group, request.require_stable)
            }
        });
        OffsetFetchResponse { groups: groups.collect(), ..Default::default() }
    } else {
        single(state, &image, request, version)
    })
}

/// The group knows topics by name; the ids tell offsets of a topic that is gone from those of one that has its name now.
fn fetch(
    state: &State,
    image: &MetadataImage,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut seen = BTreeSet::new();
    for topic in group.topics.iter_mut().flatten() {
        topic.partition_indexes.retain(|partition| seen.insert((topic.name.clone(), *partition)));
        topic.topic_id = image.topic_by_name(&topic.name).map_or(Uuid::ZERO, |found| found.id);
    }
    let shard = state.groups.shard_of(image, &group.group_id);
    let fetched = shard.and_then(|shard| shard.read(|machine| machine.fetch_offsets(&group, require_stable)));
    fetched.unwrap_or_else(|code| OffsetFetchResponseGroup {
        group_id: group.group_id,
        error_code: code.code(),
        ..Default::default()
    })
}

/// Those asked for by an id that nobody has are answered here.
fn by_id(
    state: &State,
    image: &MetadataImage,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    if let Some(topics) = &mut group.topics {
        topics.retain_mut(|topic| match image.topic_by_id(&topic.topic_id) {
            Some(found) => {
                topic.name = (&*found.name).into();
                true
            }
            None => {
                unknown.push(without_topic(topic));
                false
            }
        });
    }
    let mut fetched = fetch(state, image, group, require_stable);
    // Topics that were deleted since have no id to tell.
    fetched.topics.retain_mut(|topic| match image.topic_by_name(&topic.name) {
        Some(found) => {
            topic.topic_id = found.id;
            true
        }
        None => false,
    });
    if fetched.error_code == 0 {
        fetched.topics.extend(unknown);
    }
    fetched
}

fn without_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|&partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code: ErrorCode::UnknownTopicId.code(),
        ..Default::default()
    });
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn single(
    state: &State,
    image: &MetadataImage,
    request: OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: topic.partition_indexes.clone(),
            ..Default::default()
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let fetched = fetch(state, image, group, request.require_stable);
    let topics = if fetched.error_code == 0 {
        fetched.topics.into_iter().map(old_topic).collect()
    } else if version < GROUP_ERROR_SINCE {
        request.topics.iter().flatten().map(|topic| failed(topic, fetched.error_code)).collect()
    } else {
        Vec::new()
    };
    OffsetFetchResponse { topics, error_code: fetched.error_code, ..Default::default() }
}

fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..Default::default()
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect(), ..Default::default() }
}

fn failed(topic: &OffsetFetchRequestTopic, error_code: i16) -> OffsetFetchResponseTopic {
    let partitions = topic.partition_indexes.iter().map(|&partition_index| OffsetFetchResponsePartition {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code,
        ..Default::default()
    });
    OffsetFetchResponseTopic {
        name: topic.name.clone(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
