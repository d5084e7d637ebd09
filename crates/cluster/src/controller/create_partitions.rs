//! CreatePartitions.

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use ottla_protocol::ids::BrokerId;

use super::internal_topics::refuse_internal;
use super::placement::{new_partition, place, validate_assignment};
use super::{Context, Controller, Outcome, Refusal, code_and_message, named_twice};
use crate::image::{MetadataRecord, TopicImage};
use crate::limits::PARTITIONS_PER_REQUEST_MAX;

impl Controller<'_> {
    /// Adds partitions to topics, each topic by itself.
    pub fn create_partitions(
        &mut self,
        request: &CreatePartitionsRequest,
        context: &mut Context<'_>,
    ) -> Outcome<CreatePartitionsResponse> {
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut answered = BTreeSet::new();
        let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
        for topic in &request.topics {
            if !answered.insert(topic.name.as_str()) {
                continue;
            }
            let left = PARTITIONS_PER_REQUEST_MAX.saturating_sub(records.len());
            let mut result = CreatePartitionsTopicResult {
                name: topic.name.detached(),
                ..CreatePartitionsTopicResult::default()
            };
            let plan = if twice.contains(topic.name.as_str()) {
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            } else {
                self.plan_partitions(topic, left, context)
            };
            match plan {
                Ok(mut new) => records.append(&mut new),
                Err(refusal) => (result.error_code, result.error_message) = code_and_message(refusal),
            }
            results.push(result);
        }
        if request.validate_only {
            records.clear();
        }
        self.decided(&records);
        Outcome {
            records,
            response: CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() },
        }
    }

    fn plan_partitions(
        &self,
        request: &CreatePartitionsTopic,
        partitions_left: usize,
        context: &mut Context<'_>,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let topic = self.image.topic_by_name(&request.name).ok_or_else(|| {
            (ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.".to_owned())
        })?;
        refuse_internal(&topic.name, "its partitions cannot be added to")?;
        let present = topic.partitions.len();
        let additional = additional(topic, request.count)?;
        if additional > partitions_left {
            let text = format!(
                "Excessively large number of partitions per request: at most {PARTITIONS_PER_REQUEST_MAX}."
            );
            return Err((ErrorCode::PolicyViolation, text));
        }
        let first = i32::try_from(present).expect("partition numbers are 32 bits");
        let replicas = match &request.assignments {
            None => {
                let like = replication_factor(topic);
                place(
                    &self.image,
                    Some(topic),
                    additional,
                    i16::try_from(like).unwrap_or(i16::MAX),
                    context.entropy,
                )?
            }
            Some(assignments) => {
                let brokers: Vec<&[i32]> = assignments.iter().map(|a| a.broker_ids.as_slice()).collect();
                self.assigned(topic, &brokers, additional)?
            }
        };
        let numbered = (first..).zip(&replicas);
        Ok(numbered.map(|(n, replicas)| new_partition(&self.image, topic.id, n, replicas).into()).collect())
    }

    fn assigned(
        &self,
        topic: &TopicImage,
        brokers: &[&[i32]],
        additional: usize,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let refuse = |text: String| Err((ErrorCode::InvalidReplicaAssignment, text));
        if brokers.len() != additional {
            return refuse(format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                brokers.len()
            ));
        }
        let like = replication_factor(topic);
        let mut replicas = Vec::with_capacity(brokers.len());
        for chosen in brokers {
            let chosen = validate_assignment(&self.image, chosen)?;
            if chosen.len() != like {
                return refuse(format!(
                    "The manual partition assignment includes a partition with {} replica(s), but this is not \
                     consistent with previous partitions, which have {like} replica(s).",
                    chosen.len()
                ));
            }
            replicas.push(chosen);
        }
        Ok(replicas)
    }
}

/// How many replicas the partitions have, not counting those that only a move adds.
fn replication_factor(topic: &TopicImage) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replicas.len() - partition.adding.len())
}

fn additional(topic: &TopicImage, count: i32) -> Result<usize, Refusal> {
    let present = topic.partitions.len();
    let wanted = usize::try_from(count).unwrap_or(0);
    let text = if wanted == present {
        format!("Topic already has {present} partition(s).")
    } else {
        format!(
            "The topic {} currently has {present} partition(s); {count} would not be an increase.",
            topic.name
        )
    };
    match wanted.checked_sub(present) {
        None | Some(0) => Err((ErrorCode::InvalidPartitions, text)),
        Some(additional) => Ok(additional),
    }
}
