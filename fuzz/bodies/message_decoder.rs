//! The body of the fuzz target `message_decoder`; the tests of `ottla-protocol` replay its corpus through the same
//! function.

use bytes::Bytes;
use ottla_protocol::schema::{self, Kind, RecodeError};

/// The first byte chooses the kind of message, then come its key and version, two bytes each. What can be decoded can be
/// encoded, and encoding is stable from then on.
pub fn message_decoder(data: &[u8]) {
    let Some((&[kind, key_high, key_low, version_high, version_low], body)) = data.split_first_chunk() else {
        return;
    };
    let kind = match kind {
        0 => Kind::Request,
        1 => Kind::Response,
        2 => Kind::Metadata,
        3 => Kind::CoordinatorKey,
        4 => Kind::CoordinatorValue,
        _ => return,
    };
    let key = i16::from_be_bytes([key_high, key_low]);
    let version = i16::from_be_bytes([version_high, version_low]);
    let Some(schema) = schema::of_api(kind, key).filter(|s| s.versions.has(version)) else { return };
    match (schema.recode)(Bytes::copy_from_slice(body), version) {
        Ok(once) => assert_eq!((schema.recode)(once.clone(), version), Ok(once), "encoding is stable"),
        Err(RecodeError::Decode(_)) => {}
        Err(error) => panic!("{}: {error}", schema.name),
    }
}
