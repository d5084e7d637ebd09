//! Log directories that fail, and replicas whose directory becomes known (KIP-858). A replica in a directory that is not online
//! leads nothing and leaves the ISR; the last member of an ISR stays in it and can lead when that very directory is back.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::BrokerRegistrationChangeRecord;
use ottla_protocol::ids::{BrokerId, Uuid};

use super::broker_heartbeat::registration_of;
use super::partition_change::{LOST_DIRECTORY, PartitionChange, has_directory};
use super::placement::directory;
use super::{Controller, Outcome};
use crate::image::{BrokerImage, MetadataRecord, PartitionImage};

/// Where a broker has a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryAssignment {
    /// The partition's topic.
    pub topic: Uuid,
    /// Its number.
    pub partition: i32,
    /// Id of the directory.
    pub directory: Uuid,
}

impl Controller<'_> {
    /// A broker says in which of its directories replicas lie. Gives a result per assignment, in their order: StaleBrokerEpoch,
    /// BrokerIdNotRegistered, UnknownTopicOrPartition, NotLeaderOrFollower when it holds no replica of it, LogDirNotFound for a
    /// directory that is not online, or ReplicaNotAvailable when the replica is the last of the ISR and what it had is in a
    /// directory that is lost: then an empty one must not take its place.
    pub fn assign_directories(
        &mut self,
        id: BrokerId,
        epoch: i64,
        assignments: &[DirectoryAssignment],
    ) -> Outcome<Vec<ErrorCode>> {
        let mut records = Vec::new();
        let mut response = Vec::with_capacity(assignments.len());
        let broker = self.broker_of_epoch(id, epoch);
        for assignment in assignments {
            let planned = match &broker {
                Ok(broker) => self.assign(broker, assignment),
                Err(error) => Err(*error),
            };
            response.push(match planned {
                Ok(record) => {
                    let record: Vec<_> = record.into_iter().collect();
                    self.decided(&record);
                    records.extend(record);
                    ErrorCode::None
                }
                Err(error) => error,
            });
        }
        Outcome { records, response }
    }

    fn assign(
        &self,
        broker: &BrokerImage,
        assignment: &DirectoryAssignment,
    ) -> Result<Option<MetadataRecord>, ErrorCode> {
        let DirectoryAssignment { topic, partition: number, directory } = *assignment;
        let partition = self.image.partition(topic, number).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if !partition.replicas.contains(&broker.id) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if !broker.log_dirs.contains(&directory) {
            return Err(ErrorCode::LogDirNotFound);
        }
        let mut change = PartitionChange::new(&self.image, topic, number, partition);
        if !has_directory(&self.image, broker.id, change.directory(broker.id)) {
            if partition.isr == [broker.id] {
                return Err(ErrorCode::ReplicaNotAvailable);
            }
            change.leave_isr(broker.id);
        }
        change.set_directory(broker.id, directory);
        Ok(change.record().map(MetadataRecord::from))
    }

    /// A running broker lost some of its directories. One that lost all is fenced by its caller: the registration keeps naming
    /// them, so that its replicas are known again when they are back.
    pub(super) fn directories_offline(
        &mut self,
        broker: &BrokerImage,
        offline: &[Uuid],
    ) -> Vec<MetadataRecord> {
        let online: Vec<Uuid> =
            broker.log_dirs.iter().copied().filter(|dir| !offline.contains(dir)).collect();
        if online.is_empty() || online.len() == broker.log_dirs.len() {
            return Vec::new();
        }
        let change = BrokerRegistrationChangeRecord { log_dirs: online, ..registration_of(broker) };
        let mut records = vec![change.into()];
        self.decided(&records);
        let image = self.image.clone();
        records.extend(self.change_partitions(
            |partition| {
                partition.isr.contains(&broker.id)
                    && !has_directory(&image, broker.id, directory_of(partition, broker.id))
            },
            |change| change.leave_isr(broker.id),
        ));
        records
    }

    /// What a registration means for the replica that `change` is about. `before` are the directories of the broker's last life.
    pub(super) fn judge_directory(
        change: &mut PartitionChange<'_>,
        broker: &BrokerImage,
        before: &[Uuid],
        only: Uuid,
    ) {
        let known = change.directory(broker.id);
        let vanished = before.iter().any(|dir| !broker.log_dirs.contains(dir));
        let is_alone = change.partition().replicas.len() == 1;
        let lost = if known.is_zero() {
            // Nobody knows in which directory it was. Where there are others, the worst is assumed.
            vanished && !is_alone
        } else {
            !broker.log_dirs.is_empty() && !broker.log_dirs.contains(&known)
        };
        if !lost {
            return;
        }
        if change.partition().isr == [broker.id] {
            change.set_directory(broker.id, if known.is_zero() { LOST_DIRECTORY } else { known });
        } else {
            change.set_directory(broker.id, only);
        }
        change.leave_isr(broker.id);
    }

    /// The directory that a new replica on a broker gets.
    pub(super) fn only_directory(&self, id: BrokerId) -> Uuid {
        directory(&self.image, id)
    }
}

fn directory_of(partition: &PartitionImage, id: BrokerId) -> Uuid {
    let place = partition.replicas.iter().position(|replica| *replica == id);
    place.and_then(|place| partition.directories.get(place)).copied().unwrap_or(Uuid::ZERO)
}
