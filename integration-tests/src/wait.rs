//! Waiting for a condition with a deadline: the only place of the tests that pauses.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(2);

/// Returns what `condition` gives once it gives something; panics with `what` after `limit`.
pub fn wait_until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// Lets `limit` pass: for measuring what a process costs while nothing happens.
pub fn let_pass(limit: Duration) {
    std::thread::sleep(limit);
}
