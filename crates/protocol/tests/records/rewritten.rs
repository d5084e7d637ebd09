//! What a topic's settings change in a valid batch.

use bytes::Bytes;
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::validate::{ValidateErrorKind, ValidateOptions, Validated, validate};
use ottla_protocol::records::{Batch, Builder, Compression, CompressionType, RecordHeader, TimestampType};

use crate::support::{CODECS, OwnedRecord, patched, produced, read};

fn batch(compression: Compression) -> Bytes {
    let mut builder = Builder::new(compression).producer(ProducerId(4), 1, 6);
    let headers = [RecordHeader { key: b"h", value: None }, RecordHeader { key: b"", value: Some(b"x") }];
    builder.append(1000, Some(b"k"), Some(b"first"), &headers).expect("it fits");
    builder.append(1007, None, Some(&[7; 100_000]), &[]).expect("it fits");
    builder.append(1003, Some(b""), None, &[]).expect("it fits");
    builder.finish().expect("it fits").into()
}

fn records_of(validated: &Validated) -> Vec<OwnedRecord> {
    let batch = Batch::from_parts(validated.header.clone(), &validated.payload);
    batch.verify_crc().expect("the checksum is right");
    read(&batch).expect("valid")
}

#[test]
fn every_codec_becomes_every_other() {
    for from in CODECS {
        let bytes = batch(from);
        let before = read(&Batch::parse(&bytes).expect("a batch")).expect("valid");
        for target in CODECS {
            let options = ValidateOptions { compression: Some(target), ..ValidateOptions::default() };
            let validated = validate(&bytes, &options).expect("valid");
            assert_eq!(records_of(&validated), before, "{from:?} to {target:?}");
            let header = &validated.header;
            assert_eq!(header.attributes.compression(), Ok(target.codec()));
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (ProducerId(4), 1, 6)
            );
            assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1007));
            assert_eq!((header.records_count, header.last_offset_delta), (3, 2));
            assert_eq!((validated.max_timestamp, validated.max_timestamp_offset_delta), (1007, 1));
            assert_eq!(
                validated.payload.as_ptr() == bytes[61..].as_ptr(),
                from == target,
                "{from:?} to {target:?}"
            );
        }
    }
}

#[test]
fn another_level_of_the_same_codec_changes_nothing() {
    let bytes = batch(Compression::Zstd(1));
    let options = ValidateOptions { compression: Some(Compression::Zstd(19)), ..ValidateOptions::default() };
    assert_eq!(validate(&bytes, &options).expect("valid").payload, bytes[61..]);
}

#[test]
fn levels_change_the_size() {
    let mut builder = Builder::new(Compression::None);
    let value: Vec<u8> = (0..200_000u64).map(|i| b"abcdefghijklmnop"[(i * i / 7 % 16) as usize]).collect();
    builder.append(1000, None, Some(&value), &[]).expect("it fits");
    let bytes: Bytes = builder.finish().expect("it fits").into();
    let size = |compression| {
        let options = ValidateOptions { compression: Some(compression), ..ValidateOptions::default() };
        validate(&bytes, &options).expect("valid").payload.len()
    };
    assert!(size(Compression::Gzip(9)) < size(Compression::Gzip(1)));
    assert_eq!(size(Compression::Gzip(-1)), size(Compression::Gzip(6)));
    assert!(size(Compression::Zstd(19)) < size(Compression::Zstd(1)));
}

#[test]
fn append_time_is_set_without_touching_the_records() {
    for codec in CODECS {
        let bytes = batch(codec);
        let options = ValidateOptions {
            now_ms: 5_000_000_000,
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_max_ms: 0,
            ..ValidateOptions::default()
        };
        let validated = validate(&bytes, &options).expect("the producer's timestamps do not matter");
        assert_eq!(validated.payload.as_ptr(), bytes[61..].as_ptr());
        assert_eq!(validated.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(validated.header.max_timestamp, 5_000_000_000);
        assert!(records_of(&validated).iter().all(|record| record.timestamp == 5_000_000_000));
        assert_eq!((validated.max_timestamp, validated.max_timestamp_offset_delta), (5_000_000_000, 0));

        let both = ValidateOptions { compression: Some(Compression::Zstd(3)), ..options };
        let validated = validate(&bytes, &both).expect("valid");
        assert_eq!(validated.header.attributes.compression(), Ok(CompressionType::Zstd));
        assert!(records_of(&validated).iter().all(|record| record.timestamp == 5_000_000_000));
    }
}

#[test]
fn a_wrong_max_timestamp_is_corrected() {
    for codec in CODECS {
        for wrong in [-1, 0, i64::MAX, 1006] {
            let bytes = patched(&batch(codec), 35, &i64::to_be_bytes(wrong));
            let validated = validate(&bytes, &ValidateOptions::default()).expect("valid");
            assert_eq!(validated.header.max_timestamp, 1007);
            assert_eq!(validated.payload.as_ptr(), bytes[61..].as_ptr());
            assert_eq!(records_of(&validated).len(), 3);
        }
    }
}

#[test]
fn the_size_limit_holds_for_what_is_written() {
    let bytes: Bytes = batch(Compression::Zstd(3));
    assert!(bytes.len() < 1000);
    let plain = batch(Compression::None).len();
    let options = |message_bytes_max| ValidateOptions {
        message_bytes_max,
        compression: Some(Compression::None),
        ..ValidateOptions::default()
    };
    assert_eq!(validate(&bytes, &options(plain)).expect("just within").header.size_bytes(), plain);
    let error = validate(&bytes, &options(plain - 1)).expect_err("one byte too many");
    assert_eq!(error.kind, ValidateErrorKind::MessageTooLarge);
    // Compressing may make a batch larger, too.
    let tiny: Bytes = produced(Compression::None, 1).into();
    for target in &CODECS[1..] {
        let options = ValidateOptions {
            message_bytes_max: tiny.len(),
            compression: Some(*target),
            ..ValidateOptions::default()
        };
        let error = validate(&tiny, &options).expect_err("one byte too many");
        assert_eq!(error.kind, ValidateErrorKind::MessageTooLarge, "{target:?}: {error}");
    }
}
