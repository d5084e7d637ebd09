//! What one partition knows of each idempotent producer: its epoch and its last five batches, so that a batch sent twice
//! is written once and a gap is refused (KIP-98, KIP-360). Transactions are carried along: where one began, and the epoch
//! of the transaction coordinator that ended the last.
//!
//! Deviation from Kafka: a producer expires by this broker's clock (when it last wrote here), not by the timestamps of its
//! records, which may be years old.

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::BatchHeader;

pub use snapshot::{SnapshotError, snapshot_file_name, snapshot_offset};

/// How many batches per producer are remembered: as many as a producer may have in flight.
pub const BATCHES_KEPT: usize = 5;

/// Sequence of a batch that has none, as the group coordinator writes them.
const NO_SEQUENCE: i32 = -1;
const NO_OFFSET: i64 = -1;

/// All producers that wrote to one partition and have not expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    // Ordered, so that equal states give equal snapshots.
    producers: BTreeMap<i64, ProducerEntry>,
}

/// What a batch is, beside those that were written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is to be written.
    Fresh,
    /// It was written already and is answered with what it got then.
    Duplicate(Duplicate),
}

/// The batch that a duplicate repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record: with acks=all the answer waits until this one is safe.
    pub last_offset: Offset,
    /// Its max timestamp, which is the append time where the topic says LogAppendTime.
    pub timestamp: i64,
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// A newer epoch of the same producer has written (INVALID_PRODUCER_EPOCH).
    #[error("producer {producer_id} has epoch {epoch}, the last seen is {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Its batch's epoch.
        epoch: i16,
        /// The epoch known here.
        current: i16,
    },
    /// Batches are missing before this one, or it is too old to be recognised (OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {producer_id} sends sequence {sequence}, expected is {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence of its batch.
        sequence: i32,
        /// The sequence that would follow.
        expected: i32,
    },
    /// A batch outside of the transaction that its producer has open here (INVALID_TXN_STATE).
    #[error("producer {producer_id} writes outside of its open transaction")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
    },
}

/// The content of a transaction's end marker (the one record of a control batch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
    /// Abort or commit.
    pub is_abort: bool,
}

impl EndMarker {
    /// Reads a control record's key (version i16, type i16: 0 abort, 1 commit) and value (version i16, coordinator epoch
    /// i32). `None` for other control records and for what is too short.
    #[must_use]
    pub fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let is_abort = match i16::from_be_bytes(*key.get(2..)?.first_chunk()?) {
            0 => true,
            1 => false,
            _ => return None,
        };
        let coordinator_epoch = i32::from_be_bytes(*value.get(2..)?.first_chunk()?);
        Some(Self { coordinator_epoch, is_abort })
    }
}

/// A transaction that a marker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// Its first record in this partition.
    pub first_offset: Offset,
    /// Its marker.
    pub marker_offset: Offset,
    /// Abort or commit.
    pub is_abort: bool,
}

/// One of a producer's last batches; 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct KeptBatch {
    last_offset: i64,
    timestamp: i64,
    last_sequence: i32,
    /// Last minus first offset, and last minus first sequence.
    delta: i32,
}

impl KeptBatch {
    fn first_sequence(&self) -> i32 {
        sequence_minus(self.last_sequence, self.delta)
    }
}

/// One producer; 152 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProducerEntry {
    /// The oldest first; `kept` of them.
    batches: [KeptBatch; BATCHES_KEPT],
    /// Timestamp of the last batch or marker.
    last_timestamp: i64,
    /// When it last wrote here, by this broker's clock.
    used_ms: i64,
    /// First offset of the open transaction, or [`NO_OFFSET`].
    transaction_first_offset: i64,
    coordinator_epoch: i32,
    epoch: i16,
    kept: u8,
}

const _: () = assert!(size_of::<ProducerEntry>() == 152);

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self {
            batches: [KeptBatch::default(); BATCHES_KEPT],
            last_timestamp: -1,
            used_ms: 0,
            transaction_first_offset: NO_OFFSET,
            coordinator_epoch: -1,
            epoch,
            kept: 0,
        }
    }

    fn batches(&self) -> &[KeptBatch] {
        &self.batches[..usize::from(self.kept)]
    }

    fn push(&mut self, batch: KeptBatch) {
        if usize::from(self.kept) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.kept -= 1;
        }
        self.batches[usize::from(self.kept)] = batch;
        self.kept += 1;
    }

    /// Another epoch begins its sequences anew.
    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.kept = 0;
        }
    }
}

/// A producer's state, for listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record, -1 when none is known.
    pub last_sequence: i32,
    /// Timestamp of its last batch or marker.
    pub last_timestamp: i64,
    /// Epoch of the transaction coordinator that ended its last transaction, -1 when none is known.
    pub coordinator_epoch: i32,
    /// Where its open transaction began.
    pub transaction_first_offset: Option<Offset>,
}

impl ProducerStates {
    /// Judges a client's batch before it is written: fresh, a duplicate of one of the last five, or refused.
    ///
    /// Of a producer that is not known here (never seen, expired, or all its data deleted) any sequence is accepted, as
    /// Kafka does: refusing would stop a producer for good whose records merely were deleted. A new epoch begins at
    /// sequence 0. A batch without producer id or sequence is always fresh.
    pub fn check(&self, header: &BatchHeader) -> Result<Checked, ProducerError> {
        let producer_id = header.producer_id;
        let Some(entry) = self.producers.get(&producer_id.0) else { return Ok(Checked::Fresh) };
        let (epoch, current) = (header.producer_epoch, entry.epoch);
        if epoch < current {
            return Err(ProducerError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        if header.base_sequence != NO_SEQUENCE {
            if let Some(duplicate) = entry.duplicate_of(header) {
                return Ok(Checked::Duplicate(duplicate));
            }
            let last = if epoch == current { entry.batches().last() } else { None };
            let expected = last.map_or(0, |batch| sequence_plus(batch.last_sequence, 1));
            if header.base_sequence != expected {
                let sequence = header.base_sequence;
                return Err(ProducerError::OutOfOrderSequence { producer_id, sequence, expected });
            }
        }
        if entry.transaction_first_offset != NO_OFFSET && !header.attributes.is_transactional() {
            return Err(ProducerError::InvalidTxnState { producer_id });
        }
        Ok(Checked::Fresh)
    }

    /// Takes in a batch that stands in the log (just appended, replicated or replayed), without judging it. `header` has
    /// its final offsets. A control batch is taken as the end of its producer's transaction, by a transaction
    /// coordinator of unknown epoch; see [`ProducerStates::replay_end_marker`].
    pub fn replay(&mut self, header: &BatchHeader, now_ms: i64) {
        if header.producer_id.0 < 0 || header.records_count == 0 && header.attributes.is_control() {
            // Of a control batch whose marker was compacted away, nothing is left to be known.
            return;
        }
        if header.attributes.is_control() {
            self.end_transaction(header, None, now_ms);
            return;
        }
        let entry = self.entry(header, now_ms);
        entry.enter_epoch(header.producer_epoch);
        entry.push(KeptBatch {
            last_offset: header.last_offset().0,
            timestamp: header.max_timestamp,
            last_sequence: last_sequence(header),
            delta: header.last_offset_delta,
        });
        entry.last_timestamp = header.max_timestamp;
        if header.attributes.is_transactional() && entry.transaction_first_offset == NO_OFFSET {
            entry.transaction_first_offset = header.base_offset.0;
        }
    }

    /// Takes in a control batch whose record was read. Gives back the transaction it ended, if it had written here.
    pub fn replay_end_marker(
        &mut self,
        header: &BatchHeader,
        marker: EndMarker,
        now_ms: i64,
    ) -> Option<CompletedTransaction> {
        if header.producer_id.0 < 0 {
            return None;
        }
        let first_offset = self.end_transaction(header, Some(marker.coordinator_epoch), now_ms)?;
        Some(CompletedTransaction {
            producer_id: header.producer_id,
            first_offset,
            marker_offset: header.base_offset,
            is_abort: marker.is_abort,
        })
    }

    fn end_transaction(
        &mut self,
        header: &BatchHeader,
        coordinator_epoch: Option<i32>,
        now_ms: i64,
    ) -> Option<Offset> {
        let entry = self.entry(header, now_ms);
        entry.enter_epoch(header.producer_epoch);
        entry.last_timestamp = header.max_timestamp;
        if let Some(coordinator_epoch) = coordinator_epoch {
            entry.coordinator_epoch = coordinator_epoch;
        }
        let first_offset = std::mem::replace(&mut entry.transaction_first_offset, NO_OFFSET);
        (first_offset != NO_OFFSET).then_some(Offset(first_offset))
    }

    fn entry(&mut self, header: &BatchHeader, now_ms: i64) -> &mut ProducerEntry {
        let new = || ProducerEntry::new(header.producer_epoch);
        let entry = self.producers.entry(header.producer_id.0).or_insert_with(new);
        entry.used_ms = now_ms;
        entry
    }

    /// Forgets producers that have not written here for `expiration_ms` (`producer.id.expiration.ms`) and have no open
    /// transaction. Gives back how many.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, entry| {
            entry.transaction_first_offset != NO_OFFSET
                || now_ms.saturating_sub(entry.used_ms) < expiration_ms
        });
        before - self.producers.len()
    }

    /// Forgets all, as when the log is emptied.
    pub fn clear(&mut self) {
        self.producers.clear();
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The first record of all open transactions. Looks at every producer.
    #[must_use]
    pub fn first_open_offset(&self) -> Option<Offset> {
        let open = self.producers.values().map(|entry| entry.transaction_first_offset);
        open.filter(|&offset| offset != NO_OFFSET).min().map(Offset)
    }

    /// Of each producer its epoch and the last offset of its last batch, if one is known: compaction leaves that batch.
    pub(crate) fn last_batches(&self) -> impl Iterator<Item = (ProducerId, i16, Option<Offset>)> {
        self.producers.iter().map(|(&id, entry)| {
            let last = entry.batches().last().map(|batch| Offset(batch.last_offset));
            (ProducerId(id), entry.epoch, last)
        })
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = ProducerView> {
        self.producers.iter().map(|(&id, entry)| ProducerView {
            producer_id: ProducerId(id),
            epoch: entry.epoch,
            last_sequence: entry.batches().last().map_or(NO_SEQUENCE, |batch| batch.last_sequence),
            last_timestamp: entry.last_timestamp,
            coordinator_epoch: entry.coordinator_epoch,
            transaction_first_offset: (entry.transaction_first_offset != NO_OFFSET)
                .then_some(Offset(entry.transaction_first_offset)),
        })
    }
}

impl ProducerEntry {
    fn duplicate_of(&self, header: &BatchHeader) -> Option<Duplicate> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let same = |batch: &&KeptBatch| {
            batch.last_sequence == last_sequence(header) && batch.first_sequence() == header.base_sequence
        };
        self.batches().iter().find(same).map(|batch| Duplicate {
            base_offset: Offset(batch.last_offset - i64::from(batch.delta)),
            last_offset: Offset(batch.last_offset),
            timestamp: batch.timestamp,
        })
    }
}

/// Sequence of a batch's last record.
fn last_sequence(header: &BatchHeader) -> i32 {
    match header.base_sequence {
        NO_SEQUENCE => NO_SEQUENCE,
        first => sequence_plus(first, header.last_offset_delta),
    }
}

/// Sequences go from 0 to `i32::MAX` and on to 0.
fn sequence_plus(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

fn sequence_minus(sequence: i32, count: i32) -> i32 {
    match sequence {
        NO_SEQUENCE => NO_SEQUENCE,
        _ => sequence.wrapping_sub(count) & i32::MAX,
    }
}
