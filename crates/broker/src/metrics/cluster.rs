//! What the metadata says of the cluster and of this broker's part in it, counted at a scrape.

use std::fmt::Error;

use ottla_cluster::image::{MetadataImage, TopicImage};
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

/// What happened to the partitions that this broker leads.
#[derive(Debug, Default)]
pub struct ReplicationMetrics {
    /// Times that a follower left an ISR on this leader's proposal.
    pub isr_shrinks: Counter,
    /// Times that a follower came into an ISR on this leader's proposal.
    pub isr_expands: Counter,
    /// Times that this broker became the leader of a partition.
    pub leaderships: Counter,
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
    counter(e, "leaderships", "Times that this broker became a partition's leader", m.leaderships.get())
}
