//! AlterPartitionReassignments: moves partitions to other brokers, or takes that back (KIP-455).

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_protocol::generated::records::PartitionChangeRecord;

use super::partition_change::{Election, PartitionChange};
use super::placement::validate_replicas;
use super::reassignment::{Reassignment, is_in_progress, revert, start};
use super::{Controller, Outcome, Refusal, code_and_message};
use crate::image::{MetadataRecord, PartitionImage, TopicImage};

impl Controller<'_> {
    /// Begins, replaces or (without replicas) cancels the move of partitions, each by itself. New replicas are added beside the
    /// old ones; the old ones go when the new ones are in sync.
    pub fn alter_partition_reassignments(
        &mut self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Outcome<AlterPartitionReassignmentsResponse> {
        let keep_factor = !request.allow_replication_factor_change;
        let mut records: Vec<MetadataRecord> = Vec::new();
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let partition_index = asked.partition_index;
                let mut answer = ReassignablePartitionResponse {
                    partition_index,
                    ..ReassignablePartitionResponse::default()
                };
                match self.reassign(&topic.name, asked, keep_factor) {
                    Ok(record) => {
                        let record: Vec<MetadataRecord> = record.into_iter().map(Into::into).collect();
                        self.decided(&record);
                        records.extend(record);
                    }
                    Err(refusal) => (answer.error_code, answer.error_message) = code_and_message(refusal),
                }
                partitions.push(answer);
            }
            responses.push(ReassignableTopicResponse {
                name: topic.name.detached(),
                partitions,
                ..ReassignableTopicResponse::default()
            });
        }
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            responses,
            ..AlterPartitionReassignmentsResponse::default()
        };
        Outcome { records, response }
    }

    fn reassign(
        &self,
        name: &str,
        asked: &ReassignablePartition,
        keep_factor: bool,
    ) -> Result<Option<PartitionChangeRecord>, Refusal> {
        let number = asked.partition_index;
        let unknown = |what: String| (ErrorCode::UnknownTopicOrPartition, what);
        let topic = self.image.topic_by_name(name);
        let topic = topic.ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
        let partition = topic
            .partition(number)
            .ok_or_else(|| unknown(format!("Unable to find partition {name}:{number}.")))?;
        match &asked.replicas {
            None => self.cancel(topic, number, partition),
            Some(replicas) => {
                let target = validate_replicas(&self.image, replicas)?;
                let factor = partition.replicas.len() - partition.adding.len();
                if keep_factor && target.len() != factor {
                    let text = format!("The replication factor is changed from {factor} to {}", target.len());
                    return Err((ErrorCode::InvalidReplicationFactor, text));
                }
                let mut change = PartitionChange::new(&self.image, topic.id, number, partition);
                change.set_election(self.election_for(topic));
                change.set_replicas(start(partition, &target));
                Ok(change.record())
            }
        }
    }

    fn cancel(
        &self,
        topic: &Arc<TopicImage>,
        number: i32,
        partition: &PartitionImage,
    ) -> Result<Option<PartitionChangeRecord>, Refusal> {
        if !is_in_progress(partition) {
            let text = "No partition reassignment is in progress.".to_owned();
            return Err((ErrorCode::NoReassignmentInProgress, text));
        }
        let reverted = revert(partition).ok_or_else(|| {
            let text = "Invalid replica assignment: addingReplicas contains all replicas.".to_owned();
            (ErrorCode::InvalidReplicaAssignment, text)
        })?;
        if reverted.unclean && !self.allows_unclean(&topic.name) {
            let text = format!(
                "Unable to revert partition assignment for {}:{number} because it would require an unclean leader \
                 election.",
                topic.name
            );
            return Err((ErrorCode::InvalidReplicaAssignment, text));
        }
        let mut change = PartitionChange::new(&self.image, topic.id, number, partition);
        let election = if reverted.unclean { Election::Unclean } else { self.election_for(topic) };
        change.set_election(election);
        let (adding, removing) = (Vec::new(), Vec::new());
        // Without a member in sync the election finds its leader outside the ISR and makes it the only member.
        let isr = if reverted.unclean { Vec::new() } else { reverted.isr };
        change.set_replicas(Reassignment { replicas: reverted.replicas, isr, adding, removing });
        Ok(change.record())
    }
}
