//! Encodes random messages by the schema tables alone, without the generated code: the second witness. Choices are
//! taken from a tape of bytes, so that a failing message shrinks with its tape; behind its end every choice is zero,
//! which is the plainest one.

use ottla_protocol::schema::{FieldSchema, Schema, Type};
use std::collections::BTreeSet;

/// A tape of choices.
pub struct Tape<'a>(pub &'a [u8]);

impl Tape<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A choice among `count`, the first most often.
    fn among(&mut self, count: u8) -> u8 {
        self.next() % count
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// What is the same for a whole message.
struct Filler<'a, 't> {
    tape: Tape<'t>,
    schema: &'a Schema,
    version: i16,
    /// May an unknown tag have a number that another version of the struct knows?
    foreign_tags: bool,
}

/// A message of `schema` in `version` as the tape has it.
pub fn fill(schema: &Schema, version: i16, tape: &[u8]) -> Vec<u8> {
    fill_with(schema, version, tape, true)
}

/// The same, where the numbers of unknown tags are unknown in every version.
pub fn fill_without_foreign_tags(schema: &Schema, version: i16, tape: &[u8]) -> Vec<u8> {
    fill_with(schema, version, tape, false)
}

fn fill_with(schema: &Schema, version: i16, tape: &[u8], foreign_tags: bool) -> Vec<u8> {
    let mut filler = Filler { tape: Tape(tape), schema, version, foreign_tags };
    let mut out = Vec::new();
    filler.structure(schema.fields, &mut out);
    out
}

fn uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Filler<'_, '_> {
    fn flexible(&self) -> bool {
        self.schema.is_flexible(self.version)
    }

    fn is_tagged(&self, field: &FieldSchema) -> bool {
        field.tag.is_some_and(|(_, versions)| versions.has(self.version))
    }

    fn structure(&mut self, fields: &[FieldSchema], out: &mut Vec<u8>) {
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.has(version)) {
            if !self.is_tagged(field) {
                self.field(field, out);
            }
        }
        if self.flexible() {
            self.tags(fields, out);
        }
    }

    /// Known tags that are not at their default, and unknown ones, in ascending order.
    fn tags(&mut self, fields: &[FieldSchema], out: &mut Vec<u8>) {
        let version = self.version;
        let mut values: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut known = BTreeSet::new();
        if !self.foreign_tags {
            known.extend(fields.iter().filter_map(|f| f.tag).map(|(tag, _)| tag));
        }
        for field in fields.iter().filter(|f| f.versions.has(version)) {
            let Some((tag, _)) = field.tag.filter(|_| self.is_tagged(field)) else { continue };
            known.insert(tag);
            let (mut value, mut default) = (Vec::new(), Vec::new());
            self.field(field, &mut value);
            self.default(field, &mut default);
            if value != default {
                values.push((tag, value));
            }
        }
        let unknown: &[u32] = match self.tape.among(5) {
            1 => &[7],
            2 => &[0, 1, 2, 3, 200],
            3 => &[10_000, i32::MAX as u32],
            _ => &[],
        };
        for tag in unknown.iter().filter(|tag| !known.contains(tag)) {
            let size = [0, 1, 5, 130][usize::from(self.tape.among(4))];
            values.push((*tag, self.tape.bytes(size)));
        }
        values.sort();
        uvarint(out, values.len() as u32);
        for (tag, value) in values {
            uvarint(out, tag);
            uvarint(out, value.len() as u32);
            out.extend(value);
        }
    }

    fn length(&self, field: &FieldSchema, length: Option<usize>, out: &mut Vec<u8>) {
        let classic = !self.flexible() || field.never_flexible;
        let short = matches!(field.ty, Type::Str) && !field.array;
        self.raw_length(classic, short, length, out);
    }

    fn raw_length(&self, classic: bool, short: bool, length: Option<usize>, out: &mut Vec<u8>) {
        let signed = length.map_or(-1, |l| l as i64);
        match (classic, short) {
            (false, _) => uvarint(out, (signed + 1) as u32),
            (true, true) => out.extend((signed as i16).to_be_bytes()),
            (true, false) => out.extend((signed as i32).to_be_bytes()),
        }
    }

    fn null(&self, field: &FieldSchema, out: &mut Vec<u8>) {
        match field.ty {
            Type::Struct(_) if !field.array => out.push(0xff),
            _ => self.length(field, None, out),
        }
    }

    fn field(&mut self, field: &FieldSchema, out: &mut Vec<u8>) {
        let nullable = field.nullable.is_some_and(|v| v.has(self.version));
        if nullable && self.tape.among(4) == 0 {
            return self.null(field, out);
        }
        if !field.array {
            if nullable && matches!(field.ty, Type::Struct(_)) {
                out.push(1);
            }
            return self.value(field, out);
        }
        let primitive = !matches!(field.ty, Type::Struct(_) | Type::Str | Type::Bytes);
        let count = match self.tape.among(6) {
            5 if primitive => 200,
            n => usize::from(n % 4),
        };
        self.length(field, Some(count), out);
        let element = FieldSchema { array: false, nullable: None, ..*field };
        for _ in 0..count {
            self.value(&element, out);
        }
    }

    fn value(&mut self, field: &FieldSchema, out: &mut Vec<u8>) {
        let size = match field.ty {
            Type::Struct(s) => return self.structure(s.fields, out),
            Type::Str => return self.text(field, out),
            Type::Bytes | Type::Records => {
                let size = [0, 1, 20, 127, 300][usize::from(self.tape.among(5))];
                let bytes = self.tape.bytes(size);
                self.length(field, Some(size), out);
                return out.extend(bytes);
            }
            Type::Bool => return out.push(self.tape.among(2)),
            Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
        };
        match self.tape.among(5) {
            0 => out.extend(std::iter::repeat_n(0, size)),
            1 => out.extend(std::iter::repeat_n(0xff, size)),
            // The greatest and the least signed number.
            2 => out.extend(std::iter::once(0x7f).chain(std::iter::repeat_n(0xff, size - 1))),
            3 => out.extend(std::iter::once(0x80).chain(std::iter::repeat_n(0, size - 1))),
            _ => out.extend(self.tape.bytes(size)),
        }
    }

    fn text(&mut self, field: &FieldSchema, out: &mut Vec<u8>) {
        let text = match self.tape.among(8) {
            0 => String::new(),
            1 => "a".to_owned(),
            2 => "größer als ASCII \u{1f980}".to_owned(),
            3 => "x".repeat(126),
            4 => "x".repeat(127),
            5 if self.tape.next() == 0 => "x".repeat(i16::MAX as usize),
            _ => format!("name-{}", self.tape.next()),
        };
        self.length(field, Some(text.len()), out);
        out.extend(text.into_bytes());
    }

    /// The default of a field, which is not written when the field is tagged.
    fn default(&self, field: &FieldSchema, out: &mut Vec<u8>) {
        if field.nullable.is_some_and(|v| v.has(self.version)) {
            return self.null(field, out);
        }
        if field.array {
            return self.length(field, Some(0), out);
        }
        let text = field.default.unwrap_or("");
        let number = || match text.strip_prefix("0x") {
            Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16).unwrap(),
            None => text.parse().unwrap_or(0),
        };
        match field.ty {
            Type::Struct(s) => self.default_structure(s.fields, out),
            Type::Str => {
                self.length(field, Some(text.len()), out);
                out.extend(text.as_bytes());
            }
            Type::Bytes => self.length(field, Some(0), out),
            Type::Records => self.null(field, out),
            Type::Bool => out.push(u8::from(text == "true")),
            Type::Int8 => out.extend((number() as i8).to_be_bytes()),
            Type::Int16 | Type::Uint16 => out.extend((number() as i16).to_be_bytes()),
            Type::Int32 => out.extend((number() as i32).to_be_bytes()),
            Type::Int64 => out.extend(number().to_be_bytes()),
            Type::Float64 => out.extend(0f64.to_be_bytes()),
            Type::Uuid => out.extend([0; 16]),
        }
    }

    fn default_structure(&self, fields: &[FieldSchema], out: &mut Vec<u8>) {
        for field in fields.iter().filter(|f| f.versions.has(self.version) && !self.is_tagged(f)) {
            self.default(field, out);
        }
        if self.flexible() {
            uvarint(out, 0);
        }
    }
}
