//! On which brokers replicas go. Each choice takes the broker that carries least: first within the topic, then over all topics, so
//! that leaders and followers spread, many small topics as well as a large one; and each partition stands in as many racks as it can.

use std::collections::BTreeMap;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::PartitionRecord;
use ottla_protocol::ids::{BrokerId, Uuid};

use super::Refusal;
use crate::image::{MetadataImage, TopicImage};

/// Chooses replicas for `count` new partitions of `topic`, or of a new one. The first of each is a broker that may lead; brokers
/// that are fenced are taken only where the others do not suffice.
pub(super) fn place(
    image: &MetadataImage,
    topic: Option<&TopicImage>,
    count: usize,
    replication_factor: i16,
    entropy: &mut dyn FnMut() -> u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let replicas = usize::try_from(replication_factor).unwrap_or(0);
    let mut loads = Loads::count(image, topic, entropy);
    let active: Vec<BrokerId> = loads.active().collect();
    if active.is_empty() || loads.brokers.len() < replicas {
        return Err((ErrorCode::InvalidReplicationFactor, too_few(&loads, replication_factor)));
    }
    // All leaders first: the followers then even out what the leaders left uneven.
    let mut placed: Vec<Vec<BrokerId>> = Vec::with_capacity(count);
    for _ in 0..count {
        let leader = loads.next_leader(&active).expect("at least one broker is active");
        loads.add_leader(leader);
        loads.add_replica(leader, leader);
        placed.push(vec![leader]);
    }
    for chosen in &mut placed {
        while chosen.len() < replicas {
            let next = loads.next_follower(chosen).expect("as many brokers as replicas were counted");
            loads.add_replica(chosen[0], next);
            chosen.push(next);
        }
    }
    Ok(placed)
}

/// A new partition with these replicas: those that may lead are in sync, and the first of them leads.
pub(super) fn new_partition(
    image: &MetadataImage,
    topic: Uuid,
    number: i32,
    replicas: &[BrokerId],
) -> PartitionRecord {
    let isr: Vec<i32> = replicas.iter().filter(|id| is_active(image, **id)).map(|id| id.0).collect();
    PartitionRecord {
        partition_id: number,
        topic_id: topic,
        leader: isr.first().copied().unwrap_or(-1),
        isr,
        replicas: replicas.iter().map(|id| id.0).collect(),
        directories: replicas.iter().map(|id| directory(image, *id)).collect(),
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    }
}

/// Checks replicas that a client chose for a new partition.
pub(super) fn validate_assignment(image: &MetadataImage, replicas: &[i32]) -> Result<Vec<BrokerId>, Refusal> {
    let chosen = validate_replicas(image, replicas)?;
    if !chosen.iter().any(|id| is_active(image, *id)) {
        let text =
            "All brokers specified in the manual partition assignment are fenced or in controlled shutdown.";
        return Err((ErrorCode::InvalidReplicaAssignment, text.to_owned()));
    }
    Ok(chosen)
}

/// Checks replicas that a client chose: registered brokers, each once.
pub(super) fn validate_replicas(image: &MetadataImage, replicas: &[i32]) -> Result<Vec<BrokerId>, Refusal> {
    let refuse = |text: String| Err((ErrorCode::InvalidReplicaAssignment, text));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = Vec::with_capacity(replicas.len());
    for &id in replicas {
        if image.broker(BrokerId(id)).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if seen.contains(&BrokerId(id)) {
            return refuse(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
        seen.push(BrokerId(id));
    }
    Ok(seen)
}

/// How many brokers may lead.
pub(super) fn active_count(image: &MetadataImage) -> usize {
    image.brokers().filter(|broker| is_active(image, broker.id)).count()
}

/// Whether a broker may lead and join an ISR.
pub(super) fn is_active(image: &MetadataImage, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
}

/// The directory of a replica that is new on a broker: known when the broker has only one; otherwise the broker chooses and
/// reports it.
pub(super) fn directory(image: &MetadataImage, id: BrokerId) -> Uuid {
    match image.broker(id).map(|broker| broker.log_dirs.as_slice()) {
        Some([only]) => *only,
        _ => Uuid::ZERO,
    }
}

/// What every registered broker carries.
pub(super) struct Loads<'a> {
    brokers: BTreeMap<BrokerId, Load<'a>>,
    /// How often a broker follows another in the topic: when one fails, the others should share its work.
    pairs: BTreeMap<(BrokerId, BrokerId), usize>,
}

struct Load<'a> {
    rack: Option<&'a str>,
    is_active: bool,
    /// Drawn: who is taken first among equals.
    rank: u64,
    leaders_of_topic: usize,
    leaders: usize,
    replicas_of_topic: usize,
    replicas: usize,
}

impl<'a> Loads<'a> {
    /// Counts preferred leaders and replicas of all topics, and those of `topic` apart.
    pub(super) fn count(
        image: &'a MetadataImage,
        topic: Option<&TopicImage>,
        entropy: &mut dyn FnMut() -> u64,
    ) -> Self {
        let brokers = image.brokers().map(|broker| {
            let load = Load {
                rack: broker.rack.as_deref(),
                is_active: is_active(image, broker.id),
                rank: entropy(),
                leaders_of_topic: 0,
                leaders: 0,
                replicas_of_topic: 0,
                replicas: 0,
            };
            (broker.id, load)
        });
        let mut loads = Self { brokers: brokers.collect(), pairs: BTreeMap::new() };
        for other in image.topics().filter(|other| topic.is_none_or(|topic| topic.id != other.id)) {
            for partition in &other.partitions {
                loads.count_elsewhere(&partition.replicas);
            }
        }
        for partition in topic.iter().flat_map(|topic| &topic.partitions) {
            if let Some(leader) = partition.replicas.first() {
                loads.add_leader(*leader);
                partition.replicas.iter().for_each(|id| loads.add_replica(*leader, *id));
            }
        }
        loads
    }

    /// Brokers that may lead, by id.
    pub(super) fn active(&self) -> impl Iterator<Item = BrokerId> {
        self.brokers.iter().filter(|(_, load)| load.is_active).map(|(id, _)| *id)
    }

    /// Who of `candidates` leads least.
    pub(super) fn next_leader(&self, candidates: &[BrokerId]) -> Option<BrokerId> {
        let load = |id: &BrokerId| {
            let load = self.brokers.get(id)?;
            Some((load.leaders_of_topic, load.leaders, load.rank))
        };
        candidates.iter().copied().filter_map(|id| Some((load(&id)?, id))).min().map(|(_, id)| id)
    }

    /// Who should follow `chosen[0]` beside the others of `chosen`: an active broker in a rack that has fewest of them.
    pub(super) fn next_follower(&self, chosen: &[BrokerId]) -> Option<BrokerId> {
        let in_rack = |rack: Option<&str>| {
            chosen.iter().filter(|id| self.brokers.get(id).is_some_and(|load| load.rack == rack)).count()
        };
        let key = |id: BrokerId, load: &Load<'_>| {
            let pair = chosen.first().and_then(|leader| self.pairs.get(&(*leader, id)).copied());
            let crowd = in_rack(load.rack);
            (!load.is_active, crowd, load.replicas_of_topic, pair.unwrap_or(0), load.replicas, load.rank)
        };
        let free = self.brokers.iter().filter(|(id, _)| !chosen.contains(id));
        free.map(|(id, load)| (key(*id, load), *id)).min().map(|(_, id)| id)
    }

    /// Notes that `id` is the preferred leader of one more partition of the topic.
    pub(super) fn add_leader(&mut self, id: BrokerId) {
        if let Some(load) = self.brokers.get_mut(&id) {
            load.leaders_of_topic += 1;
            load.leaders += 1;
        }
    }

    /// Notes that `id` is not the preferred leader of one of the topic's partitions any more.
    pub(super) fn remove_leader(&mut self, id: BrokerId) {
        if let Some(load) = self.brokers.get_mut(&id) {
            load.leaders_of_topic = load.leaders_of_topic.saturating_sub(1);
            load.leaders = load.leaders.saturating_sub(1);
        }
    }

    /// Notes that `id` has one more replica of the topic, whose preferred leader is `leader`.
    pub(super) fn add_replica(&mut self, leader: BrokerId, id: BrokerId) {
        if let Some(load) = self.brokers.get_mut(&id) {
            load.replicas_of_topic += 1;
            load.replicas += 1;
        }
        if leader != id {
            *self.pairs.entry((leader, id)).or_default() += 1;
        }
    }

    fn count_elsewhere(&mut self, replicas: &[BrokerId]) {
        for (place, id) in replicas.iter().enumerate() {
            if let Some(load) = self.brokers.get_mut(id) {
                load.replicas += 1;
                load.leaders += usize::from(place == 0);
            }
        }
    }
}

fn too_few(loads: &Loads<'_>, replication_factor: i16) -> String {
    let registered = loads.brokers.len();
    if loads.active().next().is_none() && registered > 0 {
        return "All brokers are currently fenced or in controlled shutdown.".to_owned();
    }
    format!(
        "Unable to replicate the partition {replication_factor} time(s): The target replication factor of \
         {replication_factor} cannot be reached because only {registered} broker(s) are registered."
    )
}
