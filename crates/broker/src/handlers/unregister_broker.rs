//! UnregisterBroker: takes out a broker that will not come back.

use std::sync::Arc;

use ottla_protocol::generated::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    state.control.unregister_broker(request).await
}
