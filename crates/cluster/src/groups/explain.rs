//! Why things happened in a group: a ring of events, and for each partition who has it and who had it before.

use ottla_protocol::wire::Str;

/// What a group remembers about its rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// As DescribeGroups names it.
    pub state: &'static str,
    /// Counts the rebalances.
    pub generation: i32,
    /// Oldest first, at most `limits::EVENTS_PER_GROUP_MAX`.
    pub events: Vec<GroupEvent>,
    /// Sorted by topic and partition; empty unless the members are consumers.
    pub partitions: Vec<Movement>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// Wall clock, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The group's generation when it happened.
    pub generation: i32,
    /// One of a few words: `joined`, `left`, `timed-out`, `removed`, `replaced`, `changed`, `rebalancing`, `stable`, `idle`,
    /// `empty`, `not-stored`, `loaded`.
    pub kind: &'static str,
    /// Whom it is about; empty when it is about the group.
    pub member_id: Str,
    /// Its client id; empty when it is about the group.
    pub client_id: Str,
    /// A sentence.
    pub text: String,
}

/// Where a partition is and how it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// The topic.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
    /// Who has it; `None` when nobody does.
    pub member: Option<Str>,
    /// Who had it before; `None` when nobody did.
    pub before: Option<Str>,
    /// Since which generation.
    pub generation: i32,
    /// A sentence.
    pub reason: String,
}
