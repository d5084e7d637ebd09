//! Writes primitive values into a growing buffer.

use super::{Records, Str, Tags};
use crate::ids::Uuid;
use bytes::Bytes;

/// Why a message could not be encoded: always a mistake of the program, not of the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field is set that the version does not have and whose loss would change the meaning.
    #[error("{field} is set but version {version} does not have it")]
    FieldNotInVersion {
        /// Message and field.
        field: &'static str,
        /// Version asked for.
        version: i16,
    },
    /// A field is null in a version that has no null for it.
    #[error("{field} is null but may not be")]
    UnexpectedNull {
        /// Message and field.
        field: &'static str,
    },
    /// A string, array or frame is longer than its length can say.
    #[error("a value of {length} is longer than its length can say")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Bytes to splice where only bytes in memory are allowed.
    #[error("spliced records in a buffer that must be whole")]
    Spliced,
}

/// A place where bytes that are not in the buffer belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The bytes go before this position of the buffer.
    pub at: usize,
    /// How many bytes.
    pub size_bytes: u32,
}

/// A finished buffer and what is to be spliced into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes at hand.
    pub head: Bytes,
    /// In ascending order of place.
    pub splices: Vec<Splice>,
}

/// Writes one message or frame. The first error is kept and given by the `finish` methods. Lengths that are not known
/// beforehand are patched; there is no pass for sizes.
///
/// A field that the version does not have is left out. Where it is set, not ignorable, and the message is a request or
/// record, that is an error: the sender must know that the peer cannot do what it asks. In responses it is dropped: the
/// peer asked in a version that cannot say more.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    splices: Vec<Splice>,
    flexible: bool,
    error: Option<EncodeError>,
    /// Unknown tags and number of tags of the section that is being written, by nesting.
    section: Option<Section>,
}

#[derive(Debug)]
struct Section {
    unknown: Tags,
    unknown_written: usize,
    count: u32,
}

/// Bytes of the length before a frame.
const FRAME_LENGTH_BYTES: usize = 4;

impl Writer {
    /// An empty buffer, in the classic form until [`Writer::set_flexible`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// A buffer that starts with the four bytes of a frame's length, which [`Writer::finish_frame`] fills in.
    #[must_use]
    pub fn frame(capacity_bytes: usize) -> Self {
        let mut writer = Self::with_capacity(capacity_bytes);
        writer.out.extend_from_slice(&[0; FRAME_LENGTH_BYTES]);
        writer
    }

    /// Chooses compact lengths and tagged fields. Every message sets it for itself.
    pub const fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes written so far, without those to be spliced.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// True before anything is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Ends a buffer that may have splices.
    ///
    /// # Errors
    /// The first that was met.
    pub fn finish(self) -> Result<Encoded, EncodeError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Encoded { head: Bytes::from(self.out), splices: self.splices }),
        }
    }

    /// Ends a buffer that was begun with [`Writer::frame`]; its length counts the splices.
    ///
    /// # Errors
    /// The first that was met; `TooLong` beyond 2 GiB.
    pub fn finish_frame(mut self) -> Result<Encoded, EncodeError> {
        let spliced: usize = self.splices.iter().map(|s| s.size_bytes as usize).sum();
        let length = self.out.len() - FRAME_LENGTH_BYTES + spliced;
        let Ok(said) = i32::try_from(length) else { return Err(EncodeError::TooLong { length }) };
        self.out
            .get_mut(..FRAME_LENGTH_BYTES)
            .expect("begun as a frame")
            .copy_from_slice(&said.to_be_bytes());
        self.finish()
    }

    /// Ends a buffer that must be whole.
    ///
    /// # Errors
    /// The first that was met; `Spliced` when something is to be spliced in.
    pub fn finish_bytes(self) -> Result<Bytes, EncodeError> {
        let encoded = self.finish()?;
        if encoded.splices.is_empty() { Ok(encoded.head) } else { Err(EncodeError::Spliced) }
    }

    #[cold]
    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// Notes that a field is set which `version` does not have.
    #[cold]
    pub fn refuse(&mut self, field: &'static str, version: i16) {
        self.fail(EncodeError::FieldNotInVersion { field, version });
    }

    /// Notes that a field is null which may not be.
    #[cold]
    pub fn refuse_null(&mut self, field: &'static str) {
        self.fail(EncodeError::UnexpectedNull { field });
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte, 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// A signed byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// Big endian.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// Big endian.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// Big endian.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// Big endian.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// Big endian IEEE 754.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.raw(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, value: &Uuid) {
        self.raw(&value.0);
    }

    /// An unsigned varint (LEB128).
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn length(&mut self, length: usize, short: bool) {
        let most = if short { i16::MAX as usize } else { i32::MAX as usize };
        if length > most {
            self.fail(EncodeError::TooLong { length });
            return;
        }
        match (self.flexible, short) {
            (true, _) => self.uvarint(length as u32 + 1),
            (false, true) => self.i16(length as i16),
            (false, false) => self.i32(length as i32),
        }
    }

    fn null(&mut self, short: bool) {
        match (self.flexible, short) {
            (true, _) => self.uvarint(0),
            (false, true) => self.i16(-1),
            (false, false) => self.i32(-1),
        }
    }

    /// A string of at most 32,767 bytes.
    pub fn str(&mut self, value: &Str) {
        self.length(value.len(), true);
        self.raw(value.as_bytes());
    }

    /// A string or null.
    pub fn nullable_str(&mut self, value: &Option<Str>) {
        match value {
            Some(value) => self.str(value),
            None => self.null(true),
        }
    }

    /// A string or null in the classic form whatever the flag says.
    pub fn classic_nullable_str(&mut self, value: &Option<Str>) {
        let flexible = std::mem::replace(&mut self.flexible, false);
        self.nullable_str(value);
        self.flexible = flexible;
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &Bytes) {
        self.length(value.len(), false);
        self.raw(value);
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self, value: &Option<Bytes>) {
        match value {
            Some(value) => self.bytes(value),
            None => self.null(false),
        }
    }

    /// Record batches: null, bytes, or a note of what to splice in here.
    pub fn records(&mut self, value: &Records) {
        match value {
            Records::Null => self.null(false),
            Records::Bytes(bytes) => self.bytes(bytes),
            Records::Spliced(size_bytes) => {
                self.length(*size_bytes as usize, false);
                self.splices.push(Splice { at: self.out.len(), size_bytes: *size_bytes });
            }
        }
    }

    /// An array.
    pub fn array<T>(&mut self, items: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.length(items.len(), false);
        for item in items {
            element(self, item);
        }
    }

    /// An array or null.
    pub fn nullable_array<T>(&mut self, items: &Option<Vec<T>>, element: impl FnMut(&mut Self, &T)) {
        match items {
            Some(items) => self.array(items, element),
            None => self.null(false),
        }
    }

    /// A struct behind a byte that is negative for null.
    pub fn nullable_struct<T>(&mut self, value: &Option<T>, write: impl FnOnce(&mut Self, &T)) {
        self.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// The end of a struct without known tagged fields; nothing is written unless the version is flexible.
    pub fn unknown_tags(&mut self, unknown: &Tags) {
        if !self.flexible {
            return;
        }
        self.uvarint(unknown.as_slice().len() as u32);
        for tag in unknown.iter() {
            self.unknown_tag(tag.tag, &tag.value);
        }
    }

    fn unknown_tag(&mut self, tag: u32, value: &Bytes) {
        self.uvarint(tag);
        self.uvarint(value.len() as u32);
        self.raw(value);
    }

    /// The end of a struct with tagged fields: `known` calls [`Writer::tag`] for each that is set, in ascending order;
    /// the unknown ones come between. Nothing is written unless the version is flexible.
    pub fn tags(&mut self, unknown: &Tags, known: impl FnOnce(&mut Self)) {
        if !self.flexible {
            return;
        }
        let outer = self.section.replace(Section { unknown: unknown.clone(), unknown_written: 0, count: 0 });
        let start = self.out.len();
        known(self);
        self.unknown_before(None);
        let count = self.section.take().map_or(0, |s| s.count);
        self.section = outer;
        self.insert_uvarint(start, count);
    }

    /// One tagged field inside [`Writer::tags`].
    pub fn tag(&mut self, tag: u32, value: impl FnOnce(&mut Self)) {
        self.unknown_before(Some(tag));
        self.uvarint(tag);
        let start = self.out.len();
        value(self);
        let size = self.out.len() - start;
        self.insert_uvarint(start, size as u32);
        if let Some(section) = &mut self.section {
            section.count += 1;
        }
    }

    /// Writes the unknown tags below `tag`, or all that are left.
    fn unknown_before(&mut self, tag: Option<u32>) {
        let Some(mut section) = self.section.take() else { return };
        let left = section.unknown.as_slice().get(section.unknown_written..).unwrap_or(&[]);
        for next in left.iter().take_while(|n| tag.is_none_or(|t| n.tag < t)) {
            self.unknown_tag(next.tag, &next.value);
            section.unknown_written += 1;
            section.count += 1;
        }
        self.section = Some(section);
    }

    /// Puts a varint before what was written since `at`.
    fn insert_uvarint(&mut self, at: usize, value: u32) {
        let end = self.out.len();
        self.uvarint(value);
        let size = self.out.len() - end;
        if let Some(moved) = self.out.get_mut(at..) {
            moved.rotate_right(size);
        }
    }
}
