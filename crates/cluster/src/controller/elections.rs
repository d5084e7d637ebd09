//! What happens to partitions when brokers come, go or change, and when a topic may be led by whoever is left.

use std::sync::Arc;

use ottla_protocol::ids::BrokerId;

use super::Controller;
use super::partition_change::{Election, NO_LEADER, PartitionChange};
use crate::config::topic_key;
use crate::image::{MetadataRecord, PartitionImage, Resource, TopicImage};
use crate::limits::ELECTIONS_PER_REBALANCE_MAX;
use crate::planted::{Bug, planted};

/// Whether leaders may be looked for outside the ISR.
const UNCLEAN_KEY: &str = "unclean.leader.election.enable";

impl Controller<'_> {
    /// Changes every partition of which `concerns` is true by what `edit` asks for, and looks for leaders where they are missing:
    /// cleanly, or as the topic allows. The records are applied.
    pub(super) fn change_partitions(
        &mut self,
        concerns: impl Fn(&PartitionImage) -> bool,
        edit: impl Fn(&mut PartitionChange<'_>),
    ) -> Vec<MetadataRecord> {
        let mut records: Vec<MetadataRecord> = Vec::new();
        for topic in self.image.topics() {
            let mut election = None;
            for (number, partition) in topic.partitions().filter(|(_, partition)| concerns(partition)) {
                let election = *election.get_or_insert_with(|| self.election_for(topic));
                let mut change = PartitionChange::new(&self.image, topic.id, number, partition);
                change.set_election(election);
                edit(&mut change);
                records.extend(change.record().map(MetadataRecord::from));
            }
        }
        self.decided(&records);
        records
    }

    /// A broker is in no ISR any more, but where it is the last of one; leadership moves. It is already marked as one that may not
    /// lead.
    pub(super) fn leave_isrs(&mut self, id: BrokerId) -> Vec<MetadataRecord> {
        self.change_partitions(
            |partition| partition.leader == id || partition.isr.contains(&id),
            |change| change.leave_isr(id),
        )
    }

    /// Partitions without a leader get one where they can.
    pub(super) fn elect_leaderless(&mut self) -> Vec<MetadataRecord> {
        self.change_partitions(|partition| partition.leader == NO_LEADER, |_| ())
    }

    /// What follows from configuration records that were just decided: topics that have come to allow unclean elections hold them.
    pub(super) fn elect_after_config_change(&mut self, records: &[MetadataRecord]) -> Vec<MetadataRecord> {
        let allows = |record: &MetadataRecord| match record {
            MetadataRecord::Config(config) => config.name == UNCLEAN_KEY,
            _ => false,
        };
        if records.iter().any(allows) { self.elect_leaderless() } else { Vec::new() }
    }

    /// Gives leadership back to preferred leaders that are in sync, a limited number at a time. True when there are more to give.
    pub(super) fn rebalance_leaders(&mut self) -> (Vec<MetadataRecord>, bool) {
        let mut records: Vec<MetadataRecord> = Vec::new();
        let mut more = false;
        'topics: for topic in self.image.topics() {
            for (number, partition) in topic.partitions() {
                let preferred = partition.replicas.first();
                if preferred == Some(&partition.leader) || partition.leader == NO_LEADER {
                    continue;
                }
                let mut change = PartitionChange::new(&self.image, topic.id, number, partition);
                change.set_election(Election::Preferred);
                let Some(record) = change.record() else { continue };
                if records.len() == ELECTIONS_PER_REBALANCE_MAX {
                    more = true;
                    break 'topics;
                }
                records.push(record.into());
            }
        }
        self.decided(&records);
        (records, more)
    }

    /// Whether a broker leads anything.
    pub(super) fn leads_any(&self, id: BrokerId) -> bool {
        self.image.topics().any(|topic| topic.partitions.iter().any(|partition| partition.leader == id))
    }

    /// How leaders of a topic are looked for when nobody asked.
    pub(super) fn election_for(&self, topic: &Arc<TopicImage>) -> Election {
        if self.allows_unclean(&topic.name) || planted(Bug::UncleanElection) {
            Election::Unclean
        } else {
            Election::Clean
        }
    }

    /// `unclean.leader.election.enable` of a topic.
    pub(super) fn allows_unclean(&self, topic: &str) -> bool {
        let key = topic_key(UNCLEAN_KEY).expect("Kafka's topic keys are in the registry");
        let set = self.image.config(&Resource::Topic(topic.to_owned()));
        self.topic_layers(set).value(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }
}
