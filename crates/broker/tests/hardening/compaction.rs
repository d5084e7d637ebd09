//! Compaction by the running broker: what a consumer sees, what is refused, and what each setting changes.

use std::path::Path;

use ottla_broker::state::now_ms;
use ottla_protocol::generated::ErrorCode::InvalidRecord;
use ottla_protocol::records::{Batches, Builder, Compression, DecompressLimit};
use ottla_protocol::wire::Records;
use ottla_storage::checkpoint::OffsetCheckpoint;
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation};
use ottla_storage::files::{Files as _, Open};

use crate::support::{NONE, Running, code, until};

/// Quick to look again, however little is dirty, and no wait for deleted files.
const QUICK: [&str; 5] = [
    "log.dirs=/data",
    "log.cleaner.backoff.ms=10",
    "log.cleaner.min.cleanable.ratio=0",
    "log.segment.delete.delay.ms=0",
    "log.roll.ms=1000",
];

async fn started(overrides: &[&str], configs: &[(&str, &str)]) -> Running {
    let mut all = QUICK.to_vec();
    all.extend(overrides);
    let broker = Running::start_with(&FaultyFiles::new(), &all).await;
    let mut with = vec![("cleanup.policy", "compact")];
    with.extend(configs);
    assert_eq!(broker.create("t", 1, &with).await, NONE);
    broker
}

fn keyed(timestamp: i64, records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = Builder::new(Compression::None);
    for (key, value) in records {
        builder.append(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// Produces and closes the segment: batches are a minute apart, and `log.roll.ms` is a second.
struct Feed {
    timestamp: i64,
}

impl Feed {
    fn new() -> Self {
        Self { timestamp: now_ms() - 3_600_000 }
    }

    async fn send(&mut self, broker: &Running, records: &[(&str, Option<&str>)]) {
        self.send_to(broker, "t", records).await;
    }

    async fn send_to(&mut self, broker: &Running, topic: &str, records: &[(&str, Option<&str>)]) {
        self.timestamp += 60_000;
        assert_eq!(broker.produce(topic, keyed(self.timestamp, records), -1).await.0, NONE);
    }

    /// Four values of one key, each in a segment of its own.
    async fn fill(&mut self, broker: &Running, topic: &str) {
        for _ in 0..4 {
            self.send_to(broker, topic, &[("a", Some("v"))]).await;
        }
    }
}

/// Offset, key and value of all that a consumer gets from `offset` on.
async fn consume(broker: &Running, topic: &str, offset: i64) -> Vec<(i64, String, Option<String>)> {
    let (_, end) = broker.bounds(topic).await;
    let (mut all, mut next) = (Vec::new(), offset);
    while next < end {
        let answer = broker.fetch(topic, next).await;
        assert_eq!(answer.error_code, NONE);
        let Records::Bytes(bytes) = &answer.records else { break };
        let before = next;
        for batch in Batches::new(bytes).verifying() {
            let batch = batch.unwrap();
            let mut records = batch.records(DecompressLimit::default()).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let at = batch.header().offset_of_delta(record.offset_delta).0;
                if at >= offset {
                    all.push((at, text(record.key.unwrap()), record.value.map(text)));
                }
            }
            next = batch.header().next_offset().0;
        }
        assert!(next > before, "a fetch brings a consumer on");
    }
    all
}

async fn offsets(broker: &Running, topic: &str) -> Vec<i64> {
    consume(broker, topic, broker.bounds(topic).await.0)
        .await
        .into_iter()
        .map(|(offset, ..)| offset)
        .collect()
}

fn runs(broker: &Running) -> u64 {
    broker.shell.metrics.cleaner.runs.get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_the_last_value_of_every_key_also_after_a_restart() {
    let broker = started(&[], &[]).await;
    let mut feed = Feed::new();
    for round in ["1", "2", "3"] {
        feed.send(&broker, &[("a", Some(round)), ("b", Some(round)), (round, Some("once"))]).await;
    }
    feed.send(&broker, &[("b", None)]).await;
    feed.send(&broker, &[("end", Some("here"))]).await;
    let expected = [2, 5, 6, 8, 9, 10];
    until("the log is compacted", async || offsets(&broker, "t").await == expected).await;
    let all = consume(&broker, "t", 0).await;
    assert_eq!(all[2], (6, "a".to_owned(), Some("3".to_owned())));
    assert_eq!(all[4], (9, "b".to_owned(), None));
    // From anywhere.
    for from in 0..=11 {
        let seen: Vec<i64> = consume(&broker, "t", from).await.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(seen, expected.iter().copied().filter(|&offset| offset >= from).collect::<Vec<_>>());
    }
    assert_eq!(broker.bounds("t").await, (0, 11));
    let text = ottla_broker::metrics::exposition::text(&broker.shell.metrics);
    for name in
        ["ottla_cleaner_runs_total", "ottla_cleaner_cleaned_bytes_total", "ottla_cleaner_last_run_seconds"]
    {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    let files = broker.files.clone();
    broker.stop().await;
    let checkpoint = OffsetCheckpoint::read(&files, Path::new("/data/cleaner-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint.encode(), "0\n1\nt 0 10\n");
    // Under another policy: the gaps are no damage.
    let broker = Running::start_with(&files, &QUICK).await;
    broker.configure("t", "cleanup.policy", "delete").await;
    assert_eq!(offsets(&broker, "t").await, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_key_is_refused_by_its_index() {
    let broker = started(&[], &[]).await;
    let mut builder = Builder::new(Compression::None);
    builder.append(now_ms(), Some(b"k"), Some(b"v"), &[]).unwrap();
    builder.append(now_ms(), None, Some(b"v"), &[]).unwrap();
    let answer = broker.try_produce(("t", 0), builder.finish().unwrap(), -1).await.unwrap();
    assert_eq!(answer.error_code, code(InvalidRecord));
    let at_fault: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(at_fault, [1]);
    broker.stop().await;
}

/// A second topic that is compacted whatever is set for `t`. Once it was cleaned twice, `t` would have been too if it were due: it is
/// the dirtier one.
async fn witness(broker: &Running, feed: &mut Feed) {
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "86400000"),
    ];
    assert_eq!(broker.create("u", 1, &configs).await, NONE);
    feed.fill(broker, "u").await;
    until("the other topic is compacted", async || offsets(broker, "u").await == [2, 3]).await;
    feed.fill(broker, "u").await;
    until("again", async || offsets(broker, "u").await == [6, 7]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_logs_are_compacted() {
    for enable in ["true", "false"] {
        let broker = started(&[&format!("log.cleaner.enable={enable}")], &[]).await;
        Feed::new().fill(&broker, "t").await;
        if enable == "true" {
            until("the log is compacted", async || offsets(&broker, "t").await == [2, 3]).await;
        } else {
            for _ in 0..50 {
                assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
            }
        }
        broker.stop().await;
    }
}

/// Each of these keeps `t` from being compacted until the other value is set; for the topic, or as the default of all.
#[tokio::test(flavor = "multi_thread")]
async fn what_makes_a_log_due() {
    let day = "86400000";
    for (topic_key, broker_key, before, after) in [
        ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "1", "0"),
        ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", day, "1"),
    ] {
        for (topic, key) in [("t", topic_key), ("", broker_key)] {
            let broker = started(&[], &[]).await;
            broker.configure(topic, key, before).await;
            let mut feed = Feed::new();
            feed.fill(&broker, "t").await;
            witness(&broker, &mut feed).await;
            assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3], "{key}={before}");
            broker.configure(topic, key, after).await;
            until("the log is compacted", async || offsets(&broker, "t").await == [2, 3]).await;
            broker.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_are_compacted_however_few_they_are() {
    for (topic, key) in [("t", "max.compaction.lag.ms"), ("", "log.cleaner.max.compaction.lag.ms")] {
        let broker = started(&[], &[("min.cleanable.dirty.ratio", "1")]).await;
        let mut feed = Feed::new();
        feed.fill(&broker, "t").await;
        witness(&broker, &mut feed).await;
        assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
        broker.configure(topic, key, "1000").await;
        // The last segment too, though nothing is appended to close it.
        until("the log is compacted", async || offsets(&broker, "t").await == [3]).await;
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_tombstones_stay() {
    for (overrides, configs) in
        [(&[][..], &[("delete.retention.ms", "0")][..]), (&["log.cleaner.delete.retention.ms=0"], &[])]
    {
        let broker = started(overrides, configs).await;
        let mut feed = Feed::new();
        let records: [(&str, Option<&str>); 4] =
            [("x", Some("v")), ("x", None), ("b", Some("v")), ("b", Some("w"))];
        for topic in ["t", "u"] {
            if topic == "u" {
                let day = [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")];
                assert_eq!(broker.create("u", 1, &day).await, NONE);
            }
            feed.send_to(&broker, topic, &records).await;
            feed.send_to(&broker, topic, &[("c", Some("v"))]).await;
            until("the tombstone is reached", async || !offsets(&broker, topic).await.contains(&0)).await;
            feed.fill(&broker, topic).await;
            feed.fill(&broker, topic).await;
        }
        until("the tombstone is gone", async || offsets(&broker, "t").await == [3, 4, 11, 12]).await;
        until("compacted as often", async || offsets(&broker, "u").await == [1, 3, 4, 11, 12]).await;
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_often_the_cleaner_looks() {
    let broker = started(&["log.cleaner.backoff.ms=3600000"], &[]).await;
    let mut feed = Feed::new();
    feed.fill(&broker, "t").await;
    for _ in 0..50 {
        assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
    }
    broker.configure("", "log.cleaner.backoff.ms", "10").await;
    until("a change makes it look", async || offsets(&broker, "t").await == [2, 3]).await;
    feed.fill(&broker, "t").await;
    until("and now time does", async || offsets(&broker, "t").await == [6, 7]).await;
    broker.stop().await;
}

/// How many cleanings it takes, with so many keys that a small table holds a part.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_keys_is_bounded() {
    let small = "log.cleaner.dedupe.buffer.size=1";
    for (overrides, expected) in
        [(&[][..], 1), (&[small][..], 4), (&[small, "log.cleaner.io.buffer.load.factor=0.5"][..], 7)]
    {
        let broker = started(overrides, &[("min.cleanable.dirty.ratio", "1")]).await;
        let keys: Vec<String> = (0..100).map(|i| format!("key {i}")).collect();
        let records: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
        let mut feed = Feed::new();
        feed.send(&broker, &records).await;
        feed.send(&broker, &records).await;
        feed.send(&broker, &[("end", Some("v"))]).await;
        broker.configure("t", "min.cleanable.dirty.ratio", "0").await;
        let all: Vec<i64> = (100..=200).collect();
        until("the log is compacted", async || offsets(&broker, "t").await == all).await;
        until("it took so many cleanings", async || runs(&broker) == expected).await;
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_is_read_at_once() {
    let mut reads = Vec::new();
    for size in ["524288", "256"] {
        let overrides = [&*format!("log.cleaner.io.buffer.size={size}"), "log.roll.ms=1000000"];
        let broker = started(&overrides, &[("min.cleanable.dirty.ratio", "1")]).await;
        let timestamp = now_ms() - 3_600_000;
        for i in 0..40 {
            let batch = keyed(timestamp, &[("a", Some(&"v".repeat(300))), ("b", Some(&i.to_string()))]);
            assert_eq!(broker.produce("t", batch, -1).await.0, NONE);
        }
        let end = keyed(timestamp + 1_000_001, &[("end", Some("v"))]);
        assert_eq!(broker.produce("t", end, -1).await.0, NONE);
        let before = broker.files.read_count();
        broker.configure("t", "min.cleanable.dirty.ratio", "0").await;
        until("the log is compacted", async || runs(&broker) == 1).await;
        reads.push(broker.files.read_count() - before);
        broker.stop().await;
    }
    assert!(reads[1] > reads[0] + 100, "{reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_cleaning_waits_and_gives_way() {
    let broker = started(&["log.cleaner.io.max.bytes.per.second=1"], &[]).await;
    Feed::new().fill(&broker, "t").await;
    for _ in 0..50 {
        assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
    }
    broker.configure("", "log.cleaner.io.max.bytes.per.second", "1e9").await;
    until("the log is compacted", async || offsets(&broker, "t").await == [2, 3]).await;
    broker.configure("", "log.cleaner.io.max.bytes.per.second", "1").await;
    // A topic is deleted, and made again, and the broker stopped, though a cleaning is under way.
    Feed::new().fill(&broker, "t").await;
    assert_eq!(broker.delete("t").await, NONE);
    assert_eq!(broker.create("t", 1, &[("cleanup.policy", "compact")]).await, NONE);
    Feed::new().fill(&broker, "t").await;
    assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
    let files = broker.files.clone();
    broker.stop().await;
    let entries = files.list(Path::new("/data/t-0")).unwrap();
    assert!(entries.iter().all(|entry| !entry.name.contains(".cleaned")), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_set_aside_and_the_others_are_compacted() {
    let broker = started(&[], &[("min.cleanable.dirty.ratio", "1")]).await;
    let mut feed = Feed::new();
    feed.fill(&broker, "t").await;
    let path = Path::new("/data/t-0/00000000000000000001.log");
    broker.files.flip(path, 65, 1).unwrap();
    let size = broker.files.open(path, Open::Read).unwrap().size_bytes().unwrap();
    broker.configure("t", "min.cleanable.dirty.ratio", "0").await;
    let uncleanable = || broker.shell.metrics.cleaner.uncleanable.load(std::sync::atomic::Ordering::Relaxed);
    until("it is set aside", async || uncleanable() == 1).await;
    witness(&broker, &mut feed).await;
    assert_eq!(uncleanable(), 1);
    assert_eq!(
        broker.files.open(path, Open::Read).unwrap().size_bytes().unwrap(),
        size,
        "nothing was changed"
    );
    feed.send(&broker, &[("a", Some("still taken"))]).await;
    assert_eq!(broker.delete("t").await, NONE);
    until("it is forgotten with its topic", async || uncleanable() == 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_compaction_until_there_is_room() {
    let broker = started(&[], &[("min.cleanable.dirty.ratio", "1")]).await;
    Feed::new().fill(&broker, "t").await;
    broker.files.fail(Fault {
        operation: Operation::Write,
        path_suffix: ".cleaned".into(),
        after: 0,
        error: std::io::ErrorKind::StorageFull,
        written_bytes: 7,
    });
    broker.configure("t", "min.cleanable.dirty.ratio", "0").await;
    for _ in 0..50 {
        assert_eq!(offsets(&broker, "t").await, [0, 1, 2, 3]);
    }
    broker.files.heal();
    until("the log is compacted", async || offsets(&broker, "t").await == [2, 3]).await;
    broker.stop().await;
}
