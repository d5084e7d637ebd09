//! SyncGroup: the leader's assignment goes to the group, and to each member its part.

use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::sync_group::{SyncGroupRequest, SyncGroupResponse};

use crate::groups::{Answered, not_of};
use crate::state::State;

/// Asks the group; the reply comes when the leader has assigned and that is on disk.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    request: SyncGroupRequest,
    _version: i16,
) -> Answered<SyncGroupResponse> {
    if request.group_id.is_empty() {
        return Answered::Now(failed(ErrorCode::InvalidGroupId));
    }
    let group_id = request.group_id.clone();
    state.groups.ask(state, &group_id, client, Request::Sync(request)).map(|reply| match reply {
        Ok(Reply::Sync(response)) => response,
        Ok(other) => not_of("SyncGroup", &other),
        Err(code) => failed(code),
    })
}

fn failed(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..Default::default() }
}
