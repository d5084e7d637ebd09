//! ListPartitionReassignments: partitions on the move (KIP-455), as the controller sees them: an answer of this broker's image
//! could be older than a move that another broker has already confirmed.

use std::sync::Arc;

use ottla_protocol::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(
    state: Arc<State>,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    state.control.list_partition_reassignments(request).await
}
