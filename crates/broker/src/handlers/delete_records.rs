//! DeleteRecords: raises the start of logs. Answered once the new starts are in the checkpoint on disk.

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use ottla_protocol::ids::Offset;

use crate::errors::code_of;
use crate::state::State;

/// Answers DeleteRecords.
pub async fn handle(state: Arc<State>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = state.image();
    let now_ms = state.now_ms();
    settle(&state, &request).await;
    let mut moved = false;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let partition = state.partition_by_name(&image, &topic.name, asked.partition_index);
            let result = partition.and_then(|p| {
                p.delete_records(Offset(asked.offset), now_ms).map_err(|error| code_of(&error))
            });
            moved |= result.is_ok();
            let (low_watermark, code) = match result {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark,
                error_code: code.code(),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions, ..Default::default() });
    }
    if moved && !state.checkpoint_start_offsets().await {
        let code = ErrorCode::KafkaStorageError.code();
        for partition in topics.iter_mut().flat_map(|t| &mut t.partitions).filter(|p| p.error_code == 0) {
            partition.error_code = code;
            partition.low_watermark = -1;
        }
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

/// Has what was acknowledged become visible, so that it can be deleted.
async fn settle(state: &State, request: &DeleteRecordsRequest) {
    let image = state.image();
    let mut ends = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            let partition = state.partition_by_name(&image, &topic.name, asked.partition_index);
            ends.extend(partition.ok().and_then(|partition| partition.settle()));
        }
    }
    for end in ends {
        // A leadership that ended meanwhile shows in the answer itself.
        end.await.ok();
    }
}
