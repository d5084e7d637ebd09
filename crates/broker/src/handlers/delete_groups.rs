//! DeleteGroups: groups without members go, with their offsets.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use ottla_protocol::wire::Str;

use crate::groups::{Answered, not_of};
use crate::state::State;

/// Asks each group once; the reply comes when all are deleted or refused.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    request: DeleteGroupsRequest,
    _version: i16,
) -> Answered<DeleteGroupsResponse> {
    let distinct: BTreeSet<Str> = request.groups_names.into_iter().collect();
    let asked: Vec<_> = distinct
        .into_iter()
        .map(|group_id| {
            let reply =
                state.groups.ask_to_store(state, &group_id, client, Request::DeleteGroup(group_id.clone()));
            (group_id, reply)
        })
        .collect();
    Answered::Later(Box::pin(async move {
        let mut response = DeleteGroupsResponse::default();
        for (group_id, reply) in asked {
            let code = match reply.ready().await {
                Ok(Reply::DeleteGroup(code)) => code,
                Ok(other) => not_of("DeleteGroups", &other),
                Err(code) => code,
            };
            response.results.push(DeletableGroupResult {
                group_id,
                error_code: code.code(),
                ..Default::default()
            });
        }
        response
    }))
}
