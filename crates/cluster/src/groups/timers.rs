//! What is due when, over all groups of a shard: an ordered set, so that the next one is found without a scan.

use std::collections::BTreeSet;

use ottla_protocol::wire::Str;

/// What a deadline is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A rebalance has waited long enough for its members.
    Join,
    /// The members had their time to send SyncGroup.
    Sync,
    /// A member's session ends.
    Session(Str),
    /// A member that was given an id did not come back with it.
    Pending(Str),
}

/// Deadlines by the monotonic clock. Who sets one remembers it, to cancel it.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(i64, Str, Due)>);

impl Timers {
    pub fn set(&mut self, at_ms: i64, group_id: &Str, due: Due) {
        self.0.insert((at_ms, group_id.clone(), due));
    }

    pub fn cancel(&mut self, at_ms: i64, group_id: &Str, due: Due) {
        self.0.remove(&(at_ms, group_id.clone(), due));
    }

    pub fn next_ms(&self) -> Option<i64> {
        self.0.first().map(|(at_ms, _, _)| *at_ms)
    }

    /// The first that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<(Str, Due)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop_first().map(|(_, group_id, due)| (group_id, due))
    }
}
