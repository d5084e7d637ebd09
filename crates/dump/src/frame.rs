//! One request or response taken apart: header, body, and what is left when it does not decode.

use std::ops::Range;

use bytes::Bytes;
use ottla_protocol::schema::{self, Kind, Schema};

use crate::failure::{Failure, Reason};
use crate::inner::{Budget, expand};
use crate::mask::{mask, may_hold_secrets};
use crate::tree::{Node, Value, decode, find};

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Request,
    /// The broker.
    Response,
}

impl Direction {
    /// `request` or `response`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Which API a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its key.
    pub key: i16,
    /// Version of the request.
    pub version: i16,
}

impl Api {
    /// Kafka's name; `None` for one that is not known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        schema::of_api(Kind::Request, self.key)?.name.strip_suffix("Request")
    }
}

/// A frame with all that is known of it.
#[derive(Debug)]
pub struct Frame {
    /// Who sent it.
    pub direction: Direction,
    /// Its connection, by a number of ours.
    pub connection: u64,
    /// When it was whole, in microseconds since 1970; `None` where nobody knows.
    pub time_us: Option<i64>,
    /// Its bytes, without the length before it.
    pub bytes: Bytes,
    /// What it is; `None` for a response without request, and for bytes that are no frame.
    pub api: Option<Api>,
    /// Number that request and response have in common.
    pub correlation_id: Option<i32>,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// Time from the request to this response.
    pub latency_us: Option<u64>,
    /// Fields of the header.
    pub header: Vec<Node>,
    /// Fields of the message.
    pub body: Vec<Node>,
    /// What did not decode, or stands behind the message.
    pub rest: Range<usize>,
    /// Must the rest not be shown?
    pub is_rest_secret: bool,
    /// Why it did not decode.
    pub failure: Option<Failure>,
    /// What a reader should know beside it.
    pub note: Option<&'static str>,
}

/// A frame as far as its bytes tell.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub api: Option<Api>,
    pub correlation_id: Option<i32>,
    pub client_id: Option<String>,
    pub header: Vec<Node>,
    pub body: Vec<Node>,
    pub rest: Range<usize>,
    pub is_rest_secret: bool,
    pub failure: Option<Failure>,
    pub note: Option<&'static str>,
}

fn header_schema(name: &str) -> &'static Schema {
    schema::find(name).expect("the headers are in the tables")
}

/// The version of the request header before a request.
fn request_header_version(api: Api) -> i16 {
    let flexible = schema::of_api(Kind::Request, api.key).is_some_and(|s| s.is_flexible(api.version));
    if flexible { 2 } else { 1 }
}

/// The version of the response header before a response. ApiVersions always answers with header 0 (KIP-511).
pub(crate) fn response_header_version(api: Api) -> i16 {
    let flexible = schema::of_api(Kind::Response, api.key).is_some_and(|s| s.is_flexible(api.version));
    if flexible && api.key != API_VERSIONS { 1 } else { 0 }
}

const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i64 = 35;

/// The first four bytes of a request: API key and version.
pub(crate) fn request_api(frame: &[u8]) -> Option<Api> {
    let [a, b, c, d] = *frame.first_chunk()?;
    Some(Api { key: i16::from_be_bytes([a, b]), version: i16::from_be_bytes([c, d]) })
}

/// Takes the request at `at` apart, to the end of `frame`.
pub(crate) fn request_parts(frame: &Bytes, at: usize, budget: &mut Budget) -> Parts {
    let api = request_api(&frame[at..]);
    let mut parts = Parts { api, rest: frame.len()..frame.len(), ..Parts::default() };
    let version = api.map_or(1, request_header_version);
    let header = decode(header_schema("RequestHeader"), version, frame, at, &mut budget.nodes);
    parts.correlation_id = find(&header.nodes, "CorrelationId").and_then(Node::int).map(|id| id as i32);
    parts.client_id = find(&header.nodes, "ClientId").and_then(Node::text).map(str::to_owned);
    parts.header = header.nodes;
    if let Some(failure) = header.failure {
        return parts.fail(failure.inside("header"), frame);
    }
    let api = api.expect("a header that was read begins with the API");
    match schema::of_api(Kind::Request, api.key) {
        None => parts.fail(Failure::new(at, Reason::UnknownApi(api.key)), frame),
        Some(schema) => parts.read_body(schema, api.version, frame, header.end, budget),
    }
}

/// Takes a response apart, whose request is known.
pub(crate) fn response_parts(frame: &Bytes, api: Api, budget: &mut Budget) -> Parts {
    let mut parts = Parts { api: Some(api), rest: frame.len()..frame.len(), ..Parts::default() };
    let version = response_header_version(api);
    let header = decode(header_schema("ResponseHeader"), version, frame, 0, &mut budget.nodes);
    parts.correlation_id = find(&header.nodes, "CorrelationId").and_then(Node::int).map(|id| id as i32);
    parts.header = header.nodes;
    if let Some(failure) = header.failure {
        return parts.fail(failure.inside("header"), frame);
    }
    let Some(schema) = schema::of_api(Kind::Response, api.key) else {
        return parts.fail(Failure::new(header.end, Reason::UnknownApi(api.key)), frame);
    };
    let code = frame.get(header.end..header.end + 2).map(|b| i64::from(i16::from_be_bytes([b[0], b[1]])));
    let mut version = api.version;
    if api.key == API_VERSIONS && code == Some(UNSUPPORTED_VERSION) {
        version = 0;
        parts.note = Some("in version 0, for a client that asked too high a version (KIP-511)");
    }
    parts.read_body(schema, version, frame, header.end, budget)
}

impl Parts {
    fn read_body(
        mut self,
        schema: &'static Schema,
        version: i16,
        frame: &Bytes,
        at: usize,
        budget: &mut Budget,
    ) -> Self {
        let mut decoded = decode(schema, version, frame, at, &mut budget.nodes);
        self.is_rest_secret = may_hold_secrets(schema);
        let damaged = expand(&mut decoded.nodes, frame, schema.name == "FetchResponse", budget);
        self.body = decoded.nodes;
        if let Some(failure) = decoded.failure {
            return self.fail(failure, frame);
        }
        self.rest = decoded.end..frame.len();
        self.failure = damaged;
        if self.rest.is_empty() {
            return self;
        }
        match schema.kind {
            // Kafka does not look at them, and librdkafka (2.16) sends three in its flexible Metadata requests.
            Kind::Request => self.note = Some("bytes are left behind the message, which brokers ignore"),
            _ => {
                let reason = Reason::TrailingBytes(self.rest.len());
                self.failure = self.failure.or(Some(Failure::new(self.rest.start, reason)));
            }
        }
        self
    }

    fn fail(mut self, failure: Failure, frame: &Bytes) -> Self {
        self.rest = failure.at.min(frame.len())..frame.len();
        // What cannot be told might be anything, a password too.
        self.is_rest_secret |=
            self.api.is_some_and(|api| schema::of_api(Kind::Request, api.key).is_some_and(may_hold_secrets));
        self.failure = Some(failure);
        self
    }

    /// Gives the frame, with its secrets masked unless they are asked for.
    pub fn into_frame(
        mut self,
        direction: Direction,
        connection: u64,
        bytes: Bytes,
        show_secrets: bool,
    ) -> Frame {
        if !show_secrets {
            mask(&mut self.body);
        }
        Frame {
            direction,
            connection,
            time_us: None,
            bytes,
            api: self.api,
            correlation_id: self.correlation_id,
            client_id: self.client_id,
            latency_us: None,
            header: self.header,
            body: self.body,
            rest: self.rest,
            is_rest_secret: self.is_rest_secret && !show_secrets,
            failure: self.failure,
            note: self.note,
        }
    }
}

/// A frame that holds nothing but opaque bytes, which are a secret: a step of SASL without a header.
pub(crate) fn token(direction: Direction, connection: u64, bytes: Bytes, show_secrets: bool) -> Frame {
    let value = if show_secrets { Value::Bytes(bytes.clone()) } else { Value::Masked(bytes.len()) };
    let body = vec![Node::named("AuthBytes", "bytes", 0..bytes.len(), value)];
    let end = bytes.len();
    Parts { body, rest: end..end, note: Some("a SASL token without a header"), ..Parts::default() }
        .into_frame(direction, connection, bytes, true)
}
