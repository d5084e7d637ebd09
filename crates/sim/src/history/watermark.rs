//! The high watermark of a replica never goes back, and that of a leader that calls it settled is not below what was committed
//! when its leadership began.

use std::sync::Arc;

use ottla_partition::Partition;
use ottla_protocol::ids::Offset;

use super::History;
use crate::env::Env;
use crate::message::{Address, Tp};

impl History {
    pub(super) fn check_watermark(
        &mut self,
        env: &Env,
        broker: Address,
        tp: Tp,
        before: Offset,
        now: Offset,
    ) {
        if now < before {
            let what = format!("watermark: broker {broker} goes back from {before} to {now} in {}", tp.1);
            self.violate(env, what);
        }
    }

    /// The leader, when it says that its high watermark is settled, tells consumers where the log ends.
    pub(super) fn check_leader_watermark(
        &mut self,
        env: &Env,
        broker: Address,
        tp: Tp,
        partition: &Arc<Partition>,
    ) {
        let Some(known) = self.image.partition(tp.0, tp.1) else { return };
        // Time does not matter for a log that is open.
        let Ok(bounds) = partition.bounds(known.leader_epoch, 0) else { return };
        if u32::try_from(known.leader.0) != Ok(broker) || !bounds.is_settled {
            return;
        }
        let end = self.committed.get(&tp).map_or(Offset(0), super::Committed::end);
        let told = bounds.high_watermark;
        if told < end {
            let what = format!("watermark: leader {broker} tells {told} of {}, committed is {end}", tp.1);
            self.violate(env, what);
        }
    }
}
