//! OffsetForLeaderEpoch: where an epoch ended in this log, so that a consumer can tell whether its log was truncated (KIP-320).

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use ottla_protocol::ids::LeaderEpoch;

use crate::errors::code_of;
use crate::state::State;

/// Answers OffsetForLeaderEpoch.
pub fn handle(state: &State, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let image = state.image();
    let now_ms = state.now_ms();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let current = LeaderEpoch(asked.current_leader_epoch);
            let end = state.partition_by_name(&image, &topic.topic, asked.partition).and_then(|p| {
                p.end_of_epoch(LeaderEpoch(asked.leader_epoch), current, now_ms).map_err(|e| code_of(&e))
            });
            let (code, leader_epoch, end_offset) = match end {
                Ok(Some((epoch, offset))) => (ErrorCode::None, epoch.0, offset.0),
                Ok(None) => (ErrorCode::None, -1, -1),
                Err(code) => (code, -1, -1),
            };
            let partition = asked.partition;
            let error_code = code.code();
            partitions.push(EpochEndOffset {
                error_code,
                partition,
                leader_epoch,
                end_offset,
                ..Default::default()
            });
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions,
            ..Default::default()
        });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}
