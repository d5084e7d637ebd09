//! AddRaftVoter: a voter for the metadata quorum (KIP-853); the coordinators see to it that their number stays odd.

use std::sync::Arc;

use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};

use crate::state::State;

/// Asks the controller, and answers when this broker has applied what was decided.
pub async fn handle(state: Arc<State>, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    state.control.add_raft_voter(request).await
}
