//! The client's side: one connection, many requests in flight, answers matched by correlation id.

mod connection;
mod raw;

pub use connection::{Client, ClientOptions, PendingResponse};
pub use raw::RawConnection;

use ottla_protocol::wire::{DecodeError, EncodeError};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// As it was given.
        address: String,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The answer did not come in time. The request may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended first. The request may have been carried out.
    #[error("connection closed: {0}")]
    Closed(Arc<str>),
    /// The request cannot be written in this version.
    #[error("cannot encode {message} version {version}: {source}")]
    Encode {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
        /// What does not fit.
        source: EncodeError,
    },
    /// The answer is not what this version's answer looks like.
    #[error("cannot decode {message} version {version}: {source}")]
    Decode {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
        /// What does not fit.
        source: DecodeError,
    },
    /// The message is not one of a defined API, or not in this version.
    #[error("{message} is not a request with a version {version}")]
    NotARequest {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}
