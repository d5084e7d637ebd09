//! One JSON object a line.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::batch::{Batch, Batches, Record};
use crate::file::RecordRow;
use crate::frame::Frame;
use crate::tree::{Label, Message, Node, Value};

/// Writes the members of one object.
struct Members<'a> {
    out: &'a mut dyn Write,
    any: bool,
}

impl<'a> Members<'a> {
    fn open(out: &'a mut dyn Write) -> io::Result<Self> {
        out.write_all(b"{")?;
        Ok(Self { out, any: false })
    }

    fn key(&mut self, name: &str) -> io::Result<&mut dyn Write> {
        if self.any {
            self.out.write_all(b",")?;
        }
        self.any = true;
        text(self.out, name)?;
        self.out.write_all(b":")?;
        Ok(self.out)
    }

    fn text(&mut self, name: &str, value: &str) -> io::Result<()> {
        text(self.key(name)?, value)
    }

    fn int(&mut self, name: &str, value: i64) -> io::Result<()> {
        write!(self.key(name)?, "{value}")
    }

    fn bool(&mut self, name: &str, value: bool) -> io::Result<()> {
        write!(self.key(name)?, "{value}")
    }

    fn close(self) -> io::Result<()> {
        self.out.write_all(b"}")
    }
}

fn text(out: &mut dyn Write, value: &str) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}

fn base64(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    write!(out, "\"{}\"", STANDARD.encode(bytes))
}

/// Text where it is UTF-8, else an object that says so.
fn readable(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(value) => text(out, value),
        Err(_) => {
            out.write_all(b"{\"base64\":")?;
            base64(out, bytes)?;
            out.write_all(b"}")
        }
    }
}

fn list<T>(
    out: &mut dyn Write,
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(&mut dyn Write, T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        each(out, item)?;
    }
    out.write_all(b"]")
}

type WriteBytes = fn(&mut dyn Write, &[u8]) -> io::Result<()>;

fn optional(out: &mut dyn Write, bytes: Option<&Bytes>, write: WriteBytes) -> io::Result<()> {
    match bytes {
        None => out.write_all(b"null"),
        Some(bytes) => write(out, bytes),
    }
}

/// A frame.
pub(crate) fn frame(out: &mut dyn Write, frame: &Frame) -> io::Result<()> {
    let mut members = Members::open(out)?;
    members.text("direction", frame.direction.name())?;
    members.int("connection", frame.connection as i64)?;
    if let Some(time_us) = frame.time_us {
        members.int("time_us", time_us)?;
    }
    if let Some(api) = frame.api {
        members.int("api_key", api.key.into())?;
        if let Some(name) = api.name() {
            members.text("api", name)?;
        }
        members.int("api_version", api.version.into())?;
    }
    if let Some(id) = frame.correlation_id {
        members.int("correlation_id", id.into())?;
    }
    match &frame.client_id {
        Some(id) => members.text("client_id", id)?,
        None => write!(members.key("client_id")?, "null")?,
    }
    members.int("bytes", frame.bytes.len() as i64)?;
    if let Some(latency_us) = frame.latency_us {
        members.int("latency_us", latency_us as i64)?;
    }
    object(members.key("body")?, &frame.body)?;
    if let Some(note) = frame.note {
        members.text("note", note)?;
    }
    if let Some(failure) = &frame.failure {
        members.text("error", &failure.to_string())?;
    }
    if !frame.rest.is_empty() && frame.is_rest_secret {
        members.text("rest", &masked(frame.rest.len()))?;
    } else if !frame.rest.is_empty() {
        members.text("rest", &hex_string(&frame.bytes[frame.rest.clone()]))?;
    }
    members.close()?;
    out.write_all(b"\n")
}

pub(crate) fn masked(size: usize) -> String {
    format!("({size} bytes masked)")
}

fn hex_string(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(crate::limits::REST_BYTES_MAX)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    let digits: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + more
}

fn object(out: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    let mut members = Members::open(out)?;
    for node in nodes {
        let out = match node.label {
            Label::Tag(tag) => members.key(&format!("tag {tag}"))?,
            label => members.key(&label.to_string())?,
        };
        value(out, node)?;
    }
    members.close()
}

fn value(out: &mut dyn Write, node: &Node) -> io::Result<()> {
    match &node.value {
        Value::Null => out.write_all(b"null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(value) => write!(out, "{value}"),
        // JSON has no infinities and no NaN.
        Value::Float(value) => serde_json::to_writer(out, value).map_err(io::Error::from),
        Value::Uuid(id) => text(out, &id.to_string()),
        Value::Text(bytes) | Value::Bytes(bytes) => readable(out, bytes),
        Value::Struct(nodes) => object(out, nodes),
        Value::Array(nodes) => list(out, nodes.iter(), value),
        Value::Message(inner) => message(out, inner),
        Value::Batches(batches) => record_batches(out, batches),
        Value::Masked(size) => text(out, &masked(*size)),
    }
}

fn message(out: &mut dyn Write, message: &Message) -> io::Result<()> {
    let mut members = Members::open(out)?;
    members.text("message", message.name)?;
    members.int("version", message.version.into())?;
    object(members.key("fields")?, &message.nodes)?;
    members.close()
}

fn record_batches(out: &mut dyn Write, batches: &Batches) -> io::Result<()> {
    list(out, batches.list.iter(), batch)
}

fn batch(out: &mut dyn Write, batch: &Batch) -> io::Result<()> {
    let header = &batch.header;
    let mut members = Members::open(out)?;
    members.int("base_offset", header.base_offset)?;
    members.int("last_offset", header.last_offset())?;
    members.int("partition_leader_epoch", header.partition_leader_epoch.into())?;
    members.text("compression", header.codec())?;
    members.text("timestamp_type", header.timestamp_type())?;
    members.bool("transactional", header.attributes.is_transactional())?;
    members.bool("control", header.attributes.is_control())?;
    members.int("producer_id", header.producer_id)?;
    members.int("producer_epoch", header.producer_epoch.into())?;
    members.int("base_sequence", header.base_sequence.into())?;
    // A record that does not parse is told of by the batch's failure.
    list(members.key("records")?, batch.records().map_while(Result::ok), |out, record| {
        let mut members = Members::open(out)?;
        members.int("offset", record.offset)?;
        members.int("timestamp_ms", record.timestamp_ms)?;
        plain_record(&mut members, &record, readable)?;
        members.close()
    })?;
    if let Some(failure) = &batch.failure {
        members.text("error", &failure.to_string())?;
    }
    members.close()
}

/// Key, value and headers.
fn plain_record(members: &mut Members<'_>, record: &Record, bytes: WriteBytes) -> io::Result<()> {
    optional(members.key("key")?, record.key.as_ref(), bytes)?;
    optional(members.key("value")?, record.value.as_ref(), bytes)?;
    list(members.key("headers")?, record.headers.iter(), |out, (name, value)| {
        out.write_all(b"[")?;
        readable(out, name)?;
        out.write_all(b",")?;
        optional(out, value.as_ref(), bytes)?;
        out.write_all(b"]")
    })
}

/// A record of a segment: bytes in base64.
pub(crate) fn record(out: &mut dyn Write, row: &RecordRow<'_>) -> io::Result<()> {
    let (record, header) = (row.record, row.header);
    let mut members = Members::open(out)?;
    members.int("offset", record.offset)?;
    members.text("timestamp_type", header.timestamp_type())?;
    members.int("timestamp_ms", record.timestamp_ms)?;
    // Markers are no data: they have no key and value that anyone would look for. What may be a secret is shown taken apart and
    // masked, never as it is.
    if row.control.is_none() && !row.is_raw_secret {
        plain_record(&mut members, record, base64)?;
    }
    if let Some(committed) = row.committed {
        members.bool("committed", committed)?;
    }
    members.int("leader_epoch", header.partition_leader_epoch.into())?;
    members.text("compression", header.codec())?;
    if header.producer_id >= 0 {
        members.int("producer_id", header.producer_id)?;
        members.int("producer_epoch", header.producer_epoch.into())?;
        members.bool("transactional", header.attributes.is_transactional())?;
    }
    if header.base_sequence >= 0 {
        members.int("sequence", row.sequence())?;
    }
    if let Some(control) = row.control {
        members.text("control", control)?;
    }
    for (name, inside) in &row.inside {
        message(members.key(&format!("{name}_decoded"))?, inside)?;
    }
    if let Some(failure) = &row.failure {
        members.text("error", &failure.to_string())?;
    }
    members.close()?;
    out.write_all(b"\n")
}

/// An entry of a file that is not a segment.
pub(crate) fn entry(out: &mut dyn Write, node: &Node) -> io::Result<()> {
    match &node.value {
        Value::Struct(nodes) => object(out, nodes)?,
        _ => object(out, std::slice::from_ref(node))?,
    }
    out.write_all(b"\n")
}

/// What does not decode in a file.
pub(crate) fn failure(out: &mut dyn Write, at: usize, why: &str, rest: &[u8]) -> io::Result<()> {
    let mut members = Members::open(out)?;
    members.int("position", at as i64)?;
    members.text("error", why)?;
    members.text("rest", &hex_string(rest))?;
    members.close()?;
    out.write_all(b"\n")
}

/// A connection that cannot be read any further.
pub(crate) fn unreadable(out: &mut dyn Write, connection: u64, direction: &str, why: &str) -> io::Result<()> {
    let mut members = Members::open(out)?;
    members.text("direction", direction)?;
    members.int("connection", connection as i64)?;
    members.text("error", why)?;
    members.close()?;
    out.write_all(b"\n")
}
