//! The broker that coordinates a group: finding it, and asking it until it is the right one.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::wire::{Message, Str};

use crate::client::Client;
use crate::error::{Error, check};
use crate::retry::Retries;

/// One group a request; from 4 on there may be many.
const FIND_COORDINATOR_VERSIONS: (i16, i16) = (0, 3);

/// The coordinator's broker id, asked once.
pub(crate) async fn find(client: &Client, group: &str) -> Result<i32, Error> {
    let request = FindCoordinatorRequest { key: Str::from(group), ..FindCoordinatorRequest::default() };
    let connection = client.any_connection().await?;
    let (response, _): (FindCoordinatorResponse, _) =
        client.call_over(&connection, &request, FIND_COORDINATOR_VERSIONS).await?;
    check(response.error_code, |code| Error::group(group, code))?;
    if !client.cluster().brokers.contains_key(&response.node_id) {
        client.refresh(&[], false, client.cluster().generation, client.request_max()).await?;
    }
    Ok(response.node_id)
}

/// Does the error say that another broker, or the same one later, has to be asked?
pub(crate) fn is_elsewhere(error: &Error) -> bool {
    error.is_connection()
        || matches!(
            error.code(),
            Some(
                ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::LeaderNotAvailable
            )
        )
}

/// Asks the group's coordinator until `judge` is content.
///
/// # Errors
/// The first that no retry cures; `TimedOut`.
pub(crate) async fn ask<Q: Message, R: Message>(
    client: &Client,
    group: &str,
    request: &Q,
    versions: (i16, i16),
    judge: impl Fn(&R) -> Result<(), Error>,
) -> Result<R, Error> {
    let mut retries =
        Retries::new(format!("{} of group {group}", Q::NAME.trim_end_matches("Request")), client.call_max());
    loop {
        let answer = match find(client, group).await {
            Ok(broker) => client.call_broker(broker, request, versions).await,
            Err(error) => Err(error),
        };
        match answer.and_then(|(response, _)| judge(&response).map(|()| response)) {
            Ok(response) => return Ok(response),
            Err(error) => retries.pause(error).await?,
        }
    }
}
