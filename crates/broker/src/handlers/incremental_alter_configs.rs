//! IncrementalAlterConfigs: sets, removes, appends to and takes from single keys.

use std::sync::Arc;

use ottla_protocol::generated::incremental_alter_configs::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(
    state: Arc<State>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    state.control.incremental_alter_configs(request).await
}
