//! CreateTopics: the controller decides, the topics are ready to use when the answer comes.

use std::sync::Arc;

use ottla_protocol::generated::create_topics::{CreateTopicsRequest, CreateTopicsResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    state.control.create_topics(request).await
}
