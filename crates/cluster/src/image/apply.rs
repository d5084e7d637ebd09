//! How a record changes the image. Live operation, recovery and every broker go through here.

use std::sync::Arc;

use ottla_protocol::generated::records::{
    BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord, PartitionChangeRecord, PartitionRecord,
    RegisterBrokerRecord, TopicRecord,
};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

use super::{
    BrokerImage, Endpoint, MetadataDelta, MetadataImage, MetadataRecord, PartitionImage, Resource,
    TopicImage, collision_key,
};

/// A record that does not fit the image: the log is damaged or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a metadata record does not fit what came before: {0}")]
pub struct ApplyError(String);

/// `PartitionChangeRecord.Leader`: it stays.
const NO_LEADER_CHANGE: i32 = -2;
/// `LeaderRecoveryState` of a leader out of an unclean election.
const RECOVERING: i8 = 1;

impl MetadataImage {
    /// Applies one record and notes in `delta` what changed.
    ///
    /// # Errors
    /// When the record does not fit; the image may then be used no further.
    pub fn apply(&mut self, record: &MetadataRecord, delta: &mut MetadataDelta) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::FeatureLevel(record) => self.feature_level(record, delta),
            MetadataRecord::RegisterBroker(record) => self.register_broker(record, delta),
            MetadataRecord::UnregisterBroker(record) => {
                self.broker_mut(record.broker_id, record.broker_epoch, delta)?;
                Arc::make_mut(&mut self.brokers).remove(&BrokerId(record.broker_id));
            }
            MetadataRecord::BrokerRegistrationChange(record) => self.change_broker(record, delta)?,
            MetadataRecord::FenceBroker(record) => {
                self.broker_mut(record.id, record.epoch, delta)?.fenced = true;
            }
            MetadataRecord::UnfenceBroker(record) => {
                self.broker_mut(record.id, record.epoch, delta)?.fenced = false;
            }
            MetadataRecord::Topic(record) => self.create_topic(record, delta)?,
            MetadataRecord::Partition(record) => self.set_partition(record, delta)?,
            MetadataRecord::PartitionChange(record) => self.change_partition(record, delta)?,
            MetadataRecord::RemoveTopic(record) => self.remove_topic(record.topic_id, delta)?,
            MetadataRecord::Config(record) => self.set_config(record, delta)?,
            MetadataRecord::ProducerIds(record) => {
                self.next_producer_id = record.next_producer_id;
                delta.producer_ids_changed = true;
            }
            MetadataRecord::NoOp(_) => {}
        }
        Ok(())
    }

    fn feature_level(&mut self, record: &FeatureLevelRecord, delta: &mut MetadataDelta) {
        let features = Arc::make_mut(&mut self.features);
        if record.feature_level == 0 {
            features.remove(record.name.as_str());
        } else {
            features.insert(record.name.as_str().to_owned(), record.feature_level);
        }
        delta.features_changed.insert(record.name.as_str().to_owned());
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut MetadataDelta) {
        let id = BrokerId(record.broker_id);
        let endpoints = record.end_points.iter().map(|endpoint| Endpoint {
            name: endpoint.name.as_str().to_owned(),
            host: endpoint.host.as_str().to_owned(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let features = record.features.iter().map(|feature| {
            let levels = (feature.min_supported_version, feature.max_supported_version);
            (feature.name.as_str().to_owned(), levels)
        });
        let broker = BrokerImage {
            id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: endpoints.collect(),
            features: features.collect(),
            rack: record.rack.as_ref().map(|rack| rack.as_str().to_owned()),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
        };
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
        delta.brokers_changed.insert(id);
    }

    fn change_broker(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let broker = self.broker_mut(record.broker_id, record.broker_epoch, delta)?;
        match record.fenced {
            0 => {}
            change => broker.fenced = change > 0,
        }
        match record.in_controlled_shutdown {
            0 => {}
            change => broker.in_controlled_shutdown = change > 0,
        }
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        Ok(())
    }

    fn broker_mut(
        &mut self,
        id: i32,
        epoch: i64,
        delta: &mut MetadataDelta,
    ) -> Result<&mut BrokerImage, ApplyError> {
        let found = Arc::make_mut(&mut self.brokers).get_mut(&BrokerId(id)).map(Arc::make_mut);
        let broker = found.filter(|broker| broker.epoch == epoch);
        delta.brokers_changed.insert(BrokerId(id));
        broker.ok_or_else(|| ApplyError(format!("broker {id} is not registered with epoch {epoch}")))
    }

    fn create_topic(&mut self, record: &TopicRecord, delta: &mut MetadataDelta) -> Result<(), ApplyError> {
        let name: Arc<str> = Arc::from(record.name.as_str());
        if self.names.contains_key(&name) || self.topics.contains_key(&record.topic_id) {
            return Err(ApplyError(format!("topic {name} ({}) exists already", record.topic_id)));
        }
        let topic = TopicImage { name: name.clone(), id: record.topic_id, partitions: Vec::new() };
        Arc::make_mut(&mut self.topics).insert(record.topic_id, Arc::new(topic));
        if let Some(spelling) = collision_key(&name) {
            Arc::make_mut(&mut self.spellings).insert(spelling, name.clone());
        }
        Arc::make_mut(&mut self.names).insert(name, record.topic_id);
        delta.topics_created.insert(record.topic_id);
        Ok(())
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut TopicImage, ApplyError> {
        let topic = Arc::make_mut(&mut self.topics).get_mut(&id).map(Arc::make_mut);
        topic.ok_or_else(|| ApplyError(format!("there is no topic {id}")))
    }

    fn set_partition(
        &mut self,
        record: &PartitionRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let topic = self.topic_mut(record.topic_id)?;
        let partition = Arc::new(PartitionImage {
            replicas: brokers(&record.replicas),
            directories: record.directories.clone(),
            isr: brokers(&record.isr),
            removing: brokers(&record.removing_replicas),
            adding: brokers(&record.adding_replicas),
            leader: BrokerId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
            recovering: record.leader_recovery_state == RECOVERING,
            eligible_leaders: record.eligible_leader_replicas.as_deref().map(brokers).unwrap_or_default(),
            last_known_eligible: record.last_known_elr.as_deref().map(brokers).unwrap_or_default(),
        });
        let place = usize::try_from(record.partition_id).unwrap_or(usize::MAX);
        let count = topic.partitions.len();
        match topic.partitions.get_mut(place) {
            Some(there) => *there = partition,
            None if place == count => topic.partitions.push(partition),
            None => {
                let name = &topic.name;
                return Err(ApplyError(format!(
                    "partition {} of {name} comes out of order",
                    record.partition_id
                )));
            }
        }
        delta.partitions_changed.insert((record.topic_id, record.partition_id));
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let topic = self.topic_mut(record.topic_id)?;
        let place = usize::try_from(record.partition_id).unwrap_or(usize::MAX);
        let Some(partition) = topic.partitions.get_mut(place).map(Arc::make_mut) else {
            let name = &topic.name;
            return Err(ApplyError(format!("there is no partition {} of {name}", record.partition_id)));
        };
        change(partition, record);
        delta.partitions_changed.insert((record.topic_id, record.partition_id));
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid, delta: &mut MetadataDelta) -> Result<(), ApplyError> {
        let removed = Arc::make_mut(&mut self.topics).remove(&id);
        let topic = removed.ok_or_else(|| ApplyError(format!("there is no topic {id}")))?;
        Arc::make_mut(&mut self.names).remove(&topic.name);
        if let Some(spelling) = collision_key(&topic.name) {
            Arc::make_mut(&mut self.spellings).remove(&spelling);
        }
        // Values set on a topic go with it: a later topic of that name starts without them.
        let resource = Resource::Topic(topic.name.to_string());
        if self.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.configs).remove(&resource);
        }
        delta.configs_changed.remove(&resource);
        delta.topic_removed(topic);
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord, delta: &mut MetadataDelta) -> Result<(), ApplyError> {
        let resource = Resource::from_wire(record.resource_type, &record.resource_name).ok_or_else(|| {
            ApplyError(format!(
                "no configuration for {} of kind {}",
                record.resource_name, record.resource_type
            ))
        })?;
        let configs = Arc::make_mut(&mut self.configs);
        let values = Arc::make_mut(configs.entry(resource.clone()).or_default());
        match &record.value {
            Some(value) => {
                values.insert(record.name.as_str().to_owned(), value.as_str().to_owned());
            }
            None => {
                values.remove(record.name.as_str());
            }
        }
        if values.is_empty() {
            configs.remove(&resource);
        }
        delta.configs_changed.insert(resource);
        Ok(())
    }
}

/// What is not in the record stays. A leader that is in it, even the same one, begins a new leader epoch.
fn change(partition: &mut PartitionImage, record: &PartitionChangeRecord) {
    if let Some(isr) = &record.isr {
        partition.isr = brokers(isr);
    }
    if let Some(replicas) = &record.replicas {
        partition.replicas = brokers(replicas);
    }
    if let Some(removing) = &record.removing_replicas {
        partition.removing = brokers(removing);
    }
    if let Some(adding) = &record.adding_replicas {
        partition.adding = brokers(adding);
    }
    if let Some(directories) = &record.directories {
        partition.directories.clone_from(directories);
    }
    if let Some(eligible) = &record.eligible_leader_replicas {
        partition.eligible_leaders = brokers(eligible);
    }
    if let Some(last_known) = &record.last_known_elr {
        partition.last_known_eligible = brokers(last_known);
    }
    if record.leader_recovery_state >= 0 {
        partition.recovering = record.leader_recovery_state == RECOVERING;
    }
    if record.leader != NO_LEADER_CHANGE {
        partition.leader = BrokerId(record.leader);
        partition.leader_epoch.0 += 1;
    }
    partition.partition_epoch += 1;
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}
