//! Why things happened in a group: a ring of events, and for each partition who has it and who had it before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ottla_protocol::generated::records::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_protocol::wire::{Message, Reader, Str};

use super::context::Context;
use super::group::Group;
use super::limits::{
    EVENTS_PER_GROUP_MAX, PARTITIONS_EXPLAINED_MAX, REASON_BYTES_MAX, REASONS_PER_REBALANCE_MAX,
};
use super::offsets::OffsetKey;
use super::{Event, StoreError};

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

/// Why a group changed.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// A member came, with the reason that its client gives (KIP-800).
    Joined(Option<String>),
    /// It left, with the reason that its client gives.
    Left(Option<String>),
    /// Its session ended.
    TimedOut,
    /// It did not come to the rebalance in time.
    DidNotRejoin,
    /// It did not ask for its assignment in time.
    DidNotSync,
    /// The group is full.
    TooMany,
    /// It took the place of a static member with this id.
    Replaced(Str),
    /// It wants other topics, or offers other protocols.
    Changed,
    /// It joined again without a change; why.
    Asked(String),
    /// The assignment was not stored.
    NotStored(StoreError),
    /// The group was loaded with more members than are allowed.
    LoadedTooMany,
}

impl Cause {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Joined(_) => "joined",
            Self::Left(_) => "left",
            Self::TimedOut => "timed-out",
            Self::DidNotRejoin | Self::DidNotSync | Self::TooMany => "removed",
            Self::Replaced(_) => "replaced",
            Self::Changed => "changed",
            Self::Asked(_) | Self::LoadedTooMany => "rebalancing",
            Self::NotStored(_) => "not-stored",
        }
    }

    fn text(&self, member: &str) -> String {
        match self {
            Self::Joined(None) => format!("member {member} joined"),
            Self::Joined(Some(reason)) => format!("member {member} joined ({})", shortened(reason)),
            Self::Left(None) => format!("member {member} left without a reason"),
            Self::Left(Some(reason)) => format!("member {member} left ({})", shortened(reason)),
            Self::TimedOut => format!("member {member} timed out"),
            Self::DidNotRejoin => format!("member {member} did not rejoin in time"),
            Self::DidNotSync => format!("member {member} did not ask for its assignment in time"),
            Self::TooMany => format!("member {member} is one too many"),
            Self::Replaced(old) => format!("member {member} replaced {old}"),
            Self::Changed => format!("member {member} changed its subscription"),
            Self::Asked(reason) => format!("member {member} asked to rebalance ({})", shortened(reason)),
            Self::NotStored(error) => format!("the assignment was not stored ({error})"),
            Self::LoadedTooMany => "the group was loaded with more members than are allowed".to_owned(),
        }
    }
}

/// A client's words, in one line and not too long.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(char::is_control, " ")
}

/// Where a partition is.
#[derive(Clone, Debug)]
struct Place {
    member: Option<Str>,
    before: Option<Str>,
    generation: i32,
    /// Shared by all that moved at once.
    because: Str,
}

/// What a group remembers.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<GroupEvent>,
    /// Why the next generation comes.
    reasons: Vec<String>,
    reasons_more: usize,
    places: BTreeMap<OffsetKey, Place>,
}

impl History {
    fn push(&mut self, event: GroupEvent) {
        if self.events.len() == EVENTS_PER_GROUP_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn push_reason(&mut self, reason: String) {
        if self.reasons.len() < REASONS_PER_REBALANCE_MAX {
            self.reasons.push(reason);
        } else {
            self.reasons_more += 1;
        }
    }

    fn take_reasons(&mut self) -> String {
        let mut text = std::mem::take(&mut self.reasons).join("; ");
        let more = std::mem::take(&mut self.reasons_more);
        if text.is_empty() {
            text.push_str("its members asked for it");
        }
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }

    /// The group has no members any more; gives the reasons.
    pub fn emptied(&mut self, timestamp_ms: i64, generation: i32) -> String {
        let reasons = self.take_reasons();
        self.push(about_group(timestamp_ms, generation, "empty", format!("no members, because {reasons}")));
        let because = Str::from(&reasons);
        for place in self.places.values_mut() {
            place.give(None, generation, &because);
        }
        reasons
    }

    /// A member goes on under another id.
    pub fn rename(&mut self, old_id: &str, new_id: &Str) {
        for place in self.places.values_mut() {
            for member in [&mut place.member, &mut place.before].into_iter().flatten() {
                if member == old_id {
                    *member = new_id.clone();
                }
            }
        }
    }

    /// Notes who has what now; gives how many partitions went from one member to another.
    fn assigned(&mut self, owners: BTreeMap<OffsetKey, Str>, generation: i32, because: &Str) -> usize {
        let mut moved = 0;
        for (key, place) in &mut self.places {
            if !owners.contains_key(key) {
                place.give(None, generation, because);
            }
        }
        for (key, owner) in owners {
            let Some(place) = self.places.get_mut(&key) else {
                if self.places.len() < PARTITIONS_EXPLAINED_MAX {
                    let because = because.clone();
                    self.places.insert(key, Place { member: Some(owner), before: None, generation, because });
                }
                continue;
            };
            if place.member.as_ref() == Some(&owner) {
                continue;
            }
            place.give(Some(owner), generation, because);
            moved += usize::from(place.before.is_some() && place.before != place.member);
        }
        moved
    }

    fn explained(&self) -> Vec<Movement> {
        let movements = self.places.iter().map(|((topic, partition), place)| Movement {
            topic: topic.clone(),
            partition: *partition,
            member: place.member.clone(),
            before: place.before.clone(),
            generation: place.generation,
            reason: place.text(topic, *partition),
        });
        movements.collect()
    }
}

impl Place {
    /// Cooperative members give a partition back a generation before another gets it: the last one that had it counts.
    fn give(&mut self, member: Option<Str>, generation: i32, because: &Str) {
        if self.member == member {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.member, member) {
            self.before = Some(old);
        }
        self.generation = generation;
        self.because = because.clone();
    }

    fn text(&self, topic: &str, partition: i32) -> String {
        let Self { generation, because, .. } = self;
        match (&self.before, &self.member) {
            (Some(from), Some(to)) if from == to => format!(
                "partition {topic}-{partition} came back to {to} at generation {generation} because {because}"
            ),
            (Some(from), Some(to)) => format!(
                "partition {topic}-{partition} moved from {from} to {to} at generation {generation} because {because}"
            ),
            (None, Some(to)) => {
                format!(
                    "partition {topic}-{partition} went to {to} at generation {generation} because {because}"
                )
            }
            (Some(from), None) => {
                format!(
                    "partition {topic}-{partition} was taken from {from} at generation {generation} because {because}"
                )
            }
            (None, None) => format!("nobody has partition {topic}-{partition} since generation {generation}"),
        }
    }
}

fn about_group(timestamp_ms: i64, generation: i32, kind: &'static str, text: String) -> GroupEvent {
    GroupEvent { timestamp_ms, generation, kind, member_id: Str::default(), client_id: Str::default(), text }
}

impl Group {
    /// Something about a member that the next generation comes from.
    pub(super) fn note_member(&mut self, cx: &Context<'_>, member_id: &str, cause: &Cause) {
        self.note_event(cx, member_id, cause);
        self.history.push_reason(cause.text(member_id));
    }

    /// Something about a member that the others do not feel.
    pub(super) fn note_event(&mut self, cx: &Context<'_>, member_id: &str, cause: &Cause) {
        let member = self.members.get(member_id);
        self.history.push(GroupEvent {
            timestamp_ms: cx.now.wall_ms,
            generation: self.generation,
            kind: cause.kind(),
            member_id: member.map(|member| member.id.clone()).unwrap_or_default(),
            client_id: member.map(|member| member.client.id.clone()).unwrap_or_default(),
            text: cause.text(member_id),
        });
    }

    /// Something about the group that the next generation comes from.
    pub(super) fn note_group(&mut self, cx: &Context<'_>, cause: &Cause) {
        let text = cause.text("");
        self.history.push(about_group(cx.now.wall_ms, self.generation, cause.kind(), text.clone()));
        self.history.push_reason(text);
    }

    /// The generation has its assignment: one line for the log, one event, and the places of partitions.
    pub(super) fn tell_stable(&mut self, cx: &mut Context<'_>) {
        let reasons = self.history.take_reasons();
        let (moved, idle, partitions) = self.note_places(&Str::from(&reasons));
        let (generation, members, wall_ms) = (self.generation, self.members.len(), cx.now.wall_ms);
        let protocol = self.protocol.clone().unwrap_or_default();
        let text = format!("{members} members by {protocol}, {moved} partitions moved, because {reasons}");
        self.history.push(about_group(wall_ms, generation, "stable", text));
        if idle > 0 {
            let text = format!(
                "{idle} of {members} members have no partition: {partitions} partitions for {members} members"
            );
            self.history.push(about_group(wall_ms, generation, "idle", text));
        }
        let group_id = self.id.clone();
        cx.tell(Event::Rebalanced { group_id, generation, members, protocol, moved, idle, reasons });
    }

    /// Gives how many partitions moved, how many members have none, and how many partitions there are.
    fn note_places(&mut self, because: &Str) -> (usize, usize, usize) {
        let Some((owners, idle)) = self.owners() else { return (0, 0, 0) };
        let partitions = owners.len();
        (self.history.assigned(owners, self.generation, because), idle, partitions)
    }

    /// Who has which partition, and how many members have none; `None` when the assignment is opaque.
    fn owners(&self) -> Option<(BTreeMap<OffsetKey, Str>, usize)> {
        if !self.is_consumer() {
            return None;
        }
        let mut owners = BTreeMap::new();
        let mut idle = 0;
        for member in self.members.in_order() {
            let partitions = assigned_partitions(&member.assignment)?;
            idle += usize::from(partitions.is_empty());
            owners.extend(partitions.into_iter().map(|key| (key, member.id.clone())));
        }
        Some((owners, idle))
    }

    /// A group that was loaded: where its partitions are is known, why is not.
    pub(super) fn note_loaded(&mut self, cx: &Context<'_>) {
        let because = Str::from_static("the log says so");
        self.note_places(&because);
        let text = format!("loaded with {} members", self.members.len());
        self.history.push(about_group(cx.now.wall_ms, self.generation, "loaded", text));
    }

    pub(super) fn explain(&self) -> Explanation {
        Explanation {
            state: self.state.name(),
            generation: self.generation,
            events: self.history.events.iter().cloned().collect(),
            partitions: self.history.explained(),
        }
    }
}

/// A version and a message of the consumer's own protocol; versions that are newer than ours are read as the newest of ours,
/// to which they only add. `None` when it is something else.
fn consumer_message<M: Message>(bytes: &Bytes) -> Option<M> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16();
    if reader.check().is_err() || version < 0 {
        return None;
    }
    let message = M::read(&mut reader, version.min(M::VERSIONS.1));
    reader.check().is_ok().then_some(message)
}

/// The topics of a consumer's metadata, detached from it; `None` when it cannot be read.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<Str>> {
    let subscription: ConsumerProtocolSubscription = consumer_message(metadata)?;
    Some(subscription.topics.iter().map(Str::detached).collect())
}

/// The partitions of a consumer's assignment; no bytes are no partitions, `None` when it cannot be read.
fn assigned_partitions(assignment: &Bytes) -> Option<Vec<OffsetKey>> {
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let assignment: ConsumerProtocolAssignment = consumer_message(assignment)?;
    let mut partitions = Vec::new();
    for topic in &assignment.assigned_partitions {
        let name = topic.topic.detached();
        partitions.extend(topic.partitions.iter().map(|partition| (name.clone(), *partition)));
    }
    Some(partitions)
}
