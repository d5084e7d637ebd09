//! ListPartitionReassignments (KIP-455).

use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Str;

use super::reassignment::is_in_progress;
use crate::image::{MetadataImage, TopicImage};

/// The partitions on the move: all, or those of the named ones. Any broker can tell from its image.
#[must_use]
pub fn list_partition_reassignments(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let topics = match &request.topics {
        None => image.topics().filter_map(|topic| ongoing(topic, None)).collect(),
        Some(named) => {
            let found = named.iter().filter_map(|asked| Some((image.topic_by_name(&asked.name)?, asked)));
            found.filter_map(|(topic, asked)| ongoing(topic, Some(&asked.partition_indexes))).collect()
        }
    };
    ListPartitionReassignmentsResponse { topics, ..ListPartitionReassignmentsResponse::default() }
}

fn ongoing(topic: &TopicImage, only: Option<&[i32]>) -> Option<OngoingTopicReassignment> {
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let moving = topic.partitions().filter(|(number, partition)| {
        is_in_progress(partition) && only.is_none_or(|only| only.contains(number))
    });
    let partitions: Vec<_> = moving
        .map(|(partition_index, partition)| OngoingPartitionReassignment {
            partition_index,
            replicas: numbers(&partition.replicas),
            adding_replicas: numbers(&partition.adding),
            removing_replicas: numbers(&partition.removing),
            ..OngoingPartitionReassignment::default()
        })
        .collect();
    let name = Str::from(&*topic.name);
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name,
        partitions,
        ..OngoingTopicReassignment::default()
    })
}
