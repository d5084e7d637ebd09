//! UnregisterBroker: takes a broker out that will not come back.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::UnregisterBrokerRecord;
use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Str;

use super::tenure::Tenure;
use super::{Controller, Outcome};
use crate::image::MetadataRecord;

impl Controller<'_> {
    /// Removes the registration. The broker's replicas stay assigned to it, out of every ISR of which they are not the last.
    pub fn unregister_broker(
        &mut self,
        request: &UnregisterBrokerRequest,
        tenure: &mut Tenure,
    ) -> Outcome<UnregisterBrokerResponse> {
        let id = BrokerId(request.broker_id);
        let Some(broker) = self.image.broker(id).cloned() else {
            let response = UnregisterBrokerResponse {
                error_code: ErrorCode::BrokerIdNotRegistered.code(),
                error_message: Some(Str::from(format!("Broker ID {id} is not currently registered"))),
                ..UnregisterBrokerResponse::default()
            };
            return Outcome { records: Vec::new(), response };
        };
        tenure.forget(id);
        let record = UnregisterBrokerRecord {
            broker_id: id.0,
            broker_epoch: broker.epoch,
            ..UnregisterBrokerRecord::default()
        };
        let mut records: Vec<MetadataRecord> = vec![record.into()];
        self.decided(&records);
        records.extend(self.leave_isrs(id));
        Outcome { records, response: UnregisterBrokerResponse::default() }
    }
}
