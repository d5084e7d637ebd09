//! ElectLeaders: preferred or unclean elections (KIP-460).

use std::sync::Arc;

use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    state.control.elect_leaders(request).await
}
