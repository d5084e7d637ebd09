//! The indexes beside a segment. What they point to is not looked at.

use std::io;
use std::path::Path;

use nom::number::complete::{be_i16, be_i64, be_u32};
use nom::{IResult, Parser};

use super::{base_offset, read_small};
use crate::printer::Printer;
use crate::text::Source;
use crate::tree::{Label, Node, TypeName, Value};

/// A field of an entry: name, type, bytes and value.
type Field = (&'static str, &'static str, usize, i64);

/// Offset of a batch's last record, and where the batch begins.
pub(super) fn offsets(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let base = base_offset(path);
    entries(path, printer, 8, |input| {
        let (rest, (relative, position)) = (be_u32, be_u32).parse(input)?;
        let offset = base + i64::from(relative);
        Ok((
            rest,
            vec![("offset", "uint32 from the base", 4, offset), ("position", "uint32", 4, position.into())],
        ))
    })
}

/// Highest timestamp so far, and the last offset of the batch that brought it.
pub(super) fn times(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let base = base_offset(path);
    entries(path, printer, 12, |input| {
        let (rest, (timestamp, relative)) = (be_i64, be_u32).parse(input)?;
        let offset = base + i64::from(relative);
        Ok((
            rest,
            vec![("timestamp_ms", "int64", 8, timestamp), ("offset", "uint32 from the base", 4, offset)],
        ))
    })
}

/// An aborted transaction: producer, first offset, offset of the marker, last stable offset after it.
pub(super) fn transactions(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    entries(path, printer, 34, |input| {
        let (rest, (version, producer, first, last, stable)) =
            (be_i16, be_i64, be_i64, be_i64, be_i64).parse(input)?;
        let fields = vec![
            ("version", "int16", 2, version.into()),
            ("producer_id", "int64", 8, producer),
            ("first_offset", "int64", 8, first),
            ("last_offset", "int64", 8, last),
            ("last_stable_offset", "int64", 8, stable),
        ];
        Ok((rest, fields))
    })
}

/// The fields of one entry one after the other, from `at` on.
pub(super) fn nodes(at: usize, fields: Vec<Field>) -> Vec<Node> {
    let mut end = at;
    let node = |(name, ty, size, value)| {
        end += size;
        Node::named(name, ty, end - size..end, Value::Int(value))
    };
    fields.into_iter().map(node).collect()
}

fn entries(
    path: &Path,
    printer: &mut Printer,
    entry_bytes: usize,
    parse: impl Fn(&[u8]) -> IResult<&[u8], Vec<Field>>,
) -> io::Result<bool> {
    let bytes = read_small(path)?;
    // A preallocated index is blank behind its last entry.
    let blank = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let used = (bytes.len() - blank).div_ceil(entry_bytes) * entry_bytes;
    let blank_entries = bytes.len().saturating_sub(used) / entry_bytes;
    // One that is all blank may be the entry of the very first batch: (0, 0) of a time index says nothing either.
    let used = if used > bytes.len() { bytes.len() } else { used };
    for (index, entry) in bytes[..used].chunks(entry_bytes).enumerate() {
        let at = index * entry_bytes;
        let Ok((_, fields)) = parse(entry) else {
            printer.failure(at, &format!("an entry of {} bytes, not {entry_bytes}", entry.len()), entry)?;
            return Ok(false);
        };
        let node = Node {
            label: Label::Element(index),
            ty: TypeName::Named("entry"),
            span: at..at + entry.len(),
            value: Value::Struct(nodes(at, fields)),
        };
        printer.entry(&node, Source { bytes: &bytes, at: 0 })?;
    }
    if blank_entries > 0 {
        printer.title(&format!("{blank_entries} blank entries behind them"))?;
    }
    Ok(true)
}
