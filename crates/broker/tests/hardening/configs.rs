//! Settings that change while the broker runs: each test shows a behaviour before and after.

use std::path::Path;

use ottla_broker::state::now_ms;
use ottla_protocol::generated::ErrorCode::{
    InvalidRecord, InvalidTimestamp, MessageTooLarge, OutOfOrderSequenceNumber,
};
use ottla_protocol::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::{BatchHeader, Builder, Compression, CompressionType, TimestampType};
use ottla_storage::files::Files as _;
use ottla_storage::files::faulty::{FaultyFiles, Operation};
use ottla_transport::client::Client;

use crate::support::{NONE, Running, batch, batch_of, code, until};

const DAY_MS: i64 = 86_400_000;

/// Files of the partition `t-0` with that extension.
fn files_of(files: &FaultyFiles, extension: &str) -> usize {
    let entries = files.list(Path::new("/data/t-0")).unwrap();
    entries.iter().filter(|entry| entry.name.ends_with(extension)).count()
}

fn segments(files: &FaultyFiles) -> usize {
    files_of(files, ".log")
}

/// The header of the last batch of the partition's only segment.
fn last_header(files: &FaultyFiles) -> BatchHeader {
    let file = files
        .open(Path::new("/data/t-0/00000000000000000000.log"), ottla_storage::files::Open::Read)
        .unwrap();
    let mut bytes = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    let mut rest = &bytes[..];
    loop {
        let header = BatchHeader::parse(rest).unwrap();
        rest = &rest[header.size_bytes()..];
        if rest.is_empty() {
            return header;
        }
    }
}

fn dated(timestamp: i64) -> Vec<u8> {
    batch_of(&[(timestamp, "v")], Compression::None)
}

async fn started(overrides: &[&str], configs: &[(&str, &str)]) -> Running {
    let mut all = vec!["log.dirs=/data"];
    all.extend(overrides);
    let broker = Running::start_with(&FaultyFiles::new(), &all).await;
    assert_eq!(broker.create("t", 1, configs).await, NONE);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_the_delay_of_deletion() {
    let broker =
        started(&["log.retention.check.interval.ms=5"], &[("file.delete.delay.ms", "3600000")]).await;
    for _ in 0..2 {
        assert_eq!(broker.produce("t", dated(now_ms() - 3 * DAY_MS), -1).await.0, NONE);
    }
    assert_eq!(broker.bounds("t").await, (0, 2), "a week is kept");
    broker.configure("t", "retention.ms", &DAY_MS.to_string()).await;
    until("the old records go", || async { broker.bounds("t").await == (2, 2) }).await;
    assert_eq!(files_of(&broker.files, ".log.deleted"), 1, "the files stay for an hour");
    broker.configure("t", "retention.ms", "-1").await;
    broker.configure("t", "file.delete.delay.ms", "0").await;
    assert_eq!(broker.produce("t", dated(now_ms() - 3 * DAY_MS), -1).await.0, NONE);
    broker.configure("t", "retention.ms", &DAY_MS.to_string()).await;
    until("the old record goes", || async { broker.bounds("t").await == (3, 3) }).await;
    until("its files go at once", || async { files_of(&broker.files, ".log.deleted") == 1 }).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_size() {
    let broker = started(
        &["log.retention.check.interval.ms=5"],
        &[("segment.bytes", "1048576"), ("max.message.bytes", "2000000")],
    )
    .await;
    let large = "x".repeat(900_000);
    for _ in 0..4 {
        let batch = batch_of(&[(now_ms(), &large)], Compression::None);
        assert_eq!(broker.produce("t", batch, -1).await.0, NONE);
    }
    assert_eq!((broker.bounds("t").await, segments(&broker.files)), ((0, 4), 4));
    broker.configure("t", "retention.bytes", "2000000").await;
    until("the oldest go", || async { broker.bounds("t").await == (1, 4) }).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_segment_ends() {
    let broker = started(&[], &[]).await;
    let old = now_ms() - 10_000;
    assert_eq!(broker.produce("t", dated(old), -1).await.0, NONE);
    assert_eq!(broker.produce("t", dated(old + 5_000), -1).await.0, NONE);
    assert_eq!(segments(&broker.files), 1);
    broker.configure("t", "segment.ms", "6000").await;
    assert_eq!(broker.produce("t", dated(old + 5_500), -1).await.0, NONE);
    assert_eq!(segments(&broker.files), 1, "not old enough");
    assert_eq!(broker.produce("t", dated(old + 6_001), -1).await.0, NONE);
    assert_eq!(segments(&broker.files), 2);
    broker.configure("t", "segment.ms", "600000").await;
    broker.configure("t", "segment.bytes", "1048576").await;
    broker.configure("t", "max.message.bytes", "1048576").await;
    let large = "x".repeat(1_040_000);
    assert_eq!(broker.produce("t", batch_of(&[(old, &large)], Compression::None), -1).await.0, NONE);
    assert_eq!(segments(&broker.files), 2);
    assert_eq!(broker.produce("t", batch_of(&[(old, &large)], Compression::None), -1).await.0, NONE);
    assert_eq!(segments(&broker.files), 3);
    broker.configure("t", "segment.bytes", "2000000").await;
    // One entry a batch and room for few: the index is full before the segment.
    broker.configure("t", "index.interval.bytes", "0").await;
    broker.configure("t", "segment.index.bytes", "16").await;
    for _ in 0..9 {
        assert_eq!(broker.produce("t", dated(old), -1).await.0, NONE);
    }
    assert!(segments(&broker.files) >= 6, "{}", segments(&broker.files));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jitter_ends_a_segment_earlier() {
    for (jitter, expected) in [("0", 1), ("60000", 2)] {
        let broker = started(&[], &[("segment.ms", "60000")]).await;
        let old = now_ms() - 100_000;
        assert_eq!(broker.produce("t", dated(old), -1).await.0, NONE);
        broker.configure("t", "segment.jitter.ms", jitter).await;
        // The share of the jitter is this log's own, always the same, and here more than a hundred milliseconds.
        assert_eq!(broker.produce("t", dated(old + 59_900), -1).await.0, NONE);
        assert_eq!(segments(&broker.files), expected, "{jitter}");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_may_be() {
    let broker = started(&[], &[]).await;
    let large = || batch_of(&[(now_ms(), &"x".repeat(5_000))], Compression::None);
    assert_eq!(broker.produce("t", large(), -1).await.0, NONE);
    broker.configure("t", "max.message.bytes", "4000").await;
    assert_eq!(broker.produce("t", large(), -1).await.0, code(MessageTooLarge));
    let without_key = || {
        let mut builder = Builder::new(Compression::None);
        builder.append(now_ms(), None, Some(b"v"), &[]).unwrap();
        builder.finish().unwrap()
    };
    assert_eq!(broker.produce("t", without_key(), -1).await.0, NONE);
    broker.configure("t", "cleanup.policy", "compact").await;
    assert_eq!(broker.produce("t", without_key(), -1).await.0, code(InvalidRecord));
    for (key, time) in
        [("message.timestamp.before.max.ms", -DAY_MS), ("message.timestamp.after.max.ms", 1_800_000)]
    {
        assert_eq!(broker.produce("t", dated(now_ms() + time), -1).await.0, NONE);
        broker.configure("t", key, "600000").await;
        assert_eq!(broker.produce("t", dated(now_ms() + time), -1).await.0, code(InvalidTimestamp), "{key}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_batch_is_stored() {
    let broker = started(&[], &[]).await;
    let text = "some text that repeats itself, some text that repeats itself".repeat(30);
    let sent = now_ms() - 1000;
    let send = async || {
        assert_eq!(broker.produce("t", batch_of(&[(sent, &text)], Compression::None), -1).await.0, NONE)
    };
    send().await;
    assert_eq!(last_header(&broker.files).attributes.compression(), Ok(CompressionType::None));
    for (name, codec) in [
        ("gzip", CompressionType::Gzip),
        ("snappy", CompressionType::Snappy),
        ("lz4", CompressionType::Lz4),
        ("zstd", CompressionType::Zstd),
        ("uncompressed", CompressionType::None),
    ] {
        broker.configure("t", "compression.type", name).await;
        send().await;
        assert_eq!(last_header(&broker.files).attributes.compression(), Ok(codec), "{name}");
    }
    assert_eq!(last_header(&broker.files).max_timestamp, sent);
    broker.configure("t", "message.timestamp.type", "LogAppendTime").await;
    let before = now_ms();
    send().await;
    let header = last_header(&broker.files);
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert!(header.max_timestamp >= before);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_of_compression() {
    let broker = started(&[], &[]).await;
    // Words in an order that a weak search does not compress as far as a strong one.
    let text: String = (0_u64..20_000).map(|i| format!("{:x} ", i.wrapping_mul(i) % 9973)).collect();
    for (codec, weak, strong) in [("gzip", "1", "9"), ("zstd", "-50", "19")] {
        broker.configure("t", "compression.type", codec).await;
        let mut sizes = Vec::new();
        for level in [weak, strong] {
            broker.configure("t", &format!("compression.{codec}.level"), level).await;
            let sent = broker.produce("t", batch_of(&[(now_ms(), &text)], Compression::None), -1).await;
            assert_eq!(sent.0, NONE);
            sizes.push(last_header(&broker.files).size_bytes());
        }
        assert!(sizes[1] < sizes[0], "{codec}: {sizes:?}");
    }
    broker.stop().await;
}

/// Operations on files after the first produce: the partition's directory is new no more.
fn syncs(files: &FaultyFiles) -> usize {
    files.history().iter().filter(|operation| **operation == Operation::Sync).count()
}

/// Syncs during twenty batches, one after the other. Apart from theirs there may be few, that were asked for before.
async fn syncs_of_twenty(broker: &Running) -> usize {
    let before = syncs(&broker.files);
    for _ in 0..20 {
        assert_eq!(broker.produce("t", batch(1), -1).await.0, NONE);
    }
    syncs(&broker.files) - before
}

/// Batch after batch gets synced without anybody waiting for it.
async fn are_synced_by_and_by(broker: &Running) {
    for _ in 0..3 {
        let before = syncs(&broker.files);
        assert_eq!(broker.produce("t", batch(1), -1).await.0, NONE);
        until("it is synced", || async { syncs(&broker.files) > before }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_and_when_a_log_is_synced() {
    let broker = started(&[], &[]).await;
    assert!(syncs_of_twenty(&broker).await >= 20, "acks=all is on disk");
    broker.configure("t", "ottla.durability", "replicated").await;
    assert!(syncs_of_twenty(&broker).await <= 3, "in memory only");
    assert_eq!(broker.fetch("t", 39).await.high_watermark, 40, "and visible");
    broker.configure("t", "flush.messages", "1").await;
    are_synced_by_and_by(&broker).await;
    broker.configure("t", "flush.messages", "1000000").await;
    assert!(syncs_of_twenty(&broker).await <= 3, "far from so many records");
    broker.configure("t", "flush.ms", "20").await;
    are_synced_by_and_by(&broker).await;
    broker.configure("t", "ottla.durability", "durable").await;
    assert!(syncs_of_twenty(&broker).await >= 20, "acks=all is on disk again");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_connections() {
    let broker = started(&[], &[]).await;
    let works = async || match Client::connect(broker.broker.addresses()[0]).await {
        Ok(client) => {
            let request = InitProducerIdRequest::default();
            client.call::<_, InitProducerIdResponse>(&request, 4).await.is_ok()
        }
        Err(_) => false,
    };
    assert!(works().await);
    for key in ["max.connections", "max.connections.per.ip"] {
        broker.configure("", key, "1").await;
        until("a second connection is refused", || async { !works().await }).await;
        broker.configure("", key, "10").await;
        until("a second connection is taken", &works).await;
    }
    broker.configure("", "max.connections.per.ip.overrides", "127.0.0.1:1").await;
    until("a second connection is refused", || async { !works().await }).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_producers_are_forgotten() {
    let broker = started(&[], &[]).await;
    let numbered = |sequence| {
        let mut builder = Builder::new(Compression::None).producer(ProducerId(7), 0, sequence);
        builder.append(now_ms(), Some(b"k"), Some(b"v"), &[]).unwrap();
        builder.finish().unwrap()
    };
    assert_eq!(broker.produce("t", numbered(0), -1).await, (NONE, 0));
    assert_eq!(broker.produce("t", numbered(0), -1).await, (NONE, 0), "a duplicate");
    broker.broker.expire_producers();
    assert_eq!(broker.produce("t", numbered(5), -1).await.0, code(OutOfOrderSequenceNumber), "known");
    broker.configure("", "producer.id.expiration.ms", "1").await;
    let sent = now_ms();
    until("the clock moves on", || async { now_ms() > sent + 2 }).await;
    broker.broker.expire_producers();
    assert_eq!(broker.produce("t", numbered(5), -1).await.0, NONE, "any number begins a new row");
    broker.stop().await;
}
