//! AllocateProducerIds (KIP-730).

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use ottla_protocol::generated::records::ProducerIdsRecord;
use ottla_protocol::ids::BrokerId;

use super::{Controller, Outcome};
use crate::limits::PRODUCER_ID_BLOCK;

impl Controller<'_> {
    /// Gives a registered broker a block of ids that nobody had before.
    pub fn allocate_producer_ids(
        &mut self,
        request: &AllocateProducerIdsRequest,
    ) -> Outcome<AllocateProducerIdsResponse> {
        let refused = |error: ErrorCode| Outcome {
            records: Vec::new(),
            response: AllocateProducerIdsResponse {
                error_code: error.code(),
                ..AllocateProducerIdsResponse::default()
            },
        };
        match self.image.broker(BrokerId(request.broker_id)) {
            None => return refused(ErrorCode::BrokerIdNotRegistered),
            Some(broker) if broker.epoch != request.broker_epoch => {
                return refused(ErrorCode::StaleBrokerEpoch);
            }
            Some(_) => {}
        }
        let start = self.image.next_producer_id();
        let Some(next) = start.checked_add(i64::from(PRODUCER_ID_BLOCK)) else {
            return refused(ErrorCode::UnknownServerError);
        };
        let record = ProducerIdsRecord {
            broker_id: request.broker_id,
            broker_epoch: request.broker_epoch,
            next_producer_id: next,
            ..ProducerIdsRecord::default()
        };
        let records = vec![record.into()];
        self.decided(&records);
        let response = AllocateProducerIdsResponse {
            producer_id_start: start,
            producer_id_len: PRODUCER_ID_BLOCK,
            ..AllocateProducerIdsResponse::default()
        };
        Outcome { records, response }
    }
}
