//! Emits what visits the error codes of a message, so that a broker can count what it answers without naming each field.

use super::names;
use super::spec::{Field, Kind, Message, Struct, Type};

/// The field of Kafka's messages that holds a code.
const FIELD: &str = "ErrorCode";

/// Whether messages of the kind have codes that are visited.
pub fn apply_to(message: &Message) -> bool {
    match message.kind {
        Kind::Request | Kind::Response => true,
        Kind::Header | Kind::Data | Kind::Metadata | Kind::CoordinatorKey | Kind::CoordinatorValue => false,
    }
}

/// The method of a struct that has codes, itself or below; nothing for others.
pub fn method(message: &Message, s: &Struct) -> Option<String> {
    let visits: Vec<String> = s.fields.iter().filter_map(|field| visit(message, field)).collect();
    if visits.is_empty() {
        return None;
    }
    let body = visits.join("\n        ");
    Some(format!(
        "    /// Gives `f` each error code, 0 included.\n    pub fn error_codes(&self, f: &mut dyn FnMut(i16)) {{\n        {body}\n    }}"
    ))
}

fn visit(message: &Message, field: &Field) -> Option<String> {
    let place = format!("self.{}", names::field(&field.name));
    match &field.ty {
        Type::Int16 if field.name == FIELD && !field.array => Some(format!("f({place});")),
        Type::Struct(name) => {
            let nested = message.structs.iter().find(|nested| nested.name == *name)?;
            method(message, nested)?;
            Some(match (field.array, field.nullable.is_some()) {
                (true, true) => format!("{place}.iter().flatten().for_each(|x| x.error_codes(f));"),
                (true, false) | (false, true) => format!("{place}.iter().for_each(|x| x.error_codes(f));"),
                (false, false) => format!("{place}.error_codes(f);"),
            })
        }
        Type::Bool
        | Type::Int8
        | Type::Int16
        | Type::Uint16
        | Type::Int32
        | Type::Int64
        | Type::Float64
        | Type::Uuid
        | Type::Str
        | Type::Bytes
        | Type::Records => None,
    }
}
