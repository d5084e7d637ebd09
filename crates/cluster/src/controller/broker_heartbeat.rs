//! BrokerHeartbeat: a broker says that it lives, how far it has read the metadata, and what it wants to be.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::generated::records::BrokerRegistrationChangeRecord;
use ottla_protocol::ids::BrokerId;

use super::tenure::Tenure;
use super::{Context, Controller, Outcome};
use crate::image::{BrokerImage, MetadataRecord};

/// What a broker becomes by its heartbeat (KIP-631).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Fenced,
    Unfenced,
    /// It leads as little as possible and goes on serving until the others know.
    ControlledShutdown,
    /// It may stop now.
    ShutdownNow,
}

/// `Fenced` and `InControlledShutdown` of a change: it becomes so.
const YES: i8 = 1;
/// It becomes so no more.
const NO: i8 = -1;

impl Controller<'_> {
    /// A fenced broker begins to serve as soon as it has read its own registration, and is fenced when it wants to be or when no
    /// log directory is left. One that wants to stop hands its leadership over first and may stop when it leads nothing and
    /// every other broker has read so.
    pub fn broker_heartbeat(
        &mut self,
        request: &BrokerHeartbeatRequest,
        tenure: &mut Tenure,
        now_ms: i64,
        context: &Context<'_>,
    ) -> Outcome<BrokerHeartbeatResponse> {
        let id = BrokerId(request.broker_id);
        let broker = match self.broker_of_epoch(id, request.broker_epoch) {
            Ok(broker) => broker,
            Err(error) => {
                let error_code = error.code();
                let response = BrokerHeartbeatResponse { error_code, ..BrokerHeartbeatResponse::default() };
                return Outcome { records: Vec::new(), response };
            }
        };
        tenure.heard(id, broker.epoch, request.current_metadata_offset, now_ms);
        let mut records = self.directories_offline(&broker, &request.offline_log_dirs);
        let next = self.next_state(&broker, request, tenure);
        match next {
            Next::Fenced | Next::ShutdownNow if !broker.fenced => records.extend(self.fence(&broker)),
            Next::Unfenced if broker.fenced => {
                tenure.raise_soon(now_ms);
                records.extend(self.unfence(&broker));
            }
            Next::ControlledShutdown if !broker.in_controlled_shutdown => {
                tenure.moved_away(id, context.index);
                records.extend(self.begin_controlled_shutdown(&broker));
            }
            Next::Fenced | Next::ShutdownNow | Next::Unfenced | Next::ControlledShutdown => {}
        }
        let response = BrokerHeartbeatResponse {
            is_caught_up: request.current_metadata_offset >= broker.epoch,
            is_fenced: matches!(next, Next::Fenced | Next::ShutdownNow),
            should_shut_down: next == Next::ShutdownNow,
            ..BrokerHeartbeatResponse::default()
        };
        Outcome { records, response }
    }

    fn next_state(&self, broker: &BrokerImage, request: &BrokerHeartbeatRequest, tenure: &Tenure) -> Next {
        let (shut_down, caught_up) =
            (request.want_shut_down, request.current_metadata_offset >= broker.epoch);
        let dirs = &broker.log_dirs;
        let none_left = !dirs.is_empty() && dirs.iter().all(|dir| request.offline_log_dirs.contains(dir));
        let fence = request.want_fence || none_left;
        match (broker.fenced, shut_down, fence) {
            (true, true, _) | (false, true, true) => Next::ShutdownNow,
            (true, false, false) if caught_up => Next::Unfenced,
            (true | false, false, true) | (true, false, false) => Next::Fenced,
            (false, true, false) => self.controlled_shutdown(broker, tenure),
            // What has begun to stop does not go back.
            (false, false, false) if broker.in_controlled_shutdown => {
                self.controlled_shutdown(broker, tenure)
            }
            (false, false, false) => Next::Unfenced,
        }
    }

    fn controlled_shutdown(&self, broker: &BrokerImage, tenure: &Tenure) -> Next {
        let done = !self.leads_any(broker.id) && tenure.has_spread(&self.image, broker.id);
        if done { Next::ShutdownNow } else { Next::ControlledShutdown }
    }

    /// A broker, if that is its present life.
    pub(super) fn broker_of_epoch(&self, id: BrokerId, epoch: i64) -> Result<BrokerImage, ErrorCode> {
        let broker = self.image.broker(id).ok_or(ErrorCode::BrokerIdNotRegistered)?;
        if broker.epoch != epoch {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        Ok(BrokerImage::clone(broker))
    }

    /// A broker may lead nothing from now on and leaves every ISR of which it is not the last.
    pub(super) fn fence(&mut self, broker: &BrokerImage) -> Vec<MetadataRecord> {
        let fenced = BrokerRegistrationChangeRecord { fenced: YES, ..registration_of(broker) };
        let mut records = vec![fenced.into()];
        self.decided(&records);
        records.extend(self.leave_isrs(broker.id));
        records
    }

    fn unfence(&mut self, broker: &BrokerImage) -> Vec<MetadataRecord> {
        let unfenced = BrokerRegistrationChangeRecord { fenced: NO, ..registration_of(broker) };
        let mut records = vec![unfenced.into()];
        self.decided(&records);
        records.extend(self.elect_leaderless());
        records
    }

    fn begin_controlled_shutdown(&mut self, broker: &BrokerImage) -> Vec<MetadataRecord> {
        let stopping =
            BrokerRegistrationChangeRecord { in_controlled_shutdown: YES, ..registration_of(broker) };
        let mut records = vec![stopping.into()];
        self.decided(&records);
        records.extend(self.leave_isrs(broker.id));
        records
    }
}

/// A change of that registration that changes nothing yet.
pub(super) fn registration_of(broker: &BrokerImage) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch,
        ..BrokerRegistrationChangeRecord::default()
    }
}
