//! Writing what a machine wants stored: records become one batch, and errors of the partition become the machine's.

use std::sync::Arc;

use bytes::Bytes;
use ottla_cluster::groups::{GroupRecord, StoreError};
use ottla_partition::append::{Acks, Appended};
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::records::{BatchHeader, BuildError, Builder, Compression, HEADER_BYTES};

/// Appends the records as one batch.
///
/// # Errors
/// What the machine is told.
pub(super) fn append(
    partition: &Arc<Partition>,
    records: &[GroupRecord],
    compression: Compression,
    batch_bytes_max: usize,
    wall_ms: i64,
) -> Result<Appended, StoreError> {
    let batch = Bytes::from(encode(records, compression, wall_ms).map_err(|error| of_build(&error))?);
    if batch.len() > batch_bytes_max {
        return Err(StoreError::TooLarge);
    }
    let header = BatchHeader::parse(&batch).expect("a batch that was just built parses");
    let payload = batch.slice(HEADER_BYTES..);
    partition.append_as_leader(&header, &payload, Acks::All, wall_ms).map_err(|error| of_partition(&error))
}

fn encode(records: &[GroupRecord], compression: Compression, wall_ms: i64) -> Result<Vec<u8>, BuildError> {
    let mut builder = Builder::new(compression);
    for record in records {
        builder.append(wall_ms, Some(&record.key), record.value.as_deref(), &[])?;
    }
    builder.finish()
}

fn of_build(error: &BuildError) -> StoreError {
    match error {
        BuildError::TooLarge(_) => StoreError::TooLarge,
        BuildError::Offset(..) | BuildError::Compress(_) => StoreError::Failed,
    }
}

/// What a partition's error means to a group: whether its members look for another group coordinator or try again.
pub(super) fn of_partition(error: &PartitionError) -> StoreError {
    match error {
        PartitionError::NotLeader
        | PartitionError::FencedEpoch { .. }
        | PartitionError::UnknownEpoch { .. }
        // As Kafka: a log that has failed is led by somebody else soon.
        | PartitionError::Failed(_)
        | PartitionError::Storage(_) => StoreError::NotCoordinator,
        PartitionError::NotEnoughReplicas { .. }
        | PartitionError::NotEnoughReplicasAfterAppend { .. }
        | PartitionError::NoSpace => StoreError::NotAvailable,
        PartitionError::OffsetOutOfRange { .. }
        | PartitionError::StaleBrokerEpoch
        | PartitionError::Corrupt(_)
        | PartitionError::OutOfOrderSequence(_)
        | PartitionError::InvalidProducerEpoch(_)
        | PartitionError::InvalidTxnState(_) => StoreError::Failed,
        PartitionError::TooLarge(_) => StoreError::TooLarge,
    }
}
