//! Whole recorded sessions of five clients with Kafka 4.3, in both directions: every frame decodes to its last byte
//! and encodes to the same bytes again.

use bytes::Bytes;
use ottla_protocol::generated::{ApiKey, RequestHeader, ResponseHeader};
use ottla_protocol::schema::{self, Kind};
use ottla_protocol::wire::{Message, Reader};
use std::collections::{BTreeMap, HashMap};

/// One frame of a recording: connection u16, direction u8, length u32, bytes.
struct Recorded {
    connection: u16,
    is_response: bool,
    frame: Bytes,
}

fn recorded(mut bytes: Bytes) -> Vec<Recorded> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.split_to(7);
        let connection = u16::from_be_bytes([head[0], head[1]]);
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        out.push(Recorded { connection, is_response: head[2] == 1, frame: bytes.split_to(length as usize) });
    }
    out
}

/// Decodes a header from the start of a frame; gives it and how long it was.
fn header<T: Message>(frame: &Bytes, version: i16) -> (T, usize) {
    let mut r = Reader::new(frame.clone());
    let header = T::read(&mut r, version);
    r.check().unwrap();
    let size = r.position();
    assert_eq!(header.encode(version).unwrap(), frame.slice(..size), "the header");
    (header, size)
}

fn recode(kind: Kind, api: ApiKey, version: i16, body: Bytes) {
    let schema = schema::of_api(kind, api.code()).unwrap();
    let what = format!("{} {version}", schema.name);
    assert!(schema.versions.has(version), "{what} is not defined");
    let again = (schema.recode)(body.clone(), version).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(again == body, "{what}: \n{body:?}\n{again:?}");
}

/// Replays one recording; gives how many requests and responses of each API and version it has.
fn replay(recording: Bytes) -> BTreeMap<(ApiKey, i16), (usize, usize)> {
    let mut open: HashMap<(u16, i32), (ApiKey, i16)> = HashMap::new();
    let mut counts: BTreeMap<(ApiKey, i16), (usize, usize)> = BTreeMap::new();
    for Recorded { connection, is_response, frame } in recorded(recording) {
        if is_response {
            let correlation_id = i32::from_be_bytes(*frame.first_chunk().unwrap());
            let (api, version) = open.remove(&(connection, correlation_id)).expect("a request before it");
            let (_, size) = header::<ResponseHeader>(&frame, api.response_header_version(version));
            recode(Kind::Response, api, version, frame.slice(size..));
            counts.entry((api, version)).or_default().1 += 1;
        } else {
            let key = i16::from_be_bytes([frame[0], frame[1]]);
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let api = ApiKey::from_i16(key).unwrap_or_else(|| panic!("key {key} is not defined"));
            let (header, size) = header::<RequestHeader>(&frame, api.request_header_version(version));
            recode(Kind::Request, api, version, frame.slice(size..));
            open.insert((connection, header.correlation_id), (api, version));
            counts.entry((api, version)).or_default().0 += 1;
        }
    }
    counts
}

fn check(name: &str, frames_expected: usize) {
    let path = format!("{}/tests/fixtures/sessions/{name}.frames", env!("CARGO_MANIFEST_DIR"));
    let counts = replay(Bytes::from(std::fs::read(path).unwrap()));
    let frames: usize = counts.values().map(|(requests, responses)| requests + responses).sum();
    println!("{name}: {frames} frames, {} APIs and versions", counts.len());
    assert_eq!(frames, frames_expected, "frames of {name}");
}

#[test]
fn aiokafka() {
    check("aiokafka", 166);
}

#[test]
fn java_client() {
    check("java-client", 294);
}

#[test]
fn kafka_python() {
    check("kafka-python", 102);
}

#[test]
fn kcat() {
    check("kcat", 116);
}

#[test]
fn librdkafka() {
    check("librdkafka", 576);
}
