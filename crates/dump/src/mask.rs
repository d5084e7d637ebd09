//! Secrets are not shown unless asked for: SASL payloads, SCRAM credentials, settings that hold passwords.

use ottla_protocol::schema::{FieldSchema, Schema, Type};

use crate::tree::{Node, Value};

/// Fields of bytes that are secrets wherever they stand.
const SECRET_FIELDS: [&str; 5] = ["AuthBytes", "Salt", "SaltedPassword", "StoredKey", "ServerKey"];

/// What stands in the names of settings whose values are secrets.
const SECRET_SETTINGS: [&str; 5] = ["password", "secret", "jaas", "credential", "token"];

/// Masks the secrets among `nodes` and below them.
pub(crate) fn mask(nodes: &mut [Node]) {
    let is_setting = nodes
        .iter()
        .any(|node| node.label.name() == Some("Name") && node.text().is_some_and(is_secret_setting));
    for node in nodes {
        let size = node.span.len();
        let name = node.label.name().unwrap_or_default();
        let is_secret = match &node.value {
            Value::Bytes(_) | Value::Text(_) if SECRET_FIELDS.contains(&name) => true,
            Value::Text(_) => is_setting && name == "Value",
            _ => false,
        };
        match &mut node.value {
            value if is_secret => *value = Value::Masked(size),
            Value::Struct(nodes) | Value::Array(nodes) => mask(nodes),
            Value::Message(message) => mask(&mut message.nodes),
            _ => {}
        }
    }
}

fn is_secret_setting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".key") || SECRET_SETTINGS.iter().any(|word| name.contains(word))
}

/// May messages of this schema hold secrets? Then what did not decode of them is not shown either.
pub(crate) fn may_hold_secrets(schema: &Schema) -> bool {
    schema.name.starts_with("Envelope") || fields_may(schema.fields)
}

fn fields_may(fields: &[FieldSchema]) -> bool {
    let named = |name: &str| fields.iter().any(|f| f.name == name && matches!(f.ty, Type::Str));
    named("Name") && named("Value")
        || fields.iter().any(|field| match field.ty {
            Type::Struct(schema) => fields_may(schema.fields),
            Type::Bytes => SECRET_FIELDS.contains(&field.name),
            _ => false,
        })
}
