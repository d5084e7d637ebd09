//! Producer snapshots: version i16 (1), CRC32C u32 of what follows, count i32, 46 bytes a producer. Ottla puts the batches before
//! the last one of each producer behind them, after `OTW1`, where Kafka's reader does not look.

use std::io;
use std::path::Path;

use nom::bytes::complete::tag;
use nom::number::complete::{be_i16, be_i32, be_i64, be_u8, be_u32};
use nom::{IResult, Parser};

use super::indexes::nodes;
use super::read_small;
use crate::printer::Printer;
use crate::text::Source;
use crate::tree::{Label, Node, TypeName, Value};

const CRC_FROM: usize = 6;
const HEAD_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
const EARLIER_BYTES: usize = 24;

/// Shows a snapshot, a line a producer.
pub(super) fn show(path: &Path, printer: &mut Printer) -> io::Result<bool> {
    let bytes = read_small(path)?;
    let source = Source { bytes: &bytes, at: 0 };
    let head: IResult<&[u8], (i16, u32, i32)> = (be_i16, be_u32, be_i32).parse(&bytes);
    let Ok((_, (version, crc, count))) = head else {
        printer.failure(0, "fewer bytes than a head has", &bytes)?;
        return Ok(false);
    };
    let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
    printer.title(&format!("version {version}, {count} producers, checksum {crc}"))?;
    if version != 1 || computed != crc {
        let why = format!("version {version} (1 is known), checksum {crc} stored and {computed} computed");
        printer.failure(0, &why, &bytes)?;
        return Ok(false);
    }
    let whole = bytes[HEAD_BYTES..].chunks_exact(ENTRY_BYTES);
    let entries: Vec<_> = whole.take(usize::try_from(count).unwrap_or(0)).collect();
    let end = HEAD_BYTES + entries.len() * ENTRY_BYTES;
    let mut earlier = earlier(&bytes, end, entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let at = HEAD_BYTES + index * ENTRY_BYTES;
        let Ok((_, mut parts)) = producer(entry, at) else { break };
        if let Ok((_, lists)) = &mut earlier {
            parts.push(std::mem::replace(&mut lists[index], Node::named("earlier", "", 0..0, Value::Null)));
        }
        let span = at..at + ENTRY_BYTES;
        let (label, ty) = (Label::Element(index), TypeName::Named("producer"));
        printer.entry(&Node { label, ty, span, value: Value::Struct(parts) }, source)?;
    }
    let is_whole = i64::from(count) == entries.len() as i64 && (end == bytes.len() || earlier.is_ok());
    if !is_whole {
        printer.failure(end, "something that is not known follows the producers", &bytes[end..])?;
    }
    Ok(is_whole)
}

fn producer(input: &[u8], at: usize) -> IResult<&[u8], Vec<Node>> {
    let (input, (id, epoch, sequence, offset)) = (be_i64, be_i16, be_i32, be_i64).parse(input)?;
    let (input, (delta, timestamp, coordinator, first)) = (be_i32, be_i64, be_i32, be_i64).parse(input)?;
    let fields = vec![
        ("producer_id", "int64", 8, id),
        ("producer_epoch", "int16", 2, epoch.into()),
        ("last_sequence", "int32", 4, sequence.into()),
        ("last_offset", "int64", 8, offset),
        ("offset_delta", "int32", 4, delta.into()),
        ("timestamp_ms", "int64", 8, timestamp),
        ("coordinator_epoch", "int32", 4, coordinator.into()),
        ("transaction_first_offset", "int64", 8, first),
    ];
    Ok((input, nodes(at, fields)))
}

/// The earlier batches of each producer, the oldest first.
fn earlier(bytes: &[u8], at: usize, producers: usize) -> IResult<&[u8], Vec<Node>> {
    let (mut input, _) = tag("OTW1").parse(&bytes[at..])?;
    let place = |rest: &[u8]| bytes.len() - rest.len();
    let mut lists = Vec::with_capacity(producers);
    for _ in 0..producers {
        let start = place(input);
        let (mut rest, count) = be_u8.parse(input)?;
        let mut parts = Vec::new();
        for index in 0..usize::from(count) {
            let at = place(rest);
            let (after, (sequence, offset, delta, timestamp)) =
                (be_i32, be_i64, be_i32, be_i64).parse(rest)?;
            let fields = vec![
                ("last_sequence", "int32", 4, sequence.into()),
                ("last_offset", "int64", 8, offset),
                ("offset_delta", "int32", 4, delta.into()),
                ("timestamp_ms", "int64", 8, timestamp),
            ];
            let value = Value::Struct(nodes(at, fields));
            let (label, ty) = (Label::Element(index), TypeName::Named("batch"));
            parts.push(Node { label, ty, span: at..at + EARLIER_BYTES, value });
            rest = after;
        }
        input = rest;
        lists.push(Node::named("earlier", "[]batch", start..place(rest), Value::Array(parts)));
    }
    Ok((input, lists))
}
