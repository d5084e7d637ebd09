//! Why something did not decode, and where.

use std::fmt;

use ottla_protocol::records::BatchError;

/// Why the reading stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A value goes beyond the end.
    #[error("{needed} more bytes are needed")]
    Truncated {
        /// How many.
        needed: usize,
    },
    /// A length or count that cannot be.
    #[error("length {length} does not fit the {left} bytes left")]
    BadLength {
        /// What it says.
        length: i64,
        /// Bytes left.
        left: usize,
    },
    /// Null where a value is needed.
    #[error("null is not allowed here")]
    UnexpectedNull,
    /// A string that is none.
    #[error("the string is not UTF-8")]
    NotUtf8,
    /// More than 32 (or 64) bits.
    #[error("the varint is too long")]
    BadVarint,
    /// A tagged field out of order.
    #[error("tagged field {tag} comes after tag {before}")]
    TagOrder {
        /// Its number.
        tag: u32,
        /// The number before.
        before: u32,
    },
    /// A tagged field whose value is shorter than its size.
    #[error("{left} bytes are left in tagged field {tag}")]
    TagSize {
        /// Its number.
        tag: u32,
        /// What is left.
        left: usize,
    },
    /// More fields than are shown.
    #[error("there are more than {max} fields")]
    TooManyFields {
        /// The limit.
        max: usize,
    },
    /// No such API.
    #[error("there is no API with key {0}")]
    UnknownApi(i16),
    /// No such version.
    #[error("{name} has versions {min} to {max}, not {version}")]
    UnknownVersion {
        /// The message.
        name: &'static str,
        /// What it says.
        version: i32,
        /// First version.
        min: i16,
        /// Last version.
        max: i16,
    },
    /// No such record.
    #[error("there is no {what} of type {number}")]
    UnknownType {
        /// Kind of record.
        what: &'static str,
        /// What it says.
        number: i64,
    },
    /// A response without request.
    #[error("no request with correlation id {0} was seen on this connection")]
    NoRequest(i32),
    /// The message is over.
    #[error("{0} bytes are left behind the message")]
    TrailingBytes(usize),
    /// A damaged batch.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// Anything else that a sentence describes.
    #[error("{0}")]
    Other(&'static str),
}

/// A reason with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Position in bytes from the start of the frame or file.
    pub at: usize,
    /// Names of the fields around it, the innermost first; empty for the header of a frame.
    pub path: Vec<String>,
    /// What is wrong.
    pub reason: Reason,
}

impl Failure {
    /// A failure that belongs to no field.
    #[must_use]
    pub fn new(at: usize, reason: impl Into<Reason>) -> Self {
        Self { at, path: Vec::new(), reason: reason.into() }
    }

    /// The same inside of a field or element.
    #[must_use]
    pub fn inside(mut self, name: impl Into<String>) -> Self {
        self.path.push(name.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.path.iter().rev().enumerate() {
            let dot = if index == 0 || name.starts_with('[') { "" } else { "." };
            write!(f, "{dot}{name}")?;
        }
        let blank = if self.path.is_empty() { "" } else { " " };
        write!(f, "{blank}at byte {}: {}", self.at, self.reason)
    }
}

impl std::error::Error for Failure {}
