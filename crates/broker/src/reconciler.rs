//! Makes this broker's partitions what the metadata says. Nothing else creates, leads, configures or deletes a partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_cluster::config::TopicConfig;
use ottla_cluster::controller::OFFSETS_TOPIC;
use ottla_cluster::image::{self, MetadataDelta, MetadataImage, Resource, TopicImage};
use ottla_cluster::replica::{Following, Leadership};
use ottla_partition::partition::{Observer, OpenLog};
use ottla_partition::{Partition, PartitionKey, TopicSettings};
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_protocol::wire::Str;

use crate::config::{BrokerConfig, effective};
use crate::groups::{Groups, Led};
use crate::logs::Logs;
use crate::produce_rules::ProduceRules;
use crate::replication::Replication;
use crate::state::now_ms;
use crate::topics::{ServedTopic, Topics};

/// Turns deltas of the metadata into create, lead, configure and delete.
pub struct Reconciler {
    config: Arc<BrokerConfig>,
    topics: Arc<Topics>,
    logs: Arc<Logs>,
    groups: Arc<Groups>,
    replication: Arc<Replication>,
}

impl Reconciler {
    /// Works on `topics`, `logs`, `groups` and `replication` from now on.
    #[must_use]
    pub fn new(
        config: Arc<BrokerConfig>,
        topics: Arc<Topics>,
        logs: Arc<Logs>,
        groups: Arc<Groups>,
        replication: Arc<Replication>,
    ) -> Self {
        Self { config, topics, logs, groups, replication }
    }

    /// Brings this broker from the image before `delta` to `image`. Blocks on files where topics are deleted.
    pub fn apply(&self, image: &MetadataImage, delta: &MetadataDelta) {
        let removed: Vec<Uuid> = delta.topics_removed.keys().copied().collect();
        self.delete(&removed);
        if !removed.is_empty() {
            let names = delta.topics_removed.values().map(|topic| Str::from(&*topic.name));
            self.groups.delete_topics(&names.collect());
        }
        for id in self.affected(image, delta) {
            if let Some(topic) = image.topic_by_id(&id) {
                self.serve(image, topic);
            }
        }
    }

    /// Topics that are new, or changed, or whose configuration did.
    fn affected(&self, image: &MetadataImage, delta: &MetadataDelta) -> BTreeSet<Uuid> {
        let mut ids = delta.topics_created.clone();
        ids.extend(delta.partitions_changed.iter().map(|(id, _)| *id));
        for resource in &delta.configs_changed {
            match resource {
                Resource::Topic(name) => ids.extend(image.topic_by_name(name).map(|topic| topic.id)),
                Resource::Broker(id) if id.0 != self.config.node_id => {}
                Resource::Broker(_) | Resource::Brokers => ids.extend(image.topics().map(|topic| topic.id)),
                Resource::Group(_) => {}
            }
        }
        ids
    }

    fn serve(&self, image: &MetadataImage, topic: &TopicImage) {
        let config = effective::topic(&self.config, image, &topic.name);
        let settings = Arc::new(settings(&config));
        let before = self.topics.get(topic.id);
        let me = BrokerId(self.config.node_id);
        let mut gone = Vec::new();
        let replicas = topic.partitions.iter().enumerate().map(|(slot, partition)| {
            let old = before.as_ref().and_then(|before| before.replicas.get(slot)?.clone());
            if !partition.replicas.contains(&me) {
                gone.extend(old);
                return None;
            }
            let replica = match old {
                Some(old) => {
                    old.configure(settings.clone());
                    old
                }
                None => self.create(topic, slot, &settings),
            };
            self.lead_or_follow(&replica, partition, &config, me);
            Some(replica)
        });
        let replicas: Vec<_> = replicas.collect();
        if *topic.name == *OFFSETS_TOPIC {
            self.coordinate(topic, &replicas, &config);
        }
        let served = ServedTopic {
            name: topic.name.clone(),
            id: topic.id,
            rules: ProduceRules::new(&config),
            settings,
            replicas,
        };
        self.topics.put(Arc::new(served));
        self.give_up(&gone);
    }

    /// Replicas that other brokers have in the place of this one.
    fn give_up(&self, gone: &[Arc<Partition>]) {
        for partition in gone {
            self.replication.leave(partition.key().topic_id, partition.key().index);
            // The log is dropped here: what a reply still sends keeps its own hold on the segment.
            drop(partition.retire());
        }
        if !gone.is_empty() {
            let keys: Vec<_> = gone.iter().map(|partition| partition.key().clone()).collect();
            self.logs.delete(&keys);
        }
    }

    /// This broker coordinates the groups of the partitions of `__consumer_offsets` that it leads.
    fn coordinate(&self, topic: &TopicImage, replicas: &[Option<Arc<Partition>>], config: &TopicConfig) {
        let batch_bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
        for ((index, partition), replica) in topic.partitions().zip(replicas) {
            match replica {
                Some(replica) if partition.leader.0 == self.config.node_id => {
                    let (partition, epoch) = (replica.clone(), partition.leader_epoch);
                    self.groups.lead(Led { partition, epoch, batch_bytes_max });
                }
                Some(_) | None => self.groups.resign(index),
            }
        }
    }

    fn create(&self, topic: &TopicImage, slot: usize, settings: &Arc<TopicSettings>) -> Arc<Partition> {
        let index = i32::try_from(slot).expect("a topic has fewer than 2^31 partitions");
        let key = PartitionKey { topic: topic.name.clone(), topic_id: topic.id, index };
        let opener: Arc<dyn OpenLog> = self.logs.clone();
        let observer: Arc<dyn Observer> = self.logs.clone();
        let me = BrokerId(self.config.node_id);
        let partition = Partition::new(key, me, settings.clone(), opener, observer);
        partition.set_lag_limit(self.replication.lag_ms_max());
        partition
    }

    /// What the metadata says of a partition's leader.
    fn lead_or_follow(
        &self,
        replica: &Arc<Partition>,
        partition: &image::PartitionImage,
        config: &TopicConfig,
        me: BrokerId,
    ) {
        let key = replica.key();
        if partition.leader == me {
            self.replication.leave(key.topic_id, key.index);
            replica.lead(leadership(partition, config), now_ms());
        } else if partition.leader.0 >= 0 {
            let following = Following { leader: partition.leader, epoch: partition.leader_epoch };
            let before = replica.following();
            replica.follow(following);
            if before != Some(following) {
                self.replication.follow(replica, partition.leader);
            }
        } else {
            self.replication.leave(key.topic_id, key.index);
            replica.unlead();
        }
    }

    fn delete(&self, ids: &[Uuid]) {
        let mut keys = Vec::new();
        for id in ids {
            let Some(topic) = self.topics.remove(*id) else { continue };
            if *topic.name == *OFFSETS_TOPIC {
                self.groups.resign_all();
            }
            for (_, partition) in topic.partitions() {
                // The log is dropped here: what a reply still sends keeps its own hold on the segment.
                self.replication.leave(*id, partition.key().index);
                drop(partition.retire());
                keys.push(partition.key().clone());
            }
        }
        if !keys.is_empty() {
            self.logs.delete(&keys);
        }
    }
}

fn leadership(partition: &image::PartitionImage, config: &TopicConfig) -> Leadership {
    Leadership {
        epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        min_insync_replicas: usize::try_from(config.min_insync_replicas).unwrap_or(1),
    }
}

fn settings(config: &TopicConfig) -> TopicSettings {
    TopicSettings {
        log: effective::log_config(config),
        durability: config.durability,
        flush_messages: config.flush_messages.unwrap_or(i64::MAX),
        flush_ms: config.flush_ms.unwrap_or(i64::MAX),
    }
}
