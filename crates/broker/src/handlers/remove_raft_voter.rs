//! RemoveRaftVoter: a voter leaves the metadata quorum (KIP-853); the coordinators see to it that their number stays odd.

use std::sync::Arc;

use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
    state.control.remove_raft_voter(request).await
}
