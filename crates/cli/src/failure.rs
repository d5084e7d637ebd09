//! What went wrong, as an exit code and as advice.

use std::fmt;
use std::io::{self, ErrorKind};

use ottla_client_sdk::{Error, ErrorCode};

/// Done, but what was looked at is not well.
pub const NOT_WELL: u8 = 1;
/// The command or its input is wrong.
pub const MISUSED: u8 = 2;
/// What was named does not exist.
pub const NOT_FOUND: u8 = 3;
/// No broker was reached, or not in time.
pub const UNREACHABLE: u8 = 4;
/// The cluster refused it.
pub const REFUSED: u8 = 5;

/// Something that was named does not exist, as this command found out itself.
#[derive(Debug)]
pub struct NotFound(pub String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// The exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<NotFound>() {
        return NOT_FOUND;
    }
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map_or(MISUSED, of_cluster)
}

fn of_cluster(error: &Error) -> u8 {
    match error {
        Error::Options(_) | Error::RecordTooLarge { .. } | Error::Encode { .. } => MISUSED,
        Error::NoSuchPartition { .. } => NOT_FOUND,
        Error::Bootstrap { .. } | Error::Connection { .. } => UNREACHABLE,
        Error::TimedOut { last, .. } => match of_cluster(last) {
            NOT_FOUND => NOT_FOUND,
            _ => UNREACHABLE,
        },
        other => match other.code() {
            Some(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::GroupIdNotFound
                | ErrorCode::BrokerIdNotRegistered,
            ) => NOT_FOUND,
            _ => REFUSED,
        },
    }
}

/// A command that helps, where there is one.
pub fn hint(error: &anyhow::Error) -> Option<&'static str> {
    of_error(error.chain().find_map(|cause| cause.downcast_ref::<Error>())?)
}

fn of_error(error: &Error) -> Option<&'static str> {
    match error {
        Error::TimedOut { last, .. } => return of_error(last),
        Error::Bootstrap { .. } => {
            return Some("name the cluster with --bootstrap HOST:PORT, or start a broker: `ottla-broker`");
        }
        Error::NoSuchPartition { .. } => return Some("`ottla topic describe TOPIC` shows the partitions"),
        _ => {}
    }
    match error.code()? {
        ErrorCode::UnknownTopicOrPartition => Some("`ottla topic list` shows the topics there are"),
        ErrorCode::GroupIdNotFound => Some("`ottla group list` shows the groups there are"),
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => {
            Some("`ottla group describe GROUP` shows the group's members")
        }
        ErrorCode::LeaderNotAvailable
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend => Some("`ottla cluster health` shows what is away"),
        ErrorCode::InvalidConfig => Some("`ottla config describe topic TOPIC --all` shows keys and values"),
        _ => None,
    }
}

/// Has whoever reads seen enough (`ottla ... | head`)?
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(code: ErrorCode) -> Error {
        Error::Topic { topic: "t".to_owned(), code, message: None }
    }

    #[test]
    fn exit_codes_tell_absence_silence_and_refusal_apart() {
        let late = |last| Error::TimedOut {
            what: "x".to_owned(),
            after: std::time::Duration::ZERO,
            last: Box::new(last),
        };
        let cases = [
            (topic(ErrorCode::UnknownTopicOrPartition), NOT_FOUND),
            (topic(ErrorCode::TopicAlreadyExists), REFUSED),
            (late(topic(ErrorCode::LeaderNotAvailable)), UNREACHABLE),
            (late(topic(ErrorCode::UnknownTopicOrPartition)), NOT_FOUND),
            (Error::Options("x".to_owned()), MISUSED),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&anyhow::Error::new(error.clone()).context("more")), code, "{error}");
        }
        assert_eq!(exit_code(&anyhow::anyhow!("own")), MISUSED);
        assert_eq!(exit_code(&NotFound("none".to_owned()).into()), NOT_FOUND);
    }
}
