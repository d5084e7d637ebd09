//! From a frame to its handler and back: one match on the API key. Hot and cheap requests are handled on the connection's
//! own task; whoever must wait returns a future.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ottla_cluster::groups::Client;
use ottla_protocol::generated::api_versions::ApiVersionsRequest;
use ottla_protocol::generated::fetch::{FetchRequest, FetchResponse};
use ottla_protocol::generated::list_offsets::ListOffsetsRequest;
use ottla_protocol::generated::produce::ProduceRequest;
use ottla_protocol::generated::{ApiKey, ErrorCode, RequestHeader, ResponseHeader};
use ottla_protocol::wire::{Message, Reader, Str, Writer};
use ottla_storage::log::LogSlice;
use ottla_transport::server::{Answer, Body, ConnectionInfo, Reply, ReplyFrame, Service, Splice};

use crate::groups::{self, Answered};
use crate::handlers;
use crate::metrics::Metrics;
use crate::replication::leading;
use crate::state::State;

/// The service behind every client listener.
pub struct Dispatch {
    state: Arc<State>,
}

/// One request on its way to its reply.
pub struct Call {
    key: ApiKey,
    /// Version of the request and of its reply.
    pub version: i16,
    correlation_id: i32,
    received: Instant,
    metrics: Arc<Metrics>,
}

impl Call {
    /// Encodes the reply and counts the request.
    pub fn frame<T: Message>(&self, response: &T) -> Answer {
        self.spliced(response, Vec::new())
    }

    /// Like [`Call::frame`], with stored bytes where the message says `Records::Spliced` with a length above 0. A reply that
    /// cannot be written (such as one with a text beyond 32,767 bytes about a name that was nearly as long) closes the connection.
    pub fn spliced<T: Message>(&self, response: &T, slices: Vec<LogSlice>) -> Answer {
        self.count_errors(response);
        let mut writer = Writer::with_capacity(256);
        let header = ResponseHeader { correlation_id: self.correlation_id, ..Default::default() };
        header.write(&mut writer, self.key.response_header_version(self.version));
        response.write(&mut writer, self.version);
        self.finish();
        let encoded = match writer.finish() {
            Ok(encoded) => encoded,
            Err(error) => return Answer::Close(format!("the reply to {}: {error}", self.key.name()).into()),
        };
        let places = encoded.splices.iter().filter(|splice| splice.size_bytes > 0);
        let splices = places
            .zip(slices)
            .map(|(place, slice)| Splice { position: place.at, body: Box::new(Stored(slice)) })
            .collect();
        Answer::Frame(ReplyFrame::spliced(encoded.head, splices))
    }

    /// The reply, ready now.
    pub fn reply<T: Message>(&self, response: &T) -> Reply {
        self.frame(response).into()
    }

    /// The reply comes when `response` is ready; later requests of the connection go on meanwhile.
    fn later<T: Message>(self, response: impl Future<Output = T> + Send + 'static) -> Reply {
        Reply::later(async move { self.frame(&response.await) })
    }

    /// The reply of a group, now or later.
    fn answer<T: Message + 'static>(self, answered: Answered<T>) -> Reply {
        match answered {
            Answered::Now(response) => self.reply(&response),
            Answered::Later(response) => self.later(response),
        }
    }

    /// The number that the client gave the request.
    #[must_use]
    pub fn correlation_id(&self) -> i32 {
        self.correlation_id
    }

    /// Counts a request that is over.
    pub fn finish(&self) {
        self.metrics.api(self.key.code()).observe(self.received.elapsed());
    }

    /// Counts an error of a reply that is no message of its own.
    pub fn count_error(&self, code: ErrorCode) {
        self.metrics.api(self.key.code()).error(code.code());
    }

    /// Counts the errors that a reply carries.
    pub fn count_errors<T: Message>(&self, response: &T) {
        let api = self.metrics.api(self.key.code());
        response.error_codes(&mut |code| api.error(code));
    }
}

/// A stored slice as the transport reads it.
struct Stored(LogSlice);

impl Body for Stored {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes() as u64
    }

    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.0.read_at_nowait(buf, usize::try_from(at).expect("a slice is shorter than memory"))
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.0.read_at(buf, usize::try_from(at).expect("a slice is shorter than memory"))
    }
}

impl Dispatch {
    /// Dispatches to the handlers of `state`.
    #[must_use]
    pub fn new(state: Arc<State>) -> Arc<Self> {
        Arc::new(Self { state })
    }

    fn dispatch(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Result<Reply, String> {
        let received = Instant::now();
        let (key, version) = key_and_version(&frame)?;
        let mut reader = Reader::new(frame);
        let header = RequestHeader::read(&mut reader, key.request_header_version(version));
        reader.check().map_err(|error| format!("request header: {error}"))?;
        let metrics = self.state.metrics.clone();
        let call = Call { key, version, correlation_id: header.correlation_id, received, metrics };
        let (oldest, newest) =
            key.served_versions().ok_or_else(|| format!("{} is not served", key.name()))?;
        if version < oldest || version > newest {
            return match key {
                ApiKey::ApiVersions => Ok(handlers::api_versions::too_new(&call)),
                ApiKey::Produce if version >= 0 && version < oldest => {
                    handlers::produce_old::handle(&call, &mut reader)
                }
                _ => Err(format!("{} version {version} is not served", key.name())),
            };
        }
        self.handle(call, connection, reader, header.client_id.as_ref())
    }

    fn handle(
        &self,
        call: Call,
        connection: &Arc<ConnectionInfo>,
        r: Reader,
        client_id: Option<&Str>,
    ) -> Result<Reply, String> {
        let state = &self.state;
        let version = call.version;
        Ok(match call.key {
            ApiKey::Produce => {
                let request: ProduceRequest = decode(r, version)?;
                handlers::produce::handle(state, &request, version).answer(call)
            }
            ApiKey::Fetch => fetch(state, call, &decode(r, version)?),
            ApiKey::ReportDurable => {
                handlers::report_durable::handle(state, &decode(r, version)?);
                call.finish();
                Reply::None
            }
            ApiKey::ApiVersions => {
                let request: ApiVersionsRequest = decode(r, version)?;
                call.reply(&handlers::api_versions::handle(state, &request, connection))
            }
            ApiKey::Metadata => metadata(state, call, decode(r, version)?, connection),
            ApiKey::ListOffsets => list_offsets(state, call, decode(r, version)?),
            ApiKey::OffsetForLeaderEpoch => {
                call.reply(&handlers::offset_for_leader_epoch::handle(state, &decode(r, version)?))
            }
            ApiKey::DescribeConfigs => {
                call.reply(&handlers::describe_configs::handle(state, &decode(r, version)?))
            }
            ApiKey::DescribeCluster => {
                let request = decode(r, version)?;
                call.reply(&handlers::describe_cluster::handle(state, &request, connection))
            }
            ApiKey::DescribeTopicPartitions => {
                call.reply(&handlers::describe_topic_partitions::handle(state, &decode(r, version)?))
            }
            ApiKey::ListConfigResources => {
                call.reply(&handlers::list_config_resources::handle(state, &decode(r, version)?, version))
            }
            ApiKey::ListGroups => call.reply(&handlers::list_groups::handle(state, &decode(r, version)?)),
            ApiKey::FindCoordinator => call.answer(handlers::find_coordinator::handle(
                state,
                decode(r, version)?,
                version,
                connection,
            )),
            key if is_of_a_group(key) => {
                return self.handle_group(key, call, r, groups::client(client_id, connection));
            }
            key => return self.handle_slow(key, call, r),
        })
    }

    /// Requests that one group answers, or several.
    fn handle_group(&self, key: ApiKey, call: Call, r: Reader, client: Client) -> Result<Reply, String> {
        let state = &self.state;
        match key {
            ApiKey::OffsetCommit => grouped(state, call, r, client, handlers::offset_commit::handle),
            ApiKey::OffsetFetch => grouped(state, call, r, client, handlers::offset_fetch::handle),
            ApiKey::JoinGroup => grouped(state, call, r, client, handlers::join_group::handle),
            ApiKey::Heartbeat => grouped(state, call, r, client, handlers::heartbeat::handle),
            ApiKey::LeaveGroup => grouped(state, call, r, client, handlers::leave_group::handle),
            ApiKey::SyncGroup => grouped(state, call, r, client, handlers::sync_group::handle),
            ApiKey::DescribeGroups => grouped(state, call, r, client, handlers::describe_groups::handle),
            ApiKey::DeleteGroups => grouped(state, call, r, client, handlers::delete_groups::handle),
            ApiKey::OffsetDelete => grouped(state, call, r, client, handlers::offset_delete::handle),
            ApiKey::ExplainGroups => grouped(state, call, r, client, handlers::explain_groups::handle),
            other => Err(format!("{} is not served", other.name())),
        }
    }

    /// Requests of administrators that the controller decides: brokers, the places of partitions, the quorum.
    fn handle_cluster(&self, key: ApiKey, call: Call, r: Reader) -> Result<Reply, String> {
        let state = self.state.clone();
        let version = call.version;
        Ok(match key {
            ApiKey::AlterPartitionReassignments => {
                call.later(handlers::alter_partition_reassignments::handle(state, decode(r, version)?))
            }
            ApiKey::ElectLeaders => call.later(handlers::elect_leaders::handle(state, decode(r, version)?)),
            ApiKey::ListPartitionReassignments => {
                call.later(handlers::list_partition_reassignments::handle(state, decode(r, version)?))
            }
            ApiKey::UnregisterBroker => {
                call.later(handlers::unregister_broker::handle(state, decode(r, version)?))
            }
            ApiKey::UpdateFeatures => {
                call.later(handlers::update_features::handle(state, decode(r, version)?))
            }
            ApiKey::DescribeQuorum => {
                call.later(handlers::describe_quorum::handle(state, decode(r, version)?))
            }
            ApiKey::AddRaftVoter => call.later(handlers::add_raft_voter::handle(state, decode(r, version)?)),
            ApiKey::RemoveRaftVoter => {
                call.later(handlers::remove_raft_voter::handle(state, decode(r, version)?))
            }
            other => return Err(format!("{} is not served", other.name())),
        })
    }

    /// Requests that ask the controller or touch many files.
    fn handle_slow(&self, key: ApiKey, call: Call, r: Reader) -> Result<Reply, String> {
        let state = self.state.clone();
        let version = call.version;
        Ok(match key {
            ApiKey::CreateTopics => call.later(handlers::create_topics::handle(state, decode(r, version)?)),
            ApiKey::DeleteTopics => {
                call.later(handlers::delete_topics::handle(state, decode(r, version)?, version))
            }
            ApiKey::CreatePartitions => {
                call.later(handlers::create_partitions::handle(state, decode(r, version)?))
            }
            ApiKey::AlterConfigs => call.later(handlers::alter_configs::handle(state, decode(r, version)?)),
            ApiKey::IncrementalAlterConfigs => {
                call.later(handlers::incremental_alter_configs::handle(state, decode(r, version)?))
            }
            ApiKey::InitProducerId => {
                call.later(handlers::init_producer_id::handle(state, decode(r, version)?))
            }
            ApiKey::DeleteRecords => call.later(handlers::delete_records::handle(state, decode(r, version)?)),
            ApiKey::DescribeLogDirs => {
                call.later(handlers::describe_log_dirs::handle(state, decode(r, version)?))
            }
            other => return self.handle_cluster(other, call, r),
        })
    }
}

impl Service for Dispatch {
    fn call(&self, connection: &Arc<ConnectionInfo>, frame: Bytes) -> Reply {
        self.dispatch(connection, frame).unwrap_or_else(|reason| Reply::Close(reason.into()))
    }
}

const fn is_of_a_group(key: ApiKey) -> bool {
    use ApiKey::{
        DeleteGroups, DescribeGroups, ExplainGroups, Heartbeat, JoinGroup, LeaveGroup, OffsetCommit,
        OffsetDelete, OffsetFetch, SyncGroup,
    };
    matches!(
        key,
        OffsetCommit
            | OffsetFetch
            | JoinGroup
            | Heartbeat
            | LeaveGroup
            | SyncGroup
            | DescribeGroups
            | DeleteGroups
            | OffsetDelete
            | ExplainGroups
    )
}

/// Has a group's handler answer, once there is a topic for groups.
fn grouped<Q: Message + Send + 'static, T: Message + Send + 'static>(
    state: &Arc<State>,
    call: Call,
    r: Reader,
    client: Client,
    handle: fn(&Arc<State>, &Client, Q, i16) -> Answered<T>,
) -> Result<Reply, String> {
    let version = call.version;
    let request: Q = decode(r, version)?;
    Ok(call.answer(groups::with_topic(state, move |state| handle(state, &client, request, version))))
}

fn fetch(state: &Arc<State>, call: Call, request: &FetchRequest) -> Reply {
    if request.replica_state.replica_id >= 0 {
        return match leading::handle(state, request) {
            Ok(wait) => Reply::later(async move {
                let fetched = wait.await;
                call.spliced(&fetched.response, fetched.slices)
            }),
            Err(code) => call.reply(&FetchResponse { error_code: code.code(), ..Default::default() }),
        };
    }
    match handlers::fetch::handle(state, request, call.version) {
        Ok(wait) => Reply::later(async move {
            let fetched = wait.await;
            call.spliced(&fetched.response, fetched.slices)
        }),
        Err(code) => call.reply(&FetchResponse { error_code: code.code(), ..Default::default() }),
    }
}

fn list_offsets(state: &Arc<State>, call: Call, request: ListOffsetsRequest) -> Reply {
    let unsettled = handlers::list_offsets::unsettled(state, &request);
    if unsettled.is_empty() {
        return call.reply(&handlers::list_offsets::handle(state, &request, call.version));
    }
    let state = state.clone();
    Reply::later(async move {
        for end in unsettled {
            // A leadership that ended meanwhile shows in the answer itself.
            end.await.ok();
        }
        call.frame(&handlers::list_offsets::handle(&state, &request, call.version))
    })
}

fn metadata(
    state: &Arc<State>,
    call: Call,
    request: ottla_protocol::generated::metadata::MetadataRequest,
    connection: &Arc<ConnectionInfo>,
) -> Reply {
    match handlers::metadata::handle(state, &request, call.version, connection) {
        Ok(response) => call.reply(&response),
        Err(missing) => {
            let (state, connection, version) = (state.clone(), connection.clone(), call.version);
            call.later(handlers::metadata::create_and_answer(state, request, missing, version, connection))
        }
    }
}

fn key_and_version(frame: &Bytes) -> Result<(ApiKey, i16), String> {
    let Some((&[a, b, c, d], _)) = frame.split_first_chunk::<4>() else {
        return Err(format!("a request of {} bytes has no header", frame.len()));
    };
    let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
    let key = ApiKey::from_i16(key).ok_or_else(|| format!("unknown API key {key}"))?;
    Ok((key, version))
}

/// Bytes behind a request are ignored, as Kafka does: librdkafka (at least up to 2.16) sends three of them in a flexible
/// Metadata request for all topics.
fn decode<T: Message>(mut reader: Reader, version: i16) -> Result<T, String> {
    let request = T::read(&mut reader, version);
    match reader.check() {
        Ok(()) => Ok(request),
        Err(error) => Err(format!("{} version {version}: {error}", T::NAME)),
    }
}
