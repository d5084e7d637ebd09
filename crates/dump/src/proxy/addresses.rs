//! Finds the addresses in a response and puts others in their place. Which fields those are comes from the tables: every struct of
//! a response that has a `Host` and a `Port`.

use std::ops::Range;

use bytes::Bytes;
use ottla_protocol::schema::{self, FieldSchema, Kind, Schema, Type};

use super::routes::Advertised;
use crate::failure::{Failure, Reason};
use crate::frame::{Api, response_header_version};
use crate::walk::{Container, Scalar, Slot, Visitor, walk};

/// Can responses of this API in this version name addresses?
pub(super) fn may_name_addresses(api: Api) -> bool {
    schema::of_api(Kind::Response, api.key).is_some_and(|schema| names_address(schema.fields, api.version))
}

fn names_address(fields: &[FieldSchema], version: i16) -> bool {
    let has = |name| fields.iter().any(|field| field.name == name && field.versions.has(version));
    has("Host") && has("Port")
        || fields.iter().filter(|field| field.versions.has(version)).any(|field| match field.ty {
            Type::Struct(schema) => names_address(schema.fields, version),
            _ => false,
        })
}

/// Rewrites every address of a response by `map`; `None` when there is none to rewrite, or the response cannot be read.
pub(super) fn rewrite(
    api: Api,
    frame: &Bytes,
    map: impl FnMut(&Advertised) -> Option<Advertised>,
) -> Option<Bytes> {
    let schema = schema::of_api(Kind::Response, api.key)?;
    let header = schema::find("ResponseHeader")?;
    let mut finder = Finder::new(frame, false);
    let at = walk(header, response_header_version(api), frame, 0, &mut finder).ok()?;
    edit(schema, api.version, frame, at, map).ok().flatten()
}

fn edit(
    schema: &'static Schema,
    version: i16,
    frame: &Bytes,
    at: usize,
    mut map: impl FnMut(&Advertised) -> Option<Advertised>,
) -> Result<Option<Bytes>, Failure> {
    let mut finder = Finder::new(frame, schema.is_flexible(version));
    finder.structs.push(Pending::default());
    walk(schema, version, frame, at, &mut finder)?;
    finder.finish_struct();
    let mut edits = Vec::new();
    for found in &finder.found {
        if let Some((host, port)) = map(&found.address) {
            edits.push((found.host.clone(), finder.host_bytes(&host)));
            let width = found.port.len();
            edits.push((found.port.clone(), u32::from(port).to_be_bytes()[4 - width..].to_vec()));
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    edits.sort_by_key(|(span, _)| span.start);
    resize_tags(&finder.tags, &mut edits);
    Ok(Some(splice(frame, &edits)))
}

type Edit = (Range<usize>, Vec<u8>);

/// A tagged field stands behind its size: where something inside of it has grown, so must the size. Inner ones come first.
fn resize_tags(tags: &[Tag], edits: &mut Vec<Edit>) {
    for tag in tags {
        let inside = edits.iter().filter(|(span, _)| tag.value.contains(&span.start));
        let grown: i64 = inside.map(|(span, bytes)| bytes.len() as i64 - span.len() as i64).sum();
        if grown != 0 {
            let size = (tag.value.len() as i64 + grown) as u32;
            edits.push((tag.size.clone(), uvarint(size)));
            edits.sort_by_key(|(span, _)| span.start);
        }
    }
}

fn splice(frame: &Bytes, edits: &[Edit]) -> Bytes {
    let mut out = Vec::with_capacity(frame.len() + 64 * edits.len());
    let mut at = 0;
    for (span, bytes) in edits {
        out.extend_from_slice(&frame[at..span.start]);
        out.extend_from_slice(bytes);
        at = span.end;
    }
    out.extend_from_slice(&frame[at..]);
    Bytes::from(out)
}

fn uvarint(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

struct Found {
    host: Range<usize>,
    port: Range<usize>,
    address: Advertised,
}

/// A tagged field: where its size stands, and its value.
struct Tag {
    size: Range<usize>,
    value: Range<usize>,
}

/// A struct that is being read. Arrays are pending, too, and never find anything.
#[derive(Default)]
struct Pending {
    host: Option<(Range<usize>, String)>,
    port: Option<(Range<usize>, u16)>,
}

struct Finder<'a> {
    frame: &'a Bytes,
    flexible: bool,
    structs: Vec<Pending>,
    found: Vec<Found>,
    /// Those that are over, inner ones before outer ones.
    tags: Vec<Tag>,
    open_tags: Vec<Range<usize>>,
    last_end: usize,
}

impl<'a> Finder<'a> {
    fn new(frame: &'a Bytes, flexible: bool) -> Self {
        Self {
            frame,
            flexible,
            structs: Vec::new(),
            found: Vec::new(),
            tags: Vec::new(),
            open_tags: Vec::new(),
            last_end: 0,
        }
    }

    fn finish_struct(&mut self) {
        if let Some(Pending { host: Some((host, name)), port: Some((port, number)) }) = self.structs.pop() {
            self.found.push(Found { host, port, address: (name, number) });
        }
    }

    fn host_bytes(&self, host: &str) -> Vec<u8> {
        let mut out = match self.flexible {
            true => uvarint(host.len() as u32 + 1),
            false => (host.len() as u16).to_be_bytes().to_vec(),
        };
        out.extend_from_slice(host.as_bytes());
        out
    }
}

impl Visitor for Finder<'_> {
    fn scalar(&mut self, slot: Slot, span: Range<usize>, value: Scalar) -> Result<(), Reason> {
        self.last_end = span.end;
        let (Slot::Field(field), Some(pending)) = (slot, self.structs.last_mut()) else { return Ok(()) };
        match (field.name, value) {
            ("Host", Scalar::Text(text)) if !text.is_empty() => {
                let name = String::from_utf8_lossy(&self.frame[text]).into_owned();
                pending.host = Some((span, name));
            }
            ("Port", Scalar::Int(port)) => {
                // Where there is no broker, the port is -1.
                pending.port = u16::try_from(port).ok().filter(|port| *port > 0).map(|port| (span, port));
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, _: Slot, _: usize, _: Container) -> Result<(), Reason> {
        self.structs.push(Pending::default());
        Ok(())
    }

    fn close(&mut self, at: usize) {
        self.last_end = at;
        self.finish_struct();
    }

    fn enter_tag(&mut self, size: Range<usize>) {
        self.open_tags.push(size);
    }

    fn leave_tag(&mut self) {
        if let Some(size) = self.open_tags.pop() {
            self.tags.push(Tag { value: size.end..self.last_end, size });
        }
    }

    fn unknown_tag(&mut self, _: u32, span: Range<usize>, _: Range<usize>) -> Result<(), Reason> {
        self.last_end = span.end;
        Ok(())
    }
}
