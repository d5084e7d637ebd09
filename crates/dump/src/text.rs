//! Text for people: a line a field, with the bytes that it came from.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;
use ottla_protocol::generated::ErrorCode;

use crate::batch::{Batch, Batches, Header, Record};
use crate::file::RecordRow;
use crate::frame::{Api, Direction, Frame};
use crate::json::masked;
use crate::limits::REST_BYTES_MAX;
use crate::tree::{Message, Node, Value};

/// Bytes of hex on a line beside a field.
const HEX_COLUMN_BYTES: usize = 8;
/// Characters of a value on its line; `--output json` has all.
const VALUE_CHARS_MAX: usize = 400;
/// Bytes of a value on its line.
const VALUE_BYTES_MAX: usize = 64;

/// Bytes that spans refer to, of which the first stands at `at`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Source<'a> {
    fn slice(self, span: Range<usize>) -> &'a [u8] {
        let from = span.start.saturating_sub(self.at);
        self.bytes.get(from..span.end.saturating_sub(self.at)).unwrap_or_default()
    }
}

/// Writes lines.
pub(crate) struct Lines<'a> {
    pub out: &'a mut dyn Write,
    pub hex: bool,
}

impl Lines<'_> {
    /// A frame.
    pub fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let source = Source { bytes: &frame.bytes, at: 0 };
        writeln!(self.out, "{}", frame_title(frame))?;
        if let Some(note) = frame.note {
            writeln!(self.out, "  note: {note}")?;
        }
        self.nodes(&frame.header, source, 1, None)?;
        self.nodes(&frame.body, source, 1, None)?;
        let rest = &frame.bytes[frame.rest.clone()];
        match &frame.failure {
            Some(failure) => writeln!(self.out, "  error: {failure}")?,
            None if rest.is_empty() => {}
            None => writeln!(self.out, "  rest:")?,
        }
        if frame.is_rest_secret && !rest.is_empty() {
            writeln!(self.out, "  {}", masked(rest.len()))?;
        } else {
            self.hex_dump(rest, frame.rest.start)?;
        }
        writeln!(self.out)
    }

    /// A part of a file: a title and its fields.
    pub fn entry(&mut self, node: &Node, source: Source<'_>) -> io::Result<()> {
        self.node(node, source, 0)
    }

    /// The header of a batch in a file.
    pub fn batch(&mut self, batch: &Batch, source: Source<'_>) -> io::Result<()> {
        writeln!(self.out, "{}", batch_title(batch))?;
        self.nodes(&batch.header.nodes(batch.span.start), source, 1, None)
    }

    /// A record of a file.
    pub fn record(&mut self, row: &RecordRow<'_>) -> io::Result<()> {
        let record = row.record;
        let mut title = record_title(record);
        match (row.control, row.committed) {
            (Some(control), _) => write!(title, ", control: {control}"),
            (None, Some(false)) => write!(title, ", aborted or never committed"),
            (None, None) => write!(title, ", whether committed is not told here"),
            (None, Some(true)) => Ok(()),
        }
        .map_err(io::Error::other)?;
        writeln!(self.out, "{:15}  {title}", "")?;
        let (records, at) = (row.records, row.records_at);
        let source = Source { bytes: records, at };
        if !row.is_raw_secret {
            self.nodes(&record.nodes(at), source, 2, None)?;
        }
        for (name, inside) in &row.inside {
            writeln!(self.out, "{:15}    in the {name}: {} v{}", "", inside.name, inside.version)?;
            self.nodes(&inside.nodes, Source { bytes: &[], at: 0 }, 3, None)?;
        }
        if let Some(failure) = &row.failure {
            writeln!(self.out, "    error: {failure}")?;
        }
        Ok(())
    }

    /// What does not decode in a file.
    pub fn failure(&mut self, at: usize, why: &str, rest: &[u8]) -> io::Result<()> {
        writeln!(self.out, "error: {why}")?;
        self.hex_dump(rest, at)
    }

    fn nodes(
        &mut self,
        nodes: &[Node],
        source: Source<'_>,
        depth: usize,
        end: Option<usize>,
    ) -> io::Result<()> {
        for node in nodes {
            self.node(node, source, depth)?;
        }
        // Behind the last field of a struct there may be the count of its tagged fields.
        if let (true, Some(end), Some(last)) = (self.hex, end, nodes.last())
            && last.span.end < end
        {
            self.line(last.span.end..end, source.slice(last.span.end..end), depth, "(tagged fields)")?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, source: Source<'_>, depth: usize) -> io::Result<()> {
        let span = node.span.clone();
        let parts = node.parts();
        // Of what has parts, only what stands before them is its own.
        let own = parts.first().map_or(span.clone(), |first| span.start..first.span.start.max(span.start));
        let own = match node.value {
            Value::Batches(_) | Value::Masked(_) => span.start..span.start,
            _ => own,
        };
        let line = format!("{}: {}{}", node.label, node.ty, value_text(node));
        self.line(span.clone(), source.slice(own), depth, &line)?;
        match &node.value {
            Value::Batches(batches) => self.batches(batches, source, depth + 1),
            Value::Struct(_) | Value::Array(_) | Value::Message(_) => {
                self.nodes(parts, source, depth + 1, Some(span.end))
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, span: Range<usize>, bytes: &[u8], depth: usize, text: &str) -> io::Result<()> {
        let place = format!("{}..{}", span.start, span.end);
        let indent = "  ".repeat(depth);
        if !self.hex {
            return writeln!(self.out, "{place:>13}  {indent}{text}");
        }
        let mut rows = bytes.chunks(HEX_COLUMN_BYTES);
        let width = 3 * HEX_COLUMN_BYTES;
        let first = hex(rows.next().unwrap_or_default());
        writeln!(self.out, "{place:>13}  {first:width$}{indent}{text}")?;
        for row in rows {
            writeln!(self.out, "{:15}{}", "", hex(row))?;
        }
        Ok(())
    }

    fn batches(&mut self, batches: &Batches, source: Source<'_>, depth: usize) -> io::Result<()> {
        for batch in &batches.list {
            self.line(batch.span.clone(), &[], depth, &batch_title(batch))?;
            self.nodes(&batch.header.nodes(batch.span.start), source, depth + 1, None)?;
            let at = batch.records_at.unwrap_or(0);
            let records = Source { bytes: &batch.records, at };
            for record in batch.records().map_while(Result::ok) {
                let span = record.span.start + at..record.span.end + at;
                self.line(span, &[], depth + 1, &record_title(&record))?;
                self.nodes(&record.nodes(at), records, depth + 2, None)?;
            }
        }
        if !batches.rest.is_empty() {
            let why = batches.failure.as_ref().map_or(String::new(), ToString::to_string);
            let bytes = source.slice(batches.rest.clone());
            self.line(batches.rest.clone(), bytes, depth, &format!("(no whole batch) {why}"))?;
        }
        Ok(())
    }

    fn hex_dump(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let shown = &bytes[..bytes.len().min(REST_BYTES_MAX)];
        for (index, row) in shown.chunks(16).enumerate() {
            let signs: String = row
                .iter()
                .map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' })
                .collect();
            writeln!(self.out, "  {:>8}  {:48} {signs}", at + index * 16, hex(row))?;
        }
        if shown.len() < bytes.len() {
            writeln!(self.out, "  and {} bytes more", bytes.len() - shown.len())?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        // Writing to a string does not fail.
        write!(out, "{byte:02x} ").unwrap_or_default();
    }
    out
}

fn frame_title(frame: &Frame) -> String {
    let time = frame.time_us.and_then(|us| Timestamp::from_microsecond(us).ok());
    let time = time.map_or(String::new(), |time| format!("{time:.6} "));
    let arrow = match frame.direction {
        Direction::Request => ">",
        Direction::Response => "<",
    };
    let api = match frame.api {
        None => "(unknown)".to_owned(),
        Some(api) => {
            let name = api.name().map_or_else(|| format!("API {}", api.key), str::to_owned);
            format!("{name} v{}", api.version)
        }
    };
    let mut title = format!("{time}c{} {arrow} {api} {}", frame.connection, frame.direction.name());
    if let Some(id) = frame.correlation_id {
        title += &format!(" #{id}");
    }
    if let Some(id) = &frame.client_id {
        title += &format!(" {id:?}");
    }
    title += &format!(", {} bytes", frame.bytes.len());
    if let Some(us) = frame.latency_us {
        title += &format!(", after {}.{:03} ms", us / 1000, us % 1000);
    }
    title
}

fn instant(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) if ms >= 0 => format!("{time:.3}"),
        _ => ms.to_string(),
    }
}

fn batch_title(batch: &Batch) -> String {
    let header = &batch.header;
    let Header { base_offset, records_count, producer_id, .. } = header;
    let mut title = format!(
        "Batch at {}: offsets {base_offset}..={}, {records_count} records, {} bytes, {}, epoch {}",
        batch.span.start,
        header.last_offset(),
        batch.span.len(),
        header.codec(),
        header.partition_leader_epoch,
    );
    if *producer_id >= 0 {
        title += &format!(
            ", producer {producer_id} epoch {} sequence {}",
            header.producer_epoch, header.base_sequence
        );
    }
    let flags = [
        (header.attributes.is_transactional(), ", transactional"),
        (header.attributes.is_control(), ", control"),
        (header.timestamp_type() == "append", ", time of the append"),
        (batch.records_at.is_none(), ", records at places in what they decompress to"),
    ];
    title.extend(flags.iter().filter(|(set, _)| *set).map(|(_, text)| *text));
    if let Some(failure) = &batch.failure {
        title += &format!("\nerror: {failure}");
    }
    title
}

fn record_title(record: &Record) -> String {
    format!("Record {} at {}", record.offset, instant(record.timestamp_ms))
}

fn clipped(text: &str, size: usize) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}... ({size} bytes)", &text[..end]),
    }
}

fn readable(bytes: &[u8]) -> String {
    let is_sign = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_sign) => clipped(text, bytes.len()),
        _ => clipped_hex(bytes),
    }
}

fn clipped_hex(bytes: &[u8]) -> String {
    let shown = hex(&bytes[..bytes.len().min(VALUE_BYTES_MAX)]);
    let more = if bytes.len() > VALUE_BYTES_MAX { "... " } else { "" };
    format!("{shown}{more}({} bytes)", bytes.len())
}

fn value_text(node: &Node) -> String {
    match &node.value {
        Value::Null => " = null".to_owned(),
        Value::Bool(value) => format!(" = {value}"),
        Value::Int(value) => format!(" = {value}{}", meaning(node, *value)),
        Value::Float(value) => format!(" = {value}"),
        Value::Uuid(id) => format!(" = {id}"),
        Value::Text(bytes) => format!(" = {}", readable(bytes)),
        Value::Bytes(bytes) => format!(" = {}", clipped_hex(bytes)),
        Value::Struct(_) => String::new(),
        Value::Array(parts) => format!(", {} elements", parts.len()),
        Value::Message(message) => {
            let Message { name, version, .. } = message.as_ref();
            format!(" = {name} v{version}")
        }
        Value::Batches(batches) => format!(", {} batches", batches.list.len()),
        Value::Masked(size) => format!(" = {}", masked(*size)),
    }
}

/// What a number stands for.
fn meaning(node: &Node, value: i64) -> String {
    let name = node.label.name().unwrap_or_default();
    if name.ends_with("ErrorCode") {
        let code = i16::try_from(value).ok().and_then(ErrorCode::from_code).filter(|_| value != 0);
        return code.map_or(String::new(), |code| format!(" ({})", code.name()));
    }
    if matches!(name, "ApiKey" | "RequestApiKey") {
        let api = i16::try_from(value).ok().and_then(|key| Api { key, version: 0 }.name());
        return api.map_or(String::new(), |name| format!(" ({name})"));
    }
    let is_instant =
        name.ends_with("imestamp") || name.ends_with("timestamp_ms") || name.ends_with("imestampMs");
    if is_instant && value > 0 {
        return format!(" ({})", instant(value));
    }
    String::new()
}
