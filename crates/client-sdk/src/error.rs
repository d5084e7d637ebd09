//! What can go wrong, with the topic, partition, group or broker that it concerns and what to do about it.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::records::{BatchError, BuildError};
use ottla_transport::client::ClientError;

/// Why a call failed. What could be retried has been, until the deadline of the call; what is left is for the program.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address of the bootstrap list answers.
    #[error("no broker answers at {addresses} ({last}): check the addresses and that a broker listens there")]
    Bootstrap {
        /// The addresses tried.
        addresses: String,
        /// What the last one said.
        last: Box<Error>,
    },
    /// A connection could not be made or ended, or an answer did not come in time.
    #[error("broker {broker}: {source}")]
    Connection {
        /// Host and port.
        broker: Arc<str>,
        /// What happened.
        source: ClientError,
    },
    /// The deadline passed while the same was tried again and again.
    #[error("{what} did not succeed within {after:.1?}; last: {last}")]
    TimedOut {
        /// What was tried.
        what: String,
        /// How long.
        after: Duration,
        /// The last failure.
        last: Box<Error>,
    },
    /// The broker and this crate have no version of an API in common.
    #[error(
        "broker {broker} {}, needed is one of {} to {}: upgrade the older side",
        serves(api, *served), needed.0, needed.1
    )]
    Unsupported {
        /// Host and port.
        broker: Arc<str>,
        /// The API's name.
        api: &'static str,
        /// First and last version that this crate speaks.
        needed: (i16, i16),
        /// First and last version that the broker serves; `None` when it does not serve the API.
        served: Option<(i16, i16)>,
    },
    /// The cluster refuses what concerns a topic.
    #[error("topic {topic}: {code}: {advice}{message}", code = code.name(), advice = advice(*code), message = said(message))]
    Topic {
        /// The topic's name.
        topic: String,
        /// Kafka's error.
        code: ErrorCode,
        /// What the broker adds.
        message: Option<String>,
    },
    /// The cluster refuses what concerns a partition.
    #[error("{topic}-{partition}: {code}: {advice}{message}", code = code.name(), advice = advice(*code), message = said(message))]
    Partition {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// Kafka's error.
        code: ErrorCode,
        /// What the broker adds.
        message: Option<String>,
    },
    /// The cluster refuses what concerns a consumer group.
    #[error("group {group}: {code}: {advice}", code = code.name(), advice = advice(*code))]
    Group {
        /// The group's id.
        group: String,
        /// Kafka's error.
        code: ErrorCode,
    },
    /// The broker refuses a request as a whole, or what concerns a broker or another resource.
    #[error("{what}: {code}: {advice}{message}", code = code.name(), advice = advice(*code), message = said(message))]
    Refused {
        /// The API or the resource.
        what: String,
        /// Kafka's error.
        code: ErrorCode,
        /// What the broker adds.
        message: Option<String>,
    },
    /// The topic has fewer partitions.
    #[error("{topic}-{partition}: the topic has {count} partitions: choose one from 0 to {last}", last = count - 1)]
    NoSuchPartition {
        /// The topic's name.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: i32,
    },
    /// A record does not fit a batch or the producer's memory.
    #[error(
        "topic {topic}: a record of {bytes} bytes, at most {bytes_max} fit: send less at once, or raise batch_bytes, buffer_bytes and the topic's max.message.bytes"
    )]
    RecordTooLarge {
        /// The topic's name.
        topic: String,
        /// Bytes of the encoded record.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A batch could not be encoded.
    #[error("{topic}-{partition}: {source}")]
    Encode {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// Why.
        source: Arc<BuildError>,
    },
    /// A fetched batch is damaged.
    #[error(
        "{topic}-{partition}: damaged batch at offset {offset}: {source}: seek behind it to go on without it"
    )]
    Corrupt {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// Where the damaged batch begins.
        offset: i64,
        /// What is wrong with it.
        source: Arc<BatchError>,
    },
    /// The position is not in the log and no rule says where to go on.
    #[error(
        "{topic}-{partition}: offset {offset} is not in the log: seek, or choose where to start by start_at"
    )]
    OffsetOutOfRange {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// The offset asked for.
        offset: i64,
    },
    /// The partition is not assigned to this consumer.
    #[error("{topic}-{partition}: not assigned to this consumer: assign it first, or wait for the group to")]
    NotAssigned {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
    },
    /// The producer, consumer or client has been closed.
    #[error("the {0} is closed: make a new one")]
    Closed(&'static str),
    /// Options contradict each other or are out of range.
    #[error("options: {0}")]
    Options(String),
}

impl Error {
    pub(crate) fn topic(topic: &str, code: ErrorCode) -> Error {
        Error::Topic { topic: topic.to_owned(), code, message: None }
    }

    pub(crate) fn partition(topic: &str, partition: i32, code: ErrorCode) -> Error {
        Error::Partition { topic: topic.to_owned(), partition, code, message: None }
    }

    pub(crate) fn group(group: &str, code: ErrorCode) -> Error {
        Error::Group { group: group.to_owned(), code }
    }

    /// Kafka's error, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Topic { code, .. }
            | Error::Partition { code, .. }
            | Error::Group { code, .. }
            | Error::Refused { code, .. } => Some(*code),
            Error::TimedOut { last, .. } | Error::Bootstrap { last, .. } => last.code(),
            _ => None,
        }
    }

    /// May the same succeed a little later? The crate has tried until the deadline already.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Connection { source, .. } => {
                matches!(
                    source,
                    ClientError::Connect { .. } | ClientError::Timeout(_) | ClientError::Closed(_)
                )
            }
            Error::Bootstrap { .. } | Error::TimedOut { .. } => true,
            other => other.code().is_some_and(ErrorCode::is_retriable),
        }
    }

    /// The connection is of no more use.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self, Error::Connection { .. })
    }
}

/// The error of a code on the wire; a code this crate does not know counts as `UnknownServerError`.
pub(crate) fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// `Ok` for no error.
pub(crate) fn check(code: i16, error: impl FnOnce(ErrorCode) -> Error) -> Result<(), Error> {
    match code_of(code) {
        ErrorCode::None => Ok(()),
        code => Err(error(code)),
    }
}

fn serves(api: &str, served: Option<(i16, i16)>) -> String {
    let api = api.trim_end_matches("Request");
    match served {
        None => format!("does not serve {api}"),
        Some((first, last)) => format!("serves {api} in versions {first} to {last}"),
    }
}

fn said(message: &Option<String>) -> String {
    message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

/// What a person can do about an error that retries did not cure.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            "there is none: check its name, or create the topic"
        }
        ErrorCode::TopicAlreadyExists => "choose another name, or use the topic that is there",
        ErrorCode::InvalidTopicException => {
            "use 1 to 249 letters, digits, dots, underscores and hyphens as a topic's name"
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "the batch is larger than the topic's max.message.bytes: lower batch_bytes, or raise the topic's limit"
        }
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas: bring brokers back, or lower it"
        }
        ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower => {
            "the partition has no leader: bring its replicas' brokers back"
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => "ask the cluster's operator for the right to do this",
        ErrorCode::InvalidReplicationFactor => "choose a factor of at most the number of brokers",
        ErrorCode::NonEmptyGroup => "stop the group's members first",
        ErrorCode::GroupIdNotFound => "check the group's id: nobody has used it",
        ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress => {
            "the group has given the partitions to another member: go on with what is assigned now"
        }
        ErrorCode::FencedInstanceId => "another member joined with the same instance id: give each its own",
        ErrorCode::InconsistentGroupProtocol => "use an assignor that all members of the group have",
        ErrorCode::OutOfOrderSequenceNumber => "records before it were lost: check the broker's log",
        ErrorCode::UnsupportedVersion => "upgrade the older of broker and client",
        ErrorCode::InvalidConfig | ErrorCode::InvalidRequest => "correct the value",
        code if code.is_retriable() => "a passing trouble that did not pass: try again later",
        _ => "see the broker's log for the reason",
    }
}
