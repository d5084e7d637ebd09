//! Sends to one broker: takes what is due, writes requests in order, several on their way, and judges the answers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use ottla_protocol::generated::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_protocol::generated::{ApiKey, ErrorCode};
use ottla_protocol::wire::Records;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::Shared;
use super::batch::Batch;
use super::delivery::Written;
use super::options::Acks;
use super::queue::{Taken, Verdict};
use crate::connection::Connection;
use crate::error::{Error, code_of};

/// Topics by name; from 3 on batches are of the current format.
const PRODUCE_VERSIONS: (i16, i16) = (3, 12);
const REQUESTS_IN_FLIGHT_MAX: usize = 5;

/// The answer to one request, with what was sent.
struct Answer {
    batches: Vec<Batch>,
    connection: Arc<Connection>,
    response: Result<ProduceResponse, Error>,
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, broker: i32, work: Arc<Notify>) {
    let mut connection: Option<Arc<Connection>> = None;
    let mut in_flight = FuturesUnordered::new();
    loop {
        let taken =
            if in_flight.len() < REQUESTS_IN_FLIGHT_MAX { shared.take(broker) } else { Taken::default() };
        if !taken.batches.is_empty() {
            match begin(&shared, broker, &mut connection, taken.batches).await {
                Ok(Some(answer)) => in_flight.push(answer),
                Ok(None) => {}
                Err((batches, error)) => {
                    connection = None;
                    shared.settle(batches.into_iter().map(|batch| (batch, verdict(&error))));
                }
            }
            continue;
        }
        let look_again = async {
            match taken.look_again {
                Some(when) => sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work.notified() => {}
            () = look_again => {}
            Some(answer) = in_flight.next(), if !in_flight.is_empty() => {
                let answer: Answer = answer;
                if answer.response.as_ref().is_err_and(Error::is_connection)
                    && connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, &answer.connection))
                {
                    connection = None;
                }
                conclude(&shared, answer);
            }
        }
    }
}

type Failed = (Vec<Batch>, Error);

/// Writes one request; its answer comes by the future. Without acknowledgement there is none.
async fn begin(
    shared: &Arc<Shared>,
    broker: i32,
    connection: &mut Option<Arc<Connection>>,
    mut batches: Vec<Batch>,
) -> Result<Option<impl Future<Output = Answer> + use<>>, Failed> {
    let connection = match connection {
        Some(connection) => connection.clone(),
        None => match shared.options.client.own_connection(broker).await {
            Ok(fresh) => connection.insert(Arc::new(fresh)).clone(),
            Err(error) => return Err((batches, error)),
        },
    };
    let version = match connection.version::<ProduceRequest>(PRODUCE_VERSIONS) {
        Ok(version) => version,
        Err(error) => return Ok(refuse_all(shared, batches, &error)),
    };
    let (request, bytes) = build(shared, &mut batches);
    if batches.is_empty() {
        return Ok(None);
    }
    if shared.options.acks == Acks::None {
        return match connection.send_one_way(&request, version).await {
            Ok(()) => {
                let written = Written { base_offset: None, log_append_time_ms: None };
                shared.settle(batches.into_iter().map(|batch| (batch, Verdict::Written(written))));
                Ok(None)
            }
            Err(error) => Err((batches, error)),
        };
    }
    let pending = match connection.start_sized(&request, version, bytes + 1024).await {
        Ok(pending) => pending,
        Err(error) => return Err((batches, error)),
    };
    let limit = shared.options.client.request_max();
    Ok(Some(async move {
        let response = match connection.within(limit, pending).await {
            Ok(frame) => connection.decode(frame, ApiKey::Produce, version),
            Err(error) => Err(error),
        };
        Answer { batches, connection, response }
    }))
}

fn refuse_all<T>(shared: &Shared, batches: Vec<Batch>, error: &Error) -> Option<T> {
    shared.settle(batches.into_iter().map(|batch| (batch, Verdict::Refused(error.clone()))));
    None
}

/// The request for what can be encoded, and its bytes; what cannot is refused and taken out.
fn build(shared: &Shared, batches: &mut Vec<Batch>) -> (ProduceRequest, usize) {
    let timeout = shared.options.client.request_max().as_millis();
    let mut request = ProduceRequest {
        acks: shared.options.acks.code(),
        timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
        ..ProduceRequest::default()
    };
    let mut bytes = 0;
    let mut encoded: Vec<(Batch, Bytes)> = Vec::with_capacity(batches.len());
    for mut batch in batches.drain(..) {
        match batch.encode() {
            Ok(records) => encoded.push((batch, records)),
            Err(error) => shared.settle([(batch, Verdict::Refused(error))]),
        }
    }
    // The wire wants the partitions of a topic together.
    encoded.sort_by(|(a, _), (b, _)| a.fate.topic.cmp(&b.fate.topic));
    for (batch, records) in encoded {
        bytes += records.len();
        let data = PartitionProduceData {
            index: batch.fate.partition,
            records: Records::Bytes(records),
            ..PartitionProduceData::default()
        };
        match request.topic_data.last_mut() {
            Some(topic) if topic.name == batch.fate.topic => topic.partition_data.push(data),
            _ => request.topic_data.push(TopicProduceData {
                name: batch.fate.topic.clone(),
                partition_data: vec![data],
                ..TopicProduceData::default()
            }),
        }
        batches.push(batch);
    }
    (request, bytes)
}

fn conclude(shared: &Shared, answer: Answer) {
    let response = answer.response;
    let verdicts = answer.batches.into_iter().map(|batch| {
        let said = match &response {
            Ok(response) => judge(&batch, response),
            Err(error) => verdict(error),
        };
        (batch, said)
    });
    shared.settle(verdicts);
}

fn verdict(error: &Error) -> Verdict {
    if error.is_retriable() { Verdict::Again(error.clone()) } else { Verdict::Refused(error.clone()) }
}

fn judge(batch: &Batch, response: &ProduceResponse) -> Verdict {
    let fate = &batch.fate;
    let said = response
        .responses
        .iter()
        .filter(|topic| topic.name == fate.topic)
        .flat_map(|topic| &topic.partition_responses)
        .find(|partition| partition.index == fate.partition);
    let Some(said) = said else {
        return Verdict::Refused(Error::partition(
            &fate.topic,
            fate.partition,
            ErrorCode::UnknownServerError,
        ));
    };
    match code_of(said.error_code) {
        ErrorCode::None => Verdict::Written(written(said)),
        ErrorCode::DuplicateSequenceNumber => {
            Verdict::Written(Written { base_offset: None, log_append_time_ms: None })
        }
        code => {
            let error = Error::Partition {
                topic: fate.topic.to_string(),
                partition: fate.partition,
                code,
                message: said.error_message.as_ref().map(ToString::to_string),
            };
            verdict(&error)
        }
    }
}

fn written(said: &PartitionProduceResponse) -> Written {
    Written {
        base_offset: (said.base_offset >= 0).then_some(said.base_offset),
        log_append_time_ms: (said.log_append_time_ms >= 0).then_some(said.log_append_time_ms),
    }
}
