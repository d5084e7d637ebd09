//! The groups of one partition of `__consumer_offsets`: finds the group of an event and lets it handle it.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::HeartbeatResponse;
use ottla_protocol::generated::offset_commit::OffsetCommitRequest;
use ottla_protocol::ids::ProducerId;
use ottla_protocol::wire::Str;

use super::context::Context;
use super::group::Group;
use super::join::{Join, check, refusal};
use super::limits::{GROUPS_MAX, ID_BYTES_MAX};
use super::offsets::commit_refused;
use super::replay::Transactions;
use super::retention::offsets_not_deleted;
use super::stores::{Removal, Stores, Write};
use super::sync::sync_error;
use super::timers::{Due, Timers};
use super::{
    Action, Client, GroupConfig, GroupRecord, Now, ReplayError, Replayed, Reply, Request, StoreError,
    StoreId, Ticket, leave, replay,
};

/// First version of OffsetCommit that knows a group that does not exist from one of another generation.
const COMMIT_GROUP_NOT_FOUND_SINCE: i16 = 9;

/// The groups of one partition of `__consumer_offsets`, as long as this broker leads it. Memory that clients can make it use
/// is bounded by `limits` and the settings.
#[derive(Debug)]
pub struct GroupShard {
    config: GroupConfig,
    pub(super) groups: BTreeMap<Str, Group>,
    timers: Timers,
    stores: Stores,
    transactions: Transactions,
    /// Counts what was replayed and stored.
    order: u64,
}

impl GroupShard {
    /// A shard without groups.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            stores: Stores::default(),
            transactions: Transactions::default(),
            order: 0,
        }
    }

    /// Applies one record of the log. `transaction` is the producer of a transactional batch: what it wrote waits for
    /// [`Self::replay_marker`].
    ///
    /// # Errors
    /// When the record cannot be read; it changed nothing then.
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        transaction: Option<ProducerId>,
    ) -> Result<Replayed, ReplayError> {
        self.order += 1;
        replay::replay(&mut self.groups, &mut self.transactions, (key, value), transaction, self.order)
    }

    /// Applies a control record of the log: the transaction of `producer` is committed or aborted.
    pub fn replay_marker(&mut self, producer: ProducerId, committed: bool) {
        replay::replay_marker(&mut self.groups, &mut self.transactions, producer, committed);
    }

    /// The log has been replayed: sessions of loaded members begin now.
    pub fn loaded(&mut self, now: Now) -> Vec<Action> {
        self.for_each(now, Group::begin)
    }

    /// A request came. Whatever it is, it is answered exactly once, now or later.
    pub fn handle(&mut self, now: Now, ticket: Ticket, client: &Client, request: Request) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match request {
            Request::Join { request, version, new_member_id } => {
                let join = Join { ticket, version, client, request: &request, new_member_id: &new_member_id };
                self.join(now, &join, out);
            }
            Request::Sync(request) => {
                let missing = |code| Reply::Sync(sync_error(code));
                self.ask(now, ticket, &request.group_id, out, missing, |group, cx| {
                    group.sync(cx, ticket, &request)
                });
            }
            Request::Heartbeat(request) => {
                let missing = |code: ErrorCode| {
                    let error_code = code.code();
                    Reply::Heartbeat(HeartbeatResponse { error_code, ..HeartbeatResponse::default() })
                };
                let ask = |group: &mut Group, cx: &mut Context<'_>| group.heartbeat(cx, ticket, &request);
                self.ask(now, ticket, &request.group_id, out, missing, ask);
            }
            Request::Leave { request, version } => {
                let missing = |code| match code {
                    ErrorCode::UnknownMemberId => Reply::Leave(leave::unknown(&request, version)),
                    code => Reply::Leave(leave::refused(version, code)),
                };
                let ask =
                    |group: &mut Group, cx: &mut Context<'_>| group.leave(cx, ticket, &request, version);
                self.ask(now, ticket, &request.group_id, out, missing, ask);
            }
            Request::Commit { request, version } => self.commit(now, ticket, &request, version, out),
            Request::DeleteOffsets(request) => {
                let missing = |code| Reply::DeleteOffsets(offsets_not_deleted(not_found(code)));
                let ask =
                    |group: &mut Group, cx: &mut Context<'_>| group.delete_offsets(cx, ticket, &request);
                self.ask(now, ticket, &request.group_id, out, missing, ask);
            }
            Request::DeleteGroup(group_id) => {
                let missing = |code| Reply::DeleteGroup(not_found(code));
                self.ask(now, ticket, &group_id, out, missing, |group, cx| group.delete_group(cx, ticket));
            }
        }
        actions
    }

    /// Lets an existing group handle a request; `missing` makes the answer when there is none.
    fn ask(
        &mut self,
        now: Now,
        ticket: Ticket,
        group_id: &Str,
        out: &mut Vec<Action>,
        missing: impl FnOnce(ErrorCode) -> Reply,
        ask: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        if group_id.is_empty() {
            out.push(Action::Reply { ticket, reply: missing(ErrorCode::InvalidGroupId) });
        } else if !self.groups.contains_key(group_id) {
            out.push(Action::Reply { ticket, reply: missing(ErrorCode::UnknownMemberId) });
        } else {
            self.with_group(now, group_id, out, ask);
        }
    }

    fn join(&mut self, now: Now, join: &Join<'_>, out: &mut Vec<Action>) {
        let (group_id, member_id) = (&join.request.group_id, &join.request.member_id);
        let exists = self.groups.contains_key(group_id);
        let refused = match check(&self.config, join) {
            Err(code) => Some(code),
            Ok(()) if !exists && !member_id.is_empty() => Some(ErrorCode::UnknownMemberId),
            Ok(()) if !exists && self.groups.len() >= GROUPS_MAX => Some(ErrorCode::CoordinatorNotAvailable),
            Ok(()) => None,
        };
        if let Some(code) = refused {
            let reply = Reply::Join(refusal(join.version, member_id, code));
            out.push(Action::Reply { ticket: join.ticket, reply });
            return;
        }
        if !exists {
            self.groups.insert(group_id.detached(), Group::new(group_id));
        }
        self.with_group(now, group_id, out, |group, cx| group.join(cx, join));
    }

    /// The empty group id is a group here, as in Kafka.
    fn commit(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &OffsetCommitRequest,
        version: i16,
        out: &mut Vec<Action>,
    ) {
        let group_id = &request.group_id;
        let exists = self.groups.contains_key(group_id);
        let refused = if group_id.len() > ID_BYTES_MAX {
            Some(ErrorCode::InvalidGroupId)
        } else if exists {
            None
        } else if request.generation_id_or_member_epoch >= 0 {
            let knows = version >= COMMIT_GROUP_NOT_FOUND_SINCE;
            Some(if knows { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration })
        } else {
            (self.groups.len() >= GROUPS_MAX).then_some(ErrorCode::CoordinatorNotAvailable)
        };
        if let Some(code) = refused {
            out.push(Action::Reply { ticket, reply: Reply::Commit(commit_refused(request, code)) });
            return;
        }
        if !exists {
            self.groups.insert(group_id.detached(), Group::new(group_id));
        }
        self.with_group(now, group_id, out, |group, cx| group.commit(cx, ticket, request));
    }

    /// A write is committed or failed; to be called in the order of the log.
    pub fn handle_stored(&mut self, now: Now, id: StoreId, outcome: Result<(), StoreError>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.order += 1;
        let order = self.order;
        if let Some((group_id, write)) = self.stores.take(id) {
            self.with_group(now, &group_id, &mut actions, |group, cx| {
                group.stored(cx, id, write, outcome, order)
            });
        }
        actions
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((group_id, due)) = self.timers.pop_due(now.mono_ms) {
            self.with_group(now, &group_id, &mut actions, |group, cx| match due {
                Due::Join => group.join_is_due(cx),
                Due::Sync => group.sync_is_due(cx),
                Due::Session(member_id) => group.session_is_due(cx, &member_id),
                Due::Pending(member_id) => group.pending_is_due(cx, &member_id),
            });
        }
        actions
    }

    /// When [`Self::tick`] has something to do, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_ms()
    }

    /// Removes offsets that outlived their retention and groups without members and offsets.
    pub fn expire_offsets(&mut self, now: Now) -> Vec<Action> {
        self.for_each(now, Group::expire_offsets)
    }

    /// Removes the offsets of topics that were deleted.
    pub fn delete_topics(&mut self, now: Now, names: &BTreeSet<Str>) -> Vec<Action> {
        self.for_each(now, |group, cx| group.delete_topics(cx, names))
    }

    /// This broker does not lead any more: NOT_COORDINATOR to all who wait. The shard is empty after it.
    pub fn resign(&mut self) -> Vec<Action> {
        let code = ErrorCode::NotCoordinator;
        let mut actions = Vec::new();
        let mut reply = |ticket, reply| actions.push(Action::Reply { ticket, reply });
        for group in std::mem::take(&mut self.groups).into_values() {
            for member in group.members.in_order() {
                if let Some(joining) = member.joining {
                    reply(joining.ticket, Reply::Join(refusal(joining.version, &member.id, code)));
                }
                if let Some(ticket) = member.syncing {
                    reply(ticket, Reply::Sync(sync_error(code)));
                }
            }
        }
        for (_, write) in self.stores.drain() {
            match write {
                // Who waits for these is a member.
                Write::Assignment { .. } | Write::Empty | Write::StaticMember { .. } => {}
                Write::Commit { ticket, mut response, .. } => {
                    let answers = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                    answers.for_each(|answer| answer.error_code = code.code());
                    reply(ticket, Reply::Commit(response));
                }
                Write::Remove { then: Removal::Offsets { ticket, .. }, .. } => {
                    reply(ticket, Reply::DeleteOffsets(offsets_not_deleted(code)));
                }
                Write::Remove { then: Removal::Group { ticket: Some(ticket) }, .. } => {
                    reply(ticket, Reply::DeleteGroup(code));
                }
                Write::Remove { then: Removal::Part | Removal::Group { ticket: None }, .. } => {}
            }
        }
        *self = Self::new(self.config.clone());
        actions
    }

    /// The settings changed; timers that run stay as they are.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    fn for_each(&mut self, now: Now, f: impl Fn(&mut Group, &mut Context<'_>)) -> Vec<Action> {
        let mut actions = Vec::new();
        let Self { config, groups, timers, stores, .. } = self;
        groups.retain(|_, group| {
            let mut cx = Context { now, config, timers, stores, actions: &mut actions };
            f(group, &mut cx);
            !group.is_forgettable()
        });
        actions
    }

    fn with_group(
        &mut self,
        now: Now,
        group_id: &Str,
        actions: &mut Vec<Action>,
        f: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        let Self { config, groups, timers, stores, .. } = self;
        let Some(group) = groups.get_mut(group_id) else { return };
        f(group, &mut Context { now, config, timers, stores, actions });
        if group.is_forgettable() {
            groups.remove(group_id);
        }
    }
}

/// What admin requests are told where members are told that they are not known.
const fn not_found(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownMemberId => ErrorCode::GroupIdNotFound,
        code => code,
    }
}

impl Group {
    /// Everything that goes into the log goes through here.
    pub(super) fn store(&mut self, cx: &mut Context<'_>, records: Vec<GroupRecord>, write: Write) -> StoreId {
        self.stores_count += 1;
        self.recorded |= !matches!(write, Write::Commit { .. } | Write::Remove { .. });
        cx.store(&self.id, records, write)
    }

    fn stored(
        &mut self,
        cx: &mut Context<'_>,
        id: StoreId,
        write: Write,
        outcome: Result<(), StoreError>,
        order: u64,
    ) {
        self.stores_count -= 1;
        match (write, outcome) {
            (Write::Assignment { generation, assignments }, Ok(())) => {
                self.assignment_stored(cx, id, generation, assignments);
            }
            (Write::Assignment { .. }, Err(error)) => self.assignment_not_stored(cx, id, error),
            // The next record of the group says what this one would have said.
            (Write::Empty, _) => {}
            (Write::StaticMember { ticket, generation, new_id, old_leader, .. }, Ok(())) => {
                self.static_stored(cx, ticket, generation, &new_id, old_leader);
            }
            (Write::StaticMember { ticket, new_id, old, .. }, Err(error)) => {
                self.static_not_stored(cx, ticket, &new_id, *old, error);
            }
            (Write::Commit { ticket, response, offsets }, outcome) => {
                self.offsets_stored(cx, (ticket, response), offsets, outcome, order);
            }
            (Write::Remove { keys, then }, outcome) => self.removal_stored(cx, &keys, then, outcome),
        }
    }
}
