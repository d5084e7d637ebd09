//! What changed between two images: enough for a reconciler to look at what it must, and at nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::ids::{BrokerId, Uuid};

use super::{MetadataImage, Resource, TopicImage};

/// The things that changed. The new state is in the new image; what was deleted is here as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataDelta {
    /// Topics that are new.
    pub topics_created: BTreeSet<Uuid>,
    /// Topics that are gone, as they were last.
    pub topics_removed: BTreeMap<Uuid, Arc<TopicImage>>,
    /// Partitions that are new or changed, of topics that are there.
    pub partitions_changed: BTreeSet<(Uuid, i32)>,
    /// Brokers that came, changed or went.
    pub brokers_changed: BTreeSet<BrokerId>,
    /// Resources on which a value was set or unset.
    pub configs_changed: BTreeSet<Resource>,
    /// Features whose level changed.
    pub features_changed: BTreeSet<String>,
    /// Whether producer ids were given out.
    pub producer_ids_changed: bool,
}

impl MetadataDelta {
    /// The difference between an empty image and this one: what a broker that starts has to look at.
    #[must_use]
    pub fn everything(image: &MetadataImage) -> Self {
        let mut delta = Self { producer_ids_changed: true, ..Self::default() };
        for topic in image.topics() {
            delta.topics_created.insert(topic.id);
            delta
                .partitions_changed
                .extend((0i32..).zip(&topic.partitions).map(|(number, _)| (topic.id, number)));
        }
        delta.brokers_changed.extend(image.brokers().map(|broker| broker.id));
        delta.configs_changed.extend(image.configs().map(|(resource, _)| resource.clone()));
        delta.features_changed.extend(image.features().map(|(name, _)| name.to_owned()));
        delta
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A deleted topic takes with it what was noted about it. One that came and went is not mentioned at all.
    pub(super) fn topic_removed(&mut self, topic: Arc<TopicImage>) {
        let noted = self.partitions_changed.range((topic.id, i32::MIN)..=(topic.id, i32::MAX));
        for partition in noted.copied().collect::<Vec<_>>() {
            self.partitions_changed.remove(&partition);
        }
        if !self.topics_created.remove(&topic.id) {
            self.topics_removed.insert(topic.id, topic);
        }
    }
}
