//! Segments that Kafka 4.3 wrote, with batches of three clients in every codec.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ottla_protocol::records::validate::{ValidateOptions, validate};
use ottla_protocol::records::{Batches, CompressionType, TimestampType, verify_crc};
use serde_json::Value;

use crate::support::{OwnedRecord, base64, read};

const PARTITIONS: [&str; 9] = [
    "codecs-0",
    "codecs-1",
    "codecs-2",
    "compacted-0",
    "epochs-0",
    "logappend-0",
    "recompressed-0",
    "transactions-0",
    "trimmed-0",
];

fn directory(partition: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(partition)
}

fn segments(partition: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(directory(partition))
        .expect("the fixture is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

fn expected(partition: &str) -> (Value, Vec<(OwnedRecord, String)>) {
    let text = fs::read_to_string(directory(partition).join("expected.jsonl")).expect("readable");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let bounds = lines.next().expect("a first line");
    let bytes = |value: &Value| value.as_str().map(base64);
    let records = lines.map(|line| {
        let headers = line["headers"].as_array().expect("an array").iter();
        let record = OwnedRecord {
            offset: line["offset"].as_i64().expect("a number"),
            timestamp: line["timestamp_ms"].as_i64().expect("a number"),
            key: bytes(&line["key"]),
            value: bytes(&line["value"]),
            headers: headers
                .map(|h| (h[0].as_str().expect("a name").as_bytes().to_vec(), bytes(&h[1])))
                .collect(),
        };
        (record, line["timestamp_type"].as_str().expect("a name").to_owned())
    });
    (bounds, records.collect())
}

#[test]
fn every_record_of_kafka_reads_as_expected() {
    let mut codecs = BTreeSet::new();
    let mut record_count = 0;
    for partition in PARTITIONS {
        let (bounds, expected) = expected(partition);
        let log_start = bounds["log_start_offset"].as_i64().expect("a number");
        let mut expected = expected.into_iter();
        let mut next_offset = 0;
        for segment in segments(partition) {
            let mut batches = Batches::new(&segment).verifying();
            for batch in &mut batches {
                let batch = batch.expect("Kafka's batches are valid");
                let header = batch.header();
                assert!(header.base_offset.0 >= next_offset, "offsets rise");
                next_offset = header.next_offset().0;
                codecs.insert(header.attributes.compression().expect("known").name());
                if header.attributes.is_control() {
                    read(&batch).expect("markers are records too");
                    continue;
                }
                for record in read(&batch).expect("Kafka's records are valid") {
                    if record.offset < log_start {
                        continue;
                    }
                    let (expected, timestamp_type) = expected.next().expect("no more records than expected");
                    assert_eq!(record, expected, "{partition}");
                    let append = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
                    assert_eq!(timestamp_type, if append { "append" } else { "create" });
                    record_count += 1;
                }
            }
            assert_eq!(batches.rest(), b"", "{partition}: nothing is left of the segment");
        }
        assert_eq!(expected.next(), None, "{partition}: every expected record was there");
        assert_eq!(next_offset, bounds["log_end_offset"].as_i64().expect("a number"));
    }
    println!("{record_count} records of Kafka");
    assert_eq!(codecs.into_iter().collect::<Vec<_>>(), ["gzip", "lz4", "none", "snappy", "zstd"]);
}

#[test]
fn header_encodes_to_the_bytes_it_was_read_from() {
    for partition in PARTITIONS {
        for segment in segments(partition) {
            let mut at = 0;
            for batch in Batches::new(&segment) {
                let header = batch.expect("valid").header().clone();
                assert_eq!(header.encode()[..], segment[at..at + 61]);
                verify_crc(&segment[at..]).expect("the checksum is right");
                at += header.size_bytes();
            }
        }
    }
}

/// What Kafka took from its clients, we take, and change nothing but what Kafka changed.
#[test]
fn batches_of_real_clients_are_valid() {
    let options = ValidateOptions { timestamp_after_max_ms: i64::MAX, ..ValidateOptions::default() };
    let mut seen = BTreeSet::new();
    for partition in ["codecs-0", "codecs-1", "codecs-2", "epochs-0", "recompressed-0"] {
        for segment in segments(partition) {
            for batch in Batches::new(&segment) {
                let batch = batch.expect("valid");
                let mut header = batch.header().clone();
                header.base_offset.0 = 0;
                let bytes = [&header.encode()[..], batch.payload()].concat().into();
                let validated = validate(&bytes, &options).expect("Kafka took it");
                assert_eq!((validated.header, &validated.payload[..]), (header.clone(), batch.payload()));
                assert_eq!(validated.payload.as_ptr(), bytes[61..].as_ptr(), "a slice of what came");
                seen.insert(header.attributes.compression().expect("known").code());
            }
        }
    }
    assert_eq!(seen.len(), 5, "every codec: {seen:?}");
}

#[test]
fn librdkafka_writes_raw_snappy_and_we_write_xerials() {
    let snappy = segments("codecs-0").into_iter().next().expect("a segment");
    let mut payloads = Batches::new(&snappy)
        .filter_map(Result::ok)
        .filter(|batch| batch.header().attributes.compression() == Ok(CompressionType::Snappy));
    let raw = payloads.next().expect("a snappy batch");
    assert!(!raw.payload().starts_with(b"\x82SNAPPY\0"));
    let ours = crate::support::produced(ottla_protocol::records::Compression::Snappy, 10);
    assert!(ours[61..].starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
}
