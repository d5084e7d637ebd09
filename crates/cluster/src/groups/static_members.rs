//! Static members (KIP-345): who comes back under its instance id takes the place of who held it, without a rebalance where
//! nothing changes for the others.

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::wire::Str;

use super::context::Context;
use super::explain::{Cause, subscribed_topics};
use super::group::{Group, State};
use super::join::{Join, refusal, welcome};
use super::members::Member;
use super::record::group_metadata;
use super::stores::Write;
use super::sync::sync_error;
use super::{Client, Reply, StoreError, Ticket};

/// First version whose leader can be told that the assignment stands (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

impl Group {
    /// A static member came back without its member id.
    pub(super) fn replace_static(
        &mut self,
        cx: &mut Context<'_>,
        join: &Join<'_>,
        old_id: &Str,
        new_id: &Str,
    ) {
        self.fence(cx, old_id);
        let Some(old) = self.members.get(old_id).cloned() else { return };
        let old_leader = self.leader.clone();
        self.rename_member(cx, old_id, new_id);
        if let Some(member) = self.members.get_mut(new_id) {
            member.client = Client { id: join.client.id.detached(), host: join.client.host.detached() };
        }
        join.update(self, new_id);
        self.members.set_joining(new_id, join.joining());
        self.touch_session(cx, new_id);
        let cause = Cause::Replaced(old_id.clone());
        if self.state == State::Stable && !self.changes_assignment(&old, new_id) {
            self.note_event(cx, new_id, &cause);
            self.store_static(cx, join.ticket, old, new_id, old_leader);
        } else {
            // The leader may be about to assign to the old id, which nobody would ever ask for.
            self.note_member(cx, new_id, &cause);
            self.rebalance_or_complete(cx);
        }
    }

    /// Who still speaks for the old member learns that it lost its place.
    fn fence(&mut self, cx: &mut Context<'_>, old_id: &Str) {
        if let Some(old) = self.members.take_joining(old_id) {
            cx.reply(old.ticket, Reply::Join(refusal(old.version, old_id, ErrorCode::FencedInstanceId)));
        }
        if let Some(ticket) = self.members.get_mut(old_id).and_then(|member| member.syncing.take()) {
            cx.reply(ticket, Reply::Sync(sync_error(ErrorCode::FencedInstanceId)));
        }
    }

    fn rename_member(&mut self, cx: &mut Context<'_>, old_id: &Str, new_id: &Str) {
        self.stop_session(cx, old_id);
        self.members.rename(old_id, new_id);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        self.history.rename(old_id, new_id);
    }

    /// Whether the group would vote for another protocol, or the member wants other topics than it had. Its metadata may
    /// differ in what it owned, which a client that starts anew does not know.
    fn changes_assignment(&self, old: &Member, new_id: &str) -> bool {
        let Some(member) = self.members.get(new_id) else { return false };
        if self.members.vote() != self.protocol {
            return true;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let topics = |member: &Member| -> Option<BTreeSet<Str>> {
            subscribed_topics(&member.metadata(protocol)).map(|topics| topics.into_iter().collect())
        };
        self.is_consumer() && topics(old) != topics(member)
    }

    fn store_static(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        old: Member,
        new_id: &Str,
        old_leader: Option<Str>,
    ) {
        let record = group_metadata(self, None);
        let write = Write::StaticMember {
            ticket,
            generation: self.generation,
            new_id: new_id.clone(),
            old: Box::new(old),
            old_leader,
        };
        self.store(cx, vec![record], write);
    }

    /// The new id is in the log: its holder may go on with the assignment of the one before.
    pub(super) fn static_stored(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        generation: i32,
        new_id: &Str,
        old_leader: Option<Str>,
    ) {
        if self.state != State::Stable || self.generation != generation {
            // A rebalance has begun, for which it has joined.
            return;
        }
        let Some(joining) = self.members.get(new_id).and_then(|member| member.joining) else { return };
        if joining.ticket != ticket {
            return;
        }
        self.members.take_joining(new_id);
        self.touch_session(cx, new_id);
        let is_leader = self.is_leader(new_id);
        let skips = joining.version >= SKIP_ASSIGNMENT_SINCE;
        let mut response = welcome(self, joining.version, new_id, is_leader && skips);
        response.skip_assignment = is_leader && skips;
        if !skips {
            // An old client that finds itself the leader would assign anew, and its SyncGroup be ignored.
            response.leader = old_leader.unwrap_or_default();
        }
        cx.reply(joining.ticket, Reply::Join(response));
    }

    /// The new id is not in the log: the old one stands.
    pub(super) fn static_not_stored(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        new_id: &Str,
        old: Member,
        error: StoreError,
    ) {
        if self.state != State::Stable {
            return;
        }
        if !self.members.contains(new_id) {
            // Replaced in its turn: whoever did that goes back to the same one.
            for write in cx.stores.of_group(&self.id) {
                if let Write::StaticMember { old: next, .. } = write
                    && next.id == *new_id
                {
                    **next = old.clone();
                }
            }
            return;
        }
        let waits = self.members.get(new_id).and_then(|member| member.joining);
        if let Some(joining) = waits.filter(|joining| joining.ticket == ticket) {
            self.members.take_joining(new_id);
            let mut response = refusal(joining.version, &Str::default(), error.code());
            response.generation_id = self.generation;
            cx.reply(joining.ticket, Reply::Join(response));
        }
        let old_id = old.id.clone();
        self.rename_member(cx, new_id, &old_id);
        self.members.set_protocols(&old_id, old.protocols);
        if let Some(member) = self.members.get_mut(&old_id) {
            member.client = old.client;
            member.session_timeout_ms = old.session_timeout_ms;
            member.rebalance_timeout_ms = old.rebalance_timeout_ms;
        }
        self.touch_session(cx, &old_id);
    }
}
