//! The walk through a message by its schema table. What it meets goes to a [`Visitor`]; nothing is kept here.
//!
//! Two visitors live on it: the one that builds the tree to show ([`crate::tree`]) and the one that finds the addresses which
//! the proxy rewrites.

use std::ops::Range;

use bytes::Bytes;
use ottla_protocol::ids::Uuid;
use ottla_protocol::schema::{FieldSchema, Schema, StructSchema, Type};

use crate::cursor::Cursor;
use crate::failure::{Failure, Reason};

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    /// A field of a struct.
    Field(&'static FieldSchema),
    /// An element of the array that the field is, by index.
    Element(&'static FieldSchema, usize),
}

impl Slot {
    /// The field itself, or that of the array.
    #[must_use]
    pub const fn field(self) -> &'static FieldSchema {
        match self {
            Self::Field(field) | Self::Element(field, _) => field,
        }
    }
}

/// A value without parts. Text and bytes are named by where their contents lie in the frame.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// Null, of whatever type.
    Null,
    /// Any byte but zero is true.
    Bool(bool),
    /// Of any width.
    Int(i64),
    /// IEEE 754.
    Float(f64),
    /// Sixteen bytes.
    Uuid(Uuid),
    /// UTF-8, which was checked.
    Text(Range<usize>),
    /// Opaque.
    Bytes(Range<usize>),
    /// Record batches.
    Records(Range<usize>),
}

/// A value with parts.
#[derive(Clone, Copy, Debug)]
pub enum Container {
    /// Fields.
    Struct(&'static StructSchema),
    /// So many elements.
    Array(usize),
}

/// Who is told what the walk meets. An error from it ends the walk.
pub trait Visitor {
    /// A value; `span` has its length in it.
    ///
    /// # Errors
    /// When the visitor does not want more.
    fn scalar(&mut self, slot: Slot, span: Range<usize>, value: Scalar) -> Result<(), Reason>;

    /// The begin of a value with parts.
    ///
    /// # Errors
    /// When the visitor does not want more.
    fn open(&mut self, slot: Slot, at: usize, container: Container) -> Result<(), Reason>;

    /// The end of the value that was opened last; not called after a failure.
    fn close(&mut self, at: usize);

    /// A tagged field follows, whose size stands in these bytes.
    fn enter_tag(&mut self, _size: Range<usize>) {}

    /// The tagged field is over.
    fn leave_tag(&mut self) {}

    /// A tagged field that the table does not have; `value` is without number and size.
    ///
    /// # Errors
    /// When the visitor does not want more.
    fn unknown_tag(&mut self, tag: u32, span: Range<usize>, value: Range<usize>) -> Result<(), Reason>;
}

/// Walks through the message of `schema` in `version` that starts at `at`; gives where it ends. The version must be one of the
/// schema's.
///
/// # Errors
/// Where and why it is not such a message. Lengths and counts are refused beyond the bytes left.
pub fn walk(
    schema: &'static Schema,
    version: i16,
    frame: &Bytes,
    at: usize,
    visitor: &mut dyn Visitor,
) -> Result<usize, Failure> {
    if !schema.versions.has(version) {
        let (min, max) = (schema.versions.min, schema.versions.max);
        let reason = Reason::UnknownVersion { name: schema.name, version: version.into(), min, max };
        return Err(Failure::new(at, reason));
    }
    let mut walk = Walk {
        cursor: Cursor::new(frame, at),
        version,
        flexible: schema.is_flexible(version),
        tagged: false,
        visitor,
    };
    walk.fields(schema.fields)?;
    Ok(walk.cursor.at)
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    /// Is the field that comes next a tagged one?
    tagged: bool,
    visitor: &'a mut dyn Visitor,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [FieldSchema]) -> Result<(), Failure> {
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.has(version)) {
            if !field.tag.is_some_and(|(_, versions)| versions.has(version)) {
                self.field(field).map_err(|failure| failure.inside(field.name))?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &'static FieldSchema) -> Result<(), Failure> {
        let slot = Slot::Field(field);
        let nullable = field.nullable.is_some_and(|versions| versions.has(self.version));
        if !field.array {
            return self.value(slot, nullable);
        }
        let start = self.cursor.at;
        match self.cursor.count(self.compact(field))? {
            None => self.null(slot, start, nullable),
            Some(count) => {
                self.open(slot, start, Container::Array(count))?;
                for index in 0..count {
                    self.value(Slot::Element(field, index), false)
                        .map_err(|failure| failure.inside(format!("[{index}]")))?;
                }
                self.visitor.close(self.cursor.at);
                Ok(())
            }
        }
    }

    const fn compact(&self, field: &FieldSchema) -> bool {
        self.flexible && !field.never_flexible
    }

    fn value(&mut self, slot: Slot, nullable: bool) -> Result<(), Failure> {
        let field = slot.field();
        let start = self.cursor.at;
        let value = match field.ty {
            Type::Struct(schema) => return self.structure(slot, schema, nullable),
            Type::Bool => Scalar::Bool(self.cursor.i8()? != 0),
            Type::Int8 => Scalar::Int(self.cursor.i8()?.into()),
            Type::Int16 => Scalar::Int(self.cursor.i16()?.into()),
            Type::Uint16 => Scalar::Int(self.cursor.u16()?.into()),
            Type::Int32 => Scalar::Int(self.cursor.i32()?.into()),
            Type::Int64 => Scalar::Int(self.cursor.i64()?),
            Type::Float64 => Scalar::Float(self.cursor.f64()?),
            Type::Uuid => Scalar::Uuid(self.cursor.uuid()?),
            Type::Str => match self.cursor.text_length(self.compact(field))? {
                None => return self.null(slot, start, nullable),
                Some(length) => Scalar::Text(self.text(length)?),
            },
            Type::Bytes => match self.cursor.count(self.compact(field))? {
                None => return self.null(slot, start, nullable),
                Some(length) => Scalar::Bytes(self.bytes(length)?),
            },
            Type::Records => match self.cursor.count(self.compact(field))? {
                None => return self.null(slot, start, true),
                Some(length) => Scalar::Records(self.bytes(length)?),
            },
        };
        self.scalar(slot, start, value)
    }

    fn bytes(&mut self, length: usize) -> Result<Range<usize>, Failure> {
        let start = self.cursor.at;
        self.cursor.take(length)?;
        Ok(start..self.cursor.at)
    }

    fn text(&mut self, length: usize) -> Result<Range<usize>, Failure> {
        let span = self.bytes(length)?;
        match std::str::from_utf8(self.cursor.slice(span.clone())) {
            Ok(_) => Ok(span),
            Err(_) => Err(Failure::new(span.start, Reason::NotUtf8)),
        }
    }

    fn structure(
        &mut self,
        slot: Slot,
        schema: &'static StructSchema,
        nullable: bool,
    ) -> Result<(), Failure> {
        let start = self.cursor.at;
        if nullable {
            let mark = self.cursor.i8()?;
            // Kafka writes null as -1 in a field's place, and as 0 where the field is tagged.
            if mark < 0 || mark == 0 && self.tagged {
                return self.null(slot, start, true);
            }
        }
        self.tagged = false;
        self.open(slot, start, Container::Struct(schema))?;
        self.fields(schema.fields)?;
        self.visitor.close(self.cursor.at);
        Ok(())
    }

    fn null(&mut self, slot: Slot, start: usize, nullable: bool) -> Result<(), Failure> {
        if nullable {
            self.scalar(slot, start, Scalar::Null)
        } else {
            Err(Failure::new(start, Reason::UnexpectedNull))
        }
    }

    fn scalar(&mut self, slot: Slot, start: usize, value: Scalar) -> Result<(), Failure> {
        let told = self.visitor.scalar(slot, start..self.cursor.at, value);
        told.map_err(|reason| Failure::new(start, reason))
    }

    fn open(&mut self, slot: Slot, start: usize, container: Container) -> Result<(), Failure> {
        self.visitor.open(slot, start, container).map_err(|reason| Failure::new(start, reason))
    }

    /// Tagged fields, which ascend (KIP-482).
    fn tags(&mut self, fields: &'static [FieldSchema]) -> Result<(), Failure> {
        let count = self.cursor.uvarint()?;
        let mut before = None;
        for _ in 0..count {
            let start = self.cursor.at;
            let tag = self.cursor.uvarint()?;
            if let Some(before) = before.filter(|before| tag <= *before) {
                return Err(Failure::new(start, Reason::TagOrder { tag, before }));
            }
            before = Some(tag);
            let size_at = self.cursor.at;
            let size = self.cursor.uvarint()? as usize;
            if size > self.cursor.left() {
                let reason = Reason::BadLength { length: size as i64, left: self.cursor.left() };
                return Err(Failure::new(size_at, reason));
            }
            self.tag(fields, tag, start, size_at, size).map_err(|failure| {
                if failure.path.is_empty() { failure.inside(format!("tag {tag}")) } else { failure }
            })?;
        }
        Ok(())
    }

    fn tag(
        &mut self,
        fields: &'static [FieldSchema],
        tag: u32,
        start: usize,
        size_at: usize,
        size: usize,
    ) -> Result<(), Failure> {
        let version = self.version;
        let value = self.cursor.at..self.cursor.at + size;
        let known = fields.iter().find(|field| {
            field.versions.has(version)
                && field.tag.is_some_and(|(t, versions)| t == tag && versions.has(version))
        });
        let Some(field) = known else {
            self.cursor.at = value.end;
            let told = self.visitor.unknown_tag(tag, start..value.end, value);
            return told.map_err(|reason| Failure::new(start, reason));
        };
        let outer = std::mem::replace(&mut self.cursor.end, value.end);
        self.visitor.enter_tag(size_at..value.start);
        self.tagged = true;
        self.field(field).map_err(|failure| failure.inside(field.name))?;
        self.tagged = false;
        self.visitor.leave_tag();
        let left = self.cursor.left();
        self.cursor.end = outer;
        if left > 0 {
            return Err(Failure::new(self.cursor.at, Reason::TagSize { tag, left }).inside(field.name));
        }
        Ok(())
    }
}
