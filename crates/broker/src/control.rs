//! The way to the controller: hands a request to the coordinator and waits until this broker has applied what was decided, so
//! that a client that is told of a topic can use it at once.

mod administration;

use std::ops::Range;
use std::sync::Arc;

use ottla_cluster::image::MetadataImage;
use ottla_coordinator::{Committed, CoordinatorHandle, RequestError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::allocate_producer_ids::AllocateProducerIdsRequest;
use ottla_protocol::generated::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use ottla_protocol::generated::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use ottla_protocol::generated::create_topics::{
    CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_protocol::generated::incremental_alter_configs::{
    AlterConfigsResourceResponse as IncrementalResult, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use ottla_protocol::wire::Str;
use tokio::sync::watch;

use crate::life::Life;
use crate::shutdown::{Reason, Shutdown};

/// A broker's line to the controller.
#[derive(Clone)]
pub struct Control {
    coordinator: CoordinatorHandle,
    image: watch::Receiver<Arc<MetadataImage>>,
    broker_id: i32,
    life: Arc<Life>,
    shutdown: Shutdown,
}

impl Control {
    /// For the broker with this life; `image` is what it has applied. A controller whose log has failed
    /// ends the process by `shutdown`.
    #[must_use]
    pub fn new(
        coordinator: CoordinatorHandle,
        image: watch::Receiver<Arc<MetadataImage>>,
        broker_id: i32,
        life: Arc<Life>,
        shutdown: Shutdown,
    ) -> Self {
        Self { coordinator, image, broker_id, life, shutdown }
    }

    /// The response of a decision, once it is applied here.
    async fn applied<T>(&self, decided: Result<Committed<T>, RequestError>) -> Result<T, ErrorCode> {
        let decided = decided.map_err(|error| {
            if let RequestError::Fenced(why) = &error {
                // Nothing could be changed any more: as Kafka does, the process ends, and the next start finds out what is on disk.
                self.shutdown.request(Reason::Fatal(format!("the metadata log has failed: {why}")));
            }
            error.error_code()
        })?;
        let mut image = self.image.clone();
        let reached = image.wait_for(|image| image.index() >= decided.index).await;
        reached.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        Ok(decided.response)
    }

    /// CreateTopics.
    pub async fn create_topics(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let names: Vec<Str> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let decided = self.coordinator.create_topics(request).await;
        self.applied(decided).await.unwrap_or_else(|code| CreateTopicsResponse {
            topics: names
                .into_iter()
                .map(|name| CreatableTopicResult { name, error_code: code.code(), ..Default::default() })
                .collect(),
            ..Default::default()
        })
    }

    /// DeleteTopics, with names and ids in `topics`.
    pub async fn delete_topics(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let asked: Vec<_> = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id)).collect();
        let decided = self.coordinator.delete_topics(request).await;
        self.applied(decided).await.unwrap_or_else(|code| DeleteTopicsResponse {
            responses: asked
                .into_iter()
                .map(|(name, topic_id)| DeletableTopicResult {
                    name,
                    topic_id,
                    error_code: code.code(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    }

    /// CreatePartitions.
    pub async fn create_partitions(&self, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
        let names: Vec<Str> = request.topics.iter().map(|topic| topic.name.clone()).collect();
        let decided = self.coordinator.create_partitions(request).await;
        self.applied(decided).await.unwrap_or_else(|code| CreatePartitionsResponse {
            results: names
                .into_iter()
                .map(|name| CreatePartitionsTopicResult {
                    name,
                    error_code: code.code(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    }

    /// AlterConfigs.
    pub async fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let asked: Vec<_> =
            request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
        let decided = self.coordinator.alter_configs(request).await;
        self.applied(decided).await.unwrap_or_else(|code| AlterConfigsResponse {
            responses: asked
                .into_iter()
                .map(|(resource_type, resource_name)| AlterConfigsResourceResponse {
                    error_code: code.code(),
                    resource_type,
                    resource_name,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    }

    /// IncrementalAlterConfigs.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let asked: Vec<_> =
            request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
        let decided = self.coordinator.incremental_alter_configs(request).await;
        self.applied(decided).await.unwrap_or_else(|code| IncrementalAlterConfigsResponse {
            responses: asked
                .into_iter()
                .map(|(resource_type, resource_name)| IncrementalResult {
                    error_code: code.code(),
                    resource_type,
                    resource_name,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    }

    /// Creates topics with the defaults; those that were refused come back with their code.
    pub async fn auto_create(&self, names: Vec<Str>) -> Vec<(Str, ErrorCode)> {
        let decided = self.coordinator.auto_create_topics(names.clone()).await;
        match self.applied(decided).await {
            Ok(response) => {
                let refused = response.topics.into_iter().filter(|topic| topic.error_code != 0);
                refused
                    .map(|topic| {
                        let code = ErrorCode::from_code(topic.error_code);
                        (topic.name, code.unwrap_or(ErrorCode::UnknownServerError))
                    })
                    .collect()
            }
            Err(code) => names.into_iter().map(|name| (name, code)).collect(),
        }
    }

    /// AlterPartition. What is decided may be known here before it is applied.
    ///
    /// # Errors
    /// The code of who could not be asked; the request may have been carried out.
    pub async fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Result<AlterPartitionResponse, ErrorCode> {
        let decided = self.coordinator.alter_partition(request).await;
        decided.map(|decided| decided.response).map_err(|error| error.error_code())
    }

    /// A block of producer ids that nobody else has.
    ///
    /// # Errors
    /// The controller's code.
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, ErrorCode> {
        let request = AllocateProducerIdsRequest {
            broker_id: self.broker_id,
            broker_epoch: self.life.epoch(),
            ..Default::default()
        };
        let decided = self.coordinator.allocate_producer_ids(request).await;
        let response = self.applied(decided).await?;
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                let start = response.producer_id_start;
                Ok(start..start + i64::from(response.producer_id_len))
            }
            Some(code) => Err(code),
            None => Err(ErrorCode::UnknownServerError),
        }
    }
}
