//! How a handler asks a group: at once where the machine answers at once, else with a future. A connection never waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::controller::OFFSETS_TOPIC;
use ottla_cluster::groups::{Client, Reply, Request};
use ottla_protocol::generated::ErrorCode;
use tokio::sync::oneshot;

use crate::state::State;

/// What became of a request when its handler returned.
pub enum Answered<T> {
    /// Answer now.
    Now(T),
    /// Answer when this is ready.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Answered<T> {
    /// Waits for the answer.
    pub async fn ready(self) -> T {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }

    /// Changes the answer.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Answered<U>
    where
        T: 'static,
    {
        match self {
            Self::Now(answer) => Answered::Now(change(answer)),
            Self::Later(answer) => Answered::Later(Box::pin(async move { change(answer.await) })),
        }
    }
}

/// The machine's reply, now or later. The sender is gone when the shard is.
pub(super) enum Asked {
    /// The machine had it at once.
    Now(Reply),
    /// It comes.
    Later(oneshot::Receiver<Reply>),
}

impl super::Groups {
    /// Asks the group; `Err` says why there is no reply.
    pub fn ask(
        &self,
        state: &State,
        group_id: &str,
        client: &Client,
        request: Request,
    ) -> Answered<Result<Reply, ErrorCode>> {
        let asked = self.shard_of(&state.image(), group_id).and_then(|shard| shard.ask(client, request));
        match asked {
            Ok(Asked::Now(reply)) => Answered::Now(Ok(reply)),
            Ok(Asked::Later(reply)) => {
                Answered::Later(Box::pin(async { reply.await.map_err(|_| ErrorCode::NotCoordinator) }))
            }
            Err(code) => Answered::Now(Err(code)),
        }
    }

    /// [`Groups::ask`](super::Groups::ask) for what waits for the disk alone: after `offsets.commit.timeout.ms` the client is
    /// told COORDINATOR_NOT_AVAILABLE, as Kafka does. What was written may still take effect.
    pub fn ask_to_store(
        &self,
        state: &State,
        group_id: &str,
        client: &Client,
        request: Request,
    ) -> Answered<Result<Reply, ErrorCode>> {
        match self.ask(state, group_id, client, request) {
            Answered::Now(reply) => Answered::Now(reply),
            Answered::Later(reply) => {
                Answered::Later(Box::pin(within(self.context.config.commit_timeout, reply)))
            }
        }
    }
}

async fn within(
    timeout: Duration,
    reply: impl Future<Output = Result<Reply, ErrorCode>>,
) -> Result<Reply, ErrorCode> {
    tokio::time::timeout(timeout, reply).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

/// Has `handle` answer once there is a `__consumer_offsets`, which is made by the first request that needs it.
pub fn with_topic<T: Send + 'static>(
    state: &Arc<State>,
    handle: impl FnOnce(&Arc<State>) -> Answered<T> + Send + 'static,
) -> Answered<T> {
    if state.image().topic_by_name(OFFSETS_TOPIC).is_some() {
        return handle(state);
    }
    let state = state.clone();
    Answered::Later(Box::pin(async move {
        for (topic, code) in state.auto_create(vec![OFFSETS_TOPIC.into()]).await {
            // The handler finds no topic, and says COORDINATOR_NOT_AVAILABLE.
            tracing::warn!(%topic, code = code.name(), "could not make the topic of the groups");
        }
        handle(&state).ready().await
    }))
}
