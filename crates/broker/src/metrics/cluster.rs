//! What the metadata says of the cluster and of this broker's part in it, counted at a scrape.

use std::fmt::Error;

use ottla_cluster::image::{MetadataDelta, MetadataImage, TopicImage};
use ottla_process::metrics::{counter, gauge};
use ottla_protocol::ids::BrokerId;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Counter, Metrics, look};

/// The cluster as this broker knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Index of the last metadata entry that this broker has applied.
    pub metadata_index: u64,
    /// Brokers that are registered.
    pub brokers: u64,
    /// Those of them that may not serve.
    pub brokers_fenced: u64,
    /// Partitions of all topics.
    pub partitions: u64,
    /// Partitions of all topics without a leader.
    pub leaderless: u64,
    /// Partitions that this broker leads.
    pub led: u64,
    /// Led partitions whose ISR lacks a replica.
    pub under_replicated: u64,
    /// Led partitions whose ISR is smaller than `min.insync.replicas`: they refuse acks=all.
    pub under_min_isr: u64,
    /// Led partitions whose ISR has just `min.insync.replicas`: they refuse acks=all when one more is lost.
    pub at_min_isr: u64,
    /// Led partitions that the first of their replicas should lead.
    pub not_preferred: u64,
    /// Led partitions whose replicas are being changed.
    pub reassigning: u64,
}

impl ClusterView {
    /// The view of broker `me`. `min_isr` gives a topic's `min.insync.replicas`.
    pub fn of(image: &MetadataImage, me: BrokerId, min_isr: impl Fn(&TopicImage) -> usize) -> Self {
        let mut view = Self { metadata_index: u64::try_from(image.index()).unwrap_or(0), ..Self::default() };
        for broker in image.brokers() {
            view.brokers += 1;
            view.brokers_fenced += u64::from(broker.fenced);
        }
        for topic in image.topics() {
            let mut min = None;
            for (_, partition) in topic.partitions() {
                view.partitions += 1;
                view.leaderless += u64::from(partition.leader.0 < 0);
                if partition.leader != me {
                    continue;
                }
                let min = (*min.get_or_insert_with(|| min_isr(topic))).min(partition.replicas.len());
                let isr = partition.isr.len();
                view.led += 1;
                view.under_replicated += u64::from(isr < partition.replicas.len());
                view.under_min_isr += u64::from(isr < min);
                view.at_min_isr += u64::from(isr == min && partition.replicas.len() > min);
                view.not_preferred += u64::from(partition.replicas.first() != Some(&me));
                let moving = !partition.adding.is_empty() || !partition.removing.is_empty();
                view.reassigning += u64::from(moving);
            }
        }
        view
    }
}

/// What happened to the partitions that this broker leads, as the metadata tells it.
#[derive(Debug, Default)]
pub struct ReplicationMetrics {
    /// Replicas that left the ISR of a partition that this broker led before and after.
    pub isr_shrinks: Counter,
    /// Replicas that came into the ISR of a partition that this broker led before and after.
    pub isr_expands: Counter,
    /// Bytes of records sent to followers.
    pub replicated_bytes: Counter,
    /// Times that this broker became the leader of a partition, or its leader anew.
    pub leaderships: Counter,
}

impl ReplicationMetrics {
    /// Counts what `delta`, which lies between the two images, changed for broker `me`.
    pub fn count(&self, before: &MetadataImage, after: &MetadataImage, delta: &MetadataDelta, me: BrokerId) {
        for (topic, index) in &delta.partitions_changed {
            let Some(now) = after.partition(*topic, *index).filter(|now| now.leader == me) else { continue };
            let led = before.partition(*topic, *index).filter(|old| old.leader == me);
            if led.is_none_or(|old| old.leader_epoch != now.leader_epoch) {
                self.leaderships.add(1);
            }
            if let Some(old) = led {
                let gone = old.isr.iter().filter(|id| !now.isr.contains(id)).count();
                let new = now.isr.iter().filter(|id| !old.isr.contains(id)).count();
                self.isr_shrinks.add(gone as u64);
                self.isr_expands.add(new as u64);
            }
        }
    }
}

pub(super) fn encode(e: &mut DescriptorEncoder, metrics: &Metrics) -> Result<(), Error> {
    let now = look(&metrics.cluster);
    for (name, help, value) in [
        ("metadata_index", "Last metadata entry that this broker has applied", now.metadata_index),
        ("cluster_brokers", "Brokers that are registered", now.brokers),
        ("cluster_brokers_fenced", "Registered brokers that may not serve", now.brokers_fenced),
        ("cluster_partitions", "Partitions of all topics", now.partitions),
        ("cluster_partitions_leaderless", "Partitions of all topics without a leader", now.leaderless),
        ("partitions_led", "Partitions that this broker leads", now.led),
        ("partitions_under_replicated", "Led partitions whose ISR lacks a replica", now.under_replicated),
        (
            "partitions_under_min_isr",
            "Led partitions that refuse acks=all for want of replicas",
            now.under_min_isr,
        ),
        ("partitions_at_min_isr", "Led partitions that cannot lose another replica", now.at_min_isr),
        ("partitions_not_preferred", "Led partitions that another broker should lead", now.not_preferred),
        ("partitions_reassigning", "Led partitions whose replicas are being changed", now.reassigning),
    ] {
        gauge(e, name, help, value)?;
    }
    let m = &metrics.replication;
    counter(e, "isr_shrinks", "Followers that left the ISR of a led partition", m.isr_shrinks.get())?;
    counter(e, "isr_expands", "Followers that came into the ISR of a led partition", m.isr_expands.get())?;
    counter(e, "replicated_bytes", "Bytes of records sent to followers", m.replicated_bytes.get())?;
    counter(e, "leaderships", "Times that this broker became a partition's leader", m.leaderships.get())
}

#[cfg(test)]
mod tests {
    use ottla_cluster::image::MetadataRecord;
    use ottla_protocol::generated::records::{PartitionChangeRecord, PartitionRecord, TopicRecord};
    use ottla_protocol::ids::Uuid;

    use super::*;

    const TOPIC: Uuid = Uuid([7; 16]);

    /// The image after a partition of three replicas was made, which broker 1 leads.
    fn made() -> MetadataImage {
        let topic = TopicRecord { name: "t".into(), topic_id: TOPIC, ..TopicRecord::default() };
        let partition = PartitionRecord {
            topic_id: TOPIC,
            partition_id: 0,
            replicas: vec![1, 2, 3],
            isr: vec![1, 2, 3],
            leader: 1,
            directories: vec![Uuid([1; 16]); 3],
            ..PartitionRecord::default()
        };
        let mut image = MetadataImage::default();
        for record in [MetadataRecord::from(topic), MetadataRecord::from(partition)] {
            image.apply(&record, &mut MetadataDelta::default()).unwrap();
        }
        image
    }

    #[test]
    fn changes_of_led_partitions_are_counted() {
        let mut image = made();
        let metrics = ReplicationMetrics::default();
        let (one, two) = (BrokerId(1), BrokerId(2));
        metrics.count(&MetadataImage::default(), &image, &MetadataDelta::everything(&image), one);
        let mut change = |isr: &[i32], leader: Option<i32>| {
            let before = image.clone();
            let record = PartitionChangeRecord {
                topic_id: TOPIC,
                partition_id: 0,
                isr: Some(isr.to_vec()),
                leader: leader.unwrap_or(-2),
                ..PartitionChangeRecord::default()
            };
            let mut delta = MetadataDelta::default();
            image.apply(&MetadataRecord::from(record), &mut delta).unwrap();
            metrics.count(&before, &image, &delta, one);
        };
        change(&[1], None);
        change(&[1, 3], None);
        change(&[3], Some(3));
        let counted = [&metrics.leaderships, &metrics.isr_shrinks, &metrics.isr_expands].map(Counter::get);
        assert_eq!(counted, [1, 2, 1], "what another leads is not counted");
        let view = ClusterView::of(&made(), two, |_| 2);
        assert_eq!((view.partitions, view.led), (1, 0));
        let view = ClusterView::of(&made(), one, |_| 2);
        assert_eq!((view.led, view.under_replicated, view.leaderless), (1, 0, 0));
    }
}
