//! How the broker asks the coordinator.

use std::sync::Arc;

use ottla_cluster::controller::{Context, Controller, Outcome};
use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use ottla_protocol::generated::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};
use ottla_protocol::generated::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::generated::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::generated::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::wire::Str;
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::{Answer, Command, Proposal};
use crate::error::RequestError;
use crate::feed::{MetadataFeed, Published};
use crate::raft::seat::Seat;

/// An answer that is true: what it says is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed<R> {
    /// A broker whose image has this index sees the request's effect.
    pub index: i64,
    /// To be sent to the client.
    pub response: R,
}

/// Asks the coordinator. Clones are cheap. A request that is dropped while it waits may still take effect.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle {
    queue: mpsc::Sender<Command>,
    published: Arc<Published>,
    seat: Arc<Seat>,
}

/// How a request is queued.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    ends_group: bool,
    frees_space: bool,
}

impl CoordinatorHandle {
    pub(crate) fn new(queue: mpsc::Sender<Command>, published: Arc<Published>, seat: Arc<Seat>) -> Self {
        Self { queue, published, seat }
    }

    /// The cluster that this node belongs to; waits until it does.
    ///
    /// # Errors
    /// When the coordinator has stopped before.
    pub async fn cluster_id(&self) -> Result<String, RequestError> {
        let mut cluster_id = self.seat.cluster_id();
        let known = cluster_id.wait_for(Option::is_some);
        tokio::select! {
            known = known => known.map_err(|_| RequestError::Stopped)?.clone().ok_or(RequestError::Stopped),
            () = self.queue.closed() => Err(RequestError::Stopped),
        }
    }

    /// This node's place in the quorum.
    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The metadata as it is committed now.
    #[must_use]
    pub fn image(&self) -> MetadataImage {
        self.published.image()
    }

    /// Index of the last committed entry, and every change of it.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.published.committed()
    }

    /// Committed entries from `from` on. With [`CoordinatorHandle::image`] a broker starts where the image ends:
    /// `feed(image.index() + 1)`.
    #[must_use]
    pub fn feed(&self, from: i64) -> MetadataFeed {
        MetadataFeed::new(from, self.published.clone(), self.queue.clone())
    }

    /// CreateTopics.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn create_topics(
        &self,
        request: CreateTopicsRequest,
    ) -> Result<Committed<CreateTopicsResponse>, RequestError> {
        self.ask(Flags::default(), move |controller, context| controller.create_topics(&request, context))
            .await
    }

    /// Makes topics with default settings because somebody asked for their metadata; those that exist are no error.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn auto_create_topics(
        &self,
        names: Vec<Str>,
    ) -> Result<Committed<CreateTopicsResponse>, RequestError> {
        self.ask(Flags::default(), move |controller, context| controller.auto_create_topics(&names, context))
            .await
    }

    /// DeleteTopics.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn delete_topics(
        &self,
        request: DeleteTopicsRequest,
    ) -> Result<Committed<DeleteTopicsResponse>, RequestError> {
        let flags = Flags { frees_space: true, ..Flags::default() };
        self.ask(flags, move |controller, _| controller.delete_topics(&request)).await
    }

    /// CreatePartitions.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Result<Committed<CreatePartitionsResponse>, RequestError> {
        self.ask(Flags::default(), move |controller, context| controller.create_partitions(&request, context))
            .await
    }

    /// IncrementalAlterConfigs.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> Result<Committed<IncrementalAlterConfigsResponse>, RequestError> {
        // A shorter retention is a way to make room.
        let flags = Flags { frees_space: true, ..Flags::default() };
        self.ask(flags, move |controller, _| controller.incremental_alter_configs(&request)).await
    }

    /// AlterConfigs.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn alter_configs(
        &self,
        request: AlterConfigsRequest,
    ) -> Result<Committed<AlterConfigsResponse>, RequestError> {
        let flags = Flags { frees_space: true, ..Flags::default() };
        self.ask(flags, move |controller, _| controller.alter_configs(&request)).await
    }

    /// AllocateProducerIds.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIdsRequest,
    ) -> Result<Committed<AllocateProducerIdsResponse>, RequestError> {
        self.ask(Flags::default(), move |controller, _| controller.allocate_producer_ids(&request)).await
    }

    /// BrokerRegistration. The broker's epoch is in the response.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn register_broker(
        &self,
        request: BrokerRegistrationRequest,
    ) -> Result<Committed<BrokerRegistrationResponse>, RequestError> {
        // Without a registration there is no start, and without a start nothing that gives space back.
        let flags = Flags { ends_group: true, frees_space: true };
        self.ask(flags, move |controller, context| controller.register_broker(&request, context)).await
    }

    /// AlterPartition: a leader's in-sync replicas.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Result<Committed<AlterPartitionResponse>, RequestError> {
        self.ask(Flags::default(), move |controller, _| controller.alter_partition(&request)).await
    }

    async fn ask<R, F>(&self, flags: Flags, decide: F) -> Result<Committed<R>, RequestError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Controller<'_>, &mut Context<'_>) -> Outcome<R> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            decide: Box::new(move |controller, context| {
                let outcome = decide(controller, context);
                let response = outcome.response;
                let answer: Answer = Box::new(move |result| {
                    // The asker may have gone; what was committed stays.
                    drop(reply.send(result.map(|index| Committed { index, response })));
                });
                (outcome.records, answer)
            }),
            ends_group: flags.ends_group,
            frees_space: flags.frees_space,
        };
        self.queue.send(Command::Decide(proposal)).await.map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }
}
