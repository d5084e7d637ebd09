//! From a frame to its answer and back: one match on the API key.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::generated::add_raft_voter::AddRaftVoterRequest;
use ottla_protocol::generated::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use ottla_protocol::generated::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::describe_quorum::DescribeQuorumRequest;
use ottla_protocol::generated::elect_leaders::ElectLeadersRequest;
use ottla_protocol::generated::list_partition_reassignments::ListPartitionReassignmentsRequest;
use ottla_protocol::generated::remove_raft_voter::RemoveRaftVoterRequest;
use ottla_protocol::generated::unregister_broker::UnregisterBrokerRequest;
use ottla_protocol::generated::update_features::UpdateFeaturesRequest;
use ottla_protocol::generated::{ApiKey, ErrorCode, RequestHeader, ResponseHeader};
use ottla_protocol::wire::{Message, Reader, Writer};
use ottla_transport::server::{Answer, ConnectionInfo, Reply, ReplyFrame, Service};

use super::administration::{self, ask};
use super::{ServerState, feed, forward, raft};

/// The service behind every controller listener.
pub(super) struct Dispatch {
    state: Arc<ServerState>,
}

/// One request on its way to its reply.
pub(super) struct Call {
    key: ApiKey,
    /// Version of the request and of its reply.
    pub(super) version: i16,
    correlation_id: i32,
}

impl Call {
    fn frame<T: Message>(&self, response: &T) -> Answer {
        let mut writer = Writer::with_capacity(256);
        let header = ResponseHeader { correlation_id: self.correlation_id, ..Default::default() };
        header.write(&mut writer, self.key.response_header_version(self.version));
        response.write(&mut writer, self.version);
        match writer.finish() {
            Ok(encoded) => Answer::Frame(ReplyFrame::new(encoded.head)),
            Err(error) => Answer::Close(format!("the reply to {}: {error}", self.key.name()).into()),
        }
    }

    /// The reply, ready now.
    pub(super) fn reply<T: Message>(&self, response: &T) -> Reply {
        self.frame(response).into()
    }

    /// The reply comes when `response` is ready; later requests of the connection go on meanwhile.
    pub(super) fn later<T: Message>(self, response: impl Future<Output = T> + Send + 'static) -> Reply {
        Reply::later(async move { self.frame(&response.await) })
    }
}

/// First and last version that is answered here; `None` for what is not served on controller listeners.
const fn served(key: ApiKey) -> Option<(i16, i16)> {
    match key {
        ApiKey::ApiVersions
        | ApiKey::RaftVote
        | ApiKey::RaftAppend
        | ApiKey::RaftSnapshot
        | ApiKey::QuorumHello
        | ApiKey::FetchMetadata
        | ApiKey::Forward => Some(key.defined_versions()),
        // Version 0 does not say which endpoints are meant: it is about brokers. The first version of an election has no place to say
        // that another node leads.
        ApiKey::DescribeCluster | ApiKey::ElectLeaders => Some((1, key.defined_versions().1)),
        ApiKey::AlterPartitionReassignments
        | ApiKey::ListPartitionReassignments
        | ApiKey::UnregisterBroker
        | ApiKey::UpdateFeatures
        | ApiKey::DescribeQuorum
        | ApiKey::AddRaftVoter
        | ApiKey::RemoveRaftVoter => Some(key.defined_versions()),
        _ => None,
    }
}

impl Dispatch {
    pub(super) fn new(state: ServerState) -> Arc<Self> {
        Arc::new(Self { state: Arc::new(state) })
    }

    fn dispatch(&self, connection: &ConnectionInfo, frame: Bytes) -> Result<Reply, String> {
        let (key, version) = key_and_version(&frame)?;
        let mut reader = Reader::new(frame);
        let header = RequestHeader::read(&mut reader, key.request_header_version(version));
        reader.check().map_err(|error| format!("request header: {error}"))?;
        let (oldest, newest) = served(key).ok_or_else(|| format!("{} is not served", key.name()))?;
        let call = Call { key, version, correlation_id: header.correlation_id };
        if (oldest..=newest).contains(&version) {
            return self.handle(call, connection, reader);
        }
        match key {
            // KIP-511: in version 0, so that the client can read it.
            ApiKey::ApiVersions => Ok(Call { version: 0, ..call }.reply(&ApiVersionsResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                api_keys: ranges(),
                ..ApiVersionsResponse::default()
            })),
            _ => Err(format!("{} version {version} is not served", key.name())),
        }
    }

    fn handle(&self, call: Call, connection: &ConnectionInfo, r: Reader) -> Result<Reply, String> {
        let state = &self.state;
        let version = call.version;
        Ok(match call.key {
            ApiKey::ApiVersions => {
                let _software: ApiVersionsRequest = decode(r, version)?;
                call.reply(&administration::api_versions(state, ranges()))
            }
            ApiKey::DescribeCluster => {
                let request = decode(r, version)?;
                call.reply(&administration::describe_cluster(state, &request, connection.listener()))
            }
            ApiKey::RaftVote => call.later(raft::vote(state.clone(), decode(r, version)?)),
            ApiKey::RaftAppend => call.later(raft::append(state.clone(), decode(r, version)?)),
            ApiKey::RaftSnapshot => call.later(raft::snapshot(state.clone(), decode(r, version)?)),
            ApiKey::FetchMetadata => {
                call.later(feed::fetch(state.clone(), connection.id(), decode(r, version)?))
            }
            ApiKey::Forward => {
                call.later(forward::forward(state.clone(), connection.id(), decode(r, version)?))
            }
            ApiKey::QuorumHello => call.reply(&raft::hello(state, &decode(r, version)?)),
            key => return administer(state.clone(), key, call, r),
        })
    }
}

/// Requests of administrators that the controller decides.
fn administer(state: Arc<ServerState>, key: ApiKey, call: Call, r: Reader) -> Result<Reply, String> {
    let version = call.version;
    Ok(match key {
        ApiKey::ElectLeaders => call.later(ask::<ElectLeadersRequest>(state, decode(r, version)?)),
        ApiKey::AlterPartitionReassignments => {
            call.later(ask::<AlterPartitionReassignmentsRequest>(state, decode(r, version)?))
        }
        ApiKey::ListPartitionReassignments => {
            call.later(ask::<ListPartitionReassignmentsRequest>(state, decode(r, version)?))
        }
        ApiKey::UnregisterBroker => call.later(ask::<UnregisterBrokerRequest>(state, decode(r, version)?)),
        ApiKey::UpdateFeatures => call.later(ask::<UpdateFeaturesRequest>(state, decode(r, version)?)),
        ApiKey::DescribeQuorum => call.later(ask::<DescribeQuorumRequest>(state, decode(r, version)?)),
        ApiKey::AddRaftVoter => call.later(ask::<AddRaftVoterRequest>(state, decode(r, version)?)),
        ApiKey::RemoveRaftVoter => call.later(ask::<RemoveRaftVoterRequest>(state, decode(r, version)?)),
        other => return Err(format!("{} is not served", other.name())),
    })
}

impl Service for Dispatch {
    fn call(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Reply {
        self.dispatch(connection, frame).unwrap_or_else(|reason| Reply::Close(reason.into()))
    }

    fn closed(&self, connection: &Arc<ConnectionInfo>) {
        forward::closed(&self.state, connection.id());
        self.state.wholes.forget(connection.id());
    }
}

fn ranges() -> Vec<ApiVersion> {
    let ranges = ApiKey::ALL.iter().filter_map(|key| {
        let (min_version, max_version) = served(*key)?;
        Some(ApiVersion { api_key: key.code(), min_version, max_version, ..ApiVersion::default() })
    });
    ranges.collect()
}

fn key_and_version(frame: &[u8]) -> Result<(ApiKey, i16), String> {
    let Some((key, rest)) = frame.split_first_chunk::<2>() else {
        return Err("no request header".to_owned());
    };
    let Some(version) = rest.first_chunk::<2>() else { return Err("no request header".to_owned()) };
    let key = i16::from_be_bytes(*key);
    let known = ApiKey::from_i16(key).ok_or_else(|| format!("there is no API {key}"))?;
    Ok((known, i16::from_be_bytes(*version)))
}

fn decode<T: Message>(mut reader: Reader, version: i16) -> Result<T, String> {
    let message = T::read(&mut reader, version);
    reader.check().map_err(|error| format!("{}: {error}", T::NAME))?;
    Ok(message)
}
