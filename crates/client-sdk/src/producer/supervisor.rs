//! Sees to what senders cannot: who leads, who the producer is, a sender for each broker. Owns the senders' tasks.

use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::batch::Identity;
use super::{Shared, sender};
use crate::client::Client;
use crate::error::{Error, check};
use crate::retry::{Backoff, Retries};

const INIT_PRODUCER_ID_VERSIONS: (i16, i16) = (0, 5);

/// Runs until `stop`, then ends the senders and waits for them.
pub(super) async fn run(shared: Arc<Shared>, stop: Arc<Notify>) {
    let mut senders = JoinSet::new();
    tokio::select! {
        () = supervise(&shared, &mut senders) => {}
        () = stop.notified() => {}
    }
    senders.shutdown().await;
}

async fn supervise(shared: &Arc<Shared>, senders: &mut JoinSet<()>) {
    let mut backoff = Backoff::default();
    let mut refresh_at = Instant::now() + shared.options.client.metadata_age_max();
    loop {
        for (broker, work) in shared.missing_senders() {
            senders.spawn(sender::run(shared.clone(), broker, work));
        }
        let needs = shared.needs();
        let mut topics = needs.leaders;
        if Instant::now() >= refresh_at {
            topics = shared.topics();
            refresh_at = Instant::now() + shared.options.client.metadata_age_max();
        }
        let mut pause = None;
        if !topics.is_empty() {
            let client = &shared.options.client;
            let seen = client.cluster().generation;
            if let Err(error) = client.refresh(&topics, false, seen, client.request_max()).await {
                tracing::warn!(%error, "no metadata for a producer");
            }
            for topic in &topics {
                if let Some(topic) = client.cluster().topic(topic, std::time::Duration::MAX) {
                    shared.learn(&topic);
                }
            }
            pause = Some(backoff.next());
        }
        if !needs.identities.is_empty() {
            match new_identity(&shared.options.client).await {
                Ok(identity) => shared.identify(&needs.identities, identity),
                Err(error) => {
                    tracing::warn!(%error, "no producer id");
                    pause = Some(backoff.next());
                }
            }
        }
        if pause.is_none() {
            backoff = Backoff::default();
        }
        let wake_at = pause.map_or(refresh_at, |pause| Instant::now() + pause);
        // With a pause, the same is looked at after it; a call to attention meanwhile is kept for then.
        tokio::select! {
            () = shared.attention.notified(), if pause.is_none() => {}
            () = sleep_until(wake_at) => {}
        }
    }
}

/// A producer id that nobody has used.
pub(super) async fn new_identity(client: &Client) -> Result<Identity, Error> {
    let mut retries = Retries::new("asking for a producer id", client.call_max());
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    loop {
        match ask_identity(client, &request).await {
            Ok(identity) => return Ok(identity),
            Err(error) => retries.pause(error).await?,
        }
    }
}

async fn ask_identity(client: &Client, request: &InitProducerIdRequest) -> Result<Identity, Error> {
    let connection = client.any_connection().await?;
    let (response, _): (InitProducerIdResponse, _) =
        client.call_over(&connection, request, INIT_PRODUCER_ID_VERSIONS).await?;
    check(response.error_code, |code| Error::Refused {
        what: "InitProducerId".to_owned(),
        // A broker that is still starting says so by this code.
        code: if code == ErrorCode::BrokerNotAvailable { ErrorCode::CoordinatorNotAvailable } else { code },
        message: None,
    })?;
    Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
}
