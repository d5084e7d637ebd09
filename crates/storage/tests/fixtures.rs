//! Log directories that Kafka 4.3 wrote, after a clean stop and copied while it ran, read back as Kafka reads them.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{
    BatchHeader, Batches, Builder, Compression, DecompressLimit, HEADER_BYTES, TimestampType,
};
use ottla_storage::checkpoint::OffsetCheckpoint;
use ottla_storage::compaction::{Cleaning, CleaningOptions, KeyHash};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::real::RealFiles;
use ottla_storage::log::{Log, LogConfig, OpenFrom, RecoveryReport};
use ottla_storage::names::TopicPartition;
use serde_json::{Value, json};

const NOW_MS: i64 = 1_800_000_000_000;
const PARTITIONS: [&str; 10] = [
    "codecs-0",
    "codecs-1",
    "codecs-2",
    "compacted-0",
    "epochs-0",
    "logappend-0",
    "recompressed-0",
    "transactions-0",
    "trimmed-0",
    "__transaction_state-18",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Unpacks the files of a gzipped tar archive that `wanted` names. Blank ends become holes, as they were preallocated.
fn unpack(archive: &Path, into: &Path, wanted: impl Fn(&str) -> bool) {
    let mut tar = flate2::read::GzDecoder::new(fs::File::open(archive).unwrap());
    let mut head = [0; 512];
    while tar.read_exact(&mut head).is_ok() && head[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = &head[range];
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let name = text(0..100);
        let size = u64::from_str_radix(text(124..136).trim(), 8).unwrap();
        let mut contents = Vec::new();
        Read::by_ref(&mut tar).take(size.next_multiple_of(512)).read_to_end(&mut contents).unwrap();
        if head[156] == b'5' || !wanted(&name) {
            continue;
        }
        contents.truncate(size as usize);
        let used = contents.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let path = into.join(name.trim_start_matches("./"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&contents[..used]).unwrap();
        file.set_len(size).unwrap();
    }
}

struct Directory {
    root: tempfile::TempDir,
    log_starts: OffsetCheckpoint,
    recovery_points: OffsetCheckpoint,
}

fn unpacked(archive: &str) -> Directory {
    let root = tempfile::tempdir().unwrap();
    let is_wanted = |name: &str| {
        let parts: Vec<&str> = name.split('/').collect();
        parts.iter().any(|part| PARTITIONS.contains(part)) || name.contains("offset-checkpoint")
    };
    unpack(&fixtures().join(archive), root.path(), is_wanted);
    let checkpoint =
        |name: &str| OffsetCheckpoint::read(&RealFiles, &root.path().join("data").join(name)).unwrap();
    let log_starts = checkpoint("log-start-offset-checkpoint");
    let recovery_points = checkpoint("recovery-point-offset-checkpoint");
    Directory { root, log_starts, recovery_points }
}

impl Directory {
    fn open(&self, name: &str, clean: bool, recovery_point: Option<Offset>) -> (Log, RecoveryReport) {
        let partition = TopicPartition::parse_dir_name(name).unwrap();
        let from = OpenFrom {
            log_start_offset: self.log_starts.get(&partition).unwrap_or_default(),
            recovery_point: recovery_point
                .unwrap_or_else(|| self.recovery_points.get(&partition).unwrap_or_default()),
            clean,
            cleaned_to: Offset(0),
        };
        let config = LogConfig { compact_enabled: name.starts_with("compacted"), ..LogConfig::default() };
        let descriptors = Descriptors::new(RealFiles::shared(), 16);
        Log::open(&descriptors, self.root.path().join("data").join(name), config, from, NOW_MS).unwrap()
    }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | ALPHABET.iter().position(|&a| a == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// All bytes of the log, read as a consumer does, in small pieces.
fn read_whole(log: &Log) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let slice = log.read(from, log.end_offset(), 1000, true).unwrap();
        let mut bytes = vec![0; slice.len_bytes()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += slice.read_at(&mut bytes[filled..], filled).unwrap();
        }
        let mut batches = Batches::new(&bytes);
        let mut used = 0;
        while let Some(Ok(batch)) = batches.next() {
            from = batch.header().next_offset();
            used = batches.position();
        }
        assert!(used > 0, "a slice holds at least one batch");
        whole.extend_from_slice(&bytes[..used]);
    }
    whole
}

fn records_of(log: &Log) -> Vec<Value> {
    let bytes = read_whole(log);
    let mut found = Vec::new();
    for batch in Batches::new(&bytes).verifying() {
        let batch = batch.unwrap();
        let header = batch.header();
        if header.attributes.is_control() {
            continue;
        }
        let is_append = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let mut records = batch.records(DecompressLimit::default()).unwrap();
        while let Some(record) = records.next_record().unwrap() {
            let offset = header.offset_of_delta(record.offset_delta);
            if offset < log.start_offset() {
                continue;
            }
            let headers = record.headers().map(|h| json!([String::from_utf8_lossy(h.key), h.value]));
            found.push(json!({
                "offset": offset.0,
                "timestamp_type": if is_append { "append" } else { "create" },
                "timestamp_ms": header.timestamp_of_delta(record.timestamp_delta),
                "key": record.key,
                "value": record.value,
                "headers": headers.collect::<Vec<_>>(),
            }));
        }
    }
    found
}

fn expected_of(name: &str) -> (Value, Vec<Value>) {
    let text = fs::read_to_string(fixtures().join(format!("expected/{name}.jsonl"))).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bounds = lines.next().unwrap();
    let decoded = |value: &Value| value.as_str().map_or(Value::Null, |text| json!(base64(text)));
    let records = lines.map(|line| {
        let headers = line["headers"].as_array().unwrap();
        json!({
            "offset": line["offset"],
            "timestamp_type": line["timestamp_type"],
            "timestamp_ms": line["timestamp_ms"],
            "key": decoded(&line["key"]),
            "value": decoded(&line["value"]),
            "headers": headers.iter().map(|h| json!([h[0], decoded(&h[1])])).collect::<Vec<_>>(),
        })
    });
    (bounds, records.collect())
}

fn check(log: &Log, name: &str) {
    let (bounds, expected) = expected_of(name);
    assert_eq!(bounds["log_start_offset"], log.start_offset().0, "{name}");
    assert_eq!(bounds["log_end_offset"], log.end_offset().0, "{name}");
    let found = records_of(log);
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{name}");
    }
    check_timestamps(log, &expected, name);
}

/// Every timestamp is found where the first record with it stands.
fn check_timestamps(log: &Log, expected: &[Value], name: &str) {
    let mut firsts: BTreeMap<i64, i64> = BTreeMap::new();
    let all: Vec<(i64, i64)> = expected
        .iter()
        .map(|record| (record["timestamp_ms"].as_i64().unwrap(), record["offset"].as_i64().unwrap()))
        .collect();
    for &(timestamp, _) in &all {
        let first = all.iter().find(|(found, _)| *found >= timestamp).unwrap();
        firsts.insert(timestamp, first.1);
    }
    if name.starts_with("transactions") {
        // Markers have timestamps too, much later ones.
        return;
    }
    for (&timestamp, &offset) in &firsts {
        let found = log.find_by_timestamp(timestamp).unwrap().unwrap();
        assert_eq!(found.offset, Offset(offset), "{name} at {timestamp}");
    }
    let highest = *firsts.keys().last().unwrap();
    assert_eq!(log.max_timestamp().unwrap(), highest);
    let first_highest = all.iter().find(|(found, _)| *found == highest).unwrap().1;
    assert_eq!(
        log.find_max_timestamp(log.end_offset()).unwrap().unwrap().offset,
        Offset(first_highest),
        "{name}"
    );
    assert_eq!(log.find_by_timestamp(highest + 1).unwrap(), None);
}

fn names() -> impl Iterator<Item = &'static str> {
    PARTITIONS.into_iter().filter(|name| !name.starts_with("__"))
}

#[test]
fn a_directory_after_a_clean_stop_reads_back_as_expected() {
    let directory = unpacked("log-dir.tar.gz");
    for name in names() {
        let (log, report) = directory.open(name, true, None);
        assert_eq!(report.scanned_bytes, 0, "{name}");
        assert!(report.producers_from_snapshot, "{name}");
        check(&log, name);
    }
    let (log, _) = directory.open("epochs-0", true, None);
    let starts: Vec<(i32, i64)> =
        log.epochs().entries().iter().map(|entry| (entry.epoch.0, entry.start_offset.0)).collect();
    assert_eq!(starts, [(0, 0), (2, 20), (4, 40)]);
    assert_eq!(log.epochs().epoch_at(Offset(39)), Some(LeaderEpoch(2)));
    let (log, _) = directory.open("transactions-0", true, None);
    assert_eq!(log.segment_count(), 2);
    assert!(!log.producers().is_empty());
}

#[test]
fn a_directory_copied_while_in_use_reads_back_after_recovery() {
    // Also as if nothing were known to be on disk, so that all of it is scanned.
    for recovery_point in [None, Some(Offset(0))] {
        let directory = unpacked("log-dir-unclean.tar.gz");
        for name in names() {
            let (mut log, report) = directory.open(name, false, recovery_point);
            assert!(report.scanned_bytes > 0, "{name}");
            assert_eq!((report.cut_at, report.cut_bytes), (None, 0), "{name}");
            check(&log, name);
            log.close(NOW_MS).unwrap();
            drop(log);
            let (log, report) = directory.open(name, true, None);
            assert_eq!(report.scanned_bytes, 0, "{name}");
            check(&log, name);
        }
    }
}

#[test]
fn recovery_finds_the_producers_that_the_snapshots_hold() {
    let clean = unpacked("log-dir.tar.gz");
    let unclean = unpacked("log-dir-unclean.tar.gz");
    for name in names() {
        let dir = unclean.root.path().join("data").join(name);
        let starts_at_zero = clean.open(name, true, None).0.start_offset() == Offset(0);
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if starts_at_zero && path.extension().is_some_and(|extension| extension == "snapshot") {
                fs::remove_file(path).unwrap();
            }
        }
        let (replayed, _) = unclean.open(name, false, Some(Offset(0)));
        let (from_snapshot, _) = clean.open(name, true, None);
        let ids = |log: &Log| log.producers().iter().map(|p| p.producer_id).collect::<Vec<_>>();
        assert_eq!(ids(&replayed), ids(&from_snapshot), "{name}");
    }
}

/// What a cleaning leaves of the records: the last of every key.
fn last_of_each_key(records: &[Value]) -> Vec<Value> {
    let is_last = |at: usize| !records[at + 1..].iter().any(|later| later["key"] == records[at]["key"]);
    (0..records.len()).filter(|&at| is_last(at)).map(|at| records[at].clone()).collect()
}

fn clean(log: &mut Log, now_ms: i64) {
    let options = CleaningOptions {
        dedupe_buffer_bytes: 1 << 20,
        load_factor: 0.9,
        io_buffer_bytes: 1 << 16,
        hash: KeyHash::random(),
        now_ms,
    };
    let plan = log.plan_cleaning(log.durable_offset(), now_ms).unwrap().expect("there is something to clean");
    let mut cleaning = Cleaning::prepare(plan, &options, &mut |_| true).unwrap();
    for index in 0..cleaning.group_count() {
        let copied = cleaning.copy(index, &mut |_| true).unwrap();
        cleaning.swap(log, index, copied).unwrap();
        cleaning.sync_names().unwrap();
    }
    cleaning.finish(log);
}

/// A new value of one key and a tombstone of another.
fn append_to(log: &mut Log) {
    let mut builder = Builder::new(Compression::Zstd(3)).base_offset(log.end_offset());
    builder.append(NOW_MS, Some(b"k0"), Some(b"new"), &[]).unwrap();
    builder.append(NOW_MS, Some(b"k1"), None, &[]).unwrap();
    let bytes = builder.finish().unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(&header, &bytes[HEADER_BYTES..], NOW_MS).unwrap();
}

/// Kafka has cleaned the first segment of `compacted-0` already and left a gap; the state of transactions it never cleaned.
#[test]
fn what_kafka_wrote_of_compacted_topics_is_cleaned() {
    for (archive, is_clean) in [("log-dir.tar.gz", true), ("log-dir-unclean.tar.gz", false)] {
        let directory = unpacked(archive);
        for name in ["compacted-0", "__transaction_state-18"] {
            let (mut log, _) = directory.open(name, is_clean, None);
            log.set_config(LogConfig { compact_enabled: true, ..LogConfig::default() });
            append_to(&mut log);
            let before = records_of(&log);
            let expected = last_of_each_key(&before);
            assert!(expected.len() + 2 <= before.len(), "{archive}, {name}: {} records", before.len());
            let (producers, end) = (log.producers().encode(), log.end_offset());
            log.roll(NOW_MS).unwrap();
            log.sync().unwrap();
            clean(&mut log, NOW_MS);
            assert_eq!(log.producers().encode(), producers, "{archive}, {name}");
            assert_eq!((log.cleaned_to(), log.end_offset()), (end, end), "{archive}, {name}");
            assert_eq!(records_of(&log), expected, "{archive}, {name}");
            log.close(NOW_MS).unwrap();
            drop(log);
            let (log, _) = directory.open(name, true, None);
            assert_eq!(records_of(&log), expected, "{archive}, {name}");
            assert_eq!(log.end_offset(), end, "{archive}, {name}");
        }
    }
}
