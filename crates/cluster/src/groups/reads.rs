//! What can be seen of a shard: committed offsets, groups as the admin requests show them, explanations, counts.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::describe_groups::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::generated::list_groups::ListedGroup;
use ottla_protocol::generated::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use ottla_protocol::wire::Str;

use super::group::{Group, State};
use super::offsets::nothing_fetched;
use super::{Explanation, GroupShard};

/// The type that ListGroups names groups of this protocol by.
const CLASSIC: Str = Str::from_static("classic");
/// First version of DescribeGroups that tells a group that does not exist from one that is dead.
const DESCRIBE_NOT_FOUND_SINCE: i16 = 6;

impl GroupShard {
    /// Committed offsets of a group: the partitions that are asked for (-1 where none is committed), or all when `topics` is
    /// `None`. `require_stable`: UNSTABLE_OFFSET_COMMIT where a transaction may still change it. Member id and epoch are
    /// for the new consumer protocol and not looked at.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        group: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let Some(found) = self.groups.get(&group.group_id) else { return nothing_fetched(group) };
        OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: found.fetch_offsets(group, require_stable),
            ..OffsetFetchResponseGroup::default()
        }
    }

    /// A group as DescribeGroups shows it in `version`: one that does not exist is `Dead`, from version 6 with
    /// GROUP_ID_NOT_FOUND.
    #[must_use]
    pub fn describe(&self, group_id: &str, version: i16) -> DescribedGroup {
        if let Some(group) = self.groups.get(group_id) {
            return describe(group);
        }
        let mut out = DescribedGroup {
            group_id: group_id.into(),
            group_state: State::Dead.name().into(),
            ..DescribedGroup::default()
        };
        if version >= DESCRIBE_NOT_FOUND_SINCE {
            out.error_code = ErrorCode::GroupIdNotFound.code();
            out.error_message = Some(format!("Group {group_id} not found.").into());
        }
        out
    }

    /// All groups, sorted by id; filters are the caller's.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.values().map(|group| ListedGroup {
            group_id: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            group_state: Str::from_static(group.state.name()),
            group_type: CLASSIC,
            ..ListedGroup::default()
        })
    }

    /// Why things happened in a group; `None` when there is no such group.
    #[must_use]
    pub fn explain(&self, group_id: &str) -> Option<Explanation> {
        self.groups.get(group_id).map(Group::explain)
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups_count(&self) -> usize {
        self.groups.len()
    }

    /// How many members all groups have.
    #[must_use]
    pub fn members_count(&self) -> usize {
        self.groups.values().map(|group| group.members.len()).sum()
    }

    /// How many offsets are committed.
    #[must_use]
    pub fn offsets_count(&self) -> usize {
        self.groups.values().map(|group| group.offsets.len()).sum()
    }
}

/// Metadata is shown while it is what the assignment was made of.
fn describe(group: &Group) -> DescribedGroup {
    let is_stable = group.state == State::Stable;
    let protocol = group.protocol.clone().filter(|_| is_stable).unwrap_or_default();
    let members = group.members.in_order().map(|member| DescribedGroupMember {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        member_metadata: if is_stable { member.metadata(&protocol) } else { Default::default() },
        member_assignment: member.assignment.clone(),
        ..DescribedGroupMember::default()
    });
    DescribedGroup {
        group_id: group.id.clone(),
        group_state: Str::from_static(group.state.name()),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: members.collect(),
        protocol_data: protocol,
        ..DescribedGroup::default()
    }
}
