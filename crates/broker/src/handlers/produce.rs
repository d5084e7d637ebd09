//! Produce: validate before any lock, append on the connection's own task, answer by acks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_cluster::controller::INTERNAL_TOPICS;
use ottla_cluster::image::MetadataImage;
use ottla_partition::append::{Acks, Appended, Committed};
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use ottla_protocol::records::{
    BatchHeader, CompressionType, ValidateError, ValidateErrorKind, Validated, validate,
};
use ottla_protocol::wire::Records;
use ottla_transport::server::Reply;

use crate::dispatch::Call;
use crate::errors::code_of;
use crate::limits::COMPRESSED_INLINE_BYTES_MAX;
use crate::produce_rules::ProduceRules;
use crate::state::State;
use crate::topics::ServedTopic;

/// Oldest Produce version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// First Produce version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// Why transactional ids and transactional batches are refused.
const NO_TRANSACTIONS: &str = "transactions are not served by this version of Ottla";

/// What became of a produce request when its handler returned.
pub enum Produced {
    /// Answer now.
    Now(ProduceResponse),
    /// Answer when committed.
    Later(AwaitCommit),
    /// acks=0: no answer; an error closes the connection.
    NoAnswer(Result<(), String>),
}

/// Handles Produce up to the append.
pub fn handle(state: &Arc<State>, request: &ProduceRequest, version: i16) -> Produced {
    let acks = match request.acks {
        0 | 1 => Acks::Leader,
        -1 => Acks::All,
        _ => return Produced::Now(refuse_all(request, ErrorCode::InvalidRequiredAcks, "acks is 0, 1 or -1")),
    };
    if request.transactional_id.is_some() {
        if request.acks == 0 {
            return Produced::NoAnswer(Err(NO_TRANSACTIONS.to_owned()));
        }
        return Produced::Now(refuse_all(request, ErrorCode::InvalidRequest, NO_TRANSACTIONS));
    }
    let mut response = ProduceResponse::default();
    let mut commits = Vec::new();
    let image = state.image();
    for (t, topic) in request.topic_data.iter().enumerate() {
        let mut answers = Vec::with_capacity(topic.partition_data.len());
        let known = find_topic(state, &image, topic, version);
        for (p, data) in topic.partition_data.iter().enumerate() {
            let found = known.as_ref().map_err(|code| *code);
            let mut answer = match found.and_then(|topic| Ok((topic, topic.partition(data.index)?))) {
                Ok((served, partition)) => {
                    match append(state, &served.rules, partition, &data.records, acks, version) {
                        Ok((answer, appended)) => {
                            if acks == Acks::All {
                                let committed = partition.committed(&appended).or_too_few_replicas();
                                commits.push((t, p, committed));
                            }
                            answer
                        }
                        Err(answer) => *answer,
                    }
                }
                Err(code) => failed(code, None),
            };
            answer.index = data.index;
            answers.push(answer);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: answers,
            ..Default::default()
        });
    }
    if request.acks == 0 {
        return Produced::NoAnswer(first_error(&response));
    }
    if commits.is_empty() {
        return Produced::Now(response);
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Produced::Later(AwaitCommit::new(response, commits, timeout))
}

fn find_topic(
    state: &State,
    image: &MetadataImage,
    topic: &TopicProduceData,
    version: i16,
) -> Result<Arc<ServedTopic>, ErrorCode> {
    let known = if version >= TOPIC_IDS_SINCE {
        image.topic_by_id(&topic.topic_id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic_by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    let known = known?;
    if INTERNAL_TOPICS.contains(&&*known.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    state.served(known)
}

/// Validates and appends one partition's batch.
fn append(
    state: &Arc<State>,
    rules: &ProduceRules,
    partition: &Arc<Partition>,
    records: &Records,
    acks: Acks,
    version: i16,
) -> Result<(PartitionProduceResponse, Appended), Box<PartitionProduceResponse>> {
    let Records::Bytes(bytes) = records else {
        return Err(Box::new(failed(ErrorCode::InvalidRecord, Some("the partition has no records"))));
    };
    let now_ms = state.now_ms();
    let validated = validate_aside(bytes, rules, version >= ZSTD_SINCE, now_ms)
        .map_err(|error| Box::new(invalid(&error)))?;
    if validated.header.attributes.is_transactional() {
        return Err(Box::new(failed(ErrorCode::InvalidRequest, Some(NO_TRANSACTIONS))));
    }
    let started = Instant::now();
    let appended = partition
        .append_as_leader(&validated.header, &validated.payload, acks, now_ms)
        .map_err(|error| Box::new(refused(&error)))?;
    if appended.duplicate_of.is_none() {
        state.metrics.appended(
            validated.header.size_bytes(),
            validated.header.records_count,
            started.elapsed(),
        );
    }
    let log_append_time_ms = match appended.duplicate_of {
        Some(timestamp) if rules.is_log_append_time() => timestamp,
        None if rules.is_log_append_time() => validated.header.max_timestamp,
        Some(_) | None => -1,
    };
    let answer = PartitionProduceResponse {
        base_offset: appended.base_offset.0,
        log_append_time_ms,
        log_start_offset: appended.log_start_offset.0,
        ..Default::default()
    };
    Ok((answer, appended))
}

/// Large compressed batches are walked outside of the connections' threads: decompressing 100 MiB must not hold up the
/// other connections of this worker. The order of the connection's requests is kept.
fn validate_aside(
    bytes: &Bytes,
    rules: &ProduceRules,
    allow_zstd: bool,
    now_ms: i64,
) -> Result<Validated, ValidateError> {
    let options = rules.options(allow_zstd, now_ms);
    let heavy = bytes.len() > COMPRESSED_INLINE_BYTES_MAX
        && BatchHeader::parse(bytes)
            .is_ok_and(|header| header.attributes.compression() != Ok(CompressionType::None));
    if heavy || (rules.recompresses() && bytes.len() > COMPRESSED_INLINE_BYTES_MAX) {
        tokio::task::block_in_place(|| validate(bytes, &options))
    } else {
        validate(bytes, &options)
    }
}

fn failed(code: ErrorCode, message: Option<&str>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        error_code: code.code(),
        base_offset: -1,
        error_message: message.map(Into::into),
        ..Default::default()
    }
}

fn refused(error: &PartitionError) -> PartitionProduceResponse {
    failed(code_of(error), Some(&error.to_string()))
}

fn invalid(error: &ValidateError) -> PartitionProduceResponse {
    let code = match error.kind {
        ValidateErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
        ValidateErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
        ValidateErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        ValidateErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
        ValidateErrorKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
    };
    let mut answer = failed(code, Some(&error.message));
    answer.record_errors = error
        .records
        .iter()
        .map(|(index, text)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(text.as_str().into()),
            ..Default::default()
        })
        .collect();
    answer
}

fn refuse_all(request: &ProduceRequest, code: ErrorCode, message: &str) -> ProduceResponse {
    let topic = |topic: &TopicProduceData| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse { index: data.index, ..failed(code, Some(message)) })
            .collect(),
        ..Default::default()
    };
    ProduceResponse { responses: request.topic_data.iter().map(topic).collect(), ..Default::default() }
}

fn first_error(response: &ProduceResponse) -> Result<(), String> {
    let all = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match all.into_iter().find(|answer| answer.error_code != 0) {
        None => Ok(()),
        Some(answer) => {
            let name = ErrorCode::from_code(answer.error_code).map_or("unknown", ErrorCode::name);
            Err(format!("a produce with acks=0 failed: {name}"))
        }
    }
}

/// Ready when every partition of the request is committed, or its time is over.
pub struct AwaitCommit {
    response: ProduceResponse,
    commits: Vec<(usize, usize, Committed)>,
    timeout: Pin<Box<tokio::time::Sleep>>,
}

impl AwaitCommit {
    fn new(response: ProduceResponse, commits: Vec<(usize, usize, Committed)>, timeout: Duration) -> Self {
        Self { response, commits, timeout: Box::pin(tokio::time::sleep(timeout)) }
    }

    fn set_error(&mut self, topic: usize, partition: usize, code: ErrorCode, message: String) {
        let answer = &mut self.response.responses[topic].partition_responses[partition];
        answer.error_code = code.code();
        answer.base_offset = -1;
        answer.error_message = Some(message.into());
    }
}

impl Future for AwaitCommit {
    type Output = ProduceResponse;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ProduceResponse> {
        let mut i = 0;
        while i < self.commits.len() {
            match Pin::new(&mut self.commits[i].2).poll(context) {
                Poll::Pending => i += 1,
                Poll::Ready(result) => {
                    let (topic, partition, _) = self.commits.swap_remove(i);
                    if let Err(error) = result {
                        self.set_error(topic, partition, code_of(&error), error.to_string());
                    }
                }
            }
        }
        if !self.commits.is_empty() && self.timeout.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        for (topic, partition, _) in std::mem::take(&mut self.commits) {
            let text = "not on disk on every in-sync replica in time; it may still come to be".to_owned();
            self.set_error(topic, partition, ErrorCode::RequestTimedOut, text);
        }
        Poll::Ready(std::mem::take(&mut self.response))
    }
}

impl Produced {
    /// Turns the outcome into the connection's reply.
    pub fn answer(self, call: Call) -> Reply {
        match self {
            Self::Now(response) => call.reply(&response),
            Self::Later(commit) => Reply::later(async move { call.frame(&commit.await) }),
            Self::NoAnswer(Ok(())) => {
                call.finish();
                Reply::None
            }
            Self::NoAnswer(Err(reason)) => Reply::Close(reason.into()),
        }
    }
}
