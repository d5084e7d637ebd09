//! ListOffsets: the earliest, the latest, the one with the highest timestamp, or the first at or after a time.

use std::sync::Arc;

use ottla_partition::Partition;
use ottla_partition::append::Committed;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use ottla_protocol::ids::LeaderEpoch;

use crate::errors::code_of;
use crate::state::State;

/// After the last visible record.
const LATEST: i64 = -1;
/// The first record.
const EARLIEST: i64 = -2;
/// The record with the highest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The first record on this broker's own disk (KIP-405); without tiered storage the same as the earliest.
const EARLIEST_LOCAL: i64 = -4;
/// The last record in remote storage (KIP-1005); without tiered storage there is none.
const LATEST_TIERED: i64 = -5;
/// The first record not yet in remote storage (KIP-1023); without tiered storage the earliest.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version that knows OFFSET_NOT_AVAILABLE; the ones before get a code that clients try again on, too.
const OFFSET_NOT_AVAILABLE_SINCE: i16 = 5;

/// What must become visible before the answer: the unsynced ends of the logs that are asked about by anything but their start.
pub fn unsettled(state: &State, request: &ListOffsetsRequest) -> Vec<Committed> {
    let image = state.image();
    let mut unsettled = Vec::new();
    for topic in &request.topics {
        for asked in topic
            .partitions
            .iter()
            .filter(|asked| asked.timestamp >= LATEST || asked.timestamp == MAX_TIMESTAMP)
        {
            let partition = state.partition_by_name(&image, &topic.name, asked.partition_index);
            // With followers the wait has no bound: as in Kafka, acks=1 alone does not make a record visible there.
            let alone = partition.ok().filter(|partition| partition.is_led_alone());
            unsettled.extend(alone.and_then(|partition| partition.settle()));
        }
    }
    unsettled
}

/// Answers ListOffsets.
pub fn handle(state: &State, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let image = state.image();
    let now_ms = state.now_ms();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let mut answer = match state.partition_by_name(&image, &topic.name, asked.partition_index) {
                Ok(partition) => look_up(&partition, asked, version, now_ms),
                Err(code) => failed(code),
            };
            answer.partition_index = asked.partition_index;
            partitions.push(answer);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions, ..Default::default() });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

fn look_up(
    partition: &Arc<Partition>,
    asked: &ListOffsetsPartition,
    version: i16,
    now_ms: i64,
) -> ListOffsetsPartitionResponse {
    let asked_epoch = LeaderEpoch(asked.current_leader_epoch);
    let oldest_version = match asked.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 0,
    };
    if version < oldest_version {
        return failed(ErrorCode::UnsupportedVersion);
    }
    let bounds = match partition.bounds(asked_epoch, now_ms) {
        Ok(bounds) => bounds,
        Err(error) => return failed(code_of(&error)),
    };
    if !bounds.is_settled && (asked.timestamp >= LATEST || asked.timestamp == MAX_TIMESTAMP) {
        // A new leader does not know yet what was committed before it (KIP-207).
        let is_known = version >= OFFSET_NOT_AVAILABLE_SINCE;
        return failed(if is_known { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable });
    }
    match asked.timestamp {
        LATEST => found(bounds.high_watermark.0, -1, bounds.epoch),
        EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => {
            found(bounds.log_start_offset.0, -1, bounds.start_epoch)
        }
        LATEST_TIERED => found(-1, -1, LeaderEpoch::NONE),
        timestamp if timestamp < EARLIEST_PENDING_UPLOAD => failed(ErrorCode::InvalidRequest),
        timestamp => {
            let by_time = (timestamp != MAX_TIMESTAMP).then_some(timestamp);
            match partition.find_by_time(by_time, asked_epoch, now_ms) {
                Ok(Some(record)) => found(record.offset.0, record.timestamp, record.leader_epoch),
                Ok(None) => found(-1, -1, LeaderEpoch::NONE),
                Err(error) => failed(code_of(&error)),
            }
        }
    }
}

fn found(offset: i64, timestamp: i64, epoch: LeaderEpoch) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { offset, timestamp, leader_epoch: epoch.0, ..Default::default() }
}

fn failed(code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse { error_code: code.code(), ..Default::default() }
}
