//! What is known of the cluster: brokers, topics, who leads. Immutable; the client swaps it whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::metadata::{MetadataResponse, MetadataResponseTopic};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;
use tokio::time::Instant;

use crate::error::code_of;

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// `node.id`.
    pub id: i32,
    /// Where clients reach it.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack, where it has one.
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its index in the topic, from 0.
    pub index: i32,
    /// The broker that serves it; `None` while there is none.
    pub leader: Option<i32>,
    /// Rises by one with each election; -1 where the broker does not say.
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync_replicas: Vec<i32>,
    /// Those of them that are away.
    pub offline_replicas: Vec<i32>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id; zero where the broker does not say.
    pub id: Uuid,
    /// Is it the cluster's own?
    pub is_internal: bool,
    /// By index.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn partitions_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("a count of the wire")
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    pub(crate) fn from_wire(topic: &MetadataResponseTopic) -> Topic {
        let mut partitions: Vec<Partition> = topic
            .partitions
            .iter()
            .map(|partition| Partition {
                index: partition.partition_index,
                leader: (partition.leader_id >= 0).then_some(partition.leader_id),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.clone(),
                in_sync_replicas: partition.isr_nodes.clone(),
                offline_replicas: partition.offline_replicas.clone(),
            })
            .collect();
        partitions.sort_by_key(|partition| partition.index);
        Topic {
            name: topic.name.clone().unwrap_or_default().detached(),
            id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
        }
    }
}

/// A topic, and when it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub topic: Arc<Topic>,
    pub since: Instant,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub brokers: HashMap<i32, Broker>,
    pub controller_id: Option<i32>,
    pub cluster_id: Option<String>,
    pub topics: HashMap<Str, Known>,
    /// Rises with each answer.
    pub generation: u64,
}

impl Cluster {
    /// The topic, unless what is known is older than `age_max`.
    pub fn topic(&self, name: &str, age_max: Duration) -> Option<Arc<Topic>> {
        let known = self.topics.get(name)?;
        (known.since.elapsed() <= age_max).then(|| known.topic.clone())
    }

    /// This knowledge after an answer. Topics that it does not speak of stay as they were; epochs that go back are those
    /// of a broker that lags, and are not believed.
    pub fn after(&self, response: &MetadataResponse) -> Cluster {
        let brokers = response
            .brokers
            .iter()
            .map(|broker| {
                let known = Broker {
                    id: broker.node_id,
                    host: broker.host.to_string(),
                    port: broker.port,
                    rack: broker.rack.as_ref().map(ToString::to_string),
                };
                (broker.node_id, known)
            })
            .collect();
        let mut topics = self.topics.clone();
        let since = Instant::now();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            if code_of(topic.error_code) != ErrorCode::None {
                topics.remove(name.as_str());
                continue;
            }
            let mut fresh = Topic::from_wire(topic);
            if let Some(known) = topics.get(name.as_str()) {
                keep_newer(&known.topic, &mut fresh);
            }
            topics.insert(fresh.name.clone(), Known { topic: Arc::new(fresh), since });
        }
        Cluster {
            brokers,
            controller_id: (response.controller_id >= 0).then_some(response.controller_id),
            cluster_id: response.cluster_id.as_ref().map(ToString::to_string),
            topics,
            generation: self.generation + 1,
        }
    }
}

fn keep_newer(known: &Topic, fresh: &mut Topic) {
    if known.id != fresh.id {
        return;
    }
    for (old, new) in known.partitions.iter().zip(&mut fresh.partitions) {
        if old.leader_epoch > new.leader_epoch && new.leader_epoch >= 0 {
            *new = old.clone();
        }
    }
}
