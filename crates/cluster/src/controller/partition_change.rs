//! One change of a partition: what is wanted of its replicas and its ISR goes in, the record with all that follows comes out, as in
//! KRaft's PartitionChangeBuilder. Every rule about leaders and epochs is here.
//!
//! * The ISR is never empty: when its last member goes, the ISR stays as it is and the partition has no leader.
//! * A leader that may lead stays. Otherwise the first replica that is in the ISR and may lead follows it.
//! * A new leader begins a new leader epoch; so does the removal of a replica, whose late requests are thereby refused.
//! * Every record begins a new partition epoch.

use ottla_protocol::generated::records::PartitionChangeRecord;
use ottla_protocol::ids::{BrokerId, Uuid};

use super::placement::{directory, is_active};
use super::reassignment::Reassignment;
use crate::image::{MetadataImage, PartitionImage};
use crate::planted::{Bug, planted};

/// A broker without a leader's seat; the partition has none.
pub(super) const NO_LEADER: BrokerId = BrokerId(-1);
/// `PartitionChangeRecord.Leader`: it stays, and so does the leader epoch.
const NO_LEADER_CHANGE: i32 = -2;
/// The directory of a replica is lost, and nobody knows which it was (KIP-858).
pub(super) const LOST_DIRECTORY: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// How a leader is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// In the ISR, and only when the leader may not stay.
    Clean,
    /// The first replica, if it is in the ISR; else as `Clean`.
    Preferred,
    /// As `Clean`, then outside the ISR: records may be lost.
    Unclean,
    /// As `Unclean`, then also on brokers that lost the replica's directory: everything may be lost.
    Forced,
}

/// A change that is being put together.
#[derive(Clone, Debug)]
pub(super) struct PartitionChange<'a> {
    image: &'a MetadataImage,
    partition: &'a PartitionImage,
    record: PartitionChangeRecord,
    election: Election,
    /// The replicas with their directories.
    replicas: Vec<(BrokerId, Uuid)>,
    isr: Vec<BrokerId>,
    adding: Vec<BrokerId>,
    removing: Vec<BrokerId>,
    recovering: bool,
    begins_epoch: bool,
}

impl<'a> PartitionChange<'a> {
    /// Begins with no change; brokers are judged by `image`.
    pub(super) fn new(
        image: &'a MetadataImage,
        topic_id: Uuid,
        partition_id: i32,
        partition: &'a PartitionImage,
    ) -> Self {
        let directories = partition.directories.iter().copied().chain(std::iter::repeat(Uuid::ZERO));
        Self {
            image,
            partition,
            record: PartitionChangeRecord { topic_id, partition_id, ..PartitionChangeRecord::default() },
            election: Election::Clean,
            replicas: partition.replicas.iter().copied().zip(directories).collect(),
            isr: partition.isr.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
            recovering: partition.recovering,
            begins_epoch: false,
        }
    }

    /// The partition as it is before the change.
    pub(super) fn partition(&self) -> &'a PartitionImage {
        self.partition
    }

    /// How a leader is looked for.
    pub(super) fn set_election(&mut self, election: Election) {
        self.election = election;
    }

    /// The ISR that is wanted.
    pub(super) fn set_isr(&mut self, isr: Vec<BrokerId>) {
        self.isr = isr;
    }

    /// Takes a replica out of the ISR.
    pub(super) fn leave_isr(&mut self, id: BrokerId) {
        self.isr.retain(|member| *member != id);
    }

    /// Whether the leader still has to recover from an unclean election.
    pub(super) fn set_recovering(&mut self, recovering: bool) {
        self.recovering = recovering;
    }

    /// Other replicas; those that stay keep their directories.
    pub(super) fn set_replicas(&mut self, moved: Reassignment) {
        let known = |id: BrokerId| self.replicas.iter().find(|(known, _)| *known == id).map(|(_, dir)| *dir);
        let replicas =
            moved.replicas.iter().map(|id| (*id, known(*id).unwrap_or(directory(self.image, *id))));
        self.replicas = replicas.collect();
        self.isr = moved.isr;
        self.adding = moved.adding;
        self.removing = moved.removing;
    }

    /// The directory of a replica; all zeros when unknown.
    pub(super) fn directory(&self, id: BrokerId) -> Uuid {
        self.replicas.iter().find(|(known, _)| *known == id).map_or(Uuid::ZERO, |(_, dir)| *dir)
    }

    /// Says in which directory a replica lies.
    pub(super) fn set_directory(&mut self, id: BrokerId, directory: Uuid) {
        if let Some((_, known)) = self.replicas.iter_mut().find(|(known, _)| *known == id) {
            *known = directory;
        }
    }

    /// Begins a new leader epoch also when the leader stays.
    pub(super) fn begin_epoch(&mut self) {
        self.begins_epoch = true;
    }

    /// The record; `None` when nothing changes.
    pub(super) fn record(mut self) -> Option<PartitionChangeRecord> {
        self.complete_reassignment();
        let old = self.partition;
        let unchanged = self.record.clone();
        let elected = self.elect();
        if elected.leader != old.leader || elected.unclean {
            self.record.leader = elected.leader.0;
        }
        if elected.unclean {
            // What the others have beyond the new leader does not count any more (KIP-704).
            self.isr = vec![elected.leader];
            self.recovering = true;
            if !self.has_directory(elected.leader) {
                self.set_directory(elected.leader, directory(self.image, elected.leader));
            }
        }
        if !self.isr.is_empty() && self.isr != old.isr {
            self.record.isr = Some(numbers(&self.isr));
        }
        let loses_replica = old.replicas.iter().any(|id| !self.replicas.iter().any(|(kept, _)| kept == id));
        let wants_epoch = loses_replica || (self.begins_epoch && old.leader != NO_LEADER);
        if wants_epoch && self.record.leader == NO_LEADER_CHANGE {
            self.record.leader = old.leader.0;
        }
        self.set_assignment();
        if self.recovering != old.recovering {
            self.record.leader_recovery_state = i8::from(self.recovering);
        }
        (self.record != unchanged).then_some(self.record)
    }

    fn set_assignment(&mut self) {
        let old = self.partition;
        let (replicas, directories): (Vec<_>, Vec<_>) = self.replicas.iter().copied().unzip();
        let zeros = old.directories.is_empty() && directories.iter().all(Uuid::is_zero);
        if directories != old.directories && !zeros {
            self.record.directories = Some(directories);
        }
        if replicas != old.replicas {
            self.record.replicas = Some(numbers(&replicas));
        }
        if self.removing != old.removing {
            self.record.removing_replicas = Some(numbers(&self.removing));
        }
        if self.adding != old.adding {
            self.record.adding_replicas = Some(numbers(&self.adding));
        }
    }

    fn complete_reassignment(&mut self) {
        let moved = Reassignment {
            replicas: self.replicas.iter().map(|(id, _)| *id).collect(),
            isr: self.isr.clone(),
            adding: self.adding.clone(),
            removing: self.removing.clone(),
        };
        if let Some((replicas, isr)) = moved.completed() {
            let (adding, removing) = (Vec::new(), Vec::new());
            self.set_replicas(Reassignment { replicas, isr, adding, removing });
        }
    }

    fn elect(&self) -> Elected {
        let clean = |leader| Elected { leader, unclean: false };
        let replicas = || self.replicas.iter().map(|(id, _)| *id);
        let stays = |id: BrokerId| (id != NO_LEADER && self.may_lead(id)).then_some(id);
        let preferred = || replicas().next().filter(|id| self.may_lead(*id));
        let in_sync = match self.election {
            Election::Preferred => preferred().or_else(|| stays(self.partition.leader)),
            Election::Clean | Election::Unclean | Election::Forced => stays(self.partition.leader),
        };
        if let Some(leader) = in_sync.or_else(|| replicas().find(|id| self.may_lead(*id))) {
            return clean(leader);
        }
        let live = |id: &BrokerId| is_active(self.image, *id);
        let with_directory = || replicas().find(|id| live(id) && self.has_directory(*id));
        let unclean = match self.election {
            Election::Clean | Election::Preferred => None,
            Election::Unclean => with_directory(),
            Election::Forced => with_directory().or_else(|| replicas().find(live)),
        };
        unclean.map_or(clean(NO_LEADER), |leader| Elected { leader, unclean: true })
    }

    /// A member of the wanted ISR whose broker is active and has the directory.
    fn may_lead(&self, id: BrokerId) -> bool {
        self.isr.contains(&id) && is_active(self.image, id) && self.has_directory(id)
    }

    fn has_directory(&self, id: BrokerId) -> bool {
        has_directory(self.image, id, self.directory(id))
    }
}

struct Elected {
    leader: BrokerId,
    unclean: bool,
}

/// Whether a broker has a directory online.
pub(super) fn has_directory(image: &MetadataImage, id: BrokerId, directory: Uuid) -> bool {
    planted(Bug::WipedReplicaElected)
        || image.broker(id).is_some_and(|broker| broker.has_directory(directory))
}

fn numbers(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}
