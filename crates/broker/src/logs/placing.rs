//! In which log directory a partition lies, or shall lie.

use std::sync::atomic::Ordering;

use ottla_partition::PartitionKey;
use ottla_protocol::ids::Uuid;
use ottla_storage::names::TopicPartition;

use super::{Logs, name_of};

impl Logs {
    /// Index of the directory in which the partition lies; `None` while it has none.
    #[must_use]
    pub fn directory_of(&self, key: &PartitionKey) -> Option<usize> {
        self.places().get(&name_of(key)).copied()
    }

    /// The directory for a partition: where it lies, else the healthy one with the fewest, one with room if there is any.
    pub(super) fn place(&self, name: &TopicPartition) -> usize {
        self.place_in(name, None)
    }

    /// Where it lies, else `wanted`, else as [`Logs::place`] says.
    fn place_in(&self, name: &TopicPartition, wanted: Option<usize>) -> usize {
        let mut places = self.places();
        if let Some(&place) = places.get(name) {
            return place;
        }
        let healthy =
            (0..self.directories.len()).filter(|&i| self.directories[i].directory.fenced().is_none());
        let rank = |&i: &usize| {
            let place = &self.directories[i];
            (place.directory.is_full(), place.partitions.load(Ordering::Relaxed))
        };
        let place = wanted.or_else(|| healthy.min_by_key(rank)).unwrap_or(0);
        self.directories[place].partitions.fetch_add(1, Ordering::Relaxed);
        places.insert(name.clone(), place);
        place
    }

    /// The id of the directory in which a replica lies, that the controller supposes in `known` (zero for nobody knows). One that lies
    /// nowhere yet is given a place: the one that is known, or any. `None` when it must not be placed here, because what it had is in a
    /// directory that is not there, or when its directory has failed.
    pub fn place_as_known(&self, key: &PartitionKey, known: Uuid) -> Option<Uuid> {
        let name = name_of(key);
        let at =
            |id: Uuid| self.directories.iter().position(|place| place.directory.meta().directory_id == id);
        let wanted = at(known);
        if wanted.is_none() && !known.is_zero() && self.directory_of(key).is_none() {
            return None;
        }
        let place = self.place_in(&name, wanted);
        let directory = &self.directories[place].directory;
        directory.fenced().is_none().then(|| directory.meta().directory_id)
    }
}
