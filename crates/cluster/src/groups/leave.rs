//! LeaveGroup: one member, or several at once, by member id or by instance id.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use ottla_protocol::wire::Str;

use super::context::Context;
use super::explain::Cause;
use super::group::{Group, State};
use super::{Reply, Ticket};

/// First version that names several members.
const BATCHED_SINCE: i16 = 3;

/// The members that a request of any version names.
fn identities(request: &LeaveGroupRequest, version: i16) -> Vec<MemberIdentity> {
    if version >= BATCHED_SINCE {
        return request.members.clone();
    }
    vec![MemberIdentity { member_id: request.member_id.clone(), ..MemberIdentity::default() }]
}

/// The answer in the form of the version: the old one has no place for members.
fn response(version: i16, code: ErrorCode, members: Vec<MemberResponse>) -> LeaveGroupResponse {
    let mut out = LeaveGroupResponse { error_code: code.code(), ..LeaveGroupResponse::default() };
    if version >= BATCHED_SINCE {
        out.members = members;
    } else if code == ErrorCode::None {
        out.error_code = members.first().map_or(0, |member| member.error_code);
    }
    out
}

/// The answer of a group that does not exist.
pub(super) fn unknown(request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let members = identities(request, version).into_iter();
    response(version, ErrorCode::None, members.map(|m| answer(m, ErrorCode::UnknownMemberId)).collect())
}

/// An answer that is not about single members.
pub(super) fn refused(version: i16, code: ErrorCode) -> LeaveGroupResponse {
    response(version, code, Vec::new())
}

fn answer(member: MemberIdentity, code: ErrorCode) -> MemberResponse {
    MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: code.code(),
        ..MemberResponse::default()
    }
}

impl Group {
    pub(super) fn leave(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        request: &LeaveGroupRequest,
        version: i16,
    ) {
        if self.state == State::Dead {
            let refused = refused(version, ErrorCode::CoordinatorNotAvailable);
            return cx.reply(ticket, Reply::Leave(refused));
        }
        let mut members = Vec::new();
        let mut left = false;
        for member in identities(request, version) {
            let code = self.leave_one(cx, &member, &mut left);
            members.push(answer(member, code));
        }
        cx.reply(ticket, Reply::Leave(response(version, ErrorCode::None, members)));
        if left {
            self.rebalance_or_complete(cx);
        }
    }

    /// `left` becomes true when the group has to react.
    fn leave_one(&mut self, cx: &mut Context<'_>, member: &MemberIdentity, left: &mut bool) -> ErrorCode {
        let id: Str = if member.member_id.is_empty() {
            // An administrator takes out a static member.
            let instance_id = member.group_instance_id.as_deref().unwrap_or_default();
            match self.members.instance(instance_id) {
                Some(id) => id.clone(),
                None => return ErrorCode::UnknownMemberId,
            }
        } else if self.remove_pending(cx, &member.member_id) {
            *left |= self.state == State::PreparingRebalance;
            return ErrorCode::None;
        } else {
            if let Err(code) = self.validate_member(&member.member_id, member.group_instance_id.as_ref()) {
                return code;
            }
            member.member_id.clone()
        };
        self.note_member(cx, &id, &Cause::Left(member.reason.as_ref().map(ToString::to_string)));
        self.drop_member(cx, &id, ErrorCode::UnknownMemberId);
        *left = true;
        ErrorCode::None
    }
}
