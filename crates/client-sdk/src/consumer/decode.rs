//! From fetched bytes to records: batch by batch, without what must not be seen (control records, aborted transactions,
//! records before the position).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::generated::fetch::AbortedTransaction;
use ottla_protocol::records::{
    Batch, BatchError, BatchHeader, CompressionType, DecompressLimit, HEADER_BYTES, Record,
};
use ottla_protocol::wire::Str;

use super::options::Isolation;
use super::record::{ConsumerRecord, Origin, Piece};
use crate::error::Error;

/// The type of a control record that says that a transaction was aborted, in the second half of its key.
const CONTROL_ABORT: [u8; 2] = [0, 0];

/// The batches of one partition out of one fetch.
#[derive(Debug)]
pub(super) struct Chunk {
    pub topic: Str,
    pub partition: i32,
    /// The position's version when it was asked for: what was asked for before a seek is not shown after it.
    pub version: u64,
    pub bytes: Bytes,
    /// Bytes of the consumer's prefetch memory.
    pub charged_bytes: usize,
    at: usize,
    check_crcs: bool,
    /// Ascending by first offset, of the transactions that were aborted; none when all is to be seen.
    aborted: VecDeque<(i64, i64)>,
    aborting: HashSet<i64>,
}

impl Chunk {
    pub fn new(
        (topic, partition): (Str, i32),
        version: u64,
        bytes: Bytes,
        aborted: Option<Vec<AbortedTransaction>>,
        (isolation, check_crcs): (Isolation, bool),
    ) -> Chunk {
        let mut aborted: Vec<(i64, i64)> = match isolation {
            Isolation::Uncommitted => Vec::new(),
            Isolation::Committed => aborted
                .unwrap_or_default()
                .into_iter()
                .map(|transaction| (transaction.first_offset, transaction.producer_id))
                .collect(),
        };
        aborted.sort_unstable();
        Chunk {
            topic,
            partition,
            version,
            charged_bytes: bytes.len(),
            bytes,
            at: 0,
            check_crcs,
            aborted: aborted.into(),
            aborting: HashSet::new(),
        }
    }

    /// The offset behind the last whole batch; `None` when there is none whole.
    pub fn next_offset(&self) -> Option<i64> {
        let mut next = None;
        let mut rest = &self.bytes[..];
        while let Ok(header) = BatchHeader::parse(rest) {
            let Some(behind) = rest.get(header.size_bytes()..) else { break };
            next = Some(header.next_offset().0);
            rest = behind;
        }
        next
    }

    /// Appends the visible records of the next batch, from `position` on, to `out`; gives the offset behind that batch,
    /// or `None` when no whole batch is left.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn next_batch(
        &mut self,
        position: i64,
        out: &mut VecDeque<ConsumerRecord>,
    ) -> Result<Option<i64>, Error> {
        let rest = self.bytes.slice(self.at..);
        let header = match BatchHeader::parse(&rest) {
            Ok(header) if header.size_bytes() <= rest.len() => header,
            Ok(_) | Err(BatchError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(self.corrupt(position, error)),
        };
        let base = header.base_offset.0;
        let next = header.next_offset().0;
        let size = header.size_bytes();
        self.at += size;
        let payload = rest.slice(HEADER_BYTES..size);
        if self.check_crcs {
            header.verify_crc(&payload).map_err(|error| self.corrupt(base, error))?;
        }
        let shown = self.is_shown(&header, &payload).map_err(|error| self.corrupt(base, error))?;
        if shown && next > position {
            decode(&self.topic, self.partition, header, payload, position, out)
                .map_err(|error| self.corrupt(base, error))?;
        }
        Ok(Some(next))
    }

    /// Keeps book of aborted transactions.
    fn is_shown(&mut self, header: &BatchHeader, payload: &Bytes) -> Result<bool, BatchError> {
        while self.aborted.front().is_some_and(|(first, _)| *first <= header.last_offset().0) {
            self.aborting.extend(self.aborted.pop_front().map(|(_, producer)| producer));
        }
        let producer = header.producer_id.0;
        if header.attributes.is_control() {
            if self.aborting.contains(&producer) && is_abort(header, payload)? {
                self.aborting.remove(&producer);
            }
            return Ok(false);
        }
        Ok(!(header.attributes.is_transactional() && self.aborting.contains(&producer)))
    }

    fn corrupt(&self, offset: i64, source: BatchError) -> Error {
        Error::Corrupt {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset,
            source: Arc::new(source),
        }
    }
}

fn is_abort(header: &BatchHeader, payload: &Bytes) -> Result<bool, BatchError> {
    let batch = Batch::from_parts(header.clone(), payload);
    let mut records = batch.records(DecompressLimit::default())?;
    let first = records.next_record()?;
    Ok(first.and_then(|record| record.key).and_then(|key| key.get(2..4)) == Some(&CONTROL_ABORT))
}

fn decode(
    topic: &Str,
    partition: i32,
    header: BatchHeader,
    payload: Bytes,
    position: i64,
    out: &mut VecDeque<ConsumerRecord>,
) -> Result<(), BatchError> {
    let plain = header.attributes.compression()? == CompressionType::None;
    let batch = Batch::from_parts(header.clone(), &payload);
    let mut records = batch.records(DecompressLimit::default())?;
    let mut entries = Vec::with_capacity(usize::try_from(header.records_count).unwrap_or(0).min(1 << 16));
    let mut copied = Vec::new();
    if !plain {
        copied.reserve(payload.len() * 2);
    }
    while let Some(record) = records.next_record()? {
        let offset = header.offset_of_delta(record.offset_delta).0;
        if offset < position {
            continue;
        }
        let timestamp_ms = header.timestamp_of_delta(record.timestamp_delta);
        // Records of an uncompressed batch lie in the frame already; others are put behind each other.
        let pieces = if plain {
            locate(&record, |bytes| within(&payload, bytes))
        } else {
            locate(&record, |bytes| copy(&mut copied, bytes))
        };
        entries.push((offset, timestamp_ms, pieces));
    }
    let origin = Arc::new(Origin {
        topic: topic.clone(),
        partition,
        leader_epoch: header.partition_leader_epoch.0,
        timestamp_type: header.attributes.timestamp_type(),
        bytes: if plain { payload.clone() } else { copied.into() },
    });
    out.extend(entries.into_iter().map(|(offset, timestamp_ms, (key, value, headers))| ConsumerRecord {
        origin: origin.clone(),
        offset,
        timestamp_ms,
        key,
        value,
        headers,
    }));
    Ok(())
}

type Pieces = (Piece, Piece, Option<Arc<[(Piece, Piece)]>>);

fn locate(record: &Record<'_>, mut place: impl FnMut(&[u8]) -> (u32, u32)) -> Pieces {
    let key = record.key.map(&mut place);
    let value = record.value.map(&mut place);
    let headers = record.headers();
    if headers.len() == 0 {
        return (key, value, None);
    }
    let headers = headers.map(|header| (Some(place(header.key)), header.value.map(&mut place)));
    (key, value, Some(headers.collect()))
}

/// Where `piece` lies in `whole`, of which it is a part.
fn within(whole: &[u8], piece: &[u8]) -> (u32, u32) {
    let from = if piece.is_empty() { 0 } else { piece.as_ptr() as usize - whole.as_ptr() as usize };
    span(from, piece.len())
}

fn copy(to: &mut Vec<u8>, piece: &[u8]) -> (u32, u32) {
    let from = to.len();
    to.extend_from_slice(piece);
    span(from, piece.len())
}

fn span(from: usize, count: usize) -> (u32, u32) {
    let place = |at: usize| u32::try_from(at).expect("a batch's records are bounded well below 4 GiB");
    (place(from), place(from + count))
}
