//! Metadata: brokers, and topics with their partitions and leaders; creates topics on first use where that is allowed.

use std::sync::Arc;

use ottla_cluster::controller::{INTERNAL_TOPICS, validate_topic_name};
use ottla_cluster::image::{MetadataImage, PartitionImage, TopicImage};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::wire::Str;
use ottla_transport::server::ConnectionInfo;

use crate::operations;
use crate::state::State;
use crate::topics::ServedTopic;

/// Version from which an empty list of topics means none instead of all.
const EMPTY_MEANS_NONE_SINCE: i16 = 1;
/// First version that may ask by id.
const TOPIC_IDS_SINCE: i16 = 10;

/// Whether every topic that the request names is known, so that it can be answered without asking the controller.
fn wants_creation(state: &State, image: &MetadataImage, request: &MetadataRequest, version: i16) -> Vec<Str> {
    let allowed =
        state.config.auto_create_topics_enable && (version < 4 || request.allow_auto_topic_creation);
    let Some(topics) = request.topics.as_ref().filter(|_| allowed) else { return Vec::new() };
    let unknown = |topic: &&MetadataRequestTopic| {
        topic
            .name
            .as_ref()
            .is_some_and(|name| image.topic_by_name(name).is_none() && validate_topic_name(name).is_ok())
            && topic.topic_id.is_zero()
    };
    topics.iter().filter(unknown).filter_map(|topic| topic.name.clone()).collect()
}

/// Answers Metadata at once; `Err` names the topics that must be created first, with [`create_and_answer`].
pub fn handle(
    state: &State,
    request: &MetadataRequest,
    version: i16,
    connection: &ConnectionInfo,
) -> Result<MetadataResponse, Vec<Str>> {
    let image = state.image();
    let missing = wants_creation(state, &image, request, version);
    if missing.is_empty() { Ok(describe(state, &image, request, version, connection)) } else { Err(missing) }
}

/// Creates `missing` with the broker's defaults, then answers. A topic that could not be created is answered as unknown,
/// and the client asks again.
pub async fn create_and_answer(
    state: Arc<State>,
    request: MetadataRequest,
    missing: Vec<Str>,
    version: i16,
    connection: Arc<ConnectionInfo>,
) -> MetadataResponse {
    let refused = state.auto_create(missing).await;
    let mut response = describe(&state, &state.image(), &request, version, &connection);
    for topic in &mut response.topics {
        let name = topic.name.as_deref().unwrap_or_default();
        if let Some((_, code)) = refused.iter().find(|(refused, _)| &**refused == name) {
            topic.error_code = code.code();
        }
    }
    response
}

fn describe(
    state: &State,
    image: &MetadataImage,
    request: &MetadataRequest,
    version: i16,
    connection: &ConnectionInfo,
) -> MetadataResponse {
    let mut topics: Vec<_> = match &request.topics {
        None => image.topics().map(|topic| found(state, image, topic)).collect(),
        Some(topics) if topics.is_empty() && version < EMPTY_MEANS_NONE_SINCE => {
            image.topics().map(|topic| found(state, image, topic)).collect()
        }
        Some(topics) => topics.iter().map(|asked| look_up(state, image, asked, version)).collect(),
    };
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = operations::TOPIC;
        }
    }
    let brokers = state.endpoints(image, connection.listener());
    MetadataResponse {
        brokers: brokers
            .into_iter()
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id.0,
                host: broker.host.into(),
                port: broker.port,
                rack: broker.rack.map(Into::into),
                ..Default::default()
            })
            .collect(),
        cluster_id: Some(state.cluster_id().into()),
        controller_id: state.config.node_id,
        cluster_authorized_operations: operations::if_asked(
            request.include_cluster_authorized_operations,
            operations::CLUSTER,
        ),
        topics,
        ..Default::default()
    }
}

fn look_up(
    state: &State,
    image: &MetadataImage,
    asked: &MetadataRequestTopic,
    version: i16,
) -> MetadataResponseTopic {
    if version >= TOPIC_IDS_SINCE && !asked.topic_id.is_zero() {
        return match image.topic_by_id(&asked.topic_id) {
            Some(topic) => found(state, image, topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicId.code(),
                topic_id: asked.topic_id,
                // Versions below 12 cannot say null.
                name: (version < 12).then(Str::default),
                ..Default::default()
            },
        };
    }
    let name = asked.name.clone().unwrap_or_default();
    match image.topic_by_name(&name) {
        Some(topic) => found(state, image, topic),
        None => {
            let error_code = code_of_unknown(&name).code();
            MetadataResponseTopic { error_code, name: Some(name), ..Default::default() }
        }
    }
}

fn found(state: &State, image: &MetadataImage, topic: &TopicImage) -> MetadataResponseTopic {
    let served = state.topics.get(topic.id);
    let partitions = (0..).zip(&topic.partitions);
    let partitions =
        partitions.map(|(index, partition)| described(state, image, served.as_deref(), index, partition));
    MetadataResponseTopic {
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

/// Kafka's internal topics.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// What is said of a topic that does not exist.
#[must_use]
pub fn code_of_unknown(name: &str) -> ErrorCode {
    match validate_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

/// The leader of a partition as clients are told.
pub struct ShownLeader {
    /// LEADER_NOT_AVAILABLE when there is none.
    pub code: ErrorCode,
    /// The leader, -1 for none.
    pub id: i32,
    /// Replicas that cannot serve: their broker is fenced or gone, or their log cannot be used.
    pub offline: Vec<i32>,
}

impl ShownLeader {
    /// `served` is this broker's side of the topic: a partition whose log failed here has no leader here.
    #[must_use]
    pub fn new(
        state: &State,
        image: &MetadataImage,
        served: Option<&ServedTopic>,
        index: i32,
        partition: &PartitionImage,
    ) -> Self {
        let own = state.config.node_id;
        let replica = served.and_then(|served| served.partition(index).ok());
        let has_failed = replica.is_some_and(|replica| replica.failure().is_some());
        let id = if has_failed && partition.leader.0 == own { -1 } else { partition.leader.0 };
        let code = if id < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
        let mut offline: Vec<i32> = image.offline_replicas(partition).map(|id| id.0).collect();
        if has_failed && !offline.contains(&own) {
            offline.push(own);
        }
        Self { code, id, offline }
    }
}

fn described(
    state: &State,
    image: &MetadataImage,
    served: Option<&ServedTopic>,
    index: i32,
    partition: &PartitionImage,
) -> MetadataResponsePartition {
    let leader = ShownLeader::new(state, image, served, index, partition);
    MetadataResponsePartition {
        error_code: leader.code.code(),
        partition_index: index,
        leader_id: leader.id,
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
        isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
        offline_replicas: leader.offline,
        ..Default::default()
    }
}
