//! Heartbeat, and what happens when one is missing.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::context::Context;
use super::explain::Cause;
use super::group::{Group, State};
use super::{Reply, Ticket};

impl Group {
    pub(super) fn heartbeat(&mut self, cx: &mut Context<'_>, ticket: Ticket, request: &HeartbeatRequest) {
        let error_code = self.heartbeat_code(cx, request).code();
        cx.reply(ticket, Reply::Heartbeat(HeartbeatResponse { error_code, ..HeartbeatResponse::default() }));
    }

    fn heartbeat_code(&mut self, cx: &mut Context<'_>, request: &HeartbeatRequest) -> ErrorCode {
        if self.state == State::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(code) = self.validate_member(&request.member_id, request.group_instance_id.as_ref()) {
            return code;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            State::Empty | State::Dead => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => {
                self.touch_session(cx, &request.member_id);
                ErrorCode::RebalanceInProgress
            }
            // A client may begin before its SyncGroup is answered.
            State::CompletingRebalance | State::Stable => {
                self.touch_session(cx, &request.member_id);
                ErrorCode::None
            }
        }
    }

    /// A member's session is over, unless it waits for us.
    pub(super) fn session_is_due(&mut self, cx: &mut Context<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.deadline_ms = None;
        let waits = member.joining.is_some() || member.syncing.is_some();
        // A new member may wait only so long: its client may have given up.
        if member.is_new || !waits {
            self.remove_member(cx, member_id, ErrorCode::UnknownMemberId, Cause::TimedOut);
        }
    }

    /// A member that was given an id did not come back with it.
    pub(super) fn pending_is_due(&mut self, cx: &mut Context<'_>, member_id: &str) {
        self.pending.remove(member_id);
        self.maybe_complete_join(cx);
    }
}
