//! UpdateFeatures: finalizes levels that every node can work with (KIP-584).

use std::sync::Arc;

use ottla_protocol::generated::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    state.control.update_features(request).await
}
