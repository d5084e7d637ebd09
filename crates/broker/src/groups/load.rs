//! Loading: everything in a partition's log is given to a new machine, before anybody may ask it.

use std::sync::Arc;

use ottla_cluster::groups::{GroupShard, ReplayError};
use ottla_partition::read::ReadLimits;
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{Batch, BatchError, Batches, DecompressLimit};
use ottla_storage::log::LogSlice;
use tokio_util::sync::CancellationToken;

use crate::config::groups::GroupsConfig;
use crate::state::now_ms;

/// Why a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// Another broker leads now.
    #[error("the leadership is over")]
    NotLeader,
    /// The broker stops.
    #[error("the broker stops")]
    Stopped,
    /// The log cannot be read.
    #[error("{0}")]
    Partition(PartitionError),
    /// The log cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A batch is damaged.
    #[error("at offset {0}: {1}")]
    Batch(Offset, BatchError),
    /// A record is not what it says.
    #[error("at offset {0}: {1}")]
    Record(Offset, ReplayError),
}

impl From<PartitionError> for LoadError {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::NotLeader | PartitionError::FencedEpoch { .. } => Self::NotLeader,
            other => Self::Partition(other),
        }
    }
}

/// What was loaded.
pub(super) struct Loaded {
    pub machine: GroupShard,
    pub records: u64,
}

/// Reads what was committed when it began, which must be all that the log holds: [`Partition::settle`] comes before. Blocks on
/// files; holds about `offsets.load.buffer.size` bytes in memory, or one batch.
pub(super) fn load(
    partition: &Arc<Partition>,
    epoch: LeaderEpoch,
    config: &GroupsConfig,
    stop: &CancellationToken,
) -> Result<Loaded, LoadError> {
    let bounds = partition.bounds(epoch, now_ms())?;
    let mut loaded = Loaded { machine: GroupShard::new(config.machine.clone()), records: 0 };
    let limits = ReadLimits { max_bytes: config.load_buffer_bytes, at_least_one_batch: true };
    let mut from = bounds.log_start_offset;
    while from < bounds.high_watermark {
        if stop.is_cancelled() {
            return Err(LoadError::Stopped);
        }
        let read = partition.read(from, limits, epoch, now_ms())?;
        // Compaction may have left nothing at the end.
        let Some(slice) = read.slice else { break };
        let bytes = whole(&slice)?;
        let before = from;
        for batch in Batches::new(&bytes).verifying() {
            let batch = batch.map_err(|error| LoadError::Batch(from, error))?;
            from = batch.header().next_offset();
            replay(&mut loaded, &batch)?;
        }
        if from == before {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(loaded)
}

fn whole(slice: &LogSlice) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; slice.len_bytes()];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += slice.read_at(&mut bytes[filled..], filled)?;
    }
    Ok(bytes)
}

fn replay(loaded: &mut Loaded, batch: &Batch<'_>) -> Result<(), LoadError> {
    let header = batch.header();
    let transaction = Some(header.producer_id).filter(|_| header.attributes.is_transactional());
    let damaged = |error| LoadError::Batch(header.base_offset, error);
    let mut records = batch.records(DecompressLimit::default()).map_err(damaged)?;
    while let Some(record) = records.next_record().map_err(damaged)? {
        let offset = header.offset_of_delta(record.offset_delta);
        // Kafka, too, passes over records without a key.
        let Some(key) = record.key else { continue };
        if header.attributes.is_control() {
            if let Some(is_commit) = is_commit(key) {
                loaded.machine.replay_marker(header.producer_id, is_commit);
            }
            continue;
        }
        let replayed = loaded.machine.replay(key, record.value, transaction);
        replayed.map_err(|error| LoadError::Record(offset, error))?;
        loaded.records += 1;
    }
    Ok(())
}

/// Whether the marker with that key (version and type, 16 bits each) ends a transaction, and how: type 1 commits, 0 aborts.
fn is_commit(key: &[u8]) -> Option<bool> {
    match key {
        [_, _, 0, 0] => Some(false),
        [_, _, 0, 1] => Some(true),
        _ => None,
    }
}
