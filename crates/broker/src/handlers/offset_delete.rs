//! OffsetDelete: a group forgets how far it has read.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use crate::groups::{Answered, not_of};
use crate::state::State;

/// Answers for topics that do not exist, and hands the others to the group; the reply comes when it is on disk.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    mut request: OffsetDeleteRequest,
    _version: i16,
) -> Answered<OffsetDeleteResponse> {
    if request.group_id.is_empty() {
        return Answered::Now(failed(ErrorCode::InvalidGroupId));
    }
    let image = state.image();
    let mut unknown = Vec::new();
    for topic in &mut request.topics {
        unknown.extend(take_unknown(&image, topic));
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    let group_id = request.group_id.clone();
    let reply = state.groups.ask_to_store(state, &group_id, client, Request::DeleteOffsets(request));
    reply.map(move |reply| match reply {
        Ok(Reply::DeleteOffsets(mut response)) => {
            // An error of the whole group stands alone.
            if response.error_code == 0 {
                response.topics.extend(unknown);
            }
            response
        }
        Ok(other) => not_of("OffsetDelete", &other),
        Err(code) => failed(code),
    })
}

/// Takes the partitions that do not exist out of the request, and gives the answer for them.
fn take_unknown(
    image: &MetadataImage,
    topic: &mut OffsetDeleteRequestTopic,
) -> Option<OffsetDeleteResponseTopic> {
    let count = image.topic_by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
    let exists = |index: i32| usize::try_from(index).is_ok_and(|index| index < count);
    let (known, unknown): (Vec<_>, Vec<_>) =
        std::mem::take(&mut topic.partitions).into_iter().partition(|p| exists(p.partition_index));
    topic.partitions = known;
    let partitions = unknown.iter().map(|partition| OffsetDeleteResponsePartition {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
    });
    let answer = OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: partitions.collect() };
    Some(answer).filter(|answer| !answer.partitions.is_empty())
}

fn failed(code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: code.code(), ..Default::default() }
}
