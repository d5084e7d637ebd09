//! Data directories that are unreadable or half-written, and the full disk.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use ottla_integration_tests::batch::Batch;
use ottla_integration_tests::requests::{self, Topic};
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, BrokerOptions, wait_until};
use ottla_protocol::generated::ErrorCode;

use crate::rd;

const T0: i64 = 1_700_000_000_000;
const BATCHES: i64 = 50;

/// A broker that was killed with some batches of one topic on disk, and that topic.
fn killed_with_data() -> (Broker, Topic) {
    let mut broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let topic = connection.create_topic("data", 1, &[("index.interval.bytes", "100")]);
    for i in 0..BATCHES {
        let batch = Batch::of(&[format!("value {i}").as_bytes()], T0 + i).encode();
        assert_eq!(connection.produce(&topic, &batch, 9).error_code, 0);
    }
    broker.kill();
    (broker, topic)
}

fn segment(broker: &Broker, ending: &str) -> PathBuf {
    broker.directory().join(format!("data-0/00000000000000000000.{ending}"))
}

/// Starts the broker again; all batches are there, and the next goes behind them.
fn all_is_there(broker: &mut Broker, topic: &Topic) {
    broker.start();
    let mut connection = Connection::open(broker.address());
    for i in 0..BATCHES {
        let data = connection.fetch(topic, i, 12);
        assert_eq!((data.error_code, data.high_watermark), (0, BATCHES));
        let records = requests::records(&data);
        assert_eq!(records[..8], i.to_be_bytes());
    }
    let next = connection.produce(topic, &Batch::of(&[b"next"], T0).encode(), 9);
    assert_eq!((next.error_code, next.base_offset), (0, BATCHES));
}

#[test]
fn a_torn_end_is_cut() {
    for tail in
        [&[0; 5000][..], &[0xff; 30], &BATCHES.to_be_bytes(), &Batch::of(&[b"half"], T0).encode()[..40]]
    {
        let (mut broker, topic) = killed_with_data();
        let mut log = fs::File::options().append(true).open(segment(&broker, "log")).expect("the log");
        log.write_all(tail).expect("a torn end");
        all_is_there(&mut broker, &topic);
    }
}

#[test]
fn indexes_are_rebuilt() {
    type Damage = fn(&PathBuf);
    let damages: [(&str, Damage); 3] = [
        ("garbage", |path| fs::write(path, [0xaa; 999]).expect("garbage")),
        ("empty", |path| fs::write(path, []).expect("nothing")),
        ("gone", |path| fs::remove_file(path).unwrap_or_default()),
    ];
    for (what, damage) in damages {
        let (mut broker, topic) = killed_with_data();
        for ending in ["index", "timeindex"] {
            damage(&segment(&broker, ending));
        }
        println!("indexes {what}");
        all_is_there(&mut broker, &topic);
    }
}

#[test]
fn things_that_do_not_belong_are_left_or_removed() {
    let (mut broker, topic) = killed_with_data();
    let place = |name: &str| broker.directory().join(name);
    fs::create_dir(place("lost+found")).expect("a directory");
    fs::write(place("notes.txt"), "mine").expect("a file");
    fs::create_dir(place("old-0.0123456789abcdef0123456789abcdef-delete")).expect("a directory");
    fs::create_dir(place("data-0/empty")).expect("a directory");
    fs::write(place("data-0/leader-epoch-checkpoint.tmp"), "half").expect("a file");
    let deleted = place("old-0.0123456789abcdef0123456789abcdef-delete");
    all_is_there(&mut broker, &topic);
    assert!(broker.directory().join("notes.txt").exists());
    wait_until(Duration::from_secs(90), "what was being deleted to go", || (!deleted.exists()).then_some(()));
}

/// Valid batches behind a damaged one: never cut silently. The partition says KAFKA_STORAGE_ERROR, others go on.
fn is_fenced(damage: impl FnOnce(&mut Vec<u8>)) {
    let (mut broker, topic) = killed_with_data();
    let path = segment(&broker, "log");
    let mut bytes = fs::read(&path).expect("the log");
    damage(&mut bytes);
    fs::write(&path, &bytes).expect("damage");
    broker.start();
    let mut connection = Connection::open(broker.address());
    let produced = connection.produce(&topic, &Batch::of(&[b"next"], T0).encode(), 9);
    assert_eq!(produced.error_code, ErrorCode::KafkaStorageError.code(), "{:?}", produced.error_message);
    assert_eq!(fs::read(&path).expect("the log"), bytes, "nothing was cut");
    let other = connection.create_topic("other", 1, &[]);
    assert_eq!(connection.produce(&other, &Batch::of(&[b"fine"], T0).encode(), 9).error_code, 0);
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("it is there")
}

#[test]
fn a_damaged_record_in_the_middle_is_fenced() {
    is_fenced(|bytes| {
        let at = find(bytes, b"value 25");
        bytes[at] ^= 0x55;
    });
}

/// The base offset is outside the checksum: the batches behind it show that it is wrong.
#[test]
fn a_damaged_base_offset_in_the_middle_is_fenced() {
    is_fenced(|bytes| {
        let at = find(bytes, &[&25_i64.to_be_bytes()[..], &[0, 0, 0]].concat());
        bytes[at + 5] ^= 0x55;
    });
}

#[test]
fn a_directory_that_is_none_is_refused_with_a_reason() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    let (status, log) = BrokerOptions::default().directory(&file).start_refused();
    assert!(!status.success());
    assert!(log.contains("file"), "the log names the path:\n{log}");
}

#[test]
fn a_broken_identity_is_refused_with_a_reason() {
    for text in ["version=1\ncluster.id", "version=77\n", "\0\0\0\0"] {
        let (mut broker, _) = killed_with_data();
        fs::write(broker.directory().join("meta.properties"), text).expect("a broken identity");
        broker.expect_refusal();
        assert!(broker.log_text().contains("meta.properties"), "{text:?}:\n{}", broker.log_text());
    }
}

#[test]
fn another_brokers_directory_is_refused() {
    let (mut broker, _) = killed_with_data();
    let path = broker.directory().join("meta.properties");
    let text = fs::read_to_string(&path).expect("the identity");
    let line = text.lines().find(|line| line.starts_with("node.id=")).expect("a node id");
    fs::write(&path, text.replace(line, "node.id=4711")).expect("another identity");
    broker.expect_refusal();
    assert!(broker.log_text().contains("4711"), "{}", broker.log_text());
}

/// On a full disk produce gets KAFKA_STORAGE_ERROR; reads and deletes go on; writes resume when there is room again.
#[test]
fn a_full_disk() {
    let mut broker = BrokerOptions::default()
        .disk_bytes(32 << 20)
        .set("log.segment.bytes", 4 << 20)
        .set("log.segment.delete.delay.ms", 100)
        .start();
    let mut connection = Connection::open(broker.address());
    let settings = [("file.delete.delay.ms", "100")];
    let kept = connection.create_topic("kept", 1, &settings);
    let filler = connection.create_topic("filler", 1, &settings);
    let small = Batch::of(&[b"small"], T0).encode();
    assert_eq!(connection.produce(&kept, &small, 9).error_code, 0);
    let large = Batch::of(&[&[b'x'; 500_000]], T0).encode();
    let refused = (0..200).find_map(|written| {
        let reply = connection.produce(&filler, &large, 9);
        (reply.error_code != 0).then_some((written, reply.error_code))
    });
    let (written, error) = refused.expect("32 MiB hold less than 100 MB");
    assert_eq!(error, ErrorCode::KafkaStorageError.code(), "after {written} batches");
    assert!(written > 20, "the disk was full after {written} batches");

    let data = connection.fetch(&kept, 0, 12);
    assert_eq!(data.error_code, 0, "reads go on");
    assert!(!requests::records(&data).is_empty(), "reads go on");
    let last = connection.fetch(&filler, written - 1, 12);
    assert_eq!(last.error_code, 0, "reads of what was acknowledged go on");

    rd::block(rd::admin(&broker).delete_topics(&["filler"], &rd::options())).expect("deletes go on");
    wait_until(Duration::from_secs(60), "writes to resume", || {
        let reply = connection.produce(&kept, &small, 9);
        assert!([0, ErrorCode::KafkaStorageError.code()].contains(&reply.error_code), "{}", reply.error_code);
        (reply.error_code == 0).then_some(())
    });
    assert!(broker.is_running());
}
