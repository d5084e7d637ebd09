//! JoinGroup: a member comes into a classic group, and waits for the rebalance.

use std::fmt::Write as _;
use std::sync::Arc;

use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;

use crate::broker::random_id;
use crate::groups::{Answered, not_of};
use crate::state::State;

/// Asks the group; the reply comes with the next generation.
pub fn handle(
    state: &Arc<State>,
    client: &Client,
    request: JoinGroupRequest,
    version: i16,
) -> Answered<JoinGroupResponse> {
    let member_id = request.member_id.clone();
    if request.group_id.is_empty() {
        return Answered::Now(failed(ErrorCode::InvalidGroupId, member_id));
    }
    let group_id = request.group_id.clone();
    let new_member_id = new_member_id(client, &request);
    let request = Request::Join { request, version, new_member_id };
    state.groups.ask(state, &group_id, client, request).map(move |reply| match reply {
        Ok(Reply::Join(response)) => response,
        Ok(other) => not_of("JoinGroup", &other),
        Err(code) => failed(code, member_id),
    })
}

fn failed(code: ErrorCode, member_id: Str) -> JoinGroupResponse {
    JoinGroupResponse { error_code: code.code(), member_id, ..Default::default() }
}

/// The id of a member that has none yet, or that comes back under its fixed name: that name or the client's, and a random UUID
/// as Java prints it.
fn new_member_id(client: &Client, request: &JoinGroupRequest) -> Str {
    if !request.member_id.is_empty() && request.group_instance_id.is_none() {
        return Str::default();
    }
    let prefix = request.group_instance_id.as_deref().unwrap_or(&client.id);
    let Uuid(mut bytes) = random_id();
    (bytes[6], bytes[8]) = (bytes[6] & 0x0f | 0x40, bytes[8] & 0x3f | 0x80);
    let mut id = String::with_capacity(prefix.len() + 37);
    id.push_str(prefix);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        write!(id, "{byte:02x}").expect("a String takes everything");
    }
    id.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_begin_with_the_fixed_name_or_the_clients() {
        let client = Client { id: "kcat".into(), ..Client::default() };
        let mut request = JoinGroupRequest::default();
        let id = new_member_id(&client, &request);
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!((&id[..5], parts), ("kcat-", vec![4, 8, 4, 4, 4, 12]));
        assert_eq!((&id[19..20], id == new_member_id(&client, &request)), ("4", false));
        request.group_instance_id = Some("fixed".into());
        assert!(new_member_id(&client, &request).starts_with("fixed-"));
    }
}
