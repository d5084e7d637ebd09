//! A connection to one coordinator at a time, made when it is needed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::generated::{ApiKey, ResponseHeader};
use ottla_protocol::wire::{DecodeError, Message, Reader};
use ottla_transport::client::{Client, ClientOptions, PendingResponse};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::limits::CONNECT_MS_MAX;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The request did not leave: nothing was done.
    #[error("{0}")]
    Unsent(String),
    /// The request may have been carried out.
    #[error("{0}")]
    Unanswered(String),
}

/// A connection that many may use at once.
#[derive(Debug)]
pub(super) struct Line {
    client_id: String,
    /// Held while connecting, so that those who come meanwhile share the connection.
    client: Mutex<Option<(String, Arc<Client>)>>,
}

impl Line {
    pub(super) fn new(client_id: String) -> Self {
        Self { client_id, client: Mutex::new(None) }
    }

    /// Sends a request's encoded body in version 0 to `address` and waits for the answer.
    pub(super) async fn call<R: Message>(
        &self,
        address: &str,
        api_key: ApiKey,
        body: &[u8],
        deadline: Instant,
    ) -> Result<R, LineError> {
        // Also the wait for those who are connecting.
        let client = timeout_at(deadline, self.client(address)).await;
        let client = client.unwrap_or_else(|_| Err("no time left".to_owned())).map_err(LineError::Unsent)?;
        let answered = async {
            let pending = client.send(api_key, 0, body).await;
            // What could not be written as a whole was read by nobody.
            let pending = pending.map_err(|error| LineError::Unsent(error.to_string()))?;
            let frame = pending.await.map_err(|error| LineError::Unanswered(error.to_string()))?;
            decode(frame, api_key).map_err(|error| LineError::Unanswered(error.to_string()))
        };
        let answered = timeout_at(deadline, answered).await;
        let answered =
            answered.unwrap_or_else(|_| Err(LineError::Unanswered("no answer in time".to_owned())));
        if answered.is_err() {
            self.close(&client).await;
        }
        answered
    }

    async fn client(&self, address: &str) -> Result<Arc<Client>, String> {
        let mut kept = self.client.lock().await;
        if let Some((to, client)) = &*kept
            && to == address
        {
            return Ok(client.clone());
        }
        *kept = None;
        let client = Arc::new(connect(address, &self.client_id).await?);
        *kept = Some((address.to_owned(), client.clone()));
        Ok(client)
    }

    /// Lets go of a connection on which something went wrong. Others that wait on it get their answers.
    async fn close(&self, client: &Arc<Client>) {
        let mut kept = self.client.lock().await;
        if kept.as_ref().is_some_and(|(_, kept)| Arc::ptr_eq(kept, client)) {
            *kept = None;
        }
    }
}

/// Connects, within a bounded time.
pub(super) async fn connect(address: &str, client_id: &str) -> Result<Client, String> {
    let options = ClientOptions {
        client_id: Some(client_id.to_owned()),
        connect_max: Duration::from_millis(CONNECT_MS_MAX),
        // Whoever asks has a deadline of its own.
        request_max: Duration::from_secs(3600),
        ..ClientOptions::default()
    };
    Client::connect_with(address, options).await.map_err(|error| error.to_string())
}

/// An answer that is waited for.
pub(super) type Pending = PendingResponse;

/// Reads a frame that answers a request of version 0.
pub(super) fn decode<R: Message>(frame: Bytes, api_key: ApiKey) -> Result<R, DecodeError> {
    let mut reader = Reader::new(frame);
    let _number = ResponseHeader::read(&mut reader, api_key.response_header_version(0));
    let message = R::read(&mut reader, 0);
    reader.finish()?;
    Ok(message)
}
