//! The protocol as tables: every message and record with its fields, versions, defaults and domains. They are a second
//! description beside the generated code, for tests, for tools that explain frames, and for the reference.

use crate::wire::{DecodeError, EncodeError, Message};
use bytes::Bytes;

pub use crate::generated::schema::ALL;

/// An inclusive range of versions; `i16::MAX` where there is no last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// First version.
    pub min: i16,
    /// Last version.
    pub max: i16,
}

impl Versions {
    /// Is `version` one of them?
    #[must_use]
    pub const fn has(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// Where a message occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From client to broker.
    Request,
    /// From broker to client.
    Response,
    /// Before a request or response.
    Header,
    /// Inside opaque bytes, a file, or a control record.
    Data,
    /// A record of the metadata log.
    Metadata,
    /// The key of a record in a coordinator's topic.
    CoordinatorKey,
    /// The value of a record in a coordinator's topic.
    CoordinatorValue,
}

/// Type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// One byte.
    Bool,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Two bytes.
    Uint16,
    /// Four bytes.
    Int32,
    /// Eight bytes.
    Int64,
    /// Eight bytes.
    Float64,
    /// Sixteen bytes.
    Uuid,
    /// UTF-8.
    Str,
    /// Opaque bytes.
    Bytes,
    /// Record batches.
    Records,
    /// Fields of its own.
    Struct(&'static StructSchema),
}

/// A nested struct.
#[derive(Debug)]
pub struct StructSchema {
    /// Its name, unique within the file that defines it.
    pub name: &'static str,
    /// Its fields in the order of the wire.
    pub fields: &'static [FieldSchema],
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct FieldSchema {
    /// Kafka's name.
    pub name: &'static str,
    /// Type of the value, or of the elements of an array.
    pub ty: Type,
    /// Is it an array?
    pub array: bool,
    /// Versions that have it.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Option<Versions>,
    /// Number of the tagged field, and versions in which it is one.
    pub tag: Option<(u32, Versions)>,
    /// Default as written in the specification; without one it is zero, false or empty, and null where that is allowed.
    pub default: Option<&'static str>,
    /// What kind of thing the value names, for example `topicName`.
    pub domain: Option<&'static str>,
    /// May it be dropped where the version does not have it?
    pub ignorable: bool,
    /// Is it the key of the set that its struct is an element of?
    pub set_key: bool,
    /// Is it in the classic form even in flexible versions?
    pub never_flexible: bool,
    /// What it means; may be empty.
    pub description: &'static str,
}

impl FieldSchema {
    /// A plain field.
    #[must_use]
    pub const fn new(name: &'static str, ty: Type, min: i16, max: i16) -> Self {
        Self {
            name,
            ty,
            array: false,
            versions: Versions { min, max },
            nullable: None,
            tag: None,
            default: None,
            domain: None,
            ignorable: false,
            set_key: false,
            never_flexible: false,
            description: "",
        }
    }

    /// An array of such values.
    #[must_use]
    pub const fn array(self) -> Self {
        Self { array: true, ..self }
    }

    /// Null is allowed in these versions.
    #[must_use]
    pub const fn nullable(self, min: i16, max: i16) -> Self {
        Self { nullable: Some(Versions { min, max }), ..self }
    }

    /// Tagged in these versions.
    #[must_use]
    pub const fn tag(self, tag: u32, min: i16, max: i16) -> Self {
        Self { tag: Some((tag, Versions { min, max })), ..self }
    }

    /// Has a default.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Names a thing of this domain.
    #[must_use]
    pub const fn is(self, domain: &'static str) -> Self {
        Self { domain: Some(domain), ..self }
    }

    /// May be dropped.
    #[must_use]
    pub const fn ignorable(self) -> Self {
        Self { ignorable: true, ..self }
    }

    /// Is the key of a set.
    #[must_use]
    pub const fn set_key(self) -> Self {
        Self { set_key: true, ..self }
    }

    /// Is always in the classic form.
    #[must_use]
    pub const fn never_flexible(self) -> Self {
        Self { never_flexible: true, ..self }
    }

    /// Means this.
    #[must_use]
    pub const fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }
}

/// One message or record.
#[derive(Debug)]
pub struct Schema {
    /// Kafka's name, for example `FetchRequest`.
    pub name: &'static str,
    /// Where it occurs.
    pub kind: Kind,
    /// API key of a request or response, type of a record.
    pub key: Option<i16>,
    /// Versions that can be decoded.
    pub versions: Versions,
    /// First flexible version.
    pub flexible_since: Option<i16>,
    /// What it is for.
    pub description: &'static str,
    /// Its fields in the order of the wire.
    pub fields: &'static [FieldSchema],
    /// The generated code for it: decodes and encodes again.
    pub recode: Recode,
    /// The generated code for it: decodes only.
    pub decode: fn(Bytes, i16) -> Result<(), DecodeError>,
}

/// Decodes a message in a version, which must be one of its schema, and encodes what it found.
pub type Recode = fn(Bytes, i16) -> Result<Bytes, RecodeError>;

/// Why a message could not be decoded and encoded again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecodeError {
    /// The bytes are not such a message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What was decoded cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The [`Recode`] of a generated message.
///
/// # Errors
/// The first of decoding or encoding.
pub fn recode<T: Message>(bytes: Bytes, version: i16) -> Result<Bytes, RecodeError> {
    Ok(T::decode(bytes, version)?.encode(version)?)
}

/// The `decode` of a generated message: what it found is dropped.
///
/// # Errors
/// The first of decoding.
pub fn decode<T: Message>(bytes: Bytes, version: i16) -> Result<(), DecodeError> {
    T::decode(bytes, version).map(drop)
}

impl Schema {
    /// Is `version` flexible?
    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_since.is_some_and(|since| version >= since)
    }
}

/// The schema of a message or record by Kafka's name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Schema> {
    ALL.iter().copied().find(|s| s.name == name)
}

/// The schema of the request or response of an API.
#[must_use]
pub fn of_api(kind: Kind, key: i16) -> Option<&'static Schema> {
    ALL.iter().copied().find(|s| s.kind == kind && s.key == Some(key))
}
