//! Record batches that no client should send: each gets Kafka's error, nothing of it is stored, and a healthy client
//! beside it notices nothing.

use std::io::Write as _;
use std::time::{Duration, Instant};

use ottla_integration_tests::batch::{Batch, encode_record};
use ottla_integration_tests::requests::Topic;
use ottla_integration_tests::wire::{Connection, Reply};
use ottla_integration_tests::{Broker, HealthyClient, process, requests};
use ottla_protocol::generated::ErrorCode;

const T0: i64 = 1_700_000_000_000;
const MIB: usize = 1 << 20;

/// A broker, a topic, and a healthy client that works until the scene ends.
struct Scene {
    broker: Broker,
    connection: Connection,
    topic: Topic,
    healthy: HealthyClient,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Scene {
        let broker = Broker::start_default();
        let mut connection = Connection::open(broker.address());
        let topic = connection.create_topic("target", 1, settings);
        let healthy = HealthyClient::start(broker.address());
        Scene { broker, connection, topic, healthy }
    }

    fn refused(&mut self, what: &str, batch: &[u8], error: ErrorCode) {
        let reply = self.connection.produce(&self.topic, batch, 9);
        assert_eq!(reply.error_code, error.code(), "{what}: {:?}", reply.error_message);
    }

    /// Nothing was stored, and the next good batch goes to offset 0.
    fn end(mut self) {
        let good = Batch::of_keyed(&[(Some(b"k"), b"good")], T0).encode();
        let reply = self.connection.produce(&self.topic, &good, 9);
        assert_eq!((reply.error_code, reply.base_offset), (0, 0), "what was refused left no trace");
        self.healthy.goes_on();
        self.healthy.finish();
    }
}

/// A valid batch of three, spoilt by `spoil`.
fn spoilt(spoil: impl FnOnce(&mut Batch)) -> Vec<u8> {
    let mut batch = Batch::of(&[b"one", b"two", b"three"], T0);
    spoil(&mut batch);
    batch.encode()
}

#[test]
fn checksums_that_are_wrong() {
    let mut scene = Scene::new(&[]);
    let good = spoilt(|_| {});
    for at in [17, 21, 40, 61, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        scene.refused(&format!("byte {at} flipped"), &bad, ErrorCode::CorruptMessage);
    }
    scene.end();
}

#[test]
fn counts_and_offsets_that_are_wrong() {
    let mut scene = Scene::new(&[]);
    for (what, batch) in [
        ("a count too large", spoilt(|b| b.records_count = 4)),
        ("a count too small", spoilt(|b| b.records_count = 2)),
        ("a negative count", spoilt(|b| b.records_count = -1)),
        ("a count of billions", spoilt(|b| b.records_count = i32::MAX)),
        ("a last offset beyond the count", spoilt(|b| b.last_offset_delta = 5)),
        ("a last offset before the count", spoilt(|b| b.last_offset_delta = 1)),
        ("a negative last offset", spoilt(|b| b.last_offset_delta = -1)),
        ("no records", spoilt(|b| (b.records_count, b.last_offset_delta, b.records) = (0, -1, Vec::new()))),
        ("offsets with a gap", spoilt(|b| b.records = [record(0), record(2), record(3)].concat())),
        ("offsets backwards", spoilt(|b| b.records = [record(2), record(1), record(0)].concat())),
        ("bytes after the last record", spoilt(|b| b.records.extend([1, 2, 3]))),
    ] {
        scene.refused(what, &batch, ErrorCode::InvalidRecord);
    }
    scene.end();
}

fn record(offset_delta: i64) -> Vec<u8> {
    encode_record(offset_delta, None, b"value")
}

#[test]
fn records_that_do_not_parse() {
    let mut scene = Scene::new(&[]);
    let records_of =
        |records: Vec<u8>| spoilt(|b| (b.records_count, b.last_offset_delta, b.records) = (1, 0, records));
    for (what, records) in [
        ("a record longer than the batch", vec![0x7e, 0, 0, 0]),
        ("a negative record length", vec![1, 0, 0, 0]),
        ("a length without end", vec![0xff; 12]),
        ("a key longer than its record", vec![0x0e, 0, 0, 0, 0x40, 1, 0, 0]),
        ("a header count of billions", vec![0x14, 0, 0, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let reply = scene.connection.produce(&scene.topic, &records_of(records), 9);
        assert!(
            [ErrorCode::InvalidRecord.code(), ErrorCode::CorruptMessage.code()].contains(&reply.error_code),
            "{what}: {}",
            reply.error_code
        );
    }
    scene.end();
}

#[test]
fn more_than_one_batch_old_magic_and_control_batches() {
    let mut scene = Scene::new(&[]);
    let good = spoilt(|_| {});
    scene.refused("two batches", &[good.clone(), good.clone()].concat(), ErrorCode::InvalidRecord);
    scene.refused("magic 0", &spoilt(|b| b.magic = 0), ErrorCode::InvalidRecord);
    scene.refused("magic 1", &spoilt(|b| b.magic = 1), ErrorCode::InvalidRecord);
    scene.refused("a control batch", &spoilt(|b| b.attributes = 0x20), ErrorCode::InvalidRecord);
    scene.end();
}

#[test]
fn batches_cut_or_overlong() {
    let mut scene = Scene::new(&[]);
    let good = spoilt(|_| {});
    for length in [1, 11, 12, 16, 17, 60, 61, good.len() - 1] {
        let reply = scene.connection.produce(&scene.topic, &good[..length], 9);
        assert_ne!(reply.error_code, 0, "a batch cut to {length} bytes");
    }
    let mut overlong = good.clone();
    overlong.extend([0; 20]);
    let reply = scene.connection.produce(&scene.topic, &overlong, 9);
    assert_ne!(reply.error_code, 0, "bytes behind the batch");
    for claim in [-1_i32, 0, 48, i32::MAX] {
        let mut bad = good.clone();
        bad[8..12].copy_from_slice(&claim.to_be_bytes());
        let reply = scene.connection.produce(&scene.topic, &bad, 9);
        assert_ne!(reply.error_code, 0, "a batch length of {claim}");
    }
    scene.end();
}

#[test]
fn compacted_topics_want_keys() {
    let mut scene = Scene::new(&[("cleanup.policy", "compact")]);
    scene.refused("a null key", &spoilt(|_| {}), ErrorCode::InvalidRecord);
    scene.end();
}

#[test]
fn timestamps_beyond_the_limits() {
    let mut scene =
        Scene::new(&[("message.timestamp.after.max.ms", "1000"), ("message.timestamp.before.max.ms", "0")]);
    let far = spoilt(|b| (b.base_timestamp, b.max_timestamp) = (4_000_000_000_000, 4_000_000_000_000));
    scene.refused("a timestamp in the future", &far, ErrorCode::InvalidTimestamp);
    scene.refused("a timestamp in the past", &spoilt(|_| {}), ErrorCode::InvalidTimestamp);
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let now = i64::try_from(now).expect("before the year 292 million") + 500;
    let good = Batch::of(&[b"now"], now).encode();
    let reply = scene.connection.produce(&scene.topic, &good, 9);
    assert_eq!((reply.error_code, reply.base_offset), (0, 0));
    scene.healthy.finish();
}

#[test]
fn batches_above_the_topics_limit() {
    let mut scene = Scene::new(&[("max.message.bytes", "1000")]);
    let large = Batch::of(&[&[b'x'; 2000]], T0).encode();
    scene.refused("2,000 bytes where 1,000 are allowed", &large, ErrorCode::MessageTooLarge);
    scene.end();
}

/// A compressed batch of one record, encoded by `compress`.
fn compressed(codec: i16, records: Vec<u8>, compress: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    spoilt(|b| {
        (b.records_count, b.last_offset_delta, b.attributes) = (1, 0, codec);
        b.records = compress(&records);
    })
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("zstd compresses")
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("gzip compresses");
    encoder.finish().expect("gzip compresses")
}

#[test]
fn zstd_needs_produce_7() {
    let mut scene = Scene::new(&[]);
    let batch = compressed(4, record(0), zstd_of);
    for version in 3..7 {
        let reply = scene.connection.produce(&scene.topic, &batch, version);
        assert_eq!(reply.error_code, ErrorCode::UnsupportedCompressionType.code(), "Produce {version}");
    }
    let reply = scene.connection.produce(&scene.topic, &batch, 7);
    assert_eq!((reply.error_code, reply.base_offset), (0, 0));
    scene.healthy.finish();
}

#[test]
fn compressed_data_that_is_none() {
    let mut scene = Scene::new(&[]);
    for codec in 1..=7 {
        let batch = compressed(codec, record(0), |_| vec![0x5a; 100]);
        let reply = scene.connection.produce(&scene.topic, &batch, 9);
        assert_ne!(reply.error_code, 0, "codec {codec}");
    }
    for (codec, whole) in [(1, gzip_of(&record(0))), (4, zstd_of(&record(0)))] {
        let batch = compressed(codec, Vec::new(), |_| whole[..whole.len() / 2].to_vec());
        let reply = scene.connection.produce(&scene.topic, &batch, 9);
        assert_ne!(reply.error_code, 0, "codec {codec}, cut in the middle");
    }
    scene.end();
}

/// A few hundred KiB on the wire that would be gigabytes in memory.
#[test]
fn decompression_bombs() {
    let mut scene = Scene::new(&[]);
    let claim = i64::from(i32::MAX) - 100;
    let mut head = Vec::new();
    ottla_integration_tests::batch::varint(&mut head, claim);
    // Attributes, timestamp, offset, no key, and a value as long as the record almost.
    head.extend([0, 0, 0, 1]);
    ottla_integration_tests::batch::varint(&mut head, claim - 20);
    let bombs = [
        compressed(1, Vec::new(), |_| {
            bomb(&head, |out| Box::new(flate2::write::GzEncoder::new(out, flate2::Compression::fast())))
        }),
        compressed(4, Vec::new(), |_| zstd_bomb(&head)),
    ];
    scene.healthy.goes_on();
    let before = process::rss_peak_bytes(scene.broker.pid());
    for (bomb, what) in bombs.iter().zip(["gzip", "zstd"]) {
        let began = Instant::now();
        let reply = scene.connection.produce(&scene.topic, bomb, 9);
        assert_ne!(reply.error_code, 0, "a {what} bomb of {} bytes", bomb.len());
        assert!(began.elapsed() < Duration::from_secs(20), "a {what} bomb took {:?}", began.elapsed());
    }
    let grown = process::rss_peak_bytes(scene.broker.pid()).saturating_sub(before);
    assert!(grown < 200 * MIB as u64, "bombs cost {grown} bytes");
    scene.end();
}

/// 1 GiB of zeros behind `head`, compressed.
fn bomb(head: &[u8], encoder: impl FnOnce(Vec<u8>) -> Box<flate2::write::GzEncoder<Vec<u8>>>) -> Vec<u8> {
    let mut encoder = encoder(Vec::new());
    encoder.write_all(head).expect("memory");
    let zeros = vec![0; MIB];
    for _ in 0..1024 {
        encoder.write_all(&zeros).expect("memory");
    }
    encoder.finish().expect("memory")
}

fn zstd_bomb(head: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd");
    encoder.write_all(head).expect("memory");
    let zeros = vec![0; MIB];
    for _ in 0..1024 {
        encoder.write_all(&zeros).expect("memory");
    }
    encoder.finish().expect("memory")
}

#[test]
fn transactions_are_refused_until_they_are_served() {
    let mut scene = Scene::new(&[]);
    let batch = spoilt(|b| {
        (b.attributes, b.producer_id, b.producer_epoch, b.base_sequence) = (0x10, 1, 0, 0);
    });
    let mut request = requests::produce_request(&scene.topic, &batch, -1, 9);
    request.transactional_id = Some("t".into());
    let reply: ottla_protocol::generated::produce::ProduceResponse = scene.connection.ask(&request, 9);
    let refused = ErrorCode::InvalidRequest.code();
    assert_eq!(reply.responses[0].partition_responses[0].error_code, refused);
    // Nor does a batch slip in that is transactional while its request is not.
    assert_eq!(scene.connection.produce(&scene.topic, &batch, 9).error_code, refused);
    scene.end();
}

#[test]
fn idempotent_producers_get_duplicates_and_gaps_told() {
    let mut scene = Scene::new(&[]);
    let reply: ottla_protocol::generated::init_producer_id::InitProducerIdResponse = scene.connection.ask(
        &ottla_protocol::generated::init_producer_id::InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..Default::default()
        },
        4,
    );
    let (id, epoch) = (reply.producer_id, reply.producer_epoch);
    let batch = |sequence| Batch::of(&[b"a", b"b"], T0).by(id, epoch, sequence).encode();
    for sequence in (0..12).step_by(2) {
        let reply = scene.connection.produce(&scene.topic, &batch(sequence), 9);
        assert_eq!((reply.error_code, reply.base_offset), (0, i64::from(sequence)));
    }
    // The window is five batches: those from 2 on are known, the first is not any more.
    for sequence in (2..12).step_by(2) {
        let reply = scene.connection.produce(&scene.topic, &batch(sequence), 9);
        assert_eq!(
            (reply.error_code, reply.base_offset),
            (0, i64::from(sequence)),
            "a duplicate's first offset"
        );
    }
    scene.refused("a gap", &batch(20), ErrorCode::OutOfOrderSequenceNumber);
    let reply = scene.connection.produce(&scene.topic, &batch(12), 9);
    assert_eq!((reply.error_code, reply.base_offset), (0, 12), "nothing of it was stored twice");
    let next_epoch = Batch::of(&[b"a"], T0).by(id, epoch + 1, 0).encode();
    assert_eq!(scene.connection.produce(&scene.topic, &next_epoch, 9).error_code, 0);
    scene.refused("an old epoch", &batch(14), ErrorCode::InvalidProducerEpoch);
    scene.healthy.finish();
}

/// acks=0 gets no reply; an error then closes the connection, which is all that such a client can be told.
#[test]
fn acks_0_is_told_by_closing() {
    let mut scene = Scene::new(&[]);
    let mut connection = Connection::open(scene.broker.address());
    let good = spoilt(|_| {});
    connection.send_typed(&requests::produce_request(&scene.topic, &good, 0, 9), 9);
    let fetched = scene.connection.fetch(&scene.topic, 0, 12);
    assert!(!requests::records(&fetched).is_empty(), "what acks=0 sent is there");
    let mut bad = good;
    bad[61] ^= 1;
    connection.send_typed(&requests::produce_request(&scene.topic, &bad, 0, 9), 9);
    assert_eq!(connection.receive(), Reply::Closed);
    scene.healthy.goes_on();
    scene.healthy.finish();
}
