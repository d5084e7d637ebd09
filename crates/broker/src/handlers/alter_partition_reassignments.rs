//! AlterPartitionReassignments: moves partitions to other brokers, or takes that back (KIP-455).

use std::sync::Arc;

use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(
    state: Arc<State>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    state.control.alter_partition_reassignments(request).await
}
