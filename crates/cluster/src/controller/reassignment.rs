//! The lists of a partition that moves to other brokers (KIP-455): how a move begins, when it is done, what is left when it is
//! taken back.

use ottla_protocol::ids::BrokerId;

use crate::image::PartitionImage;

/// Replicas of a partition that moves: the target in its order, then those that will go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reassignment {
    pub(super) replicas: Vec<BrokerId>,
    pub(super) isr: Vec<BrokerId>,
    pub(super) adding: Vec<BrokerId>,
    pub(super) removing: Vec<BrokerId>,
}

/// What a partition is when its move is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revert {
    pub(super) replicas: Vec<BrokerId>,
    pub(super) isr: Vec<BrokerId>,
    /// Whether only replicas that were being added are in sync, so that records may be lost.
    pub(super) unclean: bool,
}

/// Whether a partition is on the move.
pub(super) fn is_in_progress(partition: &PartitionImage) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

/// The move of a partition to `target`. A move that is under way is given up for it: replicas that it was adding and that are not
/// in the target are dropped at once, unless nothing in sync would be left; those that are in it still have to catch up.
pub(super) fn start(partition: &PartitionImage, target: &[BrokerId]) -> Reassignment {
    let added = |id: &BrokerId| partition.adding.contains(id);
    let stays = |id: &BrokerId| !added(id) || target.contains(id);
    let can_drop = partition.isr.iter().any(stays);
    let present: Vec<BrokerId> =
        partition.replicas.iter().copied().filter(|id| !can_drop || stays(id)).collect();
    let isr = partition.isr.iter().copied().filter(|id| !can_drop || stays(id)).collect();
    let mut removing: Vec<_> = present.iter().copied().filter(|id| !target.contains(id)).collect();
    removing.sort_unstable();
    let is_new = |id: &BrokerId| !present.contains(id) || (added(id) && !partition.isr.contains(id));
    let mut adding: Vec<_> = target.iter().copied().filter(is_new).collect();
    adding.sort_unstable();
    let replicas = target.iter().chain(&removing).copied().collect();
    Reassignment { replicas, isr, adding, removing }
}

impl Reassignment {
    /// Replicas and ISR after the move, once all that was added is in sync and something in sync is left without what goes.
    pub(super) fn completed(&self) -> Option<(Vec<BrokerId>, Vec<BrokerId>)> {
        if self.adding.is_empty() && self.removing.is_empty() {
            return None;
        }
        let without = |ids: &[BrokerId]| -> Vec<BrokerId> {
            ids.iter().copied().filter(|id| !self.removing.contains(id)).collect()
        };
        let (replicas, isr) = (without(&self.replicas), without(&self.isr));
        let all_added = self.adding.iter().all(|id| isr.contains(id));
        (all_added && !isr.is_empty() && !replicas.is_empty()).then_some((replicas, isr))
    }
}

/// The partition without what was being added. `None` when nothing would be left.
pub(super) fn revert(partition: &PartitionImage) -> Option<Revert> {
    let without = |ids: &[BrokerId]| -> Vec<BrokerId> {
        ids.iter().copied().filter(|id| !partition.adding.contains(id)).collect()
    };
    let (replicas, isr) = (without(&partition.replicas), without(&partition.isr));
    let first = *replicas.first()?;
    let unclean = isr.is_empty();
    let isr = if unclean { vec![first] } else { isr };
    Some(Revert { replicas, isr, unclean })
}
