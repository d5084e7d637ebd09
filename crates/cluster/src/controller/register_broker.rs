//! BrokerRegistration.

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::generated::records::RegisterBrokerRecord;
use ottla_protocol::generated::records::metadata::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Str;

use super::partition_change::PartitionChange;
use super::tenure::Tenure;
use super::{Context, Controller, Outcome};
use crate::image::{BrokerImage, MetadataRecord};
use crate::planted::{Bug, planted};

/// A registered broker knows no epoch of a life that ended in order.
const UNKNOWN_EPOCH: i64 = -1;

impl Controller<'_> {
    /// Registers a broker that starts, unfenced: one in the coordinator's own process, which knows that there is no other life of
    /// it. Its epoch is the index of the log entry that says so.
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
            return refused(error);
        }
        let before = self.image.broker(BrokerId(request.broker_id)).cloned();
        let last_epoch = before.as_ref().map_or(UNKNOWN_EPOCH, |broker| broker.epoch);
        let ended_in_order = last_epoch != UNKNOWN_EPOCH && request.previous_broker_epoch == last_epoch;
        let record = RegisterBrokerRecord { fenced: false, ..registration(request, context.index) };
        self.begin_life(record, before.as_deref(), |change, id| {
            if !ended_in_order && change.partition().leader == id {
                change.begin_epoch();
            }
        })
    }

    /// Registers a broker that starts, fenced until a heartbeat says that it has read this. While another process with that id
    /// is being heard of, it is refused; the same process gets its epoch again. Whatever life it had before is over: it is in no ISR
    /// of which it was not the last.
    pub fn admit_broker(
        &mut self,
        request: &BrokerRegistrationRequest,
        tenure: &mut Tenure,
        now_ms: i64,
        context: &Context<'_>,
    ) -> Outcome<BrokerRegistrationResponse> {
        if let Some(error) = self.refuse_registration(request) {
            return refused(error);
        }
        let id = BrokerId(request.broker_id);
        let before = self.image.broker(id).cloned();
        if let Some(before) = &before {
            if before.incarnation_id == request.incarnation_id {
                tenure.heard(id, before.epoch, UNKNOWN_EPOCH, now_ms);
                return self.register_again(request, before);
            }
            if tenure.is_alive(id, before.epoch, now_ms) {
                return refused(ErrorCode::DuplicateBrokerRegistration);
            }
        }
        tenure.forget(id);
        tenure.heard(id, context.index, UNKNOWN_EPOCH, now_ms);
        let record = RegisterBrokerRecord { fenced: true, ..registration(request, context.index) };
        self.begin_life(record, before.as_deref(), |change, id| change.leave_isr(id))
    }

    /// The same process asks again: its answer was lost, or it listens elsewhere now.
    fn register_again(
        &mut self,
        request: &BrokerRegistrationRequest,
        before: &Arc<BrokerImage>,
    ) -> Outcome<BrokerRegistrationResponse> {
        let record = RegisterBrokerRecord {
            fenced: before.fenced,
            in_controlled_shutdown: before.in_controlled_shutdown,
            ..registration(request, before.epoch)
        };
        let mut outcome = self.begin_life(record, Some(before), |_, _| ());
        if self.image.broker(before.id).is_some_and(|now| now == before) {
            outcome.records.clear();
        }
        outcome
    }

    /// Applies a registration and what follows for the broker's replicas.
    fn begin_life(
        &mut self,
        record: RegisterBrokerRecord,
        before: Option<&BrokerImage>,
        edit: impl Fn(&mut PartitionChange<'_>, BrokerId),
    ) -> Outcome<BrokerRegistrationResponse> {
        let (id, broker_epoch) = (BrokerId(record.broker_id), record.broker_epoch);
        let mut records: Vec<MetadataRecord> = vec![record.into()];
        self.decided(&records);
        let broker = self.image.broker(id).cloned().expect("it was registered just now");
        let directories = before.map_or_else(Vec::new, |before| before.log_dirs.clone());
        let only = self.only_directory(id);
        records.extend(self.change_partitions(
            |partition| partition.replicas.contains(&id) && !planted(Bug::WipedReplicaElected),
            |change| {
                Self::judge_directory(change, &broker, &directories, only);
                edit(change, id);
            },
        ));
        let response = BrokerRegistrationResponse { broker_epoch, ..BrokerRegistrationResponse::default() };
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
}

fn refused(error: ErrorCode) -> Outcome<BrokerRegistrationResponse> {
    let error_code = error.code();
    let response = BrokerRegistrationResponse { error_code, ..BrokerRegistrationResponse::default() };
    Outcome { records: Vec::new(), response }
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
        log_dirs: request.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    }
}
