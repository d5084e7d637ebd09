//! What the controller can be asked, one implementation a request: how it is decided, and how it may be passed on. The same table
//! serves a broker in this process, one that asks over the network, and a coordinator that passes on what its leader has to decide.

use ottla_cluster::controller::{
    Context, Controller, DirectoryAssignment, Outcome, Tenure, list_partition_reassignments,
};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use ottla_protocol::generated::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};
use ottla_protocol::generated::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_protocol::generated::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, AssignReplicasToDirsResponse, ResponseDirectoryData, ResponsePartitionData,
    ResponseTopicData,
};
use ottla_protocol::generated::auto_create_topics::{
    AutoCreateTopicsRequest, AutoCreateTopicsResponse, AutoCreatedTopic,
};
use ottla_protocol::generated::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::generated::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::generated::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::generated::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::generated::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Message;

use crate::raft::seat::Seat;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This process.
    Process,
    /// A connection to a controller listener of this process, by its number.
    Connection(u64),
}

/// How a request is queued and passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether nothing may be decided after it in its group: its decision names the index of its entry, and two that do must
    /// not share one.
    pub(crate) ends_group: bool,
    /// Whether it gives disk space back, or nothing could without it, so that it may use the reserve.
    pub(crate) frees_space: bool,
    /// Whether it may be sent again when it is not known whether it was decided: twice is as once, or the answer tells.
    pub(crate) may_repeat: bool,
    /// Whether it says that a broker lives: it has a connection of its own and a short time.
    pub(crate) is_heartbeat: bool,
}

impl Rules {
    pub(crate) const NONE: Self =
        Self { ends_group: false, frees_space: false, may_repeat: false, is_heartbeat: false };
}

/// What a decision sees.
pub(crate) struct Desk<'a> {
    /// The working copy.
    pub(crate) controller: Controller<'a>,
    /// The entry's index and random numbers.
    pub(crate) context: Context<'a>,
    /// What is known of the brokers.
    pub(crate) tenure: &'a mut Tenure,
    /// Monotonic milliseconds.
    pub(crate) now_ms: i64,
    /// The broker of this process that has not yet spoken for itself.
    pub(crate) resident: &'a mut Option<Resident>,
    /// The quorum as this node knows it.
    pub(crate) seat: &'a Seat,
}

/// A broker in the process of the coordinator with which it registered. It lives as long as the process, until it sends heartbeats
/// itself: it may have a lot to read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) id: BrokerId,
    pub(crate) epoch: i64,
}

/// A request that the controller decides.
pub(crate) trait Decision: Message + Clone + Send + Sync + 'static {
    /// What is answered.
    type Response: Message + Send + 'static;
    /// How it is queued and passed on.
    const RULES: Rules = Rules::NONE;

    /// Decides it on the working copy.
    fn decide(&self, desk: &mut Desk<'_>, origin: Origin) -> Outcome<Self::Response>;

    /// The broker that says by it that it lives.
    fn lives(&self) -> Option<BrokerId> {
        None
    }
}

impl Decision for CreateTopicsRequest {
    type Response = CreateTopicsResponse;

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<CreateTopicsResponse> {
        desk.controller.create_topics(self, &mut desk.context)
    }
}

impl Decision for AutoCreateTopicsRequest {
    type Response = AutoCreateTopicsResponse;
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AutoCreateTopicsResponse> {
        let Outcome { records, response } =
            desk.controller.auto_create_topics(&self.names, &mut desk.context);
        let topics = response.topics.into_iter().map(|topic| AutoCreatedTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: topic.error_code,
            error_message: topic.error_message,
            num_partitions: topic.num_partitions,
            replication_factor: topic.replication_factor,
            ..AutoCreatedTopic::default()
        });
        let topics = topics.collect();
        Outcome { records, response: AutoCreateTopicsResponse { topics, ..Default::default() } }
    }
}

impl Decision for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;
    const RULES: Rules = Rules { frees_space: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<DeleteTopicsResponse> {
        desk.controller.delete_topics(self)
    }
}

impl Decision for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<CreatePartitionsResponse> {
        desk.controller.create_partitions(self, &mut desk.context)
    }
}

impl Decision for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;
    // A shorter retention is a way to make room.
    const RULES: Rules = Rules { frees_space: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<IncrementalAlterConfigsResponse> {
        desk.controller.incremental_alter_configs(self)
    }
}

impl Decision for AlterConfigsRequest {
    type Response = AlterConfigsResponse;
    const RULES: Rules = Rules { frees_space: true, may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AlterConfigsResponse> {
        desk.controller.alter_configs(self)
    }
}

impl Decision for AllocateProducerIdsRequest {
    type Response = AllocateProducerIdsResponse;
    // A block that nobody gets is no loss.
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AllocateProducerIdsResponse> {
        desk.controller.allocate_producer_ids(self)
    }
}

impl Decision for BrokerRegistrationRequest {
    type Response = BrokerRegistrationResponse;
    // Without a registration there is no start, and without a start nothing that gives space back. The same process gets its epoch
    // again.
    const RULES: Rules = Rules { ends_group: true, frees_space: true, may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, origin: Origin) -> Outcome<BrokerRegistrationResponse> {
        if let Origin::Connection(_) = origin {
            return desk.controller.admit_broker(self, desk.tenure, desk.now_ms, &desk.context);
        }
        let outcome = desk.controller.register_broker(self, &desk.context);
        if outcome.response.error_code == ErrorCode::None.code() {
            let epoch = outcome.response.broker_epoch;
            *desk.resident = Some(Resident { id: BrokerId(self.broker_id), epoch });
        }
        outcome
    }
}

impl Decision for BrokerHeartbeatRequest {
    type Response = BrokerHeartbeatResponse;
    const RULES: Rules = Rules { frees_space: true, may_repeat: true, is_heartbeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, origin: Origin) -> Outcome<BrokerHeartbeatResponse> {
        let id = BrokerId(self.broker_id);
        let outcome = desk.controller.broker_heartbeat(self, desk.tenure, desk.now_ms, &desk.context);
        if outcome.response.error_code != ErrorCode::None.code() {
            return outcome;
        }
        if let Origin::Connection(connection) = origin {
            desk.tenure.handle_connected(id, self.broker_epoch, connection);
        }
        if desk.resident.is_some_and(|resident| resident.id == id) {
            *desk.resident = None;
        }
        outcome
    }

    fn lives(&self) -> Option<BrokerId> {
        Some(BrokerId(self.broker_id))
    }
}

impl Decision for UnregisterBrokerRequest {
    type Response = UnregisterBrokerResponse;

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<UnregisterBrokerResponse> {
        desk.controller.unregister_broker(self, desk.tenure)
    }
}

impl Decision for AlterPartitionRequest {
    type Response = AlterPartitionResponse;
    // A second time the partition's epoch is an old one, and the answer says what is.
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AlterPartitionResponse> {
        desk.controller.alter_partition(self)
    }
}

impl Decision for ElectLeadersRequest {
    type Response = ElectLeadersResponse;

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<ElectLeadersResponse> {
        desk.controller.elect_leaders(self)
    }
}

impl Decision for AlterPartitionReassignmentsRequest {
    type Response = AlterPartitionReassignmentsResponse;

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AlterPartitionReassignmentsResponse> {
        desk.controller.alter_partition_reassignments(self)
    }
}

impl Decision for ListPartitionReassignmentsRequest {
    type Response = ListPartitionReassignmentsResponse;
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<ListPartitionReassignmentsResponse> {
        let response = list_partition_reassignments(desk.controller.image(), self);
        Outcome { records: Vec::new(), response }
    }
}

impl Decision for UpdateFeaturesRequest {
    type Response = UpdateFeaturesResponse;
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<UpdateFeaturesResponse> {
        desk.controller.update_features(self, &desk.seat.features_of_others())
    }
}

impl Decision for AssignReplicasToDirsRequest {
    type Response = AssignReplicasToDirsResponse;
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    fn decide(&self, desk: &mut Desk<'_>, _: Origin) -> Outcome<AssignReplicasToDirsResponse> {
        let mut assignments = Vec::new();
        for directory in &self.directories {
            for topic in &directory.topics {
                let partitions = topic.partitions.iter().map(|partition| DirectoryAssignment {
                    topic: topic.topic_id,
                    partition: partition.partition_index,
                    directory: directory.id,
                });
                assignments.extend(partitions);
            }
        }
        let id = BrokerId(self.broker_id);
        let Outcome { records, response } =
            desk.controller.assign_directories(id, self.broker_epoch, &assignments);
        Outcome { records, response: assigned(self, response) }
    }
}

/// The results, which come in the order of the request, in its shape. What is wrong with the broker is wrong with all of it.
fn assigned(request: &AssignReplicasToDirsRequest, results: Vec<ErrorCode>) -> AssignReplicasToDirsResponse {
    let of_broker = [ErrorCode::StaleBrokerEpoch, ErrorCode::BrokerIdNotRegistered];
    if let Some(error) = results.first().filter(|error| of_broker.contains(error)) {
        return AssignReplicasToDirsResponse { error_code: error.code(), ..Default::default() };
    }
    let mut results = results.into_iter();
    let mut next = || results.next().map_or(ErrorCode::UnknownServerError.code(), ErrorCode::code);
    let mut directories = Vec::with_capacity(request.directories.len());
    for directory in &request.directories {
        let mut topics = Vec::with_capacity(directory.topics.len());
        for topic in &directory.topics {
            let partitions = topic.partitions.iter().map(|partition| ResponsePartitionData {
                partition_index: partition.partition_index,
                error_code: next(),
                ..ResponsePartitionData::default()
            });
            let partitions = partitions.collect();
            topics.push(ResponseTopicData { topic_id: topic.topic_id, partitions, ..Default::default() });
        }
        directories.push(ResponseDirectoryData { id: directory.id, topics, ..Default::default() });
    }
    AssignReplicasToDirsResponse { directories, ..Default::default() }
}
