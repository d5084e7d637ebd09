//! Sessions: requests matched with their responses, connection by connection.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use ottla_protocol::schema::{self, Kind};

use crate::failure::{Failure, Reason};
use crate::filter::{Filter, TopicNames};
use crate::frame::{self, Api, Direction, Frame, Parts, request_parts, response_parts};
use crate::inner::Budget;
use crate::limits::{CONNECTIONS_MAX, OPEN_REQUESTS_MAX};
use crate::tree::{Node, find};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const CREATE_TOPICS: i16 = 19;

/// A frame as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who sent it.
    pub direction: Direction,
    /// Its connection, by a number that the caller chose.
    pub connection: u64,
    /// When it was whole, in microseconds since 1970; `None` where nobody knows.
    pub time_us: Option<i64>,
    /// Its bytes, without the length before it.
    pub bytes: Bytes,
}

/// All sessions that are going on.
#[derive(Debug, Default)]
pub struct Sessions {
    filter: Filter,
    show_secrets: bool,
    connections: HashMap<u64, Connection>,
    topic_names: TopicNames,
    frames: u64,
}

#[derive(Debug, Default)]
struct Connection {
    open: VecDeque<OpenRequest>,
    /// After SaslHandshake 0 tokens come without header (KIP-43), until a request does.
    has_raw_tokens: bool,
    last_frame: u64,
}

#[derive(Debug)]
struct OpenRequest {
    correlation_id: i32,
    api: Api,
    client_id: Option<String>,
    time_us: Option<i64>,
    is_selected: bool,
}

impl Sessions {
    /// Sessions of which `filter` says what is shown. Secrets are masked unless they are asked for.
    #[must_use]
    pub fn new(filter: Filter, show_secrets: bool) -> Self {
        Self { filter, show_secrets, ..Self::default() }
    }

    /// Takes a frame apart; `None` when it is not to be shown. Frames of a connection come in their order, a response after its
    /// request.
    pub fn see(&mut self, seen: Seen) -> Option<Frame> {
        self.frames += 1;
        self.bound();
        match seen.direction {
            Direction::Request => self.request(seen),
            Direction::Response => self.response(seen),
        }
    }

    /// Can these bytes be the begin of a frame of the connection? For finding the next frame behind a gap.
    #[must_use]
    pub fn is_plausible(&self, direction: Direction, connection: u64, bytes: &[u8]) -> bool {
        let connection = self.connections.get(&connection);
        match direction {
            Direction::Request => is_plausible(bytes) || connection.is_some_and(|c| c.has_raw_tokens),
            Direction::Response => connection.is_some_and(|connection| {
                let id = bytes.first_chunk().map(|id| i32::from_be_bytes(*id));
                connection.has_raw_tokens
                    || connection.open.iter().any(|open| Some(open.correlation_id) == id)
            }),
        }
    }

    /// Forgets a connection.
    pub fn close(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    fn bound(&mut self) {
        if self.connections.len() > CONNECTIONS_MAX {
            let oldest = self.connections.iter().min_by_key(|(_, c)| c.last_frame).map(|(id, _)| *id);
            oldest.map(|id| self.connections.remove(&id));
        }
    }

    fn request(&mut self, seen: Seen) -> Option<Frame> {
        let connection = self.connections.entry(seen.connection).or_default();
        connection.last_frame = self.frames;
        if connection.has_raw_tokens && !is_plausible(&seen.bytes) {
            let token = frame::token(seen.direction, seen.connection, seen.bytes, self.show_secrets);
            return Some(Frame { time_us: seen.time_us, ..token });
        }
        connection.has_raw_tokens = false;
        let parts = request_parts(&seen.bytes, 0, &mut Budget::new());
        let awaited = parts.api.zip(parts.correlation_id).filter(|(api, _)| is_answered(*api, &parts));
        let mut frame = parts.into_frame(seen.direction, seen.connection, seen.bytes, self.show_secrets);
        frame.time_us = seen.time_us;
        let is_selected = self.filter.selects_frame(&frame, None, &self.topic_names);
        if let Some((api, correlation_id)) = awaited {
            let client_id = frame.client_id.clone();
            let open = OpenRequest { correlation_id, api, client_id, time_us: seen.time_us, is_selected };
            connection.push(open);
        }
        self.filter.selects(&frame, None, &self.topic_names).then_some(frame)
    }

    fn response(&mut self, seen: Seen) -> Option<Frame> {
        let connection = self.connections.entry(seen.connection).or_default();
        connection.last_frame = self.frames;
        if connection.has_raw_tokens && connection.open.is_empty() {
            let token = frame::token(seen.direction, seen.connection, seen.bytes, self.show_secrets);
            return Some(Frame { time_us: seen.time_us, ..token });
        }
        let request = connection.take(&seen.bytes);
        let parts = match &request {
            Some(request) => response_parts(&seen.bytes, request.api, &mut Budget::new()),
            None => unmatched(&seen.bytes),
        };
        let api = parts.api;
        if api == Some(Api { key: SASL_HANDSHAKE, version: 0 }) {
            connection.has_raw_tokens = true;
        }
        if matches!(api, Some(Api { key: METADATA | CREATE_TOPICS, .. })) {
            self.topic_names.learn(&parts.body);
        }
        let mut frame = parts.into_frame(seen.direction, seen.connection, seen.bytes, self.show_secrets);
        frame.time_us = seen.time_us;
        let is_selected = request.as_ref().map(|request| request.is_selected);
        if let Some(request) = request {
            let elapsed = seen.time_us.zip(request.time_us).map(|(end, start)| end - start);
            frame.latency_us = elapsed.map(|us| u64::try_from(us).unwrap_or(0));
            frame.client_id = request.client_id;
        }
        self.filter.selects(&frame, is_selected, &self.topic_names).then_some(frame)
    }
}

impl Connection {
    fn push(&mut self, request: OpenRequest) {
        if self.open.len() >= OPEN_REQUESTS_MAX {
            self.open.pop_front();
        }
        self.open.push_back(request);
    }

    /// The request of a response. Responses come in the order of requests, so that older ones will not be answered any more.
    fn take(&mut self, response: &[u8]) -> Option<OpenRequest> {
        let correlation_id = i32::from_be_bytes(*response.first_chunk()?);
        let index = self.open.iter().position(|open| open.correlation_id == correlation_id)?;
        self.open.drain(..index);
        self.open.pop_front()
    }
}

/// Produce with acks=0 has no response.
fn is_answered(api: Api, parts: &Parts) -> bool {
    api.key != PRODUCE || find(&parts.body, "Acks").and_then(Node::int) != Some(0)
}

/// Do the bytes begin like a request that is known?
fn is_plausible(bytes: &[u8]) -> bool {
    frame::request_api(bytes).is_some_and(|api| {
        schema::of_api(Kind::Request, api.key).is_some_and(|schema| schema.versions.has(api.version))
    })
}

fn unmatched(bytes: &Bytes) -> Parts {
    let correlation_id = bytes.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    let reason = match correlation_id {
        Some(id) => Reason::NoRequest(id),
        None => Reason::Truncated { needed: 4 - bytes.len() },
    };
    Parts {
        correlation_id,
        rest: 0..bytes.len(),
        failure: Some(Failure::new(0, reason)),
        // It may be an answer to SASL or to a description of credentials.
        is_rest_secret: true,
        ..Parts::default()
    }
}
