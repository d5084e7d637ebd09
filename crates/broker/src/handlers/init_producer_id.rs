//! InitProducerId: gives idempotent producers their id. Transactional ids are refused until transactions are served.

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::state::State;

/// Answers InitProducerId. A producer that names its old id and epoch (KIP-360) gets a new id: without a transactional id
/// nothing ties it to the old one.
pub async fn handle(state: Arc<State>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if let Some(id) = &request.transactional_id {
        tracing::warn!(transactional_id = %id, "refused a transactional producer: transactions are not served yet");
        return failed(ErrorCode::InvalidRequest);
    }
    match state.producer_ids.next(&state.control).await {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() },
        Err(code) => failed(code),
    }
}

fn failed(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: code.code(), producer_epoch: -1, ..Default::default() }
}
