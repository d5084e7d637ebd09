//! DescribeGroups: classic groups with their members and assignments.

use std::sync::Arc;

use ottla_cluster::groups::Client;
use ottla_protocol::generated::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup,
};
use ottla_protocol::wire::Str;

use crate::groups::Answered;
use crate::operations;
use crate::state::State;

/// Answers at once.
pub fn handle(
    state: &Arc<State>,
    _client: &Client,
    request: DescribeGroupsRequest,
    version: i16,
) -> Answered<DescribeGroupsResponse> {
    let groups = request.groups.iter().map(|group_id| {
        let mut group = describe(state, group_id, version);
        let asked = request.include_authorized_operations && group.error_code == 0;
        group.authorized_operations = operations::if_asked(asked, operations::GROUP);
        group
    });
    Answered::Now(DescribeGroupsResponse { groups: groups.collect(), ..Default::default() })
}

fn describe(state: &State, group_id: &Str, version: i16) -> DescribedGroup {
    let shard = state.groups.shard_of(&state.image(), group_id);
    match shard.and_then(|shard| shard.read(|machine| machine.describe(group_id, version))) {
        Ok(group) => group,
        Err(code) => {
            DescribedGroup { group_id: group_id.clone(), error_code: code.code(), ..Default::default() }
        }
    }
}
