//! The way to the driver in this process.

use std::sync::Arc;

use ottla_protocol::ids::BrokerId;
use tokio::sync::{mpsc, oneshot};

use crate::decision::{Decision, Origin};
use crate::driver::{Answer, Command, Proposal};
use crate::error::RequestError;
use crate::feed::{LocalFeed, Published};
use crate::handle::Committed;
use crate::raft::seat::Seat;

/// Asks the coordinator of this process, and nobody else.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) published: Arc<Published>,
    /// This node's place in the quorum.
    pub(crate) seat: Arc<Seat>,
}

impl Local {
    /// Has a request decided here.
    ///
    /// # Errors
    /// When this node does not lead, or the decision could not be committed.
    pub(crate) async fn ask<Q: Decision>(
        &self,
        request: Q,
        origin: Origin,
    ) -> Result<Committed<Q::Response>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            decide: Box::new(move |desk| match desk {
                Ok(desk) => {
                    let outcome = request.decide(desk, origin);
                    let response = outcome.response;
                    let answer: Answer = Box::new(move |result| {
                        // The asker may have gone; what was committed stays.
                        drop(reply.send(result.map(|index| Committed { index, response })));
                    });
                    Some((outcome.records, answer))
                }
                Err(error) => {
                    drop(reply.send(Err(error)));
                    None
                }
            }),
            rules: Q::RULES,
        };
        self.queue.send(Command::Decide(proposal)).await.map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }

    /// The cluster that this node belongs to; waits until it does.
    ///
    /// # Errors
    /// When the coordinator has stopped before.
    pub(crate) async fn cluster_id(&self) -> Result<String, RequestError> {
        let mut cluster_id = self.seat.cluster_id();
        let known = cluster_id.wait_for(Option::is_some);
        tokio::select! {
            known = known => known.map_err(|_| RequestError::Stopped)?.clone().ok_or(RequestError::Stopped),
            () = self.queue.closed() => Err(RequestError::Stopped),
        }
    }

    /// Committed entries from `from` on.
    pub(crate) fn feed(&self, from: i64) -> LocalFeed {
        LocalFeed::new(from, self.published.clone(), self.queue.clone())
    }

    /// Tells the driver that a connection on which a broker said that it lives is over. With a full queue it is not told: the
    /// broker then has the rest of its session.
    pub(crate) fn disconnected(&self, broker: BrokerId, connection: u64) {
        if self.queue.try_send(Command::Disconnected { broker, connection }).is_err() {
            tracing::debug!(%broker, "nobody is told of a closed connection");
        }
    }
}
