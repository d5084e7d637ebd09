//! The walk through the tables and the generated code agree: on what a message is, where its fields are, and what is none.

use bytes::Bytes;
use ottla_dump::limits::NODES_MAX;
use ottla_dump::tree::{Decoded, Label, Node, Value, decode};
use ottla_protocol::schema::{self, FieldSchema, Schema, Type};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::filler::fill;

/// Runs `check` on random tapes for every message in every version; gives how many messages and versions there were.
fn every(cases: u32, check: impl Fn(&'static Schema, i16, &[u8]) -> Result<(), TestCaseError>) -> usize {
    let tapes = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..600),
        1 => any::<u8>().prop_map(|byte| vec![byte; 2000]),
    ];
    let mut count = 0;
    for schema in schema::ALL {
        for version in schema.versions.min..=schema.versions.max {
            count += 1;
            let config = Config { cases, failure_persistence: None, ..Config::default() };
            let result = TestRunner::new(config).run(&tapes, |tape| check(schema, version, &tape));
            if let Err(error) = result {
                panic!("{} {version}: {error}", schema.name);
            }
        }
    }
    count
}

fn walk(schema: &'static Schema, version: i16, message: &Bytes) -> Decoded {
    decode(schema, version, message, 0, &mut NODES_MAX.clone())
}

/// Writes a tree down again from its values alone.
struct Encoder {
    version: i16,
    flexible: bool,
}

fn uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Encoder {
    fn fields(&self, nodes: &[Node], out: &mut Vec<u8>) {
        let tag = |node: &Node| match node.label {
            Label::Tag(tag) => Some(tag),
            Label::Field(field) => field.tag.filter(|(_, v)| v.has(self.version)).map(|(tag, _)| tag),
            _ => None,
        };
        for node in nodes.iter().filter(|node| tag(node).is_none()) {
            self.field(node, out);
        }
        if !self.flexible {
            return;
        }
        let tagged: Vec<_> = nodes.iter().filter_map(|node| Some((tag(node)?, node))).collect();
        uvarint(out, tagged.len());
        for (tag, node) in tagged {
            let mut value = Vec::new();
            match (&node.label, &node.value) {
                (Label::Tag(_), Value::Bytes(bytes)) => value.extend_from_slice(bytes),
                _ => self.field(node, &mut value),
            }
            uvarint(out, tag as usize);
            uvarint(out, value.len());
            out.extend(value);
        }
    }

    fn field(&self, node: &Node, out: &mut Vec<u8>) {
        let Label::Field(field) = node.label else { panic!("{:?}", node.label) };
        self.value(field, field.array, node, out);
    }

    fn length(&self, field: &FieldSchema, short: bool, length: Option<usize>, out: &mut Vec<u8>) {
        let signed = length.map_or(-1, |length| length as i64);
        match (self.flexible && !field.never_flexible, short) {
            (true, _) => uvarint(out, (signed + 1) as usize),
            (false, true) => out.extend((signed as i16).to_be_bytes()),
            (false, false) => out.extend((signed as i32).to_be_bytes()),
        }
    }

    fn value(&self, field: &FieldSchema, array: bool, node: &Node, out: &mut Vec<u8>) {
        let short = matches!(field.ty, Type::Str) && !array;
        let nullable = !array
            && matches!(node.label, Label::Field(_))
            && field.nullable.is_some_and(|v| v.has(self.version));
        match (&node.value, field.ty) {
            (Value::Null, Type::Struct(_)) if !array => out.push(0xff),
            (Value::Null, _) => self.length(field, short, None, out),
            (Value::Bool(value), _) => out.push(u8::from(*value)),
            (Value::Int(value), Type::Int8) => out.extend((*value as i8).to_be_bytes()),
            (Value::Int(value), Type::Int16 | Type::Uint16) => out.extend((*value as i16).to_be_bytes()),
            (Value::Int(value), Type::Int32) => out.extend((*value as i32).to_be_bytes()),
            (Value::Int(value), _) => out.extend(value.to_be_bytes()),
            (Value::Float(value), _) => out.extend(value.to_be_bytes()),
            (Value::Uuid(id), _) => out.extend(id.0),
            (Value::Text(bytes) | Value::Bytes(bytes), _) => {
                self.length(field, short, Some(bytes.len()), out);
                out.extend_from_slice(bytes);
            }
            (Value::Struct(nodes), _) => {
                out.extend(nullable.then_some(1));
                self.fields(nodes, out);
            }
            (Value::Array(nodes), _) => {
                self.length(field, false, Some(nodes.len()), out);
                nodes.iter().for_each(|node| self.value(field, false, node, out));
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// Spans lie in order, inside of what they are part of.
fn check_spans(nodes: &[Node], from: usize, to: usize) -> Result<(), TestCaseError> {
    let mut at = from;
    for node in nodes {
        prop_assert!(node.span.start >= at && node.span.end <= to, "{} {:?}", node.label, node.span);
        at = node.span.end;
        check_spans(node.parts(), node.span.start, node.span.end)?;
    }
    Ok(())
}

#[test]
fn the_walk_reads_every_message_in_every_version_as_the_generated_code_does() {
    let count = every(48, |schema, version, tape| {
        let message = Bytes::from(fill(schema, version, tape));
        let again = (schema.recode)(message.clone(), version);
        prop_assert_eq!(again.as_ref(), Ok(&message));
        let walked = walk(schema, version, &message);
        prop_assert_eq!(&walked.failure, &None);
        prop_assert_eq!(walked.end, message.len());
        check_spans(&walked.nodes, 0, message.len())?;
        let mut out = Vec::new();
        Encoder { version, flexible: schema.is_flexible(version) }.fields(&walked.nodes, &mut out);
        prop_assert_eq!(Bytes::from(out), message);
        Ok(())
    });
    println!("{count} messages and versions");
    assert!(count > 400, "{count} messages and versions are fewer than the specification has");
}

#[test]
fn the_walk_refuses_what_the_generated_code_refuses() {
    every(48, |schema, version, tape| {
        let mut message = fill(schema, version, tape);
        let sum: usize = tape.iter().map(|byte| usize::from(*byte)).sum();
        if message.is_empty() {
            return Ok(());
        }
        let at = sum % message.len();
        match tape.first().unwrap_or(&0) % 4 {
            0 => message.truncate(at),
            1 => message[at] ^= 1 << (sum % 8),
            2 => message[at] = 0xff,
            _ => message.insert(at, 0x80),
        }
        let message = Bytes::from(message);
        let walked = walk(schema, version, &message);
        let is_whole = walked.failure.is_none() && walked.end == message.len();
        let accepted = (schema.decode)(message.clone(), version);
        prop_assert_eq!(is_whole, accepted.is_ok(), "{:?} {:?}", walked.failure, accepted);
        if let Some(failure) = walked.failure {
            prop_assert!(failure.at <= message.len());
            check_spans(&walked.nodes, 0, message.len())?;
        }
        Ok(())
    });
}
