//! One group: its state, its members, its offsets. What happens to it is in the files of the requests and in `rebalance`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::wire::Str;

use super::StoreId;
use super::context::Context;
use super::explain::History;
use super::members::Members;
use super::offsets::Offsets;
use super::timers::Due;

/// The protocol type whose metadata and assignments are understood.
pub(super) const CONSUMER: &str = "consumer";

/// Where a classic group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No members; maybe offsets.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Each member has its assignment.
    Stable,
    /// Being deleted: the tombstones are on their way.
    Dead,
}

impl State {
    /// As DescribeGroups and ListGroups write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// What a rebalance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinWait {
    /// More members of a new group; extended while they come, at most by `remaining_ms`.
    Initial { delay_ms: i64, remaining_ms: i64 },
    /// The members of the last generation.
    Members,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub id: Str,
    pub state: State,
    /// True while the first rebalance of an empty group waits.
    pub was_empty: bool,
    /// Wall clock of the last change of state; `None` in records of old versions.
    pub state_since_ms: Option<i64>,
    pub generation: i32,
    pub protocol_type: Option<Str>,
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    pub members: Members,
    /// Members that have an id and did not join yet, with the end of their time (KIP-394).
    pub pending: BTreeMap<Str, i64>,
    /// Members whose SyncGroup of this generation is awaited.
    pub pending_sync: BTreeSet<Str>,
    /// A member came since the initial delay was last set.
    pub member_added: bool,
    pub join_due: Option<(i64, JoinWait)>,
    pub sync_due: Option<i64>,
    /// Topics that the members subscribe to; `None` when that is not known.
    pub subscribed: Option<BTreeSet<Str>>,
    /// The write of this generation's assignment.
    pub assignment_store: Option<StoreId>,
    /// Writes in flight that are about this group.
    pub stores_count: usize,
    pub offsets: Offsets,
    pub history: History,
    /// The log may have a record of it, so that its removal has to be written.
    pub recorded: bool,
}

impl Group {
    pub fn new(id: &Str) -> Self {
        Self {
            id: id.detached(),
            state: State::Empty,
            was_empty: false,
            state_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            member_added: false,
            join_due: None,
            sync_due: None,
            subscribed: None,
            assignment_store: None,
            stores_count: 0,
            offsets: Offsets::default(),
            history: History::default(),
            recorded: false,
        }
    }

    /// True when nothing of it needs to be remembered.
    pub fn is_forgettable(&self) -> bool {
        self.state == State::Empty
            && !self.recorded
            && self.pending.is_empty()
            && self.stores_count == 0
            && self.offsets.is_empty()
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader == member_id)
    }

    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|kind| kind == CONSUMER)
    }

    pub fn set_state(&mut self, cx: &Context<'_>, state: State) {
        self.state = state;
        self.state_since_ms = Some(cx.now.wall_ms);
    }

    /// Whether a topic's offsets are in use by members. What a consumer group subscribes to but cannot be read counts as
    /// everything.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// Whether a request comes from a member: a member id alone, or with the instance id that goes with it (KIP-345).
    pub fn validate_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.members.instance(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// The member's session begins anew.
    pub fn touch_session(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let timeout_ms = self.members.get(member_id).map_or(0, |member| i64::from(member.session_timeout_ms));
        self.set_session(cx, member_id, timeout_ms);
    }

    pub fn set_session(&mut self, cx: &mut Context<'_>, member_id: &str, timeout_ms: i64) {
        let at_ms = cx.now.mono_ms + timeout_ms;
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(old_ms) = member.deadline_ms.replace(at_ms) {
            cx.timers.cancel(old_ms, &self.id, Due::Session(member.id.clone()));
        }
        cx.timers.set(at_ms, &self.id, Due::Session(member.id.clone()));
    }

    /// Nobody watches this member's session until it is touched again.
    pub fn stop_session(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(old_ms) = member.deadline_ms.take() {
            cx.timers.cancel(old_ms, &self.id, Due::Session(member.id.clone()));
        }
    }

    pub fn set_join_due(&mut self, cx: &mut Context<'_>, due: Option<(i64, JoinWait)>) {
        if let Some((old_ms, _)) = std::mem::replace(&mut self.join_due, due) {
            cx.timers.cancel(old_ms, &self.id, Due::Join);
        }
        if let Some((at_ms, _)) = due {
            cx.timers.set(at_ms, &self.id, Due::Join);
        }
    }

    pub fn set_sync_due(&mut self, cx: &mut Context<'_>, due_ms: Option<i64>) {
        if let Some(old_ms) = std::mem::replace(&mut self.sync_due, due_ms) {
            cx.timers.cancel(old_ms, &self.id, Due::Sync);
        }
        if let Some(at_ms) = due_ms {
            cx.timers.set(at_ms, &self.id, Due::Sync);
        }
    }

    pub fn remove_pending(&mut self, cx: &mut Context<'_>, member_id: &str) -> bool {
        let Some((id, at_ms)) = self.pending.remove_entry(member_id) else { return false };
        cx.timers.cancel(at_ms, &self.id, Due::Pending(id));
        true
    }
}
