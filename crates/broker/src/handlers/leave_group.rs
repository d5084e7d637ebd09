//! LeaveGroup: members go.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse};

use crate::groups::{Answered, not_of};
use crate::state::State;

/// Asks the group.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    request: LeaveGroupRequest,
    version: i16,
) -> Answered<LeaveGroupResponse> {
    if request.group_id.is_empty() {
        return Answered::Now(failed(ErrorCode::InvalidGroupId));
    }
    let group_id = request.group_id.clone();
    state.groups.ask(state, &group_id, client, Request::Leave { request, version }).map(|reply| match reply {
        Ok(Reply::Leave(response)) => response,
        Ok(other) => not_of("LeaveGroup", &other),
        Err(code) => failed(code),
    })
}

fn failed(code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: code.code(), ..Default::default() }
}
