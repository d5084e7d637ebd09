//! Letting time pass, for loops that look for a condition until their deadline.

use std::time::{Duration, Instant};

use super::DEADLINE;

/// A little time passes, real or simulated; whoever calls it looks again.
pub(super) async fn a_moment_passes() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// As [`a_moment_passes`], until the deadline after `began`.
pub(super) async fn moment(began: Instant, what: &str) {
    assert!(began.elapsed() < DEADLINE, "{what}");
    a_moment_passes().await;
}

/// So much simulated time passes: a message is on its way, a node is cut off.
pub(super) async fn simulated_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
