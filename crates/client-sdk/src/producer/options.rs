//! How a producer behaves.

use std::time::Duration;

use ottla_protocol::records::Compression;

use super::Producer;
use crate::client::Client;
use crate::error::Error;

/// What a broker must have done before it acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// All replicas that are in sync have it.
    #[default]
    All,
    /// The leader has it. It may be lost with the leader.
    Leader,
    /// Nothing is waited for: a record may be lost without notice, and its offset stays unknown.
    None,
}

impl Acks {
    pub(super) fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// How records without partition and key are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// The next partition with each batch: batches fill up.
    #[default]
    BatchByBatch,
    /// The next partition with each record.
    RecordByRecord,
}

/// How a producer behaves; made by [`Client::producer`].
#[derive(Clone)]
#[must_use]
pub struct ProducerOptions {
    pub(super) client: Client,
    pub(super) acks: Acks,
    pub(super) idempotence: bool,
    pub(super) compression: Compression,
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) buffer_bytes: usize,
    pub(super) in_flight_max: usize,
    pub(super) delivery_max: Duration,
    pub(super) spread: Spread,
}

/// What a broker remembers of an idempotent producer per partition.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl ProducerOptions {
    pub(crate) fn new(client: Client) -> ProducerOptions {
        ProducerOptions {
            client,
            acks: Acks::All,
            idempotence: true,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 512 << 10,
            buffer_bytes: 32 << 20,
            in_flight_max: IDEMPOTENT_IN_FLIGHT_MAX,
            delivery_max: Duration::from_secs(120),
            spread: Spread::BatchByBatch,
        }
    }

    /// What is waited for; [`Acks::All`] by default.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Whether a record is written exactly once however often it is sent; on by default, and only with [`Acks::All`].
    /// Without it, one batch per partition is on its way at a time, so that the order is kept.
    pub fn idempotence(mut self, on: bool) -> Self {
        self.idempotence = on;
        self
    }

    /// How batches are compressed; not at all by default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How long a batch waits for more records; 5 ms by default.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Bytes, before compression, at which a batch is full; 512 KiB by default. A larger record is a batch of its own.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Bytes of records that may wait for their acknowledgement; beyond, `send` waits. 32 MiB by default.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Batches per partition that may be on their way at once, 1 to 5; 5 by default.
    pub fn in_flight_max(mut self, count: usize) -> Self {
        self.in_flight_max = count;
        self
    }

    /// How long a record may take from `send` to its acknowledgement, retries included; 2 minutes by default.
    pub fn delivery_max(mut self, limit: Duration) -> Self {
        self.delivery_max = limit;
        self
    }

    /// How records without partition and key are spread; batch by batch by default.
    pub fn spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// Starts the producer.
    ///
    /// # Errors
    /// [`Error::Options`]; with idempotence, whatever keeps a broker from giving out a producer id.
    pub async fn start(self) -> Result<Producer, Error> {
        let refuse = |text: &str| Err(Error::Options(text.to_owned()));
        if self.idempotence && self.acks != Acks::All {
            return refuse("idempotence needs acks from all: turn it off, or use Acks::All");
        }
        if !(1..=IDEMPOTENT_IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            return refuse("in_flight_max is 1 to 5");
        }
        if u32::try_from(self.buffer_bytes).is_err() || self.buffer_bytes < self.batch_bytes {
            return refuse("buffer_bytes is at least batch_bytes and below 4 GiB");
        }
        if self.batch_bytes > 256 << 20 {
            return refuse("batch_bytes is at most 256 MiB");
        }
        Producer::start(self).await
    }

    pub(super) fn per_partition_max(&self) -> usize {
        if self.idempotence { self.in_flight_max } else { 1 }
    }
}
