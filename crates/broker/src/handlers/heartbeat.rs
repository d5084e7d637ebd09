//! Heartbeat: a member of a classic group lives, and learns of rebalances.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::groups::{Answered, not_of};
use crate::state::State;

/// Asks the group. While it is being loaded every member lives, as in Kafka: sessions begin when it is loaded, and there are
/// clients (aiokafka) that give up when they hear of it here.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    request: HeartbeatRequest,
    _version: i16,
) -> Answered<HeartbeatResponse> {
    if request.group_id.is_empty() {
        return Answered::Now(failed(ErrorCode::InvalidGroupId));
    }
    let group_id = request.group_id.clone();
    state.groups.ask(state, &group_id, client, Request::Heartbeat(request)).map(|reply| match reply {
        Ok(Reply::Heartbeat(response)) => response,
        Ok(other) => not_of("Heartbeat", &other),
        Err(ErrorCode::CoordinatorLoadInProgress) => HeartbeatResponse::default(),
        Err(code) => failed(code),
    })
}

fn failed(code: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse { error_code: code.code(), ..Default::default() }
}
