//! What opaque bytes hold: record batches, the consumers' own protocol inside of the group protocol, a request inside of an
//! envelope, metadata records inside of an entry of our metadata log.

use std::ops::Range;

use bytes::Bytes;
use ottla_protocol::schema::{self, Kind, Schema, Type};

use crate::batch::Batches;
use crate::failure::{Failure, Reason};
use crate::frame;
use crate::limits::{DECOMPRESSED_BYTES_MAX, NESTING_MAX, NODES_MAX};
use crate::tree::{Decoded, Message, Node, TypeName, Value, decode};

/// What one frame may still cost.
pub(crate) struct Budget {
    pub nodes: usize,
    pub decompressed_bytes: u64,
    pub nesting: usize,
}

impl Budget {
    pub const fn new() -> Self {
        Self { nodes: NODES_MAX, decompressed_bytes: DECOMPRESSED_BYTES_MAX, nesting: NESTING_MAX }
    }
}

/// Looks into every value of bytes. Gives the first thing that is wrong with what must be readable: batches, metadata records.
/// What only may be readable stays bytes where it is not. `may_be_cut` lets the last batch of records end early.
pub(crate) fn expand(
    nodes: &mut [Node],
    frame: &Bytes,
    may_be_cut: bool,
    budget: &mut Budget,
) -> Option<Failure> {
    let mut first = None;
    for node in nodes {
        let found = expand_one(node, frame, may_be_cut, budget);
        let name = node.label.to_string();
        first = first.or(found.map(|failure| failure.inside(name)));
    }
    first
}

fn expand_one(node: &mut Node, frame: &Bytes, may_be_cut: bool, budget: &mut Budget) -> Option<Failure> {
    let bytes = match &mut node.value {
        Value::Struct(nodes) | Value::Array(nodes) => return expand(nodes, frame, may_be_cut, budget),
        Value::Bytes(bytes) => bytes,
        _ => return None,
    };
    let span = node.span.end - bytes.len()..node.span.end;
    if let TypeName::Wire(Type::Records, false) = node.ty {
        let batches = Batches::parse(frame, span, &mut budget.decompressed_bytes);
        let fine = may_be_cut && batches.is_only_cut_off();
        let failure = batches.first_failure().filter(|_| !fine).cloned();
        node.value = Value::Batches(Box::new(batches));
        return failure;
    }
    if budget.nesting == 0 {
        return None;
    }
    budget.nesting -= 1;
    let message = match node.label.name() {
        Some("Metadata" | "Subscription" | "MemberMetadata") => {
            versioned("ConsumerProtocolSubscription", frame, &span, budget)
        }
        Some("Assignment" | "MemberAssignment") => {
            versioned("ConsumerProtocolAssignment", frame, &span, budget)
        }
        Some("RequestData") => enveloped(frame, &span, budget),
        _ => None,
    };
    budget.nesting += 1;
    if let Some(message) = message {
        node.value = Value::Message(Box::new(message));
    }
    None
}

/// A message behind its version as an int16, when the bytes are exactly that.
fn versioned(name: &'static str, frame: &Bytes, span: &Range<usize>, budget: &mut Budget) -> Option<Message> {
    let schema = schema::find(name)?;
    let version = i16::from_be_bytes(*frame.get(span.clone())?.first_chunk()?);
    if !schema.versions.has(version) {
        return None;
    }
    let decoded = decode(schema, version, &frame.slice(..span.end), span.start + 2, &mut budget.nodes);
    let whole = decoded.failure.is_none() && decoded.end == span.end;
    whole.then_some(Message { name: schema.name, version, nodes: decoded.nodes })
}

fn enveloped(frame: &Bytes, span: &Range<usize>, budget: &mut Budget) -> Option<Message> {
    let parts = frame::request_parts(&frame.slice(..span.end), span.start, budget);
    let api = parts.api.filter(|_| parts.failure.is_none())?;
    let schema = schema::of_api(Kind::Request, api.key)?;
    Some(Message { name: schema.name, version: api.version, nodes: parts.body })
}

/// A record of the metadata log behind frame version, type and version, at `at`.
pub(crate) fn metadata_record(frame: &Bytes, at: usize, budget: &mut Budget) -> (Option<Message>, Decoded) {
    let mut cursor = crate::cursor::Cursor::new(frame, at);
    let mut head = || -> Result<(u32, i64, u32), Failure> {
        Ok((cursor.uvarint()?, cursor.uvarint()?.into(), cursor.uvarint()?))
    };
    let failed =
        |failure: Failure| (None, Decoded { end: failure.at, failure: Some(failure), ..Decoded::default() });
    let (frame_version, number, version) = match head() {
        Ok(head) => head,
        Err(failure) => return failed(failure),
    };
    if frame_version > 1 {
        return failed(Failure::new(at, Reason::Other("a frame version that is not known")));
    }
    let found = schema::ALL.iter().find(|s| s.kind == Kind::Metadata && s.key.map(i64::from) == Some(number));
    let Some(schema) = found else {
        return failed(Failure::new(at, Reason::UnknownType { what: "metadata record", number }));
    };
    decode_known(schema, i64::from(version), frame, cursor.at, budget)
}

/// A message of a version that may be out of range, which has to end where the bytes do.
pub(crate) fn decode_known(
    schema: &'static Schema,
    version: i64,
    frame: &Bytes,
    at: usize,
    budget: &mut Budget,
) -> (Option<Message>, Decoded) {
    let version = i16::try_from(version).unwrap_or(i16::MAX);
    let mut decoded = decode(schema, version, frame, at, &mut budget.nodes);
    let damaged = expand(&mut decoded.nodes, frame, false, budget);
    decoded.failure = decoded.failure.or(damaged);
    if decoded.failure.is_none() && decoded.end < frame.len() {
        let left = frame.len() - decoded.end;
        decoded.failure = Some(Failure::new(decoded.end, Reason::TrailingBytes(left)));
    }
    let nodes = std::mem::take(&mut decoded.nodes);
    (Some(Message { name: schema.name, version, nodes }), decoded)
}
