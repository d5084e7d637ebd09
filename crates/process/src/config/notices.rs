//! What an operator should hear about a configuration that is valid: unknown keys, keys without effect, protection that is not
//! there. Gathered, and logged once the log has started.

use ottla_cluster::config::{Key, Status, broker_key, broker_keys, topic_key};

use super::sources::StaticSettings;

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A key that nobody knows, with what may have been meant.
    Unknown {
        /// The key.
        key: String,
        /// Where it was given.
        origin: String,
        /// A known key that resembles it.
        meant: Option<&'static str>,
    },
    /// A key that promises protection that is not served: the reason.
    Unprotected {
        /// The key.
        key: String,
        /// Where it was given.
        origin: String,
    },
    /// Known keys that have no effect, in one line.
    NotUsed {
        /// The keys.
        keys: Vec<String>,
    },
}

impl Notice {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Notice::Unknown { key, origin, meant: Some(meant) } => {
                tracing::warn!(key, origin, "unknown setting is ignored; did you mean {meant}?");
            }
            Notice::Unknown { key, origin, meant: None } => {
                tracing::warn!(key, origin, "unknown setting is ignored");
            }
            Notice::Unprotected { key, origin } => {
                tracing::warn!(
                    key,
                    origin,
                    "this setting protects nothing: authentication, authorization and TLS are not served yet"
                );
            }
            Notice::NotUsed { keys } => {
                let keys = keys.join(", ");
                tracing::info!(
                    keys,
                    "settings that are known and have no effect; docs/configuration.md says why"
                );
            }
        }
    }
}

const PROTECTION: [&str; 7] = [
    "sasl.",
    "ssl.",
    "listener.name.",
    "authorizer.",
    "super.users",
    "allow.everyone.if.no.acl.found",
    "delegation.token.",
];

/// All notices about these settings, unknown keys first.
pub fn of(settings: &StaticSettings) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut unused = Vec::new();
    for (name, setting) in settings.iter() {
        let (key, origin) = (name.to_owned(), setting.source.to_string());
        let known = broker_key(name);
        let changes = known.is_none_or(|known| known.default != Some(setting.value.as_str()));
        if PROTECTION.iter().any(|prefix| name.starts_with(prefix)) {
            if changes {
                notices.push(Notice::Unprotected { key, origin });
            }
        } else if let Some(known) = known {
            if changes && matches!(known.status, Status::NotUsed(_)) {
                unused.push(key);
            }
        } else {
            notices.push(Notice::Unknown { key, origin, meant: meant(name) });
        }
    }
    if !unused.is_empty() {
        notices.push(Notice::NotUsed { keys: unused });
    }
    notices
}

/// The key that an unknown one may stand for: the broker's name of a topic key, or one that differs in a letter or two.
fn meant(name: &str) -> Option<&'static str> {
    if let Some(broker) = topic_key(name).and_then(|key| key.synonyms.first()) {
        return Some(broker.name);
    }
    let close = |key: &&'static Key| Some((distance(name, key.name, 2)?, key.name));
    broker_keys().iter().filter_map(close).min().map(|(_, name)| name)
}

/// Letters to insert, drop or change to make `a` into `b`; none above `most`.
fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    Some(row[b.len()]).filter(|&found| found <= most)
}
