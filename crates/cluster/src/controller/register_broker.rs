//! BrokerRegistration.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::records::metadata::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::generated::records::{PartitionChangeRecord, RegisterBrokerRecord};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Str;

use super::{Context, Controller, Outcome};
use crate::image::MetadataRecord;

/// A registered broker knows no epoch of a life that ended in order.
const UNKNOWN_EPOCH: i64 = -1;

impl Controller<'_> {
    /// Registers a broker that starts, unfenced. Its epoch is the index of the log entry that says so.
    ///
    /// `previous_broker_epoch` is the epoch of its last life when that ended in order (KIP-966), else -1: then the broker may have
    /// lost what it did not sync, and every partition that it leads begins a new leader epoch, so that clients which saw more can
    /// tell.
    pub fn register_broker(
        &mut self,
        request: &BrokerRegistrationRequest,
        context: &Context<'_>,
    ) -> Outcome<BrokerRegistrationResponse> {
        if let Some(error) = self.refuse_registration(request) {
            let error_code = error.code();
            let response = BrokerRegistrationResponse { error_code, ..BrokerRegistrationResponse::default() };
            return Outcome { records: Vec::new(), response };
        }
        let epoch = context.index;
        let mut records: Vec<MetadataRecord> = vec![registration(request, epoch).into()];
        records.extend(self.new_leader_epochs(request));
        self.decided(&records);
        let response =
            BrokerRegistrationResponse { broker_epoch: epoch, ..BrokerRegistrationResponse::default() };
        Outcome { records, response }
    }

    fn refuse_registration(&self, request: &BrokerRegistrationRequest) -> Option<ErrorCode> {
        if request.broker_id < 0 {
            return Some(ErrorCode::InvalidRequest);
        }
        if request.cluster_id != self.settings.cluster_id {
            return Some(ErrorCode::InconsistentClusterId);
        }
        // Every finalized feature must be within what the broker knows: it is too old, or too new, otherwise.
        let knows = |(name, level): (&str, i16)| {
            let known = request.features.iter().find(|feature| feature.name == name);
            known.is_some_and(|f| (f.min_supported_version..=f.max_supported_version).contains(&level))
        };
        (!self.image.features().all(knows)).then_some(ErrorCode::UnsupportedVersion)
    }

    fn new_leader_epochs(&self, request: &BrokerRegistrationRequest) -> Vec<MetadataRecord> {
        let id = BrokerId(request.broker_id);
        let last_epoch = self.image.broker(id).map_or(UNKNOWN_EPOCH, |broker| broker.epoch);
        let ended_in_order = last_epoch != UNKNOWN_EPOCH && request.previous_broker_epoch == last_epoch;
        let mut records = Vec::new();
        for topic in self.image.topics() {
            for (number, partition) in (0i32..).zip(&topic.partitions) {
                let leads = partition.leader == id && !ended_in_order;
                let can_lead = partition.leader.0 < 0 && partition.isr.contains(&id);
                if leads || can_lead {
                    let (partition_id, topic_id, leader) = (number, topic.id, id.0);
                    let change =
                        PartitionChangeRecord { partition_id, topic_id, leader, ..Default::default() };
                    records.push(change.into());
                }
            }
        }
        records
    }
}

fn registration(request: &BrokerRegistrationRequest, epoch: i64) -> RegisterBrokerRecord {
    let end_points = request.listeners.iter().map(|listener| BrokerEndpoint {
        name: listener.name.detached(),
        host: listener.host.detached(),
        port: listener.port,
        security_protocol: listener.security_protocol,
        ..BrokerEndpoint::default()
    });
    let features = request.features.iter().map(|feature| BrokerFeature {
        name: feature.name.detached(),
        min_supported_version: feature.min_supported_version,
        max_supported_version: feature.max_supported_version,
        ..BrokerFeature::default()
    });
    RegisterBrokerRecord {
        broker_id: request.broker_id,
        incarnation_id: request.incarnation_id,
        broker_epoch: epoch,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: request.rack.as_ref().map(Str::detached),
        fenced: false,
        log_dirs: request.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    }
}
