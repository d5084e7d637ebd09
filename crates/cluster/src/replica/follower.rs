//! The follower's side: what to do with what the leader sends.

use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};

use crate::planted::{Bug, planted};

use super::{EpochEnd, Progress, Replica, Role};

/// Whom a replica follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// The leader.
    pub leader: BrokerId,
    /// Epoch of its leadership.
    pub epoch: LeaderEpoch,
}

/// A fetch response without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The leader epoch in which it was asked for.
    pub leader_epoch: LeaderEpoch,
    /// The offset that was asked for.
    pub offset: Offset,
    /// Where the leader's log parts from this one.
    pub diverging: Option<EpochEnd>,
}

/// What the driver has to do with a fetch response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is an answer to something that is no longer asked: nothing.
    Drop,
    /// Append the records, then call [`Replica::handle_appended`].
    Append,
    /// Cut the log so that it ends there, also when it does (epochs that begin there must go), then call [`Replica::handle_truncated`] and fetch again.
    Truncate(Offset),
    /// Drop the log and begin an empty one there, then call [`Replica::handle_truncated`] and fetch again.
    Restart(Offset),
}

/// The follower's side of a replica.
#[derive(Debug)]
pub(super) struct FollowerSide {
    following: Following,
    /// Whether the leader has found that its log has all of this one.
    matches: bool,
}

impl FollowerSide {
    pub(super) fn new(following: Following) -> Self {
        Self { following, matches: false }
    }

    pub(super) fn following(&self) -> Following {
        self.following
    }
}

/// What only a follower is asked. On other replicas these do nothing.
impl Replica {
    /// The leader answered a fetch. `local_end` says where the diverging epoch ends in this log, `None` when the log begins after it or
    /// does not know it.
    pub fn handle_fetched(&mut self, fetched: &Fetched, local_end: Option<EpochEnd>) -> Step {
        let end = self.local.end;
        let Role::Follower(side) = &mut self.role else { return Step::Drop };
        if fetched.leader_epoch != side.following.epoch || fetched.offset != end {
            return Step::Drop;
        }
        match fetched.diverging {
            None => {
                side.matches = true;
                Step::Append
            }
            Some(_) if planted(Bug::TruncateToHighWatermark) => Step::Truncate(self.high_watermark.min(end)),
            Some(leaders) => Step::Truncate(parting(leaders, local_end, end)),
        }
    }

    /// The leader's log is `start..leader_end`, and the offset that was asked for at `asked` is not in it.
    pub fn handle_out_of_range(&mut self, asked: &Fetched, start: Offset, leader_end: Offset) -> Step {
        let end = self.local.end;
        let Role::Follower(side) = &self.role else { return Step::Drop };
        if asked.leader_epoch != side.following.epoch || asked.offset != end {
            return Step::Drop;
        }
        if end < start {
            Step::Restart(start)
        } else if end > leader_end {
            // Only after an unclean election; the epochs are compared with the next fetch.
            Step::Truncate(leader_end)
        } else {
            Step::Drop
        }
    }

    /// Records were appended, and the response named the leader's high watermark. Returns whether the own one moved.
    pub fn handle_appended(&mut self, local: Progress, leaders_high_watermark: Offset) -> bool {
        self.handle_local_progress(local);
        let Role::Follower(_) = &self.role else { return false };
        let known = leaders_high_watermark.min(self.local.end);
        let moved = known > self.high_watermark;
        if moved {
            self.high_watermark = known;
        }
        moved
    }

    /// The log was cut. Gives the committed records that are gone, as first offset and end: after an unclean election, and at no other
    /// time, there can be some. Only then the high watermark goes back.
    pub fn handle_truncated(&mut self, local: Progress) -> Option<(Offset, Offset)> {
        self.handle_local_progress(local);
        let before = self.high_watermark;
        (local.end < before).then(|| {
            self.high_watermark = local.end;
            (local.end, before)
        })
    }

    /// What to tell the leader of the local disk; `None` as long as the logs were not compared, when what is on disk may not be the
    /// leader's. To be sent after the first answer of a leadership, and after every sync.
    #[must_use]
    pub fn durable_report(&self) -> Option<Offset> {
        match &self.role {
            Role::Follower(side) if side.matches || planted(Bug::ReportBeforeMatch) => {
                Some(self.local.durable)
            }
            Role::Idle | Role::Leader(_) | Role::Follower(_) => None,
        }
    }
}

/// Up to where the logs can agree (KIP-101, KIP-279). When this log does not know the leader's epoch, its last one before that is
/// compared with the next fetch.
fn parting(leaders: EpochEnd, local: Option<EpochEnd>, end: Offset) -> Offset {
    let cut = match local {
        Some(local) if local.epoch == leaders.epoch => local.end.min(leaders.end),
        Some(local) => local.end,
        None => leaders.end,
    };
    cut.min(end)
}
