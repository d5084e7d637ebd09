//! ExplainGroups, an API of Ottla's own: why groups are as they are.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Explanation};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::explain_groups::{
    ExplainGroupsRequest, ExplainGroupsResponse, ExplainedEvent, ExplainedGroup, ExplainedPartition,
};
use ottla_protocol::wire::Str;

use crate::groups::Answered;
use crate::state::State;

/// Answers at once.
pub fn handle(
    state: &Arc<State>,
    _client: &Client,
    request: ExplainGroupsRequest,
    _version: i16,
) -> Answered<ExplainGroupsResponse> {
    let groups = request.group_ids.into_iter().map(|group_id| explain(state, group_id));
    Answered::Now(ExplainGroupsResponse { groups: groups.collect(), ..Default::default() })
}

fn explain(state: &State, group_id: Str) -> ExplainedGroup {
    let shard = state.groups.shard_of(&state.image(), &group_id);
    match shard.and_then(|shard| shard.read(|machine| machine.explain(&group_id))) {
        Ok(Some(explanation)) => explained(group_id, explanation),
        Ok(None) => {
            let text = format!("Group {group_id} not found.");
            failed(group_id, ErrorCode::GroupIdNotFound, Some(text.into()))
        }
        Err(code) => failed(group_id, code, None),
    }
}

fn explained(group_id: Str, explanation: Explanation) -> ExplainedGroup {
    let events = explanation.events.into_iter().map(|event| ExplainedEvent {
        timestamp_ms: event.timestamp_ms,
        generation_id: event.generation,
        kind: event.kind.into(),
        member_id: event.member_id,
        client_id: event.client_id,
        text: event.text.into(),
        ..Default::default()
    });
    let partitions = explanation.partitions.into_iter().map(|movement| ExplainedPartition {
        topic: movement.topic,
        partition_index: movement.partition,
        member_id: movement.member.unwrap_or_default(),
        previous_member_id: movement.before.unwrap_or_default(),
        since_generation: movement.generation,
        reason: movement.reason.into(),
        ..Default::default()
    });
    ExplainedGroup {
        group_id,
        group_state: explanation.state.into(),
        generation_id: explanation.generation,
        events: events.collect(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn failed(group_id: Str, code: ErrorCode, error_message: Option<Str>) -> ExplainedGroup {
    ExplainedGroup { group_id, error_code: code.code(), error_message, ..Default::default() }
}
