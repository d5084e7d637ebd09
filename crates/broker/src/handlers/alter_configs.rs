//! AlterConfigs: replaces all dynamic configuration of a resource.

use std::sync::Arc;

use ottla_protocol::generated::alter_configs::{AlterConfigsRequest, AlterConfigsResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    state.control.alter_configs(request).await
}
