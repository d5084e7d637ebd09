//! What a file of `protocol-spec` says: messages, their structs and fields.

/// An inclusive range of versions; `max` is `i16::MAX` for `n+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: i16,
    pub max: i16,
}

impl Range {
    pub fn contains(self, other: Self) -> bool {
        self.min <= other.min && self.max >= other.max
    }

    pub fn has(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    /// `3-13`, `9+` or `4`.
    pub fn text(self) -> String {
        match (self.min, self.max) {
            (min, i16::MAX) => format!("{min}+"),
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min}-{max}"),
        }
    }
}

/// `none` or a range.
pub type MaybeRange = Option<Range>;

/// Type of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    Str,
    Bytes,
    Records,
    Struct(String),
}

impl Type {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::Str,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ if name.starts_with(|c: char| c.is_ascii_uppercase()) => Self::Struct(name.to_owned()),
            _ => return None,
        })
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Uint16 => "uint16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Uuid => "uuid",
            Self::Str => "string",
            Self::Bytes => "bytes",
            Self::Records => "records",
            Self::Struct(name) => name,
        }
    }
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub array: bool,
    pub ty: Type,
    pub versions: Range,
    pub nullable: MaybeRange,
    /// Tag number and the versions in which the field is tagged.
    pub tag: Option<(u32, Range)>,
    pub default: Option<String>,
    pub ignorable: bool,
    pub key: bool,
    pub domain: Option<String>,
    /// Encoded in the classic form even in flexible versions (the client id of the request header).
    pub never_flexible: bool,
    pub description: String,
}

/// A struct: of a message (its own fields) or nested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// Where a message occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
    Metadata,
    CoordinatorKey,
    CoordinatorValue,
}

impl Kind {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "request" => Self::Request,
            "response" => Self::Response,
            "header" => Self::Header,
            "data" => Self::Data,
            "metadata" => Self::Metadata,
            "coordinator-key" => Self::CoordinatorKey,
            "coordinator-value" => Self::CoordinatorValue,
            _ => return None,
        })
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Header => "header",
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::CoordinatorKey => "coordinator-key",
            Self::CoordinatorValue => "coordinator-value",
        }
    }

    pub fn rust(self) -> &'static str {
        match self {
            Self::Request => "Request",
            Self::Response => "Response",
            Self::Header => "Header",
            Self::Data => "Data",
            Self::Metadata => "Metadata",
            Self::CoordinatorKey => "CoordinatorKey",
            Self::CoordinatorValue => "CoordinatorValue",
        }
    }
}

/// One message or record.
#[derive(Clone, Debug)]
pub struct Message {
    /// Full name, for example `ProduceRequest`.
    pub name: String,
    pub kind: Kind,
    pub key: Option<i16>,
    pub versions: Range,
    pub flexible: MaybeRange,
    pub description: String,
    pub body: Struct,
    /// Nested structs in order of appearance.
    pub structs: Vec<Struct>,
}

/// One API: a file of `protocol-spec/messages`.
#[derive(Clone, Debug)]
pub struct Api {
    pub name: String,
    pub key: i16,
    pub served: MaybeRange,
    /// What ApiVersions says, where it differs from `served`.
    pub advertised: MaybeRange,
    pub listeners: Vec<String>,
    pub latest_unstable: bool,
    pub description: String,
    pub request: Message,
    pub response: Message,
}

/// One error code.
#[derive(Clone, Debug)]
pub struct ErrorCode {
    pub code: i16,
    pub name: String,
    pub retriable: bool,
    pub description: String,
}

/// The whole of `protocol-spec`.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub apis: Vec<Api>,
    pub headers: Vec<Message>,
    /// Records by file: file stem, description of the file, messages.
    pub records: Vec<RecordFile>,
    pub errors: Vec<ErrorCode>,
}

/// One file of `protocol-spec/records`.
#[derive(Clone, Debug)]
pub struct RecordFile {
    pub name: String,
    pub description: String,
    pub messages: Vec<Message>,
}
