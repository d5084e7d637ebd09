//! The data directory of a Kafka 4.3, and files of Ottla's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crc32c::crc32c;
use ottla_dump::file::{FileOptions, Kind, show};
use ottla_dump::printer::Format;
use ottla_protocol::generated::records::{MetadataSnapshotHeader, RaftLogEntry, TopicRecord, VotersRecord};
use ottla_protocol::ids::Uuid;
use ottla_protocol::records::{Builder, Compression};
use ottla_protocol::wire::Message;
use serde_json::Value;

use crate::support::{file_rows, fixture, kafka_directory, printer};

fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

#[test]
fn every_record_of_kafkas_segments_is_as_expected() {
    let directory = kafka_directory("log-dir");
    let mut count = 0;
    let mut untold = 0;
    for entry in std::fs::read_dir(fixture("storage/tests/fixtures/expected")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut shown = BTreeMap::new();
        for log in logs(&directory.path().join("data").join(&name)) {
            for row in file_rows(&log) {
                if row.get("value").is_some() {
                    shown.insert(row["offset"].as_i64().unwrap(), row);
                }
            }
        }
        for want in expected {
            let got = &shown[&want["offset"].as_i64().unwrap()];
            for field in ["timestamp_type", "timestamp_ms", "key", "value", "headers"] {
                assert_eq!(got[field], want[field], "{name} {field}");
            }
            match got.get("committed") {
                Some(committed) => assert_eq!(committed, &want["committed"], "{name} {got}"),
                None => untold += 1,
            }
            count += 1;
        }
    }
    println!("{count} records, {untold} whose transaction ends elsewhere or never");
    assert!(count > 1300, "{count} records");
    assert!(untold < 30, "{untold} records");
}

#[test]
fn every_file_of_kafkas_directories_decodes() {
    for archive in ["log-dir", "log-dir-unclean"] {
        let directory = kafka_directory(archive);
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        let mut pending = vec![directory.path().join("data")];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let Some(kind) = Kind::of(&path) else { continue };
            let rows = file_rows(&path);
            *kinds.entry(format!("{kind:?}")).or_default() += rows.len();
        }
        println!("{archive}: {kinds:?}");
        for kind in ["Offsets", "Transactions", "Metadata", "Data"] {
            assert!(kinds[&format!("Segment({kind})")] > 10, "{kind}");
        }
        for kind in ["OffsetIndex", "TimeIndex", "ProducerSnapshot", "Checkpoint", "Properties"] {
            assert!(kinds[kind] > 0, "{kind}");
        }
    }
}

#[test]
fn internal_topics_show_what_their_records_mean() {
    let directory = kafka_directory("log-dir");
    let data = directory.path().join("data");
    let mut committed = BTreeMap::new();
    let mut types = BTreeMap::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        for row in logs(&path).iter().flat_map(|log| file_rows(log)) {
            for side in ["key_decoded", "value_decoded"] {
                if let Some(name) = row[side]["message"].as_str() {
                    *types.entry(name.to_owned()).or_insert(0) += 1;
                }
            }
            let (key, value) = (&row["key_decoded"]["fields"], &row["value_decoded"]["fields"]);
            if row["key_decoded"]["message"] == "OffsetCommitKey" && row["committed"] == true {
                let (group, topic) = (key["Group"].as_str().unwrap(), key["Topic"].as_str().unwrap());
                let partition = key["Partition"].as_i64().unwrap();
                let offset = value.is_object().then(|| value["Offset"].as_i64().unwrap());
                committed.insert((group.to_owned(), topic.to_owned(), partition), offset);
            }
        }
    }
    println!("{types:?}");
    let text = std::fs::read_to_string(fixture("storage/tests/fixtures/expected/committed-offsets.json"));
    let expected: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let mut count = 0;
    for (group, offsets) in expected.as_object().unwrap() {
        for want in offsets.as_array().unwrap() {
            let topic = want["topic"].as_str().unwrap().to_owned();
            let partition = want["partition"].as_i64().unwrap();
            assert_eq!(committed[&(group.clone(), topic, partition)], want["offset"].as_i64());
            count += 1;
        }
    }
    assert!(count > 3, "{count} offsets");
    for name in
        ["GroupMetadataValue", "TransactionLogValue", "TopicRecord", "PartitionRecord", "EndTxnMarker"]
    {
        assert!(types[name] > 0, "{name}");
    }
}

#[test]
fn aborted_transactions_are_in_their_index() {
    let directory = kafka_directory("log-dir");
    let partition = directory.path().join("data/transactions-0");
    let rows = file_rows(&partition.join("00000000000000000010.txnindex"));
    assert_eq!(rows.len(), 5);
    let log = file_rows(&partition.join("00000000000000000010.log"));
    for row in rows {
        let marker = log.iter().find(|record| record["offset"] == row["last_offset"]).unwrap();
        assert_eq!(marker["control"], "abort");
        assert_eq!(marker["producer_id"], row["producer_id"]);
        assert!(marker.get("value").is_none());
    }
}

#[test]
fn a_damaged_segment_is_shown_up_to_the_damage() {
    let directory = tempfile::tempdir().unwrap();
    let partition = kafka_directory("log-dir");
    let source = partition.path().join("data/codecs-1/00000000000000000000.log");
    let mut bytes = std::fs::read(source).unwrap();
    let whole = file_count(&bytes, directory.path(), true);
    // A bit in the last record: its batch is told, the records are shown all the same.
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    let rows = file_count(&bytes, directory.path(), false);
    let error = rows.iter().find_map(|row| row.get("error")).unwrap().as_str().unwrap();
    assert!(error.contains("crc"), "{error}");
    bytes.truncate(last);
    let cut = file_count(&bytes, directory.path(), false);
    assert!(cut.len() - 1 < whole.len(), "fewer records and the error");
    let end = cut.last().unwrap();
    assert!(end["error"].as_str().unwrap().contains("cut off"), "{end}");
    assert!(end["position"].as_i64().unwrap() > 0);
}

fn file_count(bytes: &[u8], directory: &Path, is_whole: bool) -> Vec<Value> {
    let path = directory.join("00000000000000000000.log");
    std::fs::write(&path, bytes).unwrap();
    let (mut printer, kept) = printer(Format::Json);
    assert_eq!(show(&path, &FileOptions::default(), &mut printer).unwrap(), is_whole);
    kept.rows()
}

/// A batch of one record as a file of its own; gives its rows.
fn one_record(name: &str, key: Option<&[u8]>, value: &[u8]) -> Vec<Value> {
    let mut builder = Builder::new(Compression::None);
    builder.append(5, key, Some(value), &[]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, builder.finish().unwrap()).unwrap();
    file_rows(&path)
}

#[test]
fn an_entry_of_our_metadata_log_shows_its_records() {
    let topic = TopicRecord { name: "orders".into(), topic_id: Uuid([7; 16]), ..TopicRecord::default() };
    let record = [&[1, 2, 0][..], &topic.encode(0).unwrap()].concat();
    let entry = RaftLogEntry {
        term: 3,
        node_id: 1,
        kind: 1,
        payload: vec![record.into(), Bytes::from_static(&[1, 20, 0, 0])],
        ..RaftLogEntry::default()
    };
    let value = entry.encode(0).unwrap();
    let name = "__cluster_metadata-0/00000000000000000000.log";
    let rows = one_record(name, Some(&[0, 0]), &value);
    let decoded = &rows[0]["value_decoded"];
    assert_eq!((&decoded["message"], &decoded["fields"]["Term"]), (&"RaftLogEntry".into(), &3.into()));
    let payload = &decoded["fields"]["Payload"];
    assert_eq!(
        (&payload[0]["message"], &payload[0]["fields"]["Name"]),
        (&"TopicRecord".into(), &"orders".into())
    );
    assert_eq!(payload[1]["message"], "NoOpRecord");
}

#[test]
fn the_head_of_our_snapshot_says_what_it_stands_for() {
    let voters = VotersRecord::default().encode(0).unwrap();
    let head = MetadataSnapshotHeader { index: 9, term: 3, membership: vec![voters], ..Default::default() };
    let name = "__cluster_metadata-0/00000000000000000009-0000000003.checkpoint";
    let decoded = &one_record(name, Some(&[0, 0]), &head.encode(0).unwrap())[0]["value_decoded"];
    assert_eq!(
        (&decoded["message"], &decoded["fields"]["Index"]),
        (&"MetadataSnapshotHeader".into(), &9.into())
    );
    assert_eq!(decoded["fields"]["Membership"][0]["message"], "VotersRecord");
    let record = one_record(name, None, &[1, 20, 0, 0]);
    assert_eq!(record[0]["value_decoded"]["message"], "NoOpRecord");
}

#[test]
fn the_earlier_batches_behind_a_snapshot_are_shown() {
    let mut body = 1i32.to_be_bytes().to_vec();
    for (number, size) in [(9i64, 8), (2, 2), (30, 4), (40, 8), (3, 4), (1_000, 8), (0, 4), (-1, 8)] {
        body.extend(&number.to_be_bytes()[8 - size..]);
    }
    body.extend(*b"OTW1\x01");
    for (number, size) in [(26i64, 4), (36, 8), (1, 4), (900, 8)] {
        body.extend(&number.to_be_bytes()[8 - size..]);
    }
    let write = |body: &[u8]| [&[0, 1][..], &crc32c(body).to_be_bytes(), body].concat();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000000000000000041.snapshot");
    std::fs::write(&path, write(&body)).unwrap();
    let rows = file_rows(&path);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["producer_id"], &rows[0]["last_offset"]), (&9.into(), &40.into()));
    let earlier = &rows[0]["earlier"][0];
    assert_eq!((&earlier["last_sequence"], &earlier["timestamp_ms"]), (&26.into(), &900.into()));

    // One that is cut off, and one whose checksum is wrong.
    for damaged in [write(&body[..body.len() - 1]), [&write(&body)[..], &[0]].concat()] {
        std::fs::write(&path, damaged).unwrap();
        let (mut printer, kept) = printer(Format::Json);
        assert!(!show(&path, &FileOptions::default(), &mut printer).unwrap());
        assert!(kept.text().contains("\"error\""));
    }
}
