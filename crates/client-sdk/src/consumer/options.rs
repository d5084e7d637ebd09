//! How a consumer behaves.

use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::group::GroupOptions;

use super::Consumer;

/// Where to read from when there is no position: none was given or committed, or it is not in the log any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// The first record of the log.
    Beginning,
    /// What comes from now on.
    #[default]
    End,
    /// Nowhere: it is an error.
    Nowhere,
}

/// What transactions show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Records of open and aborted transactions too.
    Uncommitted,
    /// Records outside of transactions, and those of committed ones.
    #[default]
    Committed,
}

/// How a consumer behaves; made by [`Client::consumer`].
#[derive(Clone)]
#[must_use]
pub struct ConsumerOptions {
    pub(crate) client: Client,
    pub(crate) start_at: StartAt,
    pub(crate) isolation: Isolation,
    pub(crate) wait_max: Duration,
    pub(crate) min_bytes: i32,
    pub(crate) fetch_bytes: usize,
    pub(crate) partition_bytes: usize,
    pub(crate) prefetch_bytes: usize,
    pub(crate) check_crcs: bool,
}

impl ConsumerOptions {
    pub(crate) fn new(client: Client) -> ConsumerOptions {
        ConsumerOptions {
            client,
            start_at: StartAt::End,
            isolation: Isolation::Committed,
            wait_max: Duration::from_millis(500),
            min_bytes: 1,
            fetch_bytes: 16 << 20,
            partition_bytes: 1 << 20,
            prefetch_bytes: 16 << 20,
            check_crcs: true,
        }
    }

    /// Where to read from when there is no position; from the end by default.
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.start_at = start;
        self
    }

    /// What transactions show; committed records alone by default.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How long a broker may wait for `min_bytes`; 500 ms by default. Also how long a newly assigned partition may wait
    /// behind a fetch that is on its way.
    pub fn wait_max(mut self, limit: Duration) -> Self {
        self.wait_max = limit;
        self
    }

    /// Bytes that a broker gathers before it answers; 1 by default.
    pub fn min_bytes(mut self, bytes: i32) -> Self {
        self.min_bytes = bytes;
        self
    }

    /// Bytes of one fetch; 16 MiB by default.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes;
        self
    }

    /// Bytes of one partition in one fetch, unless the first batch is larger; 1 MiB by default.
    pub fn partition_bytes(mut self, bytes: usize) -> Self {
        self.partition_bytes = bytes;
        self
    }

    /// Bytes, as they are on the wire, that are fetched ahead of the program; 16 MiB by default. One fetch may pass it.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch_bytes = bytes;
        self
    }

    /// Whether checksums are verified; they are by default.
    pub fn check_crcs(mut self, on: bool) -> Self {
        self.check_crcs = on;
        self
    }

    /// Makes it a member of a group, which gives it its partitions.
    pub fn group(self, id: &str) -> GroupOptions {
        GroupOptions::new(self, id)
    }

    /// Starts a consumer without a group: partitions are assigned by hand.
    ///
    /// # Errors
    /// [`Error::Options`]. Must be called within a tokio runtime.
    pub fn start(self) -> Result<Consumer, Error> {
        self.check()?;
        Ok(Consumer::start(self))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let fits = |bytes: usize| bytes > 0 && i32::try_from(bytes).is_ok();
        if !fits(self.fetch_bytes) || !fits(self.partition_bytes) || self.prefetch_bytes == 0 {
            return Err(Error::Options("sizes of fetches are 1 byte to 2 GiB".to_owned()));
        }
        Ok(())
    }
}
