//! Trying again until a deadline, with growing pauses.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::Error;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The pause before the next try: doubles from 20 ms to 1 s, with up to a quarter less so that clients do not march in
/// step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(BACKOFF_MIN)
    }
}

impl Backoff {
    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let full = self.0;
        self.0 = (full * 2).min(BACKOFF_MAX);
        let jitter = u32::try_from(RandomState::new().hash_one(0u8) % 256).expect("below 256");
        full - full * jitter / 1024
    }
}

/// One call's tries.
#[derive(Debug)]
pub(crate) struct Retries {
    what: String,
    began: Instant,
    deadline: Instant,
    backoff: Backoff,
}

impl Retries {
    pub fn new(what: impl Into<String>, limit: Duration) -> Retries {
        let began = Instant::now();
        Retries { what: what.into(), began, deadline: began + limit, backoff: Backoff::default() }
    }

    /// Time left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The given error when it cannot be retried; `TimedOut` around it when the next try would come too late.
    pub async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retriable() {
            return Err(error);
        }
        let pause = self.backoff.next();
        if pause >= self.left() {
            let what = std::mem::take(&mut self.what);
            return Err(Error::TimedOut { what, after: self.began.elapsed(), last: Box::new(error) });
        }
        tracing::debug!(what = self.what, %error, ?pause, "try again");
        sleep(pause).await;
        Ok(())
    }
}
