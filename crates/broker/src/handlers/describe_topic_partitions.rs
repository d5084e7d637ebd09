//! DescribeTopicPartitions: topics in pages of partitions (KIP-966).

use std::collections::BTreeSet;

use ottla_cluster::image::{MetadataImage, TopicImage};
use ottla_protocol::generated::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::wire::Str;

use crate::handlers::metadata::{ShownLeader, code_of_unknown, is_internal};
use crate::operations;
use crate::state::State;

/// Answers DescribeTopicPartitions: topics in the order of their names, from the cursor on, at most the smaller of the
/// request's limit and `max.request.partition.size.limit` partitions.
pub fn handle(state: &State, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let image = state.image();
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0).max(1);
    let mut left = asked.min(state.config.max_request_partition_size_limit);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names(&image, request) {
        let first = match &request.cursor {
            Some(cursor) if cursor.topic_name == name => cursor.partition_index.max(0),
            Some(_) | None => 0,
        };
        if left == 0 {
            response.next_cursor = Some(cursor(&name, first));
            break;
        }
        let Some(topic) = image.topic_by_name(&name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let all = (0..).zip(&topic.partitions).filter(|(index, _)| *index >= first);
        let served = state.topics.get(topic.id);
        let mut entry = entry(topic);
        for (index, partition) in all {
            if left == 0 {
                response.next_cursor = Some(cursor(&name, index));
                break;
            }
            left -= 1;
            let leader = ShownLeader::new(state, &image, served.as_deref(), index, partition);
            entry.partitions.push(DescribeTopicPartitionsResponsePartition {
                error_code: leader.code.code(),
                partition_index: index,
                leader_id: leader.id,
                leader_epoch: partition.leader_epoch.0,
                replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
                isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
                // Not kept, see docs/cluster.md. Lists, although the message allows null: the Java client does not.
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: leader.offline,
                ..Default::default()
            });
        }
        response.topics.push(entry);
        if response.next_cursor.is_some() {
            break;
        }
    }
    response
}

/// The topics to describe, sorted, without those before the cursor. No topics in the request means all.
fn names(image: &MetadataImage, request: &DescribeTopicPartitionsRequest) -> BTreeSet<Str> {
    let from = request.cursor.as_ref().map(|cursor| cursor.topic_name.clone()).unwrap_or_default();
    let all: BTreeSet<Str> = if request.topics.is_empty() {
        image.topics().map(|topic| Str::from(&*topic.name)).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.clone()).collect()
    };
    all.into_iter().filter(|name| *name >= from).collect()
}

fn cursor(name: &Str, partition_index: i32) -> Cursor {
    Cursor { topic_name: name.clone(), partition_index, ..Default::default() }
}

fn entry(topic: &TopicImage) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        topic_authorized_operations: operations::TOPIC,
        ..Default::default()
    }
}

fn unknown(name: Str) -> DescribeTopicPartitionsResponseTopic {
    let error_code = code_of_unknown(&name).code();
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() }
}
