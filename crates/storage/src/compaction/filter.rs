//! What a cleaning makes of one batch. The rules are those of Kafka 4.3's cleaner, where not said otherwise.

use std::collections::{HashMap, HashSet};

use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, DecompressLimit, Record, Retained, emptied};

use super::CleaningError;
use super::batches::StoredBatch;
use super::keys::OffsetMap;
use super::transactions::{Fate, Transactions};

/// What becomes of a batch.
pub(super) enum Outcome {
    /// It stays, byte by byte.
    Whole,
    /// It stays with fewer records, or with a delete horizon.
    Changed(BatchHeader, Vec<u8>),
    Gone,
}

/// The rules of one cleaning. Batches come in the order of the log.
pub(super) struct Filter {
    pub(super) map: OffsetMap,
    /// The map knows all records below; what is at or above stays.
    pub(super) map_end: Offset,
    pub(super) transactions: Transactions,
    pub(super) last_batches: HashMap<ProducerId, (i16, Option<Offset>)>,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// Producers of whose present transaction a batch stays: its marker does too.
    pub(super) in_transaction: HashSet<ProducerId>,
}

impl Filter {
    /// `must_stay`: the batch stays, without records if need be, because it says where its segment ends.
    pub(super) fn judge(
        &mut self,
        batch: &StoredBatch<'_>,
        must_stay: bool,
    ) -> Result<Outcome, CleaningError> {
        let header = &batch.header;
        let outcome = if header.attributes.is_control() {
            self.judge_marker(batch, must_stay)?
        } else {
            self.judge_data(batch, must_stay)?
        };
        if header.attributes.is_transactional()
            && !header.attributes.is_control()
            && !matches!(outcome, Outcome::Gone)
        {
            self.in_transaction.insert(header.producer_id);
        }
        Ok(outcome)
    }

    fn judge_data(&self, batch: &StoredBatch<'_>, must_stay: bool) -> Result<Outcome, CleaningError> {
        let header = &batch.header;
        let fate = self.transactions.fate(header);
        if header.base_offset >= self.map_end || fate == Fate::Undecided {
            return Ok(Outcome::Whole);
        }
        let stays_empty = must_stay || self.is_last_of_producer(header);
        if header.records_count == 0 {
            return Ok(if stays_empty { Outcome::Whole } else { Outcome::Gone });
        }
        let mut has_tombstone = false;
        let retained = Retained::read(header, batch.payload(), DecompressLimit::default(), |record| {
            let stays = fate != Fate::Aborted && self.stays(header, record);
            has_tombstone |= stays && record.value.is_none();
            stays
        })?;
        if retained.count() == 0 {
            return Ok(if stays_empty {
                Outcome::Changed(emptied(header), Vec::new())
            } else {
                Outcome::Gone
            });
        }
        // A batch that the map does not know whole is reached by a later cleaning.
        let begins_retention =
            has_tombstone && !header.attributes.has_delete_horizon() && header.last_offset() < self.map_end;
        if retained.is_whole() && !begins_retention {
            return Ok(Outcome::Whole);
        }
        let horizon_ms = begins_retention.then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        let (header, payload) = retained.encode(horizon_ms)?;
        Ok(Outcome::Changed(header, payload))
    }

    /// The last record of its key, and a value or a tombstone whose time has not come. As in Kafka, records without a key
    /// (from before the topic was compacted) go.
    fn stays(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        let offset = header.offset_of_delta(record.offset_delta);
        if offset >= self.map_end {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_last = self.map.get(key).is_none_or(|last| offset >= last);
        is_last && (record.value.is_some() || !self.is_past_horizon(header))
    }

    fn is_past_horizon(&self, header: &BatchHeader) -> bool {
        header.attributes.has_delete_horizon() && self.now_ms >= header.base_timestamp
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.last_batches.get(&header.producer_id);
        last.is_some_and(|(_, last)| *last == Some(header.last_offset()))
    }

    /// A marker goes when no batch of its transaction is left, `delete.retention.ms` after that was first so, and nothing else
    /// needs it: to know its producer's epoch, or where the segment ends.
    fn judge_marker(&mut self, batch: &StoredBatch<'_>, must_stay: bool) -> Result<Outcome, CleaningError> {
        let header = &batch.header;
        let has_data = self.in_transaction.remove(&header.producer_id);
        let last = self.last_batches.get(&header.producer_id);
        let tells_epoch = last.is_some_and(|last| *last == (header.producer_epoch, None));
        let is_beyond = header.last_offset() >= self.map_end;
        if has_data || must_stay || tells_epoch || is_beyond || header.producer_id.0 < 0 {
            return Ok(Outcome::Whole);
        }
        if header.attributes.has_delete_horizon() {
            return Ok(if self.is_past_horizon(header) { Outcome::Gone } else { Outcome::Whole });
        }
        let retained = Retained::read(header, batch.payload(), DecompressLimit::default(), |_| true)?;
        let (header, payload) =
            retained.encode(Some(self.now_ms.saturating_add(self.delete_retention_ms)))?;
        Ok(Outcome::Changed(header, payload))
    }
}
