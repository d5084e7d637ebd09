//! DeleteTopics: by name up to version 5, by name or id from 6. The topics are gone from this broker when the answer comes.

use std::sync::Arc;

use ottla_protocol::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};

use crate::state::State;

/// First version that carries names and ids in one list.
const STATES_SINCE: i16 = 6;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(
    state: Arc<State>,
    mut request: DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    if version < STATES_SINCE {
        let named = std::mem::take(&mut request.topic_names).into_iter();
        request.topics =
            named.map(|name| DeleteTopicState { name: Some(name), ..Default::default() }).collect();
    }
    state.control.delete_topics(request).await
}
