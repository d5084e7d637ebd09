//! JoinGroup: who may come in, under which id, and what it starts.

use bytes::Bytes;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use ottla_protocol::wire::Str;

use super::context::Context;
use super::explain::{Cause, subscribed_topics};
use super::group::{Group, State};
use super::limits::{
    ID_BYTES_MAX, MEMBER_PROTOCOLS_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_MEMBERS_MAX,
};
use super::members::{Joining, Member, protocols_of};
use super::timers::Due;
use super::{Client, GroupConfig, Reply, Ticket};

/// First version whose new dynamic members have to come back with the id that they are given (KIP-394).
const ID_REQUIRED_SINCE: i16 = 4;
/// Versions below cannot say that there is no protocol.
const NULL_PROTOCOL_SINCE: i16 = 7;

/// A JoinGroup on its way through the rules.
pub(super) struct Join<'a> {
    pub ticket: Ticket,
    pub version: i16,
    pub client: &'a Client,
    pub request: &'a JoinGroupRequest,
    pub new_member_id: &'a Str,
}

impl Join<'_> {
    pub fn joining(&self) -> Joining {
        Joining { ticket: self.ticket, version: self.version }
    }

    /// Version 0 has one timeout for both.
    fn rebalance_timeout_ms(&self) -> i32 {
        if self.version == 0 || self.request.rebalance_timeout_ms < 0 {
            self.request.session_timeout_ms
        } else {
            self.request.rebalance_timeout_ms
        }
    }

    /// Puts what the request says into the member.
    pub fn update(&self, group: &mut Group, member_id: &str) {
        group.members.set_protocols(member_id, protocols_of(&self.request.protocols));
        if let Some(member) = group.members.get_mut(member_id) {
            member.session_timeout_ms = self.request.session_timeout_ms;
            member.rebalance_timeout_ms = self.rebalance_timeout_ms();
        }
    }

    pub fn refuse(&self, cx: &mut Context<'_>, member_id: &Str, code: ErrorCode) {
        cx.reply(self.ticket, Reply::Join(refusal(self.version, member_id, code)));
    }

    /// Names that a record could not hold.
    fn has_long_names(&self) -> bool {
        let instance_id = self.request.group_instance_id.as_ref();
        let mut names = self.request.protocols.iter().map(|protocol| &protocol.name);
        instance_id.is_some_and(|id| id.len() > ID_BYTES_MAX)
            || self.request.protocol_type.len() > ID_BYTES_MAX
            || names.any(|name| name.len() > ID_BYTES_MAX)
    }

    fn protocols_bytes(&self) -> usize {
        self.request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
    }
}

/// An answer that lets nobody in.
pub(super) fn refusal(version: i16, member_id: &Str, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code.code(),
        member_id: member_id.clone(),
        protocol_name: (version < NULL_PROTOCOL_SINCE).then(Str::default),
        ..JoinGroupResponse::default()
    }
}

/// What can be said without looking at the group.
pub(super) fn check(config: &GroupConfig, join: &Join<'_>) -> Result<(), ErrorCode> {
    let timeouts_ms = config.session_timeout_ms_min..=config.session_timeout_ms_max;
    if join.request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else if !timeouts_ms.contains(&join.request.session_timeout_ms) {
        Err(ErrorCode::InvalidSessionTimeout)
    } else if join.request.group_id.len() > ID_BYTES_MAX {
        Err(ErrorCode::InvalidGroupId)
    } else if join.protocols_bytes() > MEMBER_PROTOCOLS_BYTES_MAX || join.has_long_names() {
        Err(ErrorCode::InvalidRequest)
    } else {
        Ok(())
    }
}

/// The group and its current generation, for one of its members.
pub(super) fn welcome(group: &Group, version: i16, member_id: &Str, with_members: bool) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol_name: match &group.protocol {
            None if version < NULL_PROTOCOL_SINCE => Some(Str::default()),
            protocol => protocol.clone(),
        },
        leader: group.leader.clone().unwrap_or_default(),
        member_id: member_id.clone(),
        members: if with_members { subscriptions(group) } else { Vec::new() },
        ..JoinGroupResponse::default()
    }
}

/// What the leader needs for its assignment.
fn subscriptions(group: &Group) -> Vec<JoinGroupResponseMember> {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    group
        .members
        .in_order()
        .map(|member| JoinGroupResponseMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
            ..JoinGroupResponseMember::default()
        })
        .collect()
}

impl Group {
    pub(super) fn join(&mut self, cx: &mut Context<'_>, join: &Join<'_>) {
        let member_id = &join.request.member_id;
        let nobody = Str::default();
        if self.state == State::Dead {
            return join.refuse(cx, member_id, ErrorCode::CoordinatorNotAvailable);
        }
        if !self.has_room(cx.config, join) {
            // Who is sent away is no member any more: it starts over, if at all.
            self.remove_pending(cx, member_id);
            if self.members.contains(member_id) {
                self.remove_member(cx, member_id, ErrorCode::GroupMaxSizeReached, Cause::TooMany);
            }
            return join.refuse(cx, &nobody, ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(join.request) {
            return join.refuse(cx, member_id, ErrorCode::InconsistentGroupProtocol);
        }
        if member_id.is_empty() {
            self.join_new(cx, join);
        } else {
            self.join_known(cx, join);
        }
    }

    /// Whether `group.max.size` lets it in. While a rebalance waits, those count who have come: the others may be gone.
    fn has_room(&self, config: &GroupConfig, join: &Join<'_>) -> bool {
        let id = join.request.member_id.as_str();
        if self.pending.contains_key(id) {
            // It has been counted when it got its id; what counts now is who joined.
            return self.seats_taken() < config.size_max;
        }
        let member = self.members.get(id);
        let returns =
            join.request.group_instance_id.as_ref().is_some_and(|i| self.members.instance(i).is_some());
        let asks_for_id =
            id.is_empty() && join.request.group_instance_id.is_none() && join.version >= ID_REQUIRED_SINCE;
        let promised = if asks_for_id { self.pending.len() } else { 0 };
        let seated = match self.state {
            State::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some() || member.instance_id.is_some())
            }
            State::CompletingRebalance | State::Stable => member.is_some(),
            State::Empty | State::Dead => false,
        };
        seated
            || returns
            || (self.seats_taken() + promised < config.size_max && promised < PENDING_MEMBERS_MAX)
    }

    fn seats_taken(&self) -> usize {
        match self.state {
            State::PreparingRebalance => self.members.staying_count(),
            State::Empty | State::Dead | State::CompletingRebalance | State::Stable => self.members.len(),
        }
    }

    /// Whether the group could still agree on a protocol with it.
    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty || self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|protocol| self.members.all_support(&protocol.name))
    }

    fn join_new(&mut self, cx: &mut Context<'_>, join: &Join<'_>) {
        let new_id = join.new_member_id.detached();
        match &join.request.group_instance_id {
            Some(instance_id) => match self.members.instance(instance_id).cloned() {
                Some(old_id) => self.replace_static(cx, join, &old_id, &new_id),
                None => self.add_member(cx, join, &new_id),
            },
            None if join.version >= ID_REQUIRED_SINCE => {
                let at_ms = cx.now.mono_ms + i64::from(join.request.session_timeout_ms);
                cx.timers.set(at_ms, &self.id, Due::Pending(new_id.clone()));
                self.pending.insert(new_id.clone(), at_ms);
                join.refuse(cx, &new_id, ErrorCode::MemberIdRequired);
            }
            None => self.add_member(cx, join, &new_id),
        }
    }

    fn join_known(&mut self, cx: &mut Context<'_>, join: &Join<'_>) {
        let member_id = &join.request.member_id;
        let instance_id = join.request.group_instance_id.as_ref();
        if instance_id.is_none() && self.remove_pending(cx, member_id) {
            return self.add_member(cx, join, &member_id.detached());
        }
        if let Err(code) = self.validate_member(member_id, instance_id) {
            return join.refuse(cx, member_id, code);
        }
        let is_leader = self.is_leader(member_id);
        let changed =
            self.members.get(member_id).is_some_and(|m| !m.matches(&protocols_of(&join.request.protocols)));
        match self.state {
            State::PreparingRebalance => self.rejoin(cx, join, changed),
            // The answer to its JoinGroup was lost.
            State::CompletingRebalance if !changed => {
                let response = welcome(self, join.version, member_id, is_leader);
                cx.reply(join.ticket, Reply::Join(response));
            }
            // A leader that joins again has seen something that its own metadata does not show.
            State::Stable if !changed && !is_leader => {
                let response = welcome(self, join.version, member_id, false);
                cx.reply(join.ticket, Reply::Join(response));
            }
            State::CompletingRebalance | State::Stable => self.rejoin(cx, join, changed),
            State::Empty | State::Dead => join.refuse(cx, member_id, ErrorCode::UnknownMemberId),
        }
    }

    fn rejoin(&mut self, cx: &mut Context<'_>, join: &Join<'_>, changed: bool) {
        let member_id = &join.request.member_id;
        let wanted_before = self.wanted_by(member_id);
        join.update(self, member_id);
        self.wait_for_rebalance(cx, join, member_id);
        let begins = self.state != State::PreparingRebalance;
        let asked =
            || join.request.reason.as_ref().filter(|reason| !reason.is_empty()).map(ToString::to_string);
        // Most come because a rebalance has begun; only who begins one, or wants something else, is a cause.
        let cause = if changed && self.wanted_by(member_id) != wanted_before {
            Some(Cause::Changed)
        } else if begins {
            Some(Cause::Asked(
                asked().unwrap_or_else(|| self.reason_to_rejoin(member_id, changed).to_owned()),
            ))
        } else {
            None
        };
        if let Some(cause) = cause {
            self.note_member(cx, member_id, &cause);
        }
        self.rebalance_or_complete(cx);
    }

    fn reason_to_rejoin(&self, member_id: &str, changed: bool) -> &'static str {
        match (changed, self.is_leader(member_id)) {
            (true, _) => "its metadata changed",
            (false, true) => "the leader asks for it",
            (false, false) => "no reason given",
        }
    }

    /// The topics that a member wants, by protocol; where they cannot be read, its metadata. What it owns is no wish.
    fn wanted_by(&self, member_id: &str) -> Vec<(Str, Result<Vec<Str>, Bytes>)> {
        let protocols =
            self.members.get(member_id).map(|member| member.protocols.as_slice()).unwrap_or_default();
        let wanted = |metadata: &Bytes| subscribed_topics(metadata).filter(|_| self.is_consumer());
        protocols
            .iter()
            .map(|(name, bytes)| (name.clone(), wanted(bytes).ok_or_else(|| bytes.clone())))
            .collect()
    }

    fn wait_for_rebalance(&mut self, cx: &mut Context<'_>, join: &Join<'_>, member_id: &str) {
        if let Some(old) = self.members.set_joining(member_id, join.joining()) {
            let response = refusal(old.version, &member_id.into(), ErrorCode::RebalanceInProgress);
            cx.reply(old.ticket, Reply::Join(response));
        }
    }

    fn add_member(&mut self, cx: &mut Context<'_>, join: &Join<'_>, member_id: &Str) {
        let client = Client { id: join.client.id.detached(), host: join.client.host.detached() };
        let instance_id = join.request.group_instance_id.as_ref().map(Str::detached);
        if self.members.is_empty() {
            self.protocol_type = Some(join.request.protocol_type.detached());
        }
        let mut member = Member::new(member_id.clone(), instance_id, client);
        member.is_new = true;
        self.members.insert(member);
        join.update(self, member_id);
        self.members.set_joining(member_id, join.joining());
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.member_added |= self.state == State::PreparingRebalance && self.was_empty;
        self.note_member(
            cx,
            member_id,
            &Cause::Joined(join.request.reason.as_ref().map(ToString::to_string)),
        );
        // It cannot send heartbeats while it waits, and a connection that is gone does not show; so that clients that give up
        // and come anew do not fill the group, it has to be through, or come again, within this time.
        self.set_session(cx, member_id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance_or_complete(cx);
    }
}
