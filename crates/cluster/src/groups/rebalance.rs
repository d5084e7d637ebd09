//! From one generation to the next: who is waited for, when it is enough, who leads.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::wire::Str;

use super::context::Context;
use super::explain::{Cause, subscribed_topics};
use super::group::{Group, JoinWait, State};
use super::join::{refusal, welcome};
use super::record::group_metadata;
use super::stores::Write;
use super::sync::sync_error;
use super::{Event, Reply};

impl Group {
    /// Something changed: a rebalance begins, or the one that waits may be complete now.
    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(cx),
            State::PreparingRebalance => self.maybe_complete_join(cx),
            State::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>) {
        if self.state == State::CompletingRebalance {
            self.refuse_assignment(cx, ErrorCode::RebalanceInProgress);
        }
        self.set_sync_due(cx, None);
        self.assignment_store = None;
        self.was_empty = self.state == State::Empty;
        self.set_state(cx, State::PreparingRebalance);
        if self.was_empty {
            let delay_ms = i64::from(cx.config.initial_rebalance_delay_ms.max(0));
            let remaining_ms = (self.members.rebalance_timeout_ms() - delay_ms).max(0);
            self.member_added = false;
            if delay_ms == 0 {
                return self.complete_join(cx);
            }
            let wait = JoinWait::Initial { delay_ms, remaining_ms };
            self.set_join_due(cx, Some((cx.now.mono_ms + delay_ms, wait)));
        } else if self.has_all_joined() {
            self.complete_join(cx);
        } else {
            self.wait_for_members(cx);
        }
    }

    fn wait_for_members(&mut self, cx: &mut Context<'_>) {
        let at_ms = cx.now.mono_ms + self.members.rebalance_timeout_ms();
        self.set_join_due(cx, Some((at_ms, JoinWait::Members)));
    }

    fn has_all_joined(&self) -> bool {
        self.members.joining_count() == self.members.len() && self.pending.is_empty()
    }

    /// The first rebalance of an empty group waits for its delay, whoever has come.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Context<'_>) {
        if self.state == State::PreparingRebalance && !self.was_empty && self.has_all_joined() {
            self.complete_join(cx);
        }
    }

    /// The rebalance has waited long enough.
    pub(super) fn join_is_due(&mut self, cx: &mut Context<'_>) {
        match self.join_due.take().map(|(_, wait)| wait) {
            Some(JoinWait::Initial { delay_ms, remaining_ms }) if self.member_added && remaining_ms != 0 => {
                self.member_added = false;
                let next_ms = i64::from(cx.config.initial_rebalance_delay_ms.max(0)).min(remaining_ms);
                let wait =
                    JoinWait::Initial { delay_ms: next_ms, remaining_ms: (remaining_ms - delay_ms).max(0) };
                self.set_join_due(cx, Some((cx.now.mono_ms + next_ms, wait)));
            }
            Some(JoinWait::Initial { .. } | JoinWait::Members) => self.complete_join(cx),
            None => {}
        }
    }

    /// The next generation begins with those who joined. Static members that did not are kept until their session ends.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        self.set_join_due(cx, None);
        let absent: Vec<Str> = self
            .members
            .in_order()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.note_member(cx, &id, &Cause::DidNotRejoin);
            self.drop_member(cx, &id, ErrorCode::UnknownMemberId);
        }
        if self.members.is_empty() {
            return self.become_empty(cx);
        }
        if !self.elect_joined_leader() {
            // Static members alone are left, and none came: their sessions will tell.
            return self.wait_for_members(cx);
        }
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = self.members.vote();
        self.subscribed = self.computed_subscription();
        self.set_state(cx, State::CompletingRebalance);
        self.was_empty = false;
        self.pending_sync.clear();
        self.welcome_members(cx);
        let at_ms = cx.now.mono_ms + self.members.rebalance_timeout_ms();
        self.set_sync_due(cx, Some(at_ms));
    }

    fn welcome_members(&mut self, cx: &mut Context<'_>) {
        for id in self.members.ids_in_order() {
            if let Some(joining) = self.members.take_joining(&id) {
                let response = welcome(self, joining.version, &id, self.is_leader(&id));
                cx.reply(joining.ticket, Reply::Join(response));
                self.touch_session(cx, &id);
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.pending_sync.insert(id);
        }
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = None;
        self.leader = None;
        self.subscribed = self.computed_subscription();
        self.was_empty = false;
        self.pending_sync.clear();
        self.set_state(cx, State::Empty);
        let record = group_metadata(self, None);
        self.store(cx, vec![record], Write::Empty);
        let reasons = self.history.emptied(cx.now.wall_ms, self.generation);
        cx.tell(Event::Emptied { group_id: self.id.clone(), generation: self.generation, reasons });
    }

    /// Whoever leads has to be here to do it.
    fn elect_joined_leader(&mut self) -> bool {
        let is_here = |id: &Str| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(is_here) {
            let next = self.members.in_order().find(|member| member.joining.is_some());
            let Some(next) = next.map(|member| member.id.clone()) else { return false };
            self.leader = Some(next);
        }
        true
    }

    /// Topics of all members; empty without members, `None` where the metadata is opaque.
    pub(super) fn computed_subscription(&self) -> Option<std::collections::BTreeSet<Str>> {
        self.protocol_type.as_ref()?;
        if self.members.is_empty() {
            return Some(std::collections::BTreeSet::new());
        }
        let protocol = self.protocol.as_deref().filter(|_| self.is_consumer())?;
        let mut topics = std::collections::BTreeSet::new();
        for member in self.members.in_order() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// Members that did not ask for their assignment in time are gone.
    pub(super) fn sync_is_due(&mut self, cx: &mut Context<'_>) {
        self.sync_due = None;
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.note_member(cx, &id, &Cause::DidNotSync);
            self.drop_member(cx, &id, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance(cx);
    }

    /// Takes a member out; who waits in its name is told `code`. The group does not react to it yet.
    pub(super) fn drop_member(&mut self, cx: &mut Context<'_>, member_id: &str, code: ErrorCode) {
        self.stop_session(cx, member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(joining) = member.joining {
            let response = refusal(joining.version, &Str::default(), code);
            cx.reply(joining.ticket, Reply::Join(response));
        }
        if let Some(ticket) = member.syncing {
            cx.reply(ticket, Reply::Sync(sync_error(code)));
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.in_order().next().map(|member| member.id.clone());
        }
    }

    /// Takes a member out, and the group reacts.
    pub(super) fn remove_member(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &str,
        code: ErrorCode,
        cause: Cause,
    ) {
        self.note_member(cx, member_id, &cause);
        self.drop_member(cx, member_id, code);
        self.rebalance_or_complete(cx);
    }
}
