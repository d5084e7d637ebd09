//! AlterPartition: a leader asks for another ISR (KIP-497, KIP-841, KIP-903).

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData, ResponsePartitionData,
    ResponseTopicData,
};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

use super::partition_change::{PartitionChange, has_directory};
use super::placement::is_active;
use super::{Controller, Outcome};
use crate::image::{MetadataRecord, PartitionImage};
use crate::planted::{Bug, planted};

/// `LeaderRecoveryState` of a leader out of an unclean election.
const RECOVERING: i8 = 1;
/// A broker's epoch that the request does not know (version 2).
const UNKNOWN_EPOCH: i64 = -1;

impl Controller<'_> {
    /// Changes the ISR of partitions, each by itself, if their leader still is who it thinks it is, and every member that comes
    /// in is fit. A partition on the move is done when all that was added is in sync; when its leader thereby goes, it is told
    /// NEW_LEADER_ELECTED.
    pub fn alter_partition(&mut self, request: &AlterPartitionRequest) -> Outcome<AlterPartitionResponse> {
        let id = BrokerId(request.broker_id);
        if let Err(error) = self.broker_of_epoch(id, request.broker_epoch) {
            // What is no longer registered has an epoch of the past, too (KIP-631).
            let error_code = match error {
                ErrorCode::BrokerIdNotRegistered => ErrorCode::StaleBrokerEpoch.code(),
                other => other.code(),
            };
            let response = AlterPartitionResponse { error_code, ..AlterPartitionResponse::default() };
            return Outcome { records: Vec::new(), response };
        }
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let altered = self.alter_isr(id, topic.topic_id, asked, &mut records);
                partitions.push(altered.unwrap_or_else(|error| ResponsePartitionData {
                    partition_index: asked.partition_index,
                    error_code: error.code(),
                    ..ResponsePartitionData::default()
                }));
            }
            topics.push(ResponseTopicData {
                topic_id: topic.topic_id,
                partitions,
                ..ResponseTopicData::default()
            });
        }
        let response = AlterPartitionResponse { topics, ..AlterPartitionResponse::default() };
        Outcome { records, response }
    }

    fn alter_isr(
        &mut self,
        id: BrokerId,
        topic_id: Uuid,
        asked: &RequestPartitionData,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<ResponsePartitionData, ErrorCode> {
        let number = asked.partition_index;
        let topic = self.image.topic_by_id(&topic_id).cloned().ok_or(ErrorCode::UnknownTopicId)?;
        let partition = topic.partition(number).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let isr = wanted_isr(asked);
        self.check_isr(id, partition, asked, &isr)?;
        let mut change = PartitionChange::new(&self.image, topic_id, number, partition);
        change.set_election(self.election_for(&topic));
        change.set_isr(isr.iter().map(|member| BrokerId(member.broker_id)).collect());
        change.set_recovering(asked.leader_recovery_state == RECOVERING);
        if let Some(record) = change.record() {
            let record = MetadataRecord::from(record);
            self.decided(std::slice::from_ref(&record));
            records.push(record);
        }
        let now = self.image.partition(topic_id, number).expect("a partition that was changed is there");
        if now.leader != id {
            return Err(ErrorCode::NewLeaderElected);
        }
        Ok(ResponsePartitionData {
            partition_index: number,
            leader_id: now.leader.0,
            leader_epoch: now.leader_epoch.0,
            isr: now.isr.iter().map(|id| id.0).collect(),
            leader_recovery_state: i8::from(now.recovering),
            partition_epoch: now.partition_epoch,
            ..ResponsePartitionData::default()
        })
    }

    fn check_isr(
        &self,
        id: BrokerId,
        partition: &Arc<PartitionImage>,
        asked: &RequestPartitionData,
        isr: &[BrokerState],
    ) -> Result<(), ErrorCode> {
        let epoch = LeaderEpoch(asked.leader_epoch);
        // A leader that is ahead has heard of it from a controller that came after this one.
        if epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch {
            return Err(ErrorCode::NotController);
        }
        if epoch < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if partition.leader != id {
            return Err(ErrorCode::InvalidRequest);
        }
        if asked.partition_epoch < partition.partition_epoch && !planted(Bug::StaleIsrEpoch) {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let mut members: Vec<i32> = isr.iter().map(|member| member.broker_id).collect();
        members.sort_unstable();
        let distinct = members.windows(2).all(|pair| pair[0] != pair[1]);
        let assigned = members.iter().all(|id| partition.replicas.contains(&BrokerId(*id)));
        if !distinct || !assigned || !members.contains(&id.0) {
            return Err(ErrorCode::InvalidRequest);
        }
        let recovering = asked.leader_recovery_state == RECOVERING;
        if recovering && (isr.len() > 1 || !partition.recovering) {
            return Err(ErrorCode::InvalidRequest);
        }
        let fit = |member: &BrokerState| self.is_fit(partition, member);
        if isr.iter().all(fit) { Ok(()) } else { Err(ErrorCode::IneligibleReplica) }
    }

    /// Whether a broker may be in an ISR: it serves, has the replica's directory, and still is in the life in which it caught up.
    fn is_fit(&self, partition: &PartitionImage, member: &BrokerState) -> bool {
        let id = BrokerId(member.broker_id);
        let place = partition.replicas.iter().position(|replica| *replica == id);
        let directory = place.and_then(|place| partition.directories.get(place)).copied();
        let epoch = self.image.broker(id).map(|broker| broker.epoch);
        let same_life = member.broker_epoch == UNKNOWN_EPOCH || epoch == Some(member.broker_epoch);
        let has_directory = has_directory(&self.image, id, directory.unwrap_or(Uuid::ZERO));
        same_life && is_active(&self.image, id) && has_directory
    }
}

/// Version 3 names the members with their epochs, version 2 without.
fn wanted_isr(asked: &RequestPartitionData) -> Vec<BrokerState> {
    if asked.new_isr.is_empty() {
        return asked.new_isr_with_epochs.clone();
    }
    let member = |id: &i32| BrokerState { broker_id: *id, ..BrokerState::default() };
    asked.new_isr.iter().map(member).collect()
}
