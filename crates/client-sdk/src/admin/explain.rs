//! Why a group is as it is: Ottla's own API (key 1000, ExplainGroups), which Kafka's brokers do not have.

use ottla_protocol::generated::explain_groups::{ExplainGroupsRequest, ExplainGroupsResponse};
use ottla_protocol::wire::Str;

use super::Admin;
use crate::ErrorCode;
use crate::coordinator;
use crate::error::{Error, check};
use crate::offsets::TopicPartition;

const EXPLAIN_GROUPS_VERSIONS: (i16, i16) = (0, 0);

/// What a group's coordinator remembers of its rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupExplanation {
    /// As [`DescribedGroup::state`](crate::DescribedGroup).
    pub state: String,
    /// Counts the group's rebalances.
    pub generation: i32,
    /// What happened lately, the oldest first.
    pub events: Vec<GroupEvent>,
    /// Where each partition is and why, by topic and index.
    pub partitions: Vec<PartitionExplanation>,
}

/// One thing that happened in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// Milliseconds since 1970, by the coordinator's clock.
    pub timestamp_ms: i64,
    /// The generation in which it happened.
    pub generation: i32,
    /// One word for programs, such as `joined`, `left`, `timed-out`, `rebalancing`, `stable`.
    pub kind: String,
    /// Whom it concerns; `None` for the group as a whole.
    pub member_id: Option<String>,
    /// What that member's client calls itself.
    pub client_id: Option<String>,
    /// A sentence for people.
    pub text: String,
}

/// Why a partition is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionExplanation {
    /// Which one.
    pub place: TopicPartition,
    /// The member that has it, if one does.
    pub member_id: Option<String>,
    /// The member that had it before, if one did.
    pub previous_member_id: Option<String>,
    /// The generation in which it came to its member.
    pub since_generation: i32,
    /// Why, for people.
    pub reason: String,
}

impl Admin {
    /// Why a group is as it is.
    ///
    /// # Errors
    /// [`Error::Group`] with `GroupIdNotFound` when there is none; [`Error::Unsupported`] where the broker has no
    /// explanations, which is so for every broker but Ottla's.
    pub async fn explain_group(&self, group: &str) -> Result<GroupExplanation, Error> {
        let request =
            ExplainGroupsRequest { group_ids: vec![Str::from(group)], ..ExplainGroupsRequest::default() };
        let judge = |response: &ExplainGroupsResponse| {
            let said = response.groups.first();
            let said = said.ok_or_else(|| Error::group(group, ErrorCode::UnknownServerError))?;
            check(said.error_code, |code| Error::group(group, code))
        };
        let response =
            coordinator::ask(&self.client, group, &request, EXPLAIN_GROUPS_VERSIONS, judge).await?;
        let said = response.groups.into_iter().next().expect("judged");
        let events = said.events.into_iter().map(|event| GroupEvent {
            timestamp_ms: event.timestamp_ms,
            generation: event.generation_id,
            kind: event.kind.to_string(),
            member_id: not_empty(&event.member_id),
            client_id: not_empty(&event.client_id),
            text: event.text.to_string(),
        });
        let partitions = said.partitions.into_iter().map(|partition| PartitionExplanation {
            place: TopicPartition { topic: partition.topic.detached(), partition: partition.partition_index },
            member_id: not_empty(&partition.member_id),
            previous_member_id: not_empty(&partition.previous_member_id),
            since_generation: partition.since_generation,
            reason: partition.reason.to_string(),
        });
        Ok(GroupExplanation {
            state: said.group_state.to_string(),
            generation: said.generation_id,
            events: events.collect(),
            partitions: partitions.collect(),
        })
    }
}

fn not_empty(text: &Str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}
