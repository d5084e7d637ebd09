//! What was pasted, shown as what somebody says it is.

use std::io;

use bytes::Bytes;
use ottla_protocol::schema::{Kind, Schema, of_api};

use crate::batch::Batches;
use crate::filter::Filter;
use crate::frame::{Api, Direction, request_parts, response_parts};
use crate::hex;
use crate::inner::{Budget, decode_known};
use crate::mask::mask;
use crate::printer::Printer;
use crate::text::Source;
use crate::tree::{Node, Value};

/// What bytes are.
#[derive(Clone, Copy, Debug)]
pub enum Pasted {
    /// Requests.
    Requests,
    /// Responses to this API in this version.
    Responses(Api),
    /// One message or record by its schema, in this version, without a header.
    Message(&'static Schema, i16),
    /// Record batches.
    Records,
}

impl Pasted {
    /// What `API:VERSION` says, for example `Metadata:9`.
    #[must_use]
    pub fn response_to(text: &str) -> Option<Self> {
        let (name, version) = text.split_once(':')?;
        let api = Api { key: Filter::api_key(name)?, version: version.parse().ok()? };
        of_api(Kind::Response, api.key).map(|_| Self::Responses(api))
    }

    /// What `requests`, `records` or `MESSAGE:VERSION` says, for example `OffsetCommitValue:3`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "requests" => Some(Self::Requests),
            "records" => Some(Self::Records),
            _ => {
                let (name, version) = text.split_once(':')?;
                let schema = ottla_protocol::schema::find(name)?;
                Some(Self::Message(schema, version.parse().ok()?))
            }
        }
    }

    /// Shows `bytes`; gives whether all of them decoded.
    ///
    /// # Errors
    /// Those of the output.
    pub fn show(self, bytes: &Bytes, show_secrets: bool, printer: &mut Printer) -> io::Result<bool> {
        let mut budget = Budget::new();
        match self {
            Self::Requests | Self::Responses(_) => {
                let mut is_whole = true;
                for frame in hex::frames(bytes) {
                    let (direction, parts) = match self {
                        Self::Responses(api) => {
                            (Direction::Response, response_parts(&frame, api, &mut Budget::new()))
                        }
                        _ => (Direction::Request, request_parts(&frame, 0, &mut Budget::new())),
                    };
                    let frame = parts.into_frame(direction, 0, frame, show_secrets);
                    is_whole &= frame.failure.is_none();
                    printer.frame(&frame)?;
                }
                Ok(is_whole)
            }
            Self::Message(schema, version) => {
                let (message, decoded) = decode_known(schema, version.into(), bytes, 0, &mut budget);
                let mut nodes = message.map_or(Vec::new(), |message| message.nodes);
                if !show_secrets {
                    mask(&mut nodes);
                }
                let is_whole = decoded.failure.is_none();
                show_node(
                    Node::named(schema.name, "message", 0..decoded.end, Value::Struct(nodes)),
                    bytes,
                    printer,
                )?;
                if let Some(failure) = decoded.failure {
                    let is_secret = !show_secrets && crate::mask::may_hold_secrets(schema);
                    let rest = if is_secret { &[] } else { &bytes[failure.at.min(bytes.len())..] };
                    printer.failure(failure.at, &failure.to_string(), rest)?;
                }
                Ok(is_whole)
            }
            Self::Records => {
                let batches = Batches::parse(bytes, 0..bytes.len(), &mut budget.decompressed_bytes);
                let is_whole = batches.first_failure().is_none();
                let value = Value::Batches(Box::new(batches));
                show_node(Node::named("Records", "records", 0..bytes.len(), value), bytes, printer)?;
                Ok(is_whole)
            }
        }
    }
}

fn show_node(node: Node, bytes: &Bytes, printer: &mut Printer) -> io::Result<()> {
    printer.entry(&node, Source { bytes, at: 0 })
}
