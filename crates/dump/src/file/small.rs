//! Small files of text: checkpoints, properties, JSON.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::read_small;
use crate::printer::Printer;
use crate::text::Source;
use crate::tree::{Label, Node, TypeName, Value};

/// The lines of a file with their places, without their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    bytes.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let start = at;
        at += line.len();
        start..start + line.strip_suffix(b"\n").unwrap_or(line).len()
    })
}

fn text(bytes: &Bytes, span: Range<usize>) -> Value {
    let part = bytes.slice(span);
    if std::str::from_utf8(&part).is_ok() { Value::Text(part) } else { Value::Bytes(part) }
}

/// Line 1 the version, line 2 the number of entries, then topic, partition and offset, or epoch and offset, or one number.
pub(super) fn checkpoint(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let bytes = read_small(path)?;
    let mut found: Vec<Range<usize>> = lines(&bytes).filter(|line| !line.is_empty()).collect();
    let number = |line: Option<&Range<usize>>| {
        let text = std::str::from_utf8(&bytes[line?.clone()]).ok()?;
        text.trim().parse::<usize>().ok()
    };
    let (version, count) = (number(found.first()), number(found.get(1)));
    if version != Some(0) || count != found.len().checked_sub(2) {
        let why = format!("version 0 and the number of entries are expected first, of {} lines", found.len());
        printer.failure(0, &why, &bytes)?;
        return Ok(false);
    }
    for (index, line) in found.drain(..).skip(2).enumerate() {
        let words = words(&bytes, &line);
        let names: &[&'static str] = match words.len() {
            1 => &["offset"],
            2 => &["leader_epoch", "start_offset"],
            _ => &["topic", "partition", "offset"],
        };
        let parts = names.iter().zip(&words).map(|(name, span)| {
            let digits = std::str::from_utf8(&bytes[span.clone()]).ok().filter(|_| *name != "topic");
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(number) => Node::named(name, "text", span.clone(), Value::Int(number)),
                None => Node::named(name, "text", span.clone(), text(&bytes, span.clone())),
            }
        });
        let value = Value::Struct(parts.collect());
        let (label, ty) = (Label::Element(index), TypeName::Named("entry"));
        printer.entry(&Node { label, ty, span: line, value }, Source { bytes: &bytes, at: 0 })?;
    }
    Ok(true)
}

fn words(bytes: &[u8], line: &Range<usize>) -> Vec<Range<usize>> {
    let mut at = line.start;
    let mut found = Vec::new();
    for word in bytes[line.clone()].split(|byte| *byte == b' ') {
        if !word.is_empty() {
            found.push(at..at + word.len());
        }
        at += word.len() + 1;
    }
    found
}

/// `key=value`, or `key: value` in a partition's metadata.
pub(super) fn properties(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let bytes = read_small(path)?;
    for line in lines(&bytes).filter(|line| !line.is_empty() && bytes[line.start] != b'#') {
        let part = &bytes[line.clone()];
        let split = part.iter().position(|byte| *byte == b'=' || *byte == b':');
        let Some(split) = split.map(|split| line.start + split) else {
            printer.failure(line.start, "a line without = or :", part)?;
            return Ok(false);
        };
        let blanks = bytes[split + 1..line.end].iter().take_while(|byte| **byte == b' ').count();
        let value = split + 1 + blanks..line.end;
        let parts = vec![
            Node::named("key", "text", line.start..split, text(&bytes, line.start..split)),
            Node::named("value", "text", value.clone(), text(&bytes, value)),
        ];
        let node = Node::named("property", "", line, Value::Struct(parts));
        printer.entry(&node, Source { bytes: &bytes, at: 0 })?;
    }
    Ok(true)
}

/// One JSON object, shown field by field.
pub(super) fn json(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let bytes = read_small(path)?;
    let parsed = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
    let map = match parsed {
        Ok(map) => map,
        Err(error) => {
            printer.failure(0, &error.to_string(), &bytes)?;
            return Ok(false);
        }
    };
    for (key, value) in map {
        let all = 0..bytes.len();
        let value = match value {
            serde_json::Value::String(text) => Value::Text(Bytes::from(text)),
            serde_json::Value::Number(number) if number.is_i64() => {
                Value::Int(number.as_i64().unwrap_or_default())
            }
            other => Value::Text(Bytes::from(other.to_string())),
        };
        let parts = vec![
            Node::named("key", "text", all.clone(), Value::Text(Bytes::from(key))),
            Node::named("value", "JSON", all.clone(), value),
        ];
        printer
            .entry(&Node::named("property", "", all, Value::Struct(parts)), Source { bytes: &[], at: 0 })?;
    }
    Ok(true)
}
