//! ListGroups: the groups that this broker coordinates.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use ottla_protocol::wire::Str;

use crate::state::State;

/// Answers ListGroups, in the order of the groups' ids. Filters are matched without regard to case; a word that is no state and no
/// type matches nothing.
pub fn handle(state: &State, request: &ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |group: &ListedGroup| {
        is_among(&request.states_filter, &group.group_state)
            && is_among(&request.types_filter, &group.group_type)
    };
    let mut groups: Vec<ListedGroup> = Vec::new();
    for shard in state.groups.all() {
        match shard.read(|machine| groups.extend(machine.list().filter(wanted))) {
            // Whoever coordinates there now lists them.
            Ok(()) | Err(ErrorCode::NotCoordinator) => {}
            Err(code) => return ListGroupsResponse { error_code: code.code(), ..Default::default() },
        }
    }
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    ListGroupsResponse { groups, ..Default::default() }
}

fn is_among(words: &[Str], word: &str) -> bool {
    words.is_empty() || words.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
}
