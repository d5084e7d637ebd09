//! An image as a whole: the records that make it out of nothing, for snapshots, and what differs between two images, for those who
//! skip from one to the other.

use std::sync::Arc;

use ottla_protocol::generated::records::metadata::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::generated::records::{
    ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, TopicRecord,
};
use ottla_protocol::ids::{BrokerId, Uuid};

use super::{
    BrokerImage, MetadataDelta, MetadataImage, MetadataRecord, PartitionImage, Resource, TopicImage,
};

impl MetadataImage {
    /// Records that, applied to an empty image, give this one but for its index. One record at a time, so that nobody has to hold
    /// them all.
    pub fn to_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let features = self.features().map(|(name, level)| feature(name, level));
        let brokers = self.brokers().map(|broker| registration(broker));
        let topics = self.topics().flat_map(|topic| {
            let partitions =
                topic.partitions().map(|(number, partition)| described(topic.id, number, partition));
            std::iter::once(named(topic)).chain(partitions)
        });
        let configs = self.configs().flat_map(|(resource, values)| {
            values.iter().map(move |(name, value)| configured(resource, name, value))
        });
        let given_out = (self.next_producer_id() > 0).then(|| {
            let next_producer_id = self.next_producer_id();
            ProducerIdsRecord {
                broker_id: -1,
                broker_epoch: -1,
                next_producer_id,
                ..ProducerIdsRecord::default()
            }
        });
        features.chain(brokers).chain(topics).chain(configs).chain(given_out.map(MetadataRecord::from))
    }
}

impl MetadataDelta {
    /// What changed from one image to another. A topic that came and went in between is not mentioned.
    #[must_use]
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> Self {
        let mut delta = Self {
            producer_ids_changed: old.next_producer_id() != new.next_producer_id(),
            ..Self::default()
        };
        for topic in new.topics() {
            delta.note_topic(old.topic_by_id(&topic.id), topic);
        }
        let removed = old.topics().filter(|topic| new.topic_by_id(&topic.id).is_none());
        delta.topics_removed.extend(removed.map(|topic| (topic.id, topic.clone())));
        let brokers = old.brokers().chain(new.brokers()).map(|broker| broker.id);
        delta.brokers_changed.extend(brokers.filter(|id| old.broker(*id) != new.broker(*id)));
        let resources = old.configs().chain(new.configs()).map(|(resource, _)| resource);
        let changed = resources.filter(|resource| old.config(resource) != new.config(resource));
        // As in a delta of records: what was set on a topic goes with it without a word.
        let lives = |resource: &&Resource| match resource {
            Resource::Topic(name) => new.topic_by_name(name).is_some(),
            Resource::Broker(_) | Resource::Brokers | Resource::Group(_) => true,
        };
        delta.configs_changed.extend(changed.filter(lives).cloned());
        let features = old.features().chain(new.features()).map(|(name, _)| name);
        let changed = features.filter(|name| old.feature(name) != new.feature(name));
        delta.features_changed.extend(changed.map(str::to_owned));
        delta
    }

    fn note_topic(&mut self, old: Option<&Arc<TopicImage>>, new: &Arc<TopicImage>) {
        if old.is_none() {
            self.topics_created.insert(new.id);
        }
        let is_as_before = |number, partition: &Arc<PartitionImage>| {
            old.and_then(|old| old.partition(number)).is_some_and(|before| before == partition)
        };
        let changed = new.partitions().filter(|(number, partition)| !is_as_before(*number, partition));
        self.partitions_changed.extend(changed.map(|(number, _)| (new.id, number)));
    }
}

fn feature(name: &str, feature_level: i16) -> MetadataRecord {
    FeatureLevelRecord { name: name.into(), feature_level, ..FeatureLevelRecord::default() }.into()
}

fn registration(broker: &BrokerImage) -> MetadataRecord {
    let end_points = broker.endpoints.iter().map(|endpoint| BrokerEndpoint {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..BrokerEndpoint::default()
    });
    let features = broker.features.iter().map(|(name, (min, max))| BrokerFeature {
        name: name.as_str().into(),
        min_supported_version: *min,
        max_supported_version: *max,
        ..BrokerFeature::default()
    });
    let record = RegisterBrokerRecord {
        broker_id: broker.id.0,
        incarnation_id: broker.incarnation_id,
        broker_epoch: broker.epoch,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: broker.rack.as_deref().map(Into::into),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    };
    record.into()
}

fn named(topic: &TopicImage) -> MetadataRecord {
    TopicRecord { name: (&*topic.name).into(), topic_id: topic.id, ..TopicRecord::default() }.into()
}

fn described(topic_id: Uuid, partition_id: i32, partition: &PartitionImage) -> MetadataRecord {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let some = |brokers: &[BrokerId]| (!brokers.is_empty()).then(|| ids(brokers));
    let record = PartitionRecord {
        partition_id,
        topic_id,
        replicas: ids(&partition.replicas),
        isr: ids(&partition.isr),
        removing_replicas: ids(&partition.removing),
        adding_replicas: ids(&partition.adding),
        leader: partition.leader.0,
        leader_recovery_state: i8::from(partition.recovering),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch,
        directories: partition.directories.clone(),
        eligible_leader_replicas: some(&partition.eligible_leaders),
        last_known_elr: some(&partition.last_known_eligible),
        ..PartitionRecord::default()
    };
    record.into()
}

fn configured(resource: &Resource, name: &str, value: &str) -> MetadataRecord {
    let (resource_type, resource_name) = resource.to_wire();
    let record = ConfigRecord {
        resource_type,
        resource_name: resource_name.as_str().into(),
        name: name.into(),
        value: Some(value.into()),
        ..ConfigRecord::default()
    };
    record.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::generated::records::{BrokerRegistrationChangeRecord, PartitionChangeRecord};
    use ottla_protocol::generated::records::{RemoveTopicRecord, UnregisterBrokerRecord};

    fn apply(image: &MetadataImage, records: Vec<MetadataRecord>) -> (MetadataImage, MetadataDelta) {
        let (mut image, mut delta) = (image.clone(), MetadataDelta::default());
        for record in records {
            // Through bytes, as a snapshot goes.
            let record = MetadataRecord::decode(record.encode().unwrap()).unwrap();
            image.apply(&record, &mut delta).unwrap();
        }
        (image, delta)
    }

    fn broker(id: i32) -> MetadataRecord {
        let endpoint = BrokerEndpoint {
            name: "PLAINTEXT".into(),
            host: "h".into(),
            port: 9092,
            security_protocol: 0,
            ..BrokerEndpoint::default()
        };
        let feature = BrokerFeature {
            name: "ottla.version".into(),
            min_supported_version: 1,
            max_supported_version: 2,
            ..BrokerFeature::default()
        };
        let record = RegisterBrokerRecord {
            broker_id: id,
            broker_epoch: 7,
            incarnation_id: Uuid([3; 16]),
            fenced: false,
            end_points: vec![endpoint],
            features: vec![feature],
            rack: Some("r".into()),
            log_dirs: vec![Uuid([9; 16])],
            ..RegisterBrokerRecord::default()
        };
        record.into()
    }

    fn partition(topic: Uuid, number: i32) -> MetadataRecord {
        let record = PartitionRecord {
            partition_id: number,
            topic_id: topic,
            replicas: vec![1, 2],
            isr: vec![1],
            removing_replicas: vec![2],
            adding_replicas: vec![1],
            leader: 1,
            leader_recovery_state: 1,
            leader_epoch: 4,
            partition_epoch: 5,
            directories: vec![Uuid([9; 16]), Uuid([8; 16])],
            eligible_leader_replicas: Some(vec![2]),
            last_known_elr: Some(vec![3]),
            ..PartitionRecord::default()
        };
        record.into()
    }

    fn topic(name: &str, topic_id: Uuid) -> MetadataRecord {
        TopicRecord { name: name.into(), topic_id, ..TopicRecord::default() }.into()
    }

    const A: Uuid = Uuid([1; 16]);
    const B: Uuid = Uuid([2; 16]);

    fn filled() -> MetadataImage {
        let records = vec![
            feature("ottla.version", 1),
            broker(1),
            broker(2),
            topic("a.b", A),
            partition(A, 0),
            partition(A, 1),
            topic("b", B),
            partition(B, 0),
            configured(&Resource::Topic("a.b".to_owned()), "retention.ms", "5"),
            configured(&Resource::Brokers, "log.retention.ms", "6"),
            configured(&Resource::Broker(BrokerId(2)), "log.retention.ms", "7"),
            ProducerIdsRecord { next_producer_id: 3000, ..ProducerIdsRecord::default() }.into(),
        ];
        apply(&MetadataImage::default(), records).0
    }

    #[test]
    fn the_records_of_an_image_make_it_again() {
        let image = filled();
        let (again, delta) = apply(&MetadataImage::default(), image.to_records().collect());
        assert_eq!(again, image);
        assert_eq!(delta, MetadataDelta::everything(&image));
        assert_eq!(MetadataImage::default().to_records().count(), 0);
    }

    #[test]
    fn the_difference_of_two_images_is_what_the_records_between_them_changed() {
        let old = filled();
        let change = PartitionChangeRecord {
            topic_id: A,
            partition_id: 1,
            isr: Some(vec![1, 2]),
            ..PartitionChangeRecord::default()
        };
        let fenced =
            BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 7, fenced: 1, ..Default::default() };
        let records = vec![
            change.into(),
            fenced.into(),
            UnregisterBrokerRecord { broker_id: 2, broker_epoch: 7, ..Default::default() }.into(),
            RemoveTopicRecord { topic_id: B, ..Default::default() }.into(),
            topic("c", Uuid([4; 16])),
            partition(Uuid([4; 16]), 0),
            configured(&Resource::Topic("a.b".to_owned()), "retention.ms", "50"),
            feature("ottla.version", 2),
            ProducerIdsRecord { next_producer_id: 4000, ..ProducerIdsRecord::default() }.into(),
        ];
        let (new, delta) = apply(&old, records);
        assert_eq!(MetadataDelta::between(&old, &new), delta);
        assert_eq!(MetadataDelta::between(&MetadataImage::default(), &new), MetadataDelta::everything(&new));
        assert!(MetadataDelta::between(&new, &new).is_empty());
    }
}
