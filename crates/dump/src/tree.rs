//! What is shown: a tree of named values, each with its type and the bytes it came from.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use ottla_protocol::ids::Uuid;
use ottla_protocol::schema::{FieldSchema, Schema, Type};

use crate::batch::Batches;
use crate::failure::{Failure, Reason};
use crate::limits::NODES_MAX;
use crate::walk::{Container, Scalar, Slot, Visitor, walk};

/// What a value is called.
#[derive(Clone, Copy, Debug)]
pub enum Label {
    /// By its schema.
    Field(&'static FieldSchema),
    /// By its index in an array.
    Element(usize),
    /// A tagged field that the table does not have.
    Tag(u32),
    /// By the parser of a format that has no schema.
    Named(&'static str),
}

impl Label {
    /// The name of a field; `None` for elements and unknown tags.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Field(field) => Some(field.name),
            Self::Named(name) => Some(name),
            Self::Element(_) | Self::Tag(_) => None,
        }
    }

    /// What kind of thing the value names, for example `topicName`.
    #[must_use]
    pub const fn domain(self) -> Option<&'static str> {
        match self {
            Self::Field(field) => field.domain,
            Self::Element(_) | Self::Tag(_) | Self::Named(_) => None,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => f.write_str(field.name),
            Self::Element(index) => write!(f, "[{index}]"),
            Self::Tag(tag) => write!(f, "unknown tag {tag}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum TypeName {
    /// One of the schema, as an array or not.
    Wire(Type, bool),
    /// One of a format that has no schema.
    Named(&'static str),
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, array) = match self {
            Self::Named(name) => (*name, false),
            Self::Wire(ty, array) => (wire_name(*ty), *array),
        };
        write!(f, "{}{name}", if array { "[]" } else { "" })
    }
}

const fn wire_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Uint16 => "uint16",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
        Type::Uuid => "uuid",
        Type::Str => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Struct(schema) => schema.name,
    }
}

/// A value.
#[derive(Debug)]
pub enum Value {
    /// Null, of whatever type.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// A number.
    Float(f64),
    /// Sixteen bytes.
    Uuid(Uuid),
    /// UTF-8, which was checked.
    Text(Bytes),
    /// Opaque bytes.
    Bytes(Bytes),
    /// Fields.
    Struct(Vec<Node>),
    /// Elements.
    Array(Vec<Node>),
    /// Bytes that hold a message of their own: its name, its version, its fields.
    Message(Box<Message>),
    /// Record batches.
    Batches(Box<Batches>),
    /// A secret of so many bytes.
    Masked(usize),
}

/// A message inside of opaque bytes.
#[derive(Debug)]
pub struct Message {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: i16,
    /// Its fields.
    pub nodes: Vec<Node>,
}

/// A named value.
#[derive(Debug)]
pub struct Node {
    /// What it is called.
    pub label: Label,
    /// Its type.
    pub ty: TypeName,
    /// The bytes it came from, from the start of the frame or file, with lengths.
    pub span: Range<usize>,
    /// The value.
    pub value: Value,
}

impl Node {
    /// A value of a format that has no schema.
    #[must_use]
    pub const fn named(name: &'static str, ty: &'static str, span: Range<usize>, value: Value) -> Self {
        Self { label: Label::Named(name), ty: TypeName::Named(ty), span, value }
    }

    /// The parts of a struct, array or message; empty for others.
    #[must_use]
    pub fn parts(&self) -> &[Self] {
        match &self.value {
            Value::Struct(nodes) | Value::Array(nodes) => nodes,
            Value::Message(message) => &message.nodes,
            _ => &[],
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number of an integer.
    #[must_use]
    pub const fn int(&self) -> Option<i64> {
        match self.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }
}

/// The field of that name among `nodes`.
#[must_use]
pub fn find<'a>(nodes: &'a [Node], name: &str) -> Option<&'a Node> {
    nodes.iter().find(|node| node.label.name() == Some(name))
}

/// What a message turned out to be: as much as was read, and why it ended early if it did.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Its fields.
    pub nodes: Vec<Node>,
    /// Where it ended or stopped.
    pub end: usize,
    /// Why it stopped.
    pub failure: Option<Failure>,
}

/// Reads the message of `schema` in `version` that starts at `at`. Bytes behind it are for the caller to judge. `nodes_left` is
/// how many values there may still be, and is charged.
#[must_use]
pub fn decode(
    schema: &'static Schema,
    version: i16,
    frame: &Bytes,
    at: usize,
    nodes_left: &mut usize,
) -> Decoded {
    let mut builder = Builder { frame, open: Vec::new(), done: Vec::new(), nodes_left };
    match walk(schema, version, frame, at, &mut builder) {
        Ok(end) => Decoded { nodes: builder.done, end, failure: None },
        Err(failure) => {
            // What was open is shown as far as it came.
            while !builder.open.is_empty() {
                builder.close(failure.at);
            }
            Decoded { nodes: builder.done, end: failure.at, failure: Some(failure) }
        }
    }
}

struct Builder<'a> {
    frame: &'a Bytes,
    /// Containers that are not over, with the place of what they will be among the values done.
    open: Vec<Open>,
    /// Values at the level that is being read.
    done: Vec<Node>,
    nodes_left: &'a mut usize,
}

struct Open {
    slot: Slot,
    at: usize,
    is_array: bool,
    outer: Vec<Node>,
}

const fn label(slot: Slot) -> Label {
    match slot {
        Slot::Field(field) => Label::Field(field),
        Slot::Element(_, index) => Label::Element(index),
    }
}

const fn type_name(slot: Slot) -> TypeName {
    match slot {
        Slot::Field(field) => TypeName::Wire(field.ty, field.array),
        Slot::Element(field, _) => TypeName::Wire(field.ty, false),
    }
}

impl Builder<'_> {
    fn charge(&mut self) -> Result<(), Reason> {
        *self.nodes_left = self.nodes_left.checked_sub(1).ok_or(Reason::TooManyFields { max: NODES_MAX })?;
        Ok(())
    }

    fn slice(&self, span: Range<usize>) -> Bytes {
        self.frame.slice(span)
    }
}

impl Visitor for Builder<'_> {
    fn scalar(&mut self, slot: Slot, span: Range<usize>, value: Scalar) -> Result<(), Reason> {
        self.charge()?;
        let value = match value {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Int(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::Uuid(value) => Value::Uuid(value),
            Scalar::Text(span) => Value::Text(self.slice(span)),
            // What the bytes hold is looked at when the message is whole.
            Scalar::Bytes(span) | Scalar::Records(span) => Value::Bytes(self.slice(span)),
        };
        self.done.push(Node { label: label(slot), ty: type_name(slot), span, value });
        Ok(())
    }

    fn open(&mut self, slot: Slot, at: usize, container: Container) -> Result<(), Reason> {
        self.charge()?;
        let is_array = matches!(container, Container::Array(_));
        self.open.push(Open { slot, at, is_array, outer: std::mem::take(&mut self.done) });
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let Some(open) = self.open.pop() else { return };
        let parts = std::mem::replace(&mut self.done, open.outer);
        let value = if open.is_array { Value::Array(parts) } else { Value::Struct(parts) };
        let (label, ty) = (label(open.slot), type_name(open.slot));
        self.done.push(Node { label, ty, span: open.at..at, value });
    }

    fn unknown_tag(&mut self, tag: u32, span: Range<usize>, value: Range<usize>) -> Result<(), Reason> {
        self.charge()?;
        let value = Value::Bytes(self.slice(value));
        self.done.push(Node { label: Label::Tag(tag), ty: TypeName::Named("bytes"), span, value });
        Ok(())
    }
}
