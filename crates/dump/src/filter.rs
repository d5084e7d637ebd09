//! Which frames are shown.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::generated::{ApiKey, ErrorCode};
use ottla_protocol::ids::Uuid;

use crate::frame::Frame;
use crate::tree::{Node, Value, find};

/// Which frames are shown: those that fulfil every condition that is set. A response is shown when its request is, but for errors,
/// which are the responses' own.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// API keys; empty for all.
    pub apis: BTreeSet<i16>,
    /// Client ids; empty for all.
    pub client_ids: BTreeSet<String>,
    /// Names of topics that the request or response names; empty for all.
    pub topics: BTreeSet<String>,
    /// Connections; empty for all.
    pub connections: BTreeSet<u64>,
    /// Responses with an error only, and frames that did not decode.
    pub errors: Option<Errors>,
}

/// Which errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Any at all.
    Any,
    /// This code.
    Code(ErrorCode),
}

impl Filter {
    /// The key of an API by its name, in any case, or by its number.
    #[must_use]
    pub fn api_key(text: &str) -> Option<i16> {
        let named = |api: &&ApiKey| api.name().eq_ignore_ascii_case(text);
        text.parse().ok().or_else(|| ApiKey::ALL.iter().find(named).map(|api| api.code()))
    }

    /// An error by its name, in any case, or by its number.
    #[must_use]
    pub fn error_code(text: &str) -> Option<ErrorCode> {
        let named = |code: &&ErrorCode| code.name().eq_ignore_ascii_case(text);
        let numbered = text.parse().ok().and_then(ErrorCode::from_code);
        numbered.or_else(|| ErrorCode::ALL.iter().find(named).copied())
    }

    /// Is the frame shown? `request` says whether its request was, where it is a response.
    #[must_use]
    pub fn selects(&self, frame: &Frame, request: Option<bool>, names: &TopicNames) -> bool {
        self.selects_frame(frame, request, names) && self.selects_errors(frame)
    }

    /// The same without the condition on errors.
    #[must_use]
    pub fn selects_frame(&self, frame: &Frame, request: Option<bool>, names: &TopicNames) -> bool {
        let has = |set: &BTreeSet<String>, text: &Option<String>| {
            set.is_empty() || text.as_ref().is_some_and(|text| set.contains(text))
        };
        (self.apis.is_empty() || frame.api.is_some_and(|api| self.apis.contains(&api.key)))
            && (self.connections.is_empty() || self.connections.contains(&frame.connection))
            && has(&self.client_ids, &frame.client_id)
            && (self.topics.is_empty()
                || request == Some(true)
                || names_topic(&frame.body, &self.topics, names))
    }

    fn selects_errors(&self, frame: &Frame) -> bool {
        match &self.errors {
            None => true,
            Some(Errors::Any) => frame.failure.is_some() || has_error(&frame.body, None),
            Some(Errors::Code(code)) => has_error(&frame.body, Some(i64::from(code.code()))),
        }
    }
}

fn names_topic(nodes: &[Node], topics: &BTreeSet<String>, names: &TopicNames) -> bool {
    nodes.iter().any(|node| match &node.value {
        Value::Text(_) if node.label.domain() == Some("topicName") => {
            node.text().is_some_and(|name| topics.contains(name))
        }
        Value::Text(_) if node.label.name().is_none() => false,
        Value::Uuid(id) => names.get(id).is_some_and(|name| topics.contains(name)),
        Value::Array(parts) if node.label.domain() == Some("topicName") => {
            parts.iter().any(|part| part.text().is_some_and(|name| topics.contains(name)))
        }
        _ => names_topic(node.parts(), topics, names),
    })
}

fn has_error(nodes: &[Node], code: Option<i64>) -> bool {
    nodes.iter().any(|node| {
        let is_code = node.label.name().is_some_and(|name| name.ends_with("ErrorCode"));
        match node.int().filter(|_| is_code) {
            Some(found) => code.map_or(found != 0, |code| code == found),
            None => has_error(node.parts(), code),
        }
    })
}

/// Names of the topic ids that responses have told.
#[derive(Debug, Default)]
pub struct TopicNames(BTreeMap<Uuid, String>);

impl TopicNames {
    /// The name of a topic id.
    #[must_use]
    pub fn get(&self, id: &Uuid) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// Keeps in mind every name that stands beside an id in `nodes`.
    pub fn learn(&mut self, nodes: &[Node]) {
        let name = nodes.iter().find(|node| node.label.domain() == Some("topicName")).and_then(Node::text);
        if let (Some(name), Some(Value::Uuid(id))) = (name, find(nodes, "TopicId").map(|node| &node.value))
            && !id.is_zero()
            && self.0.len() < crate::limits::TOPIC_NAMES_MAX
        {
            self.0.insert(*id, name.to_owned());
        }
        for node in nodes {
            self.learn(node.parts());
        }
    }
}
