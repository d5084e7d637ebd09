//! What can be asked of the leader of the quorum: what its controller decides, and what concerns the quorum itself. Either is passed on
//! to the leader in the same way.

use std::future::Future;

use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::ids::BrokerId;
use ottla_protocol::wire::Message;

use crate::coordinator::system_clock;
use crate::decision::{Decision, Origin, Rules};
use crate::error::RequestError;
use crate::handle::Committed;
use crate::local::Local;
use crate::voters;

/// A request that the leader answers.
pub(crate) trait Question: Message + Clone + Send + Sync + 'static {
    /// What is answered.
    type Response: Message + Send + 'static;
    /// How it is queued and passed on.
    const RULES: Rules;

    /// Answers it here, if this node leads.
    fn answer(
        self,
        local: &Local,
        origin: Origin,
    ) -> impl Future<Output = Result<Committed<Self::Response>, RequestError>> + Send;

    /// The broker that says by it that it lives.
    fn lives(&self) -> Option<BrokerId> {
        None
    }
}

impl<Q: Decision> Question for Q {
    type Response = Q::Response;
    const RULES: Rules = Q::RULES;

    fn answer(
        self,
        local: &Local,
        origin: Origin,
    ) -> impl Future<Output = Result<Committed<Self::Response>, RequestError>> + Send {
        local.ask(self, origin)
    }

    fn lives(&self) -> Option<BrokerId> {
        Decision::lives(self)
    }
}

impl Question for DescribeQuorumRequest {
    type Response = DescribeQuorumResponse;
    const RULES: Rules = Rules { may_repeat: true, ..Rules::NONE };

    async fn answer(
        self,
        local: &Local,
        _: Origin,
    ) -> Result<Committed<DescribeQuorumResponse>, RequestError> {
        Ok(seen(local, voters::describe(&local.seat, &self, system_clock())?))
    }
}

impl Question for AddRaftVoterRequest {
    type Response = AddRaftVoterResponse;
    const RULES: Rules = Rules::NONE;

    async fn answer(self, local: &Local, _: Origin) -> Result<Committed<AddRaftVoterResponse>, RequestError> {
        Ok(seen(local, voters::add(&local.seat, &self).await?))
    }
}

impl Question for RemoveRaftVoterRequest {
    type Response = RemoveRaftVoterResponse;
    const RULES: Rules = Rules::NONE;

    async fn answer(
        self,
        local: &Local,
        _: Origin,
    ) -> Result<Committed<RemoveRaftVoterResponse>, RequestError> {
        Ok(seen(local, voters::remove(&local.seat, &self).await?))
    }
}

/// What concerns the quorum alone is true as soon as it is said.
fn seen<R>(local: &Local, response: R) -> Committed<R> {
    Committed { index: *local.published.committed().borrow(), response }
}
