//! CreatePartitions: more partitions for topics; they are ready to use when the answer comes.

use std::sync::Arc;

use ottla_protocol::generated::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    state.control.create_partitions(request).await
}
