//! Fetches from one broker: one request at a time, the next as soon as the answer is in.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch::{FetchRequest, FetchResponse};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::Shared;
use super::assignment::Wanted;
use super::session::Session;
use crate::connection::Connection;
use crate::error::{Error, code_of};

/// Topics by name; from 4 on batches are of the current format.
const FETCH_VERSIONS: (i16, i16) = (4, 12);
/// How long a broker may wait when a partition is left out of the request for now.
const PARTIAL_WAIT_MS: i32 = 20;

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, broker: i32, work: Arc<Notify>) {
    let mut connection: Option<Connection> = None;
    let mut session = Session::default();
    loop {
        let plan = shared.assignment().plan(broker, &shared.options);
        if plan.wanted.is_empty() {
            let look_again = async {
                match plan.look_again {
                    Some(when) => sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = work.notified() => {}
                () = look_again => {}
            }
            continue;
        }
        match fetch(&shared, broker, &mut connection, &mut session, &plan.wanted, plan.partial).await {
            Ok(response) => accept(&shared, &mut session, &plan.wanted, response),
            Err(error) => {
                connection = None;
                session.reset();
                give_up(&shared, &plan.wanted, &error);
            }
        }
    }
}

async fn fetch(
    shared: &Shared,
    broker: i32,
    connection: &mut Option<Connection>,
    session: &mut Session,
    wanted: &[Wanted],
    partial: bool,
) -> Result<FetchResponse, Error> {
    let options = &shared.options;
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.client.own_connection(broker).await?),
    };
    let version = connection.version::<FetchRequest>(FETCH_VERSIONS)?;
    let wait_ms = i32::try_from(options.wait_max.as_millis()).unwrap_or(i32::MAX);
    let size = |bytes: usize| i32::try_from(bytes).expect("checked when the consumer started");
    let mut request = FetchRequest {
        replica_id: -1,
        max_wait_ms: if partial { wait_ms.min(PARTIAL_WAIT_MS) } else { wait_ms },
        min_bytes: options.min_bytes,
        max_bytes: size(options.fetch_bytes),
        isolation_level: options.isolation.code(),
        ..FetchRequest::default()
    };
    session.fill(&mut request, wanted, version, size(options.partition_bytes));
    let limit = options.client.request_max() + Duration::from_millis(u64::from(wait_ms.unsigned_abs()));
    connection.call_within(&request, version, limit).await
}

fn accept(shared: &Shared, session: &mut Session, wanted: &[Wanted], response: FetchResponse) {
    match code_of(response.error_code) {
        ErrorCode::None => session.answered(response.session_id),
        ErrorCode::FetchSessionIdNotFound
        | ErrorCode::InvalidFetchSessionEpoch
        | ErrorCode::FetchSessionTopicIdError => {
            session.reset();
            return;
        }
        code => {
            session.reset();
            let error = Error::Refused { what: "Fetch".to_owned(), code, message: None };
            return give_up(shared, wanted, &error);
        }
    }
    let mut assignment = shared.assignment();
    for topic in response.responses {
        for data in topic.partitions {
            let asked = wanted
                .iter()
                .find(|one| one.place.partition == data.partition_index && one.place.topic == topic.topic);
            if let Some(asked) = asked {
                assignment.accept(asked, data, &shared.options);
            }
        }
    }
    assignment.wake();
    drop(assignment);
    shared.attention.notify_one();
}

fn give_up(shared: &Shared, wanted: &[Wanted], error: &Error) {
    {
        let mut assignment = shared.assignment();
        for one in wanted {
            assignment.stumble(one, error.clone());
        }
        assignment.wake();
    }
    shared.attention.notify_one();
}
