//! Internal errors become Kafka's codes here and nowhere else: whether a client retries is API.

use ottla_partition::PartitionError;
use ottla_protocol::generated::ErrorCode;

/// The code that a client gets for a partition's error.
#[must_use]
pub fn code_of(error: &PartitionError) -> ErrorCode {
    match error {
        PartitionError::NotLeader => ErrorCode::NotLeaderOrFollower,
        PartitionError::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        PartitionError::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        PartitionError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        PartitionError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        PartitionError::NotEnoughReplicasAfterAppend { .. } => ErrorCode::NotEnoughReplicasAfterAppend,
        PartitionError::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
        PartitionError::Corrupt(_) => ErrorCode::CorruptMessage,
        PartitionError::OutOfOrderSequence(_) => ErrorCode::OutOfOrderSequenceNumber,
        PartitionError::InvalidProducerEpoch(_) => ErrorCode::InvalidProducerEpoch,
        PartitionError::InvalidTxnState(_) => ErrorCode::InvalidTxnState,
        PartitionError::TooLarge(_) => ErrorCode::RecordListTooLarge,
        PartitionError::NoSpace | PartitionError::Storage(_) | PartitionError::Failed(_) => {
            ErrorCode::KafkaStorageError
        }
    }
}
