//! FindCoordinator: the broker that coordinates a group.

use std::sync::Arc;

use ottla_cluster::controller::OFFSETS_TOPIC;
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_protocol::wire::Str;
use ottla_transport::server::ConnectionInfo;

use crate::groups::{Answered, partition_of, with_topic};
use crate::handlers::metadata::ShownLeader;
use crate::state::State;

/// First version that asks for several keys.
const BATCHED_SINCE: i16 = 4;
/// Key types.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers for a group once there is a `__consumer_offsets`.
pub fn handle(
    state: &Arc<State>,
    request: FindCoordinatorRequest,
    version: i16,
    connection: &Arc<ConnectionInfo>,
) -> Answered<FindCoordinatorResponse> {
    if request.key_type != GROUP {
        let (code, text) = why_not(request.key_type);
        return Answered::Now(answer(request, version, |key| refused(key, code, Some(text))));
    }
    let connection = connection.clone();
    with_topic(state, move |state| {
        let image = state.image();
        Answered::Now(answer(request, version, |key| find(state, &image, key, connection.listener())))
    })
}

/// A transactional producer gives up for good on this code alone, librdkafka's as well as Java's; after others librdkafka asks
/// again and again, until `init_transactions` times out without a reason.
fn why_not(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not served by this version of Ottla",
        ),
        SHARE => (ErrorCode::InvalidRequest, "share groups are not served"),
        _ => (ErrorCode::InvalidRequest, "the key type is 0 (group), 1 (transaction) or 2 (share)"),
    }
}

fn answer(
    request: FindCoordinatorRequest,
    version: i16,
    find: impl Fn(Str) -> Coordinator,
) -> FindCoordinatorResponse {
    if version >= BATCHED_SINCE {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = find(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

fn find(state: &State, image: &MetadataImage, key: Str, listener: &str) -> Coordinator {
    let unavailable = |key| refused(key, ErrorCode::CoordinatorNotAvailable, None);
    let Some(topic) = image.topic_by_name(OFFSETS_TOPIC) else { return unavailable(key) };
    let number = partition_of(&key, topic.partitions.len());
    let index = usize::try_from(number).expect("numbers of partitions are not negative");
    let Some(partition) = topic.partitions.get(index) else { return unavailable(key) };
    let served = state.topics.get(topic.id);
    let leader = ShownLeader::new(state, image, served.as_deref(), number, partition).id;
    let endpoint = state.endpoints(image, listener).into_iter().find(|endpoint| endpoint.id.0 == leader);
    match endpoint {
        Some(endpoint) => Coordinator {
            key,
            node_id: endpoint.id.0,
            host: endpoint.host.into(),
            port: endpoint.port,
            ..Default::default()
        },
        None => unavailable(key),
    }
}

fn refused(key: Str, code: ErrorCode, text: Option<&str>) -> Coordinator {
    let error_message = text.map(Str::from);
    Coordinator { key, node_id: -1, port: -1, error_code: code.code(), error_message, ..Default::default() }
}
