//! Kafka's `.snapshot` file: version i16 (1), CRC32C u32 of all that follows, count i32, then per producer 46 bytes:
//! producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32, timestamp i64, coordinator epoch
//! i32, first offset of the open transaction i64.
//!
//! That holds only the last batch of each producer, so that after an orderly restart Kafka refuses the retry of an earlier
//! one as out of order, and clients then send it anew: a duplicate. We put the earlier ones behind it, where Kafka's
//! reader does not look: `OTW1`, then per producer, in the same order, a count u8 and as many times last sequence i32,
//! last offset i64, offset delta i32, timestamp i64, the oldest first. Left out when there are none.

use std::io;
use std::path::{Path, PathBuf};

use ottla_protocol::ids::Offset;

use super::{BATCHES_KEPT, KeptBatch, NO_OFFSET, NO_SEQUENCE, ProducerEntry, ProducerStates};
use crate::checkpoint;
use crate::files::Files;

const VERSION: i16 = 1;
const HEAD_BYTES: usize = 10;
const CRC_FROM: usize = 6;
const ENTRY_BYTES: usize = 46;
const BATCH_BYTES: usize = 24;
const EARLIER_MAGIC: [u8; 4] = *b"OTW1";
const SUFFIX: &str = ".snapshot";

/// Why a snapshot could not be read. A damaged one is to be removed and an older one, or the log, read instead.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The snapshot.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The contents are not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// Name of the snapshot of everything before `offset`: 20 digits and `.snapshot`.
#[must_use]
pub fn snapshot_file_name(offset: Offset) -> String {
    format!("{:020}{SUFFIX}", offset.0)
}

/// The offset in a snapshot's name; `None` when it is another file's.
#[must_use]
pub fn snapshot_offset(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_ours = digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit());
    if is_ours { digits.parse().ok().map(Offset) } else { None }
}

impl ProducerStates {
    /// The snapshot's bytes.
    ///
    /// # Panics
    /// With more than `i32::MAX` producers.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + ENTRY_BYTES * self.producers.len());
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend([0; 4]);
        let count = i32::try_from(self.producers.len()).expect("memory holds fewer producers");
        bytes.extend(count.to_be_bytes());
        for (producer_id, entry) in &self.producers {
            let none = KeptBatch {
                last_offset: NO_OFFSET,
                timestamp: entry.last_timestamp,
                last_sequence: NO_SEQUENCE,
                delta: 0,
            };
            let batch = entry.batches().last().unwrap_or(&none);
            bytes.extend(producer_id.to_be_bytes());
            bytes.extend(entry.epoch.to_be_bytes());
            bytes.extend(batch.last_sequence.to_be_bytes());
            bytes.extend(batch.last_offset.to_be_bytes());
            bytes.extend(batch.delta.to_be_bytes());
            bytes.extend(entry.last_timestamp.to_be_bytes());
            bytes.extend(entry.coordinator_epoch.to_be_bytes());
            bytes.extend(entry.transaction_first_offset.to_be_bytes());
        }
        self.encode_earlier(&mut bytes);
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn encode_earlier(&self, bytes: &mut Vec<u8>) {
        if self.producers.values().all(|entry| entry.kept <= 1) {
            return;
        }
        bytes.extend(EARLIER_MAGIC);
        for entry in self.producers.values() {
            let earlier = entry.batches().split_last().map_or(&[][..], |(_, earlier)| earlier);
            bytes.push(entry.kept.saturating_sub(1));
            for batch in earlier {
                bytes.extend(batch.last_sequence.to_be_bytes());
                bytes.extend(batch.last_offset.to_be_bytes());
                bytes.extend(batch.delta.to_be_bytes());
                bytes.extend(batch.timestamp.to_be_bytes());
            }
        }
    }

    /// Reads a snapshot's bytes; the error says what is wrong. All producers count as having written at `now_ms`.
    pub fn decode(bytes: &[u8], now_ms: i64) -> Result<Self, &'static str> {
        let mut head = Fields(bytes);
        let too_short = "too short";
        let version = i16::from_be_bytes(head.take().ok_or(too_short)?);
        let crc = u32::from_be_bytes(head.take().ok_or(too_short)?);
        if version != VERSION {
            return Err("unknown version");
        }
        if crc != crc32c::crc32c(head.0) {
            return Err("wrong checksum");
        }
        let count = i32::from_be_bytes(head.take().ok_or(too_short)?);
        let entries_bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_BYTES));
        let split = entries_bytes.and_then(|bytes| head.0.split_at_checked(bytes));
        let (entries, rest) = split.ok_or("the count does not fit the length")?;
        let mut earlier = Fields(rest);
        let has_earlier = !rest.is_empty();
        if has_earlier && earlier.take() != Some(EARLIER_MAGIC) {
            return Err("something unknown follows the producers");
        }
        let mut states = Self::default();
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let (producer_id, mut entry) = decode_entry(entry, now_ms).ok_or(too_short)?;
            if has_earlier {
                decode_earlier(&mut earlier, &mut entry).ok_or("the earlier batches are cut off")?;
            }
            states.producers.insert(producer_id, entry);
        }
        if !earlier.0.is_empty() {
            return Err("something unknown follows the earlier batches");
        }
        Ok(states)
    }

    /// Writes the snapshot of everything before `offset` into a partition's directory, durably.
    pub fn write_snapshot(&self, files: &dyn Files, partition_dir: &Path, offset: Offset) -> io::Result<()> {
        checkpoint::write_atomically(files, &partition_dir.join(snapshot_file_name(offset)), &self.encode())
    }

    /// Reads the snapshot of everything before `offset`; `None` when there is no such file.
    pub fn read_snapshot(
        files: &dyn Files,
        partition_dir: &Path,
        offset: Offset,
        now_ms: i64,
    ) -> Result<Option<Self>, SnapshotError> {
        let path = partition_dir.join(snapshot_file_name(offset));
        match checkpoint::read_whole(files, &path) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => match Self::decode(&bytes, now_ms) {
                Ok(states) => Ok(Some(states)),
                Err(why) => Err(SnapshotError::Damaged { path, why }),
            },
            Err(source) => Err(SnapshotError::Io { path, source }),
        }
    }
}

fn decode_entry(bytes: &[u8], now_ms: i64) -> Option<(i64, ProducerEntry)> {
    let mut fields = Fields(bytes);
    let producer_id = i64::from_be_bytes(fields.take()?);
    let mut entry = ProducerEntry::new(i16::from_be_bytes(fields.take()?));
    let last_sequence = i32::from_be_bytes(fields.take()?);
    let last_offset = i64::from_be_bytes(fields.take()?);
    let delta = i32::from_be_bytes(fields.take()?);
    let timestamp = i64::from_be_bytes(fields.take()?);
    entry.coordinator_epoch = i32::from_be_bytes(fields.take()?);
    entry.transaction_first_offset = i64::from_be_bytes(fields.take()?).max(NO_OFFSET);
    entry.last_timestamp = timestamp;
    entry.used_ms = now_ms;
    if last_offset >= 0 {
        entry.push(KeptBatch { last_offset, timestamp, last_sequence, delta });
    }
    Some((producer_id, entry))
}

/// Puts the earlier batches before the last one, which `entry` holds already.
fn decode_earlier(fields: &mut Fields<'_>, entry: &mut ProducerEntry) -> Option<()> {
    let [count] = fields.take()?;
    if usize::from(count) >= BATCHES_KEPT || count > 0 && entry.kept == 0 {
        return None;
    }
    let last = entry.batches().last().copied();
    entry.kept = 0;
    for _ in 0..count {
        let batch = fields.take::<BATCH_BYTES>()?;
        let mut batch = Fields(&batch);
        entry.push(KeptBatch {
            last_sequence: i32::from_be_bytes(batch.take()?),
            last_offset: i64::from_be_bytes(batch.take()?),
            delta: i32::from_be_bytes(batch.take()?),
            timestamp: i64::from_be_bytes(batch.take()?),
        });
    }
    if let Some(last) = last {
        entry.push(last);
    }
    Some(())
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}
