//! The body of the fuzz target `request_decoder`; the tests of `ottla-protocol` replay its corpus through the same
//! function.

use bytes::Bytes;
use ottla_protocol::generated::{ApiKey, RequestHeader};
use ottla_protocol::schema::{self, Kind, RecodeError};
use ottla_protocol::wire::Reader;

/// Takes the bytes for a frame: key and version choose the header and the message. What can be decoded can be encoded,
/// and encoding is stable from then on.
pub fn request_decoder(frame: &[u8]) {
    let frame = Bytes::copy_from_slice(frame);
    let mut start = Reader::new(frame.clone());
    let (key, version) = (start.i16(), start.i16());
    let Some(api) = ApiKey::from_i16(key).filter(|_| !start.failed()) else { return };
    let (first, last) = api.defined_versions();
    if version < first || version > last {
        return;
    }
    let mut r = Reader::new(frame.clone());
    let header = RequestHeader::read(&mut r, api.request_header_version(version));
    if r.failed() {
        return;
    }
    assert_eq!((header.request_api_key, header.request_api_version), (key, version), "the header agrees");
    let schema = schema::of_api(Kind::Request, key).expect("every API has a request");
    let body = frame.slice(r.position()..);
    match (schema.recode)(body, version) {
        Ok(once) => assert_eq!((schema.recode)(once.clone(), version), Ok(once), "encoding is stable"),
        Err(RecodeError::Decode(_)) => {}
        Err(error) => panic!("{}: {error}", schema.name),
    }
}
