//! What a producer must not send, and which error it gets.

use bytes::Bytes;
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::validate::{
    RECORD_ERRORS_MAX, ValidateError, ValidateErrorKind as Kind, ValidateOptions, validate,
};
use ottla_protocol::records::{Builder, Compression, DecompressLimit};

use crate::support::{CODECS, patched, produced, resealed, with_payload};

fn refused(bytes: &Bytes, options: &ValidateOptions) -> ValidateError {
    validate(bytes, options).expect_err("the batch must be refused")
}

#[track_caller]
fn check(bytes: impl Into<Bytes>, kind: Kind, part_of_message: &str) {
    let error = refused(&bytes.into(), &ValidateOptions::default());
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(part_of_message), "{error}");
}

#[test]
fn only_one_whole_batch() {
    let one = produced(Compression::None, 3);
    check(Bytes::new(), Kind::InvalidRecord, "one record batch");
    check([one.clone(), one.clone()].concat(), Kind::InvalidRecord, "exactly one");
    check([&one[..], &one[..20]].concat(), Kind::CorruptMessage, "20 bytes follow");
    for cut in 1..one.len() {
        check(one[..cut].to_vec(), Kind::CorruptMessage, "cut off");
    }
    check(patched_length(&one, 48), Kind::CorruptMessage, "length 48");
    check(patched_length(&one, -1), Kind::CorruptMessage, "length -1");
    check(patched_length(&one, i32::MAX), Kind::CorruptMessage, "cut off");
    check(patched_length(&one, one.len() as i32 - 13), Kind::CorruptMessage, "follow");
}

fn patched_length(batch: &[u8], length: i32) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch
}

#[test]
fn old_and_unknown_magic() {
    for magic in [0, 1, 3, 0xff] {
        let mut batch = produced(Compression::None, 3);
        batch[16] = magic;
        check(batch, Kind::InvalidRecord, "magic");
    }
    // A message of format 0 is shorter than our header.
    let mut old = vec![0; 26];
    old[11] = 14;
    check(old, Kind::InvalidRecord, "magic 0");
}

#[test]
fn garbage_is_refused() {
    for length in [1, 16, 17, 60, 61, 62, 1000] {
        for fill in [0u8, 1, 2, 0x55, 0xff] {
            let error = refused(&vec![fill; length].into(), &ValidateOptions::default());
            assert!(matches!(error.kind, Kind::CorruptMessage | Kind::InvalidRecord), "{error}");
        }
    }
}

#[test]
fn any_flipped_bit_under_the_checksum() {
    for codec in CODECS {
        let batch = produced(codec, 5);
        for at in 17..batch.len() {
            let mut batch = batch.clone();
            batch[at] ^= 1 << (at % 8);
            let error = refused(&batch.into(), &ValidateOptions::default());
            // Some header fields are looked at before the checksum is computed.
            let early = (21..27).contains(&at) || (43..61).contains(&at);
            assert!(error.kind == Kind::CorruptMessage || early, "byte {at}: {error}");
        }
    }
}

#[test]
fn counts_and_offsets_must_fit() {
    for codec in CODECS {
        let batch = produced(codec, 3);
        let with_count = |count: i32, last: i32| {
            patched(&patched(&batch, 57, &count.to_be_bytes()), 23, &last.to_be_bytes())
        };
        check(with_count(0, -1), Kind::InvalidRecord, "count 0");
        check(with_count(-1, -2), Kind::InvalidRecord, "count -1");
        check(with_count(3, 3), Kind::InvalidRecord, "does not fit");
        check(with_count(3, 1), Kind::InvalidRecord, "does not fit");
        check(with_count(3, -1), Kind::InvalidRecord, "does not fit");
        check(with_count(i32::MIN, i32::MAX), Kind::InvalidRecord, "count");
        check(with_count(2, 1), Kind::InvalidRecord, "bytes remain");
        check(with_count(4, 3), Kind::InvalidRecord, "record 3");
        check(with_count(i32::MAX, i32::MAX - 1), Kind::InvalidRecord, "record 3");
        check(patched(&batch, 0, &5i64.to_be_bytes()), Kind::InvalidRecord, "base offset is 5");
    }
}

#[test]
fn offsets_rise_by_one() {
    for codec in CODECS {
        let mut builder = Builder::new(codec);
        for delta in [0, 2, 3] {
            builder.append_at(delta, 1000, None, Some(b"v"), &[]).expect("it fits");
        }
        let batch = patched(&builder.finish().expect("it fits"), 23, &2i32.to_be_bytes());
        let error = refused(&batch, &ValidateOptions::default());
        assert_eq!(error.kind, Kind::InvalidRecord);
        assert_eq!(error.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(error.records[0].1, "offset delta is 2, it must be 1");
    }
}

#[test]
fn clients_write_no_markers() {
    let mut builder = Builder::new(Compression::None).control();
    builder.append(1000, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]).expect("it fits");
    check(builder.finish().expect("it fits"), Kind::InvalidRecord, "control");
}

#[test]
fn a_producer_id_needs_a_sequence() {
    let batch = |id, sequence| {
        let mut builder = Builder::new(Compression::None).producer(ProducerId(id), 0, sequence);
        builder.append(1000, None, Some(b"v"), &[]).expect("it fits");
        builder.finish().expect("it fits")
    };
    check(batch(5, -1), Kind::InvalidRecord, "sequence number -1 in a batch of producer 5");
    check(batch(0, i32::MIN), Kind::InvalidRecord, "sequence number");
    validate(&batch(5, 0).into(), &ValidateOptions::default()).expect("valid");
    validate(&batch(-1, -1).into(), &ValidateOptions::default()).expect("valid");
}

#[test]
fn zstd_needs_a_new_request_and_codecs_must_be_known() {
    let zstd: Bytes = produced(Compression::Zstd(3), 3).into();
    let error = refused(&zstd, &ValidateOptions { allow_zstd: false, ..ValidateOptions::default() });
    assert_eq!(error.kind, Kind::UnsupportedCompressionType);
    validate(&zstd, &ValidateOptions::default()).expect("valid");
    for code in 5..8 {
        check(with_payload(code, 1, b"?"), Kind::UnsupportedCompressionType, "unknown compression codec");
    }
}

#[test]
fn a_compacted_topic_needs_keys() {
    for codec in CODECS {
        let mut builder = Builder::new(codec);
        for i in 0..5 {
            let key = (i % 2 == 0).then_some(&b""[..]);
            builder.append(1000, key, None, &[]).expect("it fits");
        }
        let batch: Bytes = builder.finish().expect("it fits").into();
        validate(&batch, &ValidateOptions::default()).expect("elsewhere they may be missing");
        let error = refused(&batch, &ValidateOptions { key_required: true, ..ValidateOptions::default() });
        assert_eq!(error.kind, Kind::InvalidRecord);
        assert_eq!(error.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
        assert!(
            error.message.starts_with("2 records are invalid, the first is 1: a compacted topic"),
            "{error}"
        );
    }
}

#[test]
fn record_errors_are_bounded() {
    let mut builder = Builder::new(Compression::None);
    (0..1000).for_each(|_| builder.append(1000, None, None, &[]).expect("it fits"));
    let batch = builder.finish().expect("it fits").into();
    let error = refused(&batch, &ValidateOptions { key_required: true, ..ValidateOptions::default() });
    assert_eq!(error.records.len(), RECORD_ERRORS_MAX);
    assert!(error.message.starts_with("1000 records"));
}

#[test]
fn timestamps_stay_near_now() {
    let batch: Bytes = produced(Compression::Lz4, 5).into();
    let options = |now_ms, before, after| ValidateOptions {
        now_ms,
        timestamp_before_max_ms: before,
        timestamp_after_max_ms: after,
        ..ValidateOptions::default()
    };
    validate(&batch, &options(1004, 4, 0)).expect("just within");
    let error = refused(&batch, &options(1004, 3, 0));
    assert_eq!(error.kind, Kind::InvalidTimestamp);
    let text = "timestamp 1000 is out of range, it must be within [1001, 1004]".to_owned();
    assert_eq!(error.records, [(0, text)]);
    let error = refused(&batch, &options(1000, 0, 2));
    assert_eq!(error.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 4]);
    validate(&batch, &options(i64::MAX, i64::MAX, i64::MAX)).expect("no overflow");
    validate(&batch, &options(i64::MIN, i64::MAX, i64::MAX)).expect("no overflow");

    let mut none = Builder::new(Compression::None);
    none.append(-1, None, Some(b"v"), &[]).expect("it fits");
    let none: Bytes = none.finish().expect("it fits").into();
    let validated = validate(&none, &options(1_000_000, 0, 0)).expect("no timestamp is always in range");
    assert_eq!((validated.max_timestamp, validated.max_timestamp_offset_delta), (-1, 0));
}

#[test]
fn the_append_clock_is_the_brokers() {
    let mut builder = Builder::new(Compression::None).log_append_time(1000);
    builder.append(1000, None, Some(b"v"), &[]).expect("it fits");
    check(builder.finish().expect("it fits"), Kind::InvalidTimestamp, "LogAppendTime");
}

#[test]
fn size_is_limited() {
    let batch: Bytes = produced(Compression::None, 30).into();
    let options = |bytes| ValidateOptions { message_bytes_max: bytes, ..ValidateOptions::default() };
    validate(&batch, &options(batch.len())).expect("just within");
    assert_eq!(refused(&batch, &options(batch.len() - 1)).kind, Kind::MessageTooLarge);
}

/// Records by hand: length, attributes, timestamp delta, offset delta, key, value, headers.
#[test]
fn records_must_be_what_their_lengths_say() {
    let cases: [(&[u8], &str); 19] = [
        (&[0x0c, 0, 0, 0, 1, 1], "ends within"),
        (&[0x0a, 0, 0, 0, 1, 1, 0], "contents differ"),
        (&[0x0e, 0, 0, 0, 1, 1, 0, 0], "contents differ"),
        (&[0x0c, 0, 0, 0, 1, 1, 0, 0], "bytes remain"),
        (&[0x01, 0, 0, 0, 1, 1, 0], "length is negative"),
        (&[0x0c, 0, 0, 0, 3, 1, 0], "length is negative"),
        (&[0x0c, 0, 0, 0, 1, 3, 0], "length is negative"),
        (&[0x0c, 0, 0, 0, 6, 1, 0], "beyond the record"),
        (&[0x0c, 0, 0, 0, 1, 4, 0], "beyond the record"),
        (&[0x14, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0], "beyond the record"),
        (&[0x0c, 0, 0, 0, 1, 1, 1], "headers is negative"),
        (&[0x0c, 0, 0, 0, 1, 1, 2], "headers goes beyond"),
        (&[0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], "headers goes beyond"),
        (&[0x10, 0, 0, 0, 1, 1, 2, 1, 1], "length is negative"),
        (&[0x10, 0, 0, 0, 1, 1, 2, 4, 1], "beyond the record"),
        (&[0x10, 0, 0, 0, 1, 1, 2, 0, 3], "length is negative"),
        (&[0x10, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0], "overflows"),
        (&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0], "ends within"),
        (&[0x22, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 1, 1, 0, 0, 0], "overflows"),
    ];
    let good = [0x0c, 0, 0, 0, 1, 1, 0];
    validate(&with_payload(0, 1, &good), &ValidateOptions::default()).expect("valid");
    for (record, message) in cases {
        let error = refused(&with_payload(0, 1, record), &ValidateOptions::default());
        assert!(error.message.contains(message), "{record:x?}: {error}");
        for compression in &CODECS[1..] {
            let packed = packed(*compression, record);
            let error = refused(&packed, &ValidateOptions::default());
            assert!(matches!(error.kind, Kind::InvalidRecord | Kind::MessageTooLarge), "{error}");
        }
    }
}

/// The bytes as the payload of a batch of one record, compressed.
fn packed(compression: Compression, records: &[u8]) -> Bytes {
    use ottla_protocol::records::rewrite::recompress;
    let plain = with_payload(0, 1, records);
    let header = ottla_protocol::records::BatchHeader::parse(&plain).expect("a header");
    let (header, payload) =
        recompress(&header, &plain[61..], compression, DecompressLimit::NONE, 1 << 20).expect("it fits");
    [&header.encode()[..], &payload].concat().into()
}

#[test]
fn damaged_streams_are_refused() {
    for compression in &CODECS[1..] {
        let whole = produced(*compression, 100);
        let code = compression.codec().code();
        check(with_payload(code, 100, b""), Kind::InvalidRecord, "");
        check(with_payload(code, 100, b"not compressed at all"), Kind::InvalidRecord, "");
        for cut in [62, 70, whole.len() / 2, whole.len() - 9] {
            check(resealed(whole[..cut].to_vec()), Kind::InvalidRecord, "");
        }
    }
}

/// Kafka's own reader takes neither; its consumers would be stuck.
#[test]
fn lz4_frames_that_java_cannot_read() {
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use std::io::Write;
    let frame = |info: FrameInfo, bytes: &[u8]| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let large = &produced(Compression::None, 5000)[61..];
    let linked = frame(FrameInfo::new().block_mode(BlockMode::Linked), large);
    check(with_payload(3, 5000, &linked), Kind::InvalidRecord, "depend");
    let block = lz4_flex::block::compress(&[0x0c, 0, 0, 0, 1, 1, 0]);
    let legacy = [b"\x02\x21\x4c\x18", &(block.len() as u32).to_le_bytes()[..], &block].concat();
    check(with_payload(3, 1, &legacy), Kind::InvalidRecord, "no LZ4 frame");
    let info = FrameInfo::new().block_checksums(true).content_checksum(true);
    let all = frame(info.content_size(Some(large.len() as u64)), large);
    validate(&with_payload(3, 5000, &all), &ValidateOptions::default()).expect("valid");
}
