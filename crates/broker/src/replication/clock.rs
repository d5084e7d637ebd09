//! The clock by which followers are judged: nobody sets it.

use std::sync::OnceLock;
use std::time::Instant;

use ottla_partition::replicate::Now;

use crate::state::now_ms;

/// Ms since the first call in this process.
#[must_use]
pub fn steady_ms() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Both clocks.
#[must_use]
pub fn now() -> Now {
    Now { wall_ms: now_ms(), steady_ms: steady_ms() }
}
