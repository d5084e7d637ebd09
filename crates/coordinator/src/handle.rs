//! How a broker asks the coordinators: the one in its process, those it reaches over the network, or both.

use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::image::MetadataImage;
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use ottla_protocol::generated::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};
use ottla_protocol::generated::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_protocol::generated::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, AssignReplicasToDirsResponse,
};
use ottla_protocol::generated::auto_create_topics::AutoCreateTopicsRequest;
use ottla_protocol::generated::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::generated::create_topics::{
    CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::generated::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use ottla_protocol::wire::Str;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::decision::Origin;
use crate::error::RequestError;
use crate::feed::MetadataFeed;
use crate::limits::RETRY_PAUSE_MS;
use crate::local::Local;
use crate::question::Question;
use crate::remote::feed::RemoteFeed;
use crate::remote::{Attempt, Remote, RemoteOptions};

/// An answer that is true: what it says is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed<R> {
    /// A broker whose image has this index sees the request's effect.
    pub index: i64,
    /// To be sent to the client.
    pub response: R,
}

/// What comes of asking.
type Asked<R> = Result<Committed<R>, RequestError>;

/// Asks the coordinators. Clones are cheap. A request that is dropped while it waits may still take effect.
///
/// It finds the leader of the quorum by itself and asks again as long as that can do no harm: when nothing was decided, or when
/// deciding twice is as good as once. Whoever gets [`RequestError::LeadershipLost`] cannot know whether the request is in effect.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle {
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// A coordinator in this process, and the way to its leader where that is another.
    Local { local: Local, peers: Arc<Remote> },
    /// Coordinators elsewhere.
    Remote(Arc<Remote>),
}

impl CoordinatorHandle {
    pub(crate) fn new(local: Local) -> Self {
        let node_id = local.seat.me.id;
        let client_id = format!("coordinator-{node_id}");
        let options = RemoteOptions { node_id, ..RemoteOptions::new(Vec::new(), client_id) };
        Self { way: Way::Local { local, peers: Arc::new(Remote::new(options)) } }
    }

    /// Asks coordinators over the network. Connects when it is first used; must be used inside a runtime.
    #[must_use]
    pub fn remote(options: RemoteOptions) -> Self {
        Self { way: Way::Remote(Arc::new(Remote::new(options))) }
    }

    /// Whether there is a coordinator in this process, so that [`CoordinatorHandle::local_image`] is there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.way, Way::Local { .. })
    }

    /// The metadata as it is committed, as far as the coordinator in this process knows; `None` where there is none: follow
    /// [`CoordinatorHandle::feed`] instead.
    #[must_use]
    pub fn local_image(&self) -> Option<MetadataImage> {
        match &self.way {
            Way::Local { local, .. } => Some(local.published.image()),
            Way::Remote(_) => None,
        }
    }

    /// The metadata as it is committed now.
    ///
    /// # Panics
    /// Where there is no coordinator in this process.
    #[must_use]
    pub fn image(&self) -> MetadataImage {
        self.local_image().expect("only one with a coordinator in its process asks it for its image")
    }

    /// Index of the last committed entry that the coordinator in this process knows, and every change of it.
    ///
    /// # Panics
    /// Where there is no coordinator in this process.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<i64> {
        match &self.way {
            Way::Local { local, .. } => local.published.committed(),
            Way::Remote(_) => panic!("only one with a coordinator in its process asks it for its image"),
        }
    }

    /// Committed entries from `from` on: 0 for all that makes an empty [`crate::ImageReplica`] the present one, or what follows an
    /// image, `image.index() + 1`.
    #[must_use]
    pub fn feed(&self, from: i64) -> MetadataFeed {
        match &self.way {
            Way::Local { local, .. } => local.feed(from).into(),
            Way::Remote(remote) => RemoteFeed::new(remote.clone(), from).into(),
        }
    }

    /// The cluster's id: waits until the coordinator in this process belongs to one, or one elsewhere says it.
    ///
    /// # Errors
    /// `Stopped`, `TimedOut`; `OtherCluster` when it is not the one that was expected.
    pub async fn cluster_id(&self) -> Result<String, RequestError> {
        match &self.way {
            Way::Local { local, .. } => local.cluster_id().await,
            Way::Remote(remote) => remote.cluster_id().await,
        }
    }

    /// CreateTopics.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn create_topics(&self, request: CreateTopicsRequest) -> Asked<CreateTopicsResponse> {
        self.ask(request).await
    }

    /// Makes topics with default settings because somebody asked for their metadata; those that exist are no error.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn auto_create_topics(&self, names: Vec<Str>) -> Asked<CreateTopicsResponse> {
        let decided = self.ask(AutoCreateTopicsRequest { names, ..Default::default() }).await?;
        let topics = decided.response.topics.into_iter().map(|topic| CreatableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: topic.error_code,
            error_message: topic.error_message,
            num_partitions: topic.num_partitions,
            replication_factor: topic.replication_factor,
            ..CreatableTopicResult::default()
        });
        let response = CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
        Ok(Committed { index: decided.index, response })
    }

    /// DeleteTopics, with names and ids in `topics`.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn delete_topics(&self, request: DeleteTopicsRequest) -> Asked<DeleteTopicsResponse> {
        self.ask(request).await
    }

    /// CreatePartitions.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn create_partitions(
        &self,
        request: CreatePartitionsRequest,
    ) -> Asked<CreatePartitionsResponse> {
        self.ask(request).await
    }

    /// IncrementalAlterConfigs.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> Asked<IncrementalAlterConfigsResponse> {
        self.ask(request).await
    }

    /// AlterConfigs.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn alter_configs(&self, request: AlterConfigsRequest) -> Asked<AlterConfigsResponse> {
        self.ask(request).await
    }

    /// AllocateProducerIds.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIdsRequest,
    ) -> Asked<AllocateProducerIdsResponse> {
        self.ask(request).await
    }

    /// BrokerRegistration. The broker's epoch is in the response. With the leader in this process the broker serves at once, and is
    /// taken to live until its first heartbeat; otherwise it is fenced until a heartbeat says that it has read its registration, and
    /// refused with DuplicateBrokerRegistration while another process with its id is being heard of.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn register_broker(
        &self,
        request: BrokerRegistrationRequest,
    ) -> Asked<BrokerRegistrationResponse> {
        self.ask(request).await
    }

    /// BrokerHeartbeat. Over the network, the connection on which it goes is the broker's control connection: when it ends and no
    /// other heartbeat comes within half a second, the broker is fenced.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn broker_heartbeat(&self, request: BrokerHeartbeatRequest) -> Asked<BrokerHeartbeatResponse> {
        self.ask(request).await
    }

    /// UnregisterBroker.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn unregister_broker(
        &self,
        request: UnregisterBrokerRequest,
    ) -> Asked<UnregisterBrokerResponse> {
        self.ask(request).await
    }

    /// AssignReplicasToDirs (KIP-858).
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn assign_directories(
        &self,
        request: AssignReplicasToDirsRequest,
    ) -> Asked<AssignReplicasToDirsResponse> {
        self.ask(request).await
    }

    /// AlterPartition.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn alter_partition(&self, request: AlterPartitionRequest) -> Asked<AlterPartitionResponse> {
        self.ask(request).await
    }

    /// ElectLeaders.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn elect_leaders(&self, request: ElectLeadersRequest) -> Asked<ElectLeadersResponse> {
        self.ask(request).await
    }

    /// AlterPartitionReassignments.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignmentsRequest,
    ) -> Asked<AlterPartitionReassignmentsResponse> {
        self.ask(request).await
    }

    /// UpdateFeatures.
    ///
    /// # Errors
    /// When the decision could not be committed.
    pub async fn update_features(&self, request: UpdateFeaturesRequest) -> Asked<UpdateFeaturesResponse> {
        self.ask(request).await
    }

    /// ListPartitionReassignments, as the leader knows them.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn list_partition_reassignments(
        &self,
        request: ListPartitionReassignmentsRequest,
    ) -> Asked<ListPartitionReassignmentsResponse> {
        self.ask(request).await
    }

    /// DescribeQuorum, as the leader knows it.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn describe_quorum(&self, request: DescribeQuorumRequest) -> Asked<DescribeQuorumResponse> {
        self.ask(request).await
    }

    /// AddRaftVoter: waits until the node votes, or for the request's time.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn add_raft_voter(&self, request: AddRaftVoterRequest) -> Asked<AddRaftVoterResponse> {
        self.ask(request).await
    }

    /// RemoveRaftVoter: waits until the node votes no more.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn remove_raft_voter(&self, request: RemoveRaftVoterRequest) -> Asked<RemoveRaftVoterResponse> {
        self.ask(request).await
    }

    async fn ask<Q: Question>(&self, request: Q) -> Asked<Q::Response> {
        match &self.way {
            Way::Local { local, peers } => ask_here_or_there(local, peers, request).await,
            Way::Remote(remote) => remote.ask(&request).await,
        }
    }
}

/// Asks the coordinator of this process, and its leader where that is another one.
async fn ask_here_or_there<Q: Question>(local: &Local, peers: &Remote, request: Q) -> Asked<Q::Response> {
    let deadline = Instant::now() + peers.request_timeout();
    let mut leadership = local.published.leadership();
    loop {
        // Whether what is in the driver's hands will be committed is not known when the time is over.
        let asked = timeout_at(deadline, request.clone().answer(local, Origin::Process)).await;
        match asked.unwrap_or(Err(RequestError::LeadershipLost)) {
            Err(RequestError::NotLeader) => {}
            other => return other,
        }
        let now = leadership.borrow_and_update().clone();
        if !now.has_others() {
            return Err(RequestError::NotLeader);
        }
        let elsewhere = now.leader.as_ref().is_some_and(|leader| leader.id != now.own_id);
        peers.learn(&now);
        if elsewhere {
            match peers.attempt(&request, deadline).await {
                Attempt::Done(result) => return result,
                Attempt::Elsewhere { .. } => {}
            }
        }
        let pause = Instant::now() + Duration::from_millis(RETRY_PAUSE_MS);
        if pause >= deadline {
            return Err(RequestError::TimedOut);
        }
        // Over, or something new: either way it is time to ask again.
        timeout_at(pause, leadership.changed()).await.ok();
    }
}
