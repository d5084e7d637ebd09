//! The edges of the primitive types, and what a writer refuses.

use super::*;
use crate::generated::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::generated::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::generated::{ApiKey, ErrorCode, RequestHeader};

fn reader(bytes: &'static [u8], flexible: bool) -> Reader {
    let mut r = Reader::new(Bytes::from_static(bytes));
    r.set_flexible(flexible);
    r
}

#[test]
fn varints_of_every_size() {
    for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX / 2, u32::MAX] {
        let mut w = Writer::new();
        w.uvarint(value);
        let mut r = Reader::new(w.finish_bytes().unwrap());
        assert_eq!(r.uvarint(), value);
        r.finish().unwrap();
    }
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        r.uvarint();
        assert!(matches!(r.finish(), Err(DecodeError::BadVarint { at: 0 })));
    }
    let mut r = reader(&[0x80], true);
    r.uvarint();
    assert!(matches!(r.finish(), Err(DecodeError::Truncated { .. })));
}

#[test]
fn null_where_a_value_is_needed() {
    for (bytes, flexible) in [(&[0u8][..], true), (&[0xff, 0xff][..], false)] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        r.set_flexible(flexible);
        r.str();
        assert!(matches!(r.finish(), Err(DecodeError::UnexpectedNull { .. })));
    }
    let mut r = reader(&[0xff, 0xff, 0xff, 0xff], false);
    r.array(1, Reader::i8);
    assert!(matches!(r.finish(), Err(DecodeError::UnexpectedNull { .. })));
}

#[test]
fn lengths_that_cannot_be() {
    // Negative, more than is left, and a count whose elements would not fit.
    for bytes in [&[0xff, 0xfe][..], &[0, 3, b'a', b'b'], &[0x7f, 0xff, b'a']] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        r.nullable_str();
        assert!(matches!(r.finish(), Err(DecodeError::BadLength { .. })), "{bytes:?}");
    }
    let mut r = reader(&[0, 0, 0, 2, 0, 0, 0, 1, 0], false);
    r.array(4, Reader::i32);
    assert!(matches!(r.finish(), Err(DecodeError::BadLength { length: 2, left: 5, .. })));
}

#[test]
fn a_string_longer_than_the_classic_form_allows_is_refused_in_both() {
    let text = Str::from("x".repeat(32_768));
    for flexible in [false, true] {
        let mut w = Writer::new();
        w.set_flexible(flexible);
        w.str(&text);
        assert_eq!(w.finish_bytes(), Err(EncodeError::TooLong { length: 32_768 }));
    }
    let mut w = Writer::new();
    w.uvarint(32_769);
    w.raw(text.as_bytes());
    let mut r = Reader::new(w.finish_bytes().unwrap());
    r.set_flexible(true);
    r.str();
    assert!(matches!(r.finish(), Err(DecodeError::BadLength { length: 32_768, .. })));
}

#[test]
fn after_an_error_everything_is_zero_and_the_first_error_stays() {
    let mut r = reader(&[0, 2, 0xff, 0xff, 1, 2, 3, 4], false);
    assert_eq!(r.str(), "");
    assert_eq!((r.i32(), r.i8(), r.nullable_bytes(), r.remaining()), (0, 0, None, 0));
    assert_eq!(r.finish(), Err(DecodeError::NotUtf8 { at: 2 }));
}

#[test]
fn tags_ascend_and_have_their_size() {
    let (descending, twice) = (&[2u8, 5, 0, 4, 0][..], &[2u8, 5, 0, 5, 0][..]);
    for bytes in [descending, twice] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        r.set_flexible(true);
        r.unknown_tags();
        assert!(matches!(r.finish(), Err(DecodeError::BadTag { .. })));
    }
    // A value that is shorter or longer than the size before it.
    for bytes in [&[1u8, 0, 2, 7, 7][..], &[1, 0, 5, 0, 0, 0, 7, 7]] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        r.set_flexible(true);
        r.tags(|r, _| {
            r.i32();
            true
        });
        assert!(r.finish().is_err(), "{bytes:?}");
    }
}

#[test]
fn unknown_tags_stand_between_the_known_ones() {
    let mut unknown = Tags::NONE;
    unknown.push(1, Bytes::from_static(b"one"));
    unknown.push(9, Bytes::from_static(&[7; 200]));
    let mut w = Writer::new();
    w.set_flexible(true);
    w.tags(&unknown, |w| {
        w.tag(0, |w| w.i8(10));
        w.tag(5, |w| w.raw(&[5; 130]));
    });
    let mut r = Reader::new(w.finish_bytes().unwrap());
    r.set_flexible(true);
    let mut known = Vec::new();
    let again = r.tags(|r, tag| {
        let is_known = [0, 5].contains(&tag);
        if is_known {
            let size = r.remaining();
            known.push((tag, size));
            for _ in 0..size {
                r.i8();
            }
        }
        is_known
    });
    r.finish().unwrap();
    assert_eq!(known, [(0, 1), (5, 130)]);
    assert_eq!(again, unknown);
}

#[test]
fn spliced_records_are_counted_and_noted() {
    let partition = |records| PartitionData { records, ..PartitionData::default() };
    let response = |records: [Records; 2]| FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "t".into(),
            partitions: records.into_iter().map(partition).collect(),
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    for version in 4..=18 {
        let whole = [Records::Bytes(Bytes::from(vec![1; 300])), Records::Bytes(Bytes::from(vec![2; 5]))];
        let expected = response(whole.clone()).encode(version).unwrap();
        let mut w = Writer::frame(64);
        response([Records::Spliced(300), Records::Spliced(5)]).write(&mut w, version);
        let encoded = w.finish_frame().unwrap();
        let mut out = Vec::new();
        let mut at = 0;
        for (splice, bytes) in encoded.splices.iter().zip(&whole) {
            assert_eq!(splice.size_bytes as usize, bytes.size_bytes());
            out.extend_from_slice(&encoded.head[at..splice.at]);
            out.extend_from_slice(bytes.as_bytes().unwrap());
            at = splice.at;
        }
        out.extend_from_slice(&encoded.head[at..]);
        assert_eq!(out[..4], (expected.len() as i32).to_be_bytes());
        assert_eq!(out[4..], expected[..]);
    }
    let mut w = Writer::new();
    w.records(&Records::Spliced(1));
    assert_eq!(w.finish_bytes(), Err(EncodeError::Spliced));
}

#[test]
fn a_request_that_its_version_cannot_say_is_refused() {
    let by_null = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert!(by_null.encode(1).is_ok());
    assert_eq!(by_null.encode(0), Err(EncodeError::UnexpectedNull { field: "MetadataRequest.Topics" }));
    let no_creation = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("t".into()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    assert!(no_creation.encode(4).is_ok());
    let field = "MetadataRequest.AllowAutoTopicCreation";
    assert_eq!(no_creation.encode(3), Err(EncodeError::FieldNotInVersion { field, version: 3 }));
    // What may be ignored is dropped.
    let near = FetchRequest { rack_id: "here".into(), ..FetchRequest::default() };
    assert_eq!(near.encode(10), FetchRequest::default().encode(10));
    // So is everything in a response.
    let response = FetchResponse { session_id: 7, ..FetchResponse::default() };
    assert_eq!(response.encode(6), FetchResponse::default().encode(6));
}

#[test]
fn the_client_id_is_classic_in_a_flexible_header() {
    let header = RequestHeader {
        request_api_key: ApiKey::Metadata.code(),
        request_api_version: 12,
        correlation_id: 1,
        client_id: Some("me".into()),
        ..RequestHeader::default()
    };
    let bytes = header.encode(2).unwrap();
    assert_eq!(bytes[..], [0, 3, 0, 12, 0, 0, 0, 1, 0, 2, b'm', b'e', 0]);
    assert_eq!(RequestHeader::decode(bytes, 2), Ok(header));
}

#[test]
fn header_versions() {
    assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
    assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
    assert_eq!(ApiKey::Metadata.request_header_version(8), 1);
    assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
    assert_eq!(ApiKey::OffsetDelete.flexible_since(), None);
    assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
}

#[test]
fn numbers_of_the_apis_and_errors() {
    for api in ApiKey::ALL {
        assert_eq!(ApiKey::from_i16(api.code()), Some(*api));
        let (first, last) = api.defined_versions();
        if let Some((served_first, served_last)) = api.served_versions() {
            assert!(
                first <= served_first && served_last <= last,
                "{} serves what is not defined",
                api.name()
            );
        }
    }
    assert_eq!(ApiKey::Produce.advertised_versions(), Some((0, 13)));
    assert_eq!(ApiKey::InitProducerId.served_versions(), Some((0, 5)));
    for error in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
    }
    assert_eq!(ErrorCode::from_code(6), Some(ErrorCode::NotLeaderOrFollower));
    assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
    assert!(!ErrorCode::OffsetOutOfRange.is_retriable());
    assert_eq!(ErrorCode::from_code(9_999), None);
}

#[test]
fn strings_are_slices_of_the_frame_and_compare_as_text() {
    let frame = Bytes::from_static(b"\0\x05topic");
    let mut r = Reader::new(frame.clone());
    let text = r.str();
    assert_eq!(text.as_bytes().as_ptr(), frame[2..].as_ptr());
    assert_ne!(text.detached().as_bytes().as_ptr(), frame[2..].as_ptr());
    let map = std::collections::HashMap::from([(text, 1)]);
    assert_eq!(map.get("topic"), Some(&1));
}

#[test]
fn a_tagged_struct_that_is_null_is_read_as_kafka_writes_it() {
    use crate::generated::records::ConsumerGroupMemberMetadataValue;
    // Kafka 4.3 wrote this about a member of a consumer group: one tag, number 0, one byte, 0.
    let bytes = b"\0\0\x08rdkafka\x0b/127.0.0.1\x02\x07codecs\x01\0\x04\x93\xe0\0\x01\0\x01\0";
    let value = ConsumerGroupMemberMetadataValue::decode(Bytes::from_static(bytes), 0).unwrap();
    assert_eq!(value.client_id, "rdkafka");
    assert_eq!(value.classic_member_metadata, None);
}
