//! On which brokers new partitions go: one after the other from a drawn start, so that leaders and replicas spread, neighbours in
//! the order being of different racks as far as possible.

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::PartitionRecord;
use ottla_protocol::ids::{BrokerId, Uuid};

use super::Refusal;
use crate::image::MetadataImage;

/// Chooses replicas for `count` partitions. The first of each is a broker that may lead.
pub(super) fn place(
    image: &MetadataImage,
    count: usize,
    replication_factor: i16,
    entropy: &mut dyn FnMut() -> u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let replicas = usize::try_from(replication_factor).unwrap_or(0);
    let order = alternate_racks(image);
    if order.active.is_empty() || order.active.len() + order.fenced.len() < replicas {
        return Err((ErrorCode::InvalidReplicationFactor, too_few(&order, replication_factor)));
    }
    let active = order.active.len();
    // A draw below the number of brokers: the order of the first partitions.
    let start = usize::try_from(entropy() % active as u64).expect("below the number of brokers");
    let partition = |number: usize| {
        let from_active = (0..active.min(replicas)).map(|i| order.active[(start + number + i) % active]);
        let from_fenced = order.fenced.iter().copied().take(replicas.saturating_sub(active));
        from_active.chain(from_fenced).collect()
    };
    Ok((0..count).map(partition).collect())
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

/// Checks replicas that a client chose.
pub(super) fn validate_assignment(image: &MetadataImage, replicas: &[i32]) -> Result<Vec<BrokerId>, Refusal> {
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
    if !seen.iter().any(|id| is_active(image, *id)) {
        return refuse(
            "All brokers specified in the manual partition assignment are fenced or in controlled shutdown."
                .to_owned(),
        );
    }
    Ok(seen)
}

/// How many brokers may lead.
pub(super) fn active_count(image: &MetadataImage) -> usize {
    image.brokers().filter(|broker| is_active(image, broker.id)).count()
}

fn is_active(image: &MetadataImage, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
}

/// The directory is known when the broker has one; otherwise the broker chooses and reports it.
fn directory(image: &MetadataImage, id: BrokerId) -> Uuid {
    match image.broker(id).map(|broker| broker.log_dirs.as_slice()) {
        Some([only]) => *only,
        _ => Uuid::ZERO,
    }
}

struct Order {
    active: Vec<BrokerId>,
    fenced: Vec<BrokerId>,
}

fn alternate_racks(image: &MetadataImage) -> Order {
    let mut racks: BTreeMap<Option<&str>, VecDeque<BrokerId>> = BTreeMap::new();
    let mut order = Order { active: Vec::new(), fenced: Vec::new() };
    for broker in image.brokers() {
        if is_active(image, broker.id) {
            racks.entry(broker.rack.as_deref()).or_default().push_back(broker.id);
        } else {
            order.fenced.push(broker.id);
        }
    }
    while racks.values().any(|rack| !rack.is_empty()) {
        order.active.extend(racks.values_mut().filter_map(VecDeque::pop_front));
    }
    order
}

fn too_few(order: &Order, replication_factor: i16) -> String {
    let registered = order.active.len() + order.fenced.len();
    if order.active.is_empty() && registered > 0 {
        return "All brokers are currently fenced or in controlled shutdown.".to_owned();
    }
    format!(
        "Unable to replicate the partition {replication_factor} time(s): The target replication factor of \
         {replication_factor} cannot be reached because only {registered} broker(s) are registered."
    )
}
