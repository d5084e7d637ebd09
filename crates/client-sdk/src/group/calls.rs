//! The requests of a member, each asked once; the member decides what follows.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use ottla_protocol::generated::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use ottla_protocol::wire::Str;

use super::assignor::Assignments;
use super::membership;
use super::options::GroupOptions;
use crate::client::Client;
use crate::committed::Committer;
use crate::connection::Connection;
use crate::error::{Error, check};

/// With the reason (KIP-800), and with an assignment that may be skipped (KIP-814).
const JOIN_GROUP_VERSIONS: (i16, i16) = (8, 9);
/// Without; the last before compact fields, which librdkafka's mock cluster misreads.
const JOIN_GROUP_OLD_VERSIONS: (i16, i16) = (1, 5);
const SYNC_GROUP_VERSIONS: (i16, i16) = (0, 3);
const HEARTBEAT_VERSIONS: (i16, i16) = (0, 4);
/// With the reason (KIP-800).
const LEAVE_GROUP_VERSIONS: (i16, i16) = (5, 5);
/// Without, and with one member a request.
const LEAVE_GROUP_OLD_VERSIONS: (i16, i16) = (0, 2);
const PROTOCOL_TYPE: &str = "consumer";
/// A join is answered when the slowest member has joined; the broker needs a moment on top.
const JOIN_MARGIN: Duration = Duration::from_secs(10);

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Joins; the caller looks at the error code, because some ask for another try with what the answer says.
pub(super) async fn join(
    connection: &Connection,
    options: &GroupOptions,
    me: &Committer,
    metadata: &Bytes,
    reason: &'static str,
) -> Result<JoinGroupResponse, Error> {
    let protocols = options.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
        name: Str::from_static(assignor.name()),
        metadata: metadata.clone(),
        ..JoinGroupRequestProtocol::default()
    });
    let request = JoinGroupRequest {
        group_id: me.group.clone(),
        session_timeout_ms: millis(options.session_max),
        rebalance_timeout_ms: millis(options.rebalance_max),
        member_id: me.member.clone(),
        group_instance_id: me.instance.clone(),
        protocol_type: Str::from_static(PROTOCOL_TYPE),
        protocols: protocols.collect(),
        reason: Some(Str::from_static(reason)),
        ..JoinGroupRequest::default()
    };
    let version = connection
        .version::<JoinGroupRequest>(JOIN_GROUP_VERSIONS)
        .or_else(|_older| connection.version::<JoinGroupRequest>(JOIN_GROUP_OLD_VERSIONS))?;
    connection.call_within(&request, version, options.rebalance_max + JOIN_MARGIN).await
}

/// Hands in the assignments, if this member leads, and gets its own.
pub(super) async fn sync(
    connection: &Connection,
    options: &GroupOptions,
    me: &Committer,
    protocol: Option<Str>,
    assignments: &Assignments,
) -> Result<SyncGroupResponse, Error> {
    let assignments = assignments.iter().map(|(member, places)| SyncGroupRequestAssignment {
        member_id: member.clone(),
        assignment: membership::write_assignment(places),
        ..SyncGroupRequestAssignment::default()
    });
    let request = SyncGroupRequest {
        group_id: me.group.clone(),
        generation_id: me.generation,
        member_id: me.member.clone(),
        group_instance_id: me.instance.clone(),
        protocol_type: Some(Str::from_static(PROTOCOL_TYPE)),
        protocol_name: protocol,
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    };
    let version = connection.version::<SyncGroupRequest>(SYNC_GROUP_VERSIONS)?;
    let response: SyncGroupResponse =
        connection.call_within(&request, version, options.rebalance_max + JOIN_MARGIN).await?;
    check(response.error_code, |code| Error::group(&me.group, code))?;
    Ok(response)
}

/// A sign of life.
pub(super) async fn heartbeat(client: &Client, coordinator: i32, me: &Committer) -> Result<(), Error> {
    let request = HeartbeatRequest {
        group_id: me.group.clone(),
        generation_id: me.generation,
        member_id: me.member.clone(),
        group_instance_id: me.instance.clone(),
        ..HeartbeatRequest::default()
    };
    let (response, _): (HeartbeatResponse, _) =
        client.call_broker(coordinator, &request, HEARTBEAT_VERSIONS).await?;
    check(response.error_code, |code| Error::group(&me.group, code))
}

/// Says goodbye, and why.
pub(super) async fn leave(
    client: &Client,
    coordinator: i32,
    me: &Committer,
    reason: &'static str,
) -> Result<(), Error> {
    let connection = client.connection(coordinator).await?;
    let mut request = LeaveGroupRequest { group_id: me.group.clone(), ..LeaveGroupRequest::default() };
    let versions = if connection.version::<LeaveGroupRequest>(LEAVE_GROUP_VERSIONS).is_ok() {
        request.members = vec![MemberIdentity {
            member_id: me.member.clone(),
            group_instance_id: me.instance.clone(),
            reason: Some(Str::from_static(reason)),
            ..MemberIdentity::default()
        }];
        LEAVE_GROUP_VERSIONS
    } else {
        request.member_id = me.member.clone();
        LEAVE_GROUP_OLD_VERSIONS
    };
    let (response, _): (LeaveGroupResponse, _) = client.call_over(&connection, &request, versions).await?;
    check(response.error_code, |code| Error::group(&me.group, code))?;
    response
        .members
        .iter()
        .try_for_each(|member| check(member.error_code, |code| Error::group(&me.group, code)))
}
