//! What can be wrong with a configuration, said so that it can be mended.

use std::path::PathBuf;

use super::sources::Source;

/// A value that is not what its key wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The key.
    pub key: String,
    /// The value as it was given, `[hidden]` when it is a secret.
    pub value: String,
    /// Where it was given.
    pub origin: Source,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

impl std::fmt::Display for BadValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={} ({}): {}; {}", self.key, self.value, self.origin, self.reason, self.advice)
    }
}

/// A configuration that a process cannot start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not what its key wants.
    #[error("{0}")]
    BadValue(Box<BadValue>),
    /// The file does not follow the syntax of `server.properties`.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {error}; check the path and its permissions, or start without a file to use the defaults", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
    /// An `--override` without `=`, or without a key.
    #[error("--override {text}: expected key=value, for example --override log.dirs=/var/lib/ottla")]
    Override {
        /// What was given.
        text: String,
    },
}
