//! The two clocks of the shards, read in one place.

use std::time::Duration;

use ottla_cluster::groups::Now;
use tokio::time::Instant;

use crate::state::now_ms;

/// Monotonic ms since the start, wall ms since 1970.
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub fn now(&self) -> Now {
        let mono_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { mono_ms, wall_ms: now_ms() }
    }

    /// When the monotonic clock shows `mono_ms`.
    pub fn instant(&self, mono_ms: i64) -> Instant {
        self.started + Duration::from_millis(u64::try_from(mono_ms).unwrap_or(0))
    }
}
