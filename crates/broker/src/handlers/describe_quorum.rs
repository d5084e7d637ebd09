//! DescribeQuorum: who votes in the metadata quorum, and how far everybody is (KIP-595, KIP-853).

use std::sync::Arc;

use ottla_protocol::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    state.control.describe_quorum(request).await
}
