//! SyncGroup: the leader brings the assignment, everybody gets a part, once it is in the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::wire::Str;

use super::context::{Assignments, Context};
use super::explain::Cause;
use super::group::{Group, State};
use super::record::group_metadata;
use super::stores::Write;
use super::{Event, Reply, StoreError, StoreId, Ticket};

/// An answer without an assignment.
pub(super) fn sync_error(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() }
}

impl Group {
    pub(super) fn sync(&mut self, cx: &mut Context<'_>, ticket: Ticket, request: &SyncGroupRequest) {
        if let Err(code) = self.check_sync(request) {
            return cx.reply(ticket, Reply::Sync(sync_error(code)));
        }
        let member_id = &request.member_id;
        match self.state {
            State::Empty | State::Dead => {
                cx.reply(ticket, Reply::Sync(sync_error(ErrorCode::UnknownMemberId)));
            }
            State::PreparingRebalance => {
                cx.reply(ticket, Reply::Sync(sync_error(ErrorCode::RebalanceInProgress)));
            }
            State::CompletingRebalance => {
                self.synced(cx, member_id);
                let old = self.members.get_mut(member_id).and_then(|member| member.syncing.replace(ticket));
                if let Some(old) = old {
                    cx.reply(old, Reply::Sync(sync_error(ErrorCode::RebalanceInProgress)));
                }
                // What the leader says again while its first word is on its way changes nothing: one record a generation.
                if self.is_leader(member_id) && self.assignment_store.is_none() {
                    self.store_assignment(cx, request);
                }
            }
            State::Stable => {
                self.synced(cx, member_id);
                self.touch_session(cx, member_id);
                let response = self.assignment_of(member_id);
                cx.reply(ticket, Reply::Sync(response));
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<Str>, is: &Option<Str>| said.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn synced(&mut self, cx: &mut Context<'_>, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.set_sync_due(cx, None);
        }
    }

    fn assignment_of(&self, member_id: &str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }

    fn store_assignment(&mut self, cx: &mut Context<'_>, request: &SyncGroupRequest) {
        let mut given: BTreeMap<&str, &Bytes> = BTreeMap::new();
        for part in &request.assignments {
            given.insert(part.member_id.as_str(), &part.assignment);
        }
        // Whom the leader forgot gets nothing; whom it made up does not exist.
        let assignments: Assignments = self
            .members
            .in_order()
            .map(|member| {
                let part = given.get(member.id.as_str()).map(|bytes| Bytes::copy_from_slice(bytes));
                (member.id.clone(), part.unwrap_or_default())
            })
            .collect();
        let record = group_metadata(self, Some(&assignments));
        let write = Write::Assignment { generation: self.generation, assignments };
        self.assignment_store = Some(self.store(cx, vec![record], write));
    }

    /// The assignment is in the log, unless the group went on without it.
    pub(super) fn assignment_stored(
        &mut self,
        cx: &mut Context<'_>,
        id: StoreId,
        generation: i32,
        assignments: Assignments,
    ) {
        if self.assignment_store != Some(id) {
            return;
        }
        self.assignment_store = None;
        debug_assert_eq!((self.state, self.generation), (State::CompletingRebalance, generation));
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = assignment;
            }
        }
        self.set_state(cx, State::Stable);
        for member_id in self.members.ids_in_order() {
            let Some(ticket) = self.members.get_mut(&member_id).and_then(|member| member.syncing.take())
            else {
                continue;
            };
            let response = self.assignment_of(&member_id);
            cx.reply(ticket, Reply::Sync(response));
            self.touch_session(cx, &member_id);
        }
        self.tell_stable(cx);
    }

    pub(super) fn assignment_not_stored(&mut self, cx: &mut Context<'_>, id: StoreId, error: StoreError) {
        if self.assignment_store != Some(id) {
            return;
        }
        self.assignment_store = None;
        cx.tell(Event::NotStored { group_id: self.id.clone(), generation: self.generation, error });
        self.note_group(cx, &Cause::NotStored(error));
        self.refuse_assignment(cx, error.code());
        self.rebalance_or_complete(cx);
    }

    /// Nobody gets an assignment in this generation; who waits for one is told why.
    pub(super) fn refuse_assignment(&mut self, cx: &mut Context<'_>, code: ErrorCode) {
        for member_id in self.members.ids_in_order() {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.assignment = Bytes::new();
            if let Some(ticket) = member.syncing.take() {
                cx.reply(ticket, Reply::Sync(sync_error(code)));
                self.touch_session(cx, &member_id);
            }
        }
    }
}
