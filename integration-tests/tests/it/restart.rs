//! What a broker finds again after `kill -9` and after a clean stop.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_integration_tests::batch::Batch;
use ottla_integration_tests::requests;
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, BrokerOptions, process, wait_until};
use ottla_protocol::generated::fetch::FetchResponse;
use ottla_protocol::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};
use ottla_protocol::records::Batches;
use rustix::process::Signal;

use crate::rd::{self, Sender};

const T0: i64 = 1_700_000_000_000;
const LOAD: [(&str, &str); 4] = [
    ("enable.idempotence", "true"),
    ("linger.ms", "2"),
    ("reconnect.backoff.max.ms", "200"),
    ("batch.num.messages", "50"),
];

/// Three kills in the middle of a load: in the end each record is there exactly once and in order.
#[test]
fn kill_9_under_load() {
    const RECORDS: usize = 40_000;
    let mut broker = Broker::start_default();
    rd::create_topic(&broker, "load", 1, &[]);
    let mut sender = Sender::new(&broker, &LOAD);
    for (part, records) in rd::numbered(0..RECORDS, 100).chunks(RECORDS / 4).enumerate() {
        for record in records {
            sender.send("load", record);
        }
        let enough = part * RECORDS / 4 + 500;
        wait_until(Duration::from_secs(60), "acknowledgements", || {
            (sender.acknowledged() > enough).then_some(())
        });
        if part < 3 {
            let acknowledged = sender.acknowledged();
            broker.kill();
            broker.start();
            let (_, end) = rd::watermarks(&broker, "load", 0);
            assert!(
                end >= i64::try_from(acknowledged).expect("small"),
                "{acknowledged} acknowledged, {end} there"
            );
        }
    }
    let fates = sender.finish();
    assert!(fates.iter().all(Result::is_ok), "each record was acknowledged in the end");
    let wanted = rd::numbered(0..RECORDS, 100);
    let got = rd::read(&broker, "load", 0, 0, RECORDS);
    for (at, ((offset, record), wanted)) in (0..).zip(got.iter().zip(&wanted)) {
        assert_eq!((*offset, record), (at, wanted));
    }
    assert_eq!(rd::watermarks(&broker, "load", 0).1, i64::try_from(RECORDS).expect("small"), "nothing twice");
}

/// What was acknowledged with acks=all stands after a kill that follows at once, in each of many partitions.
#[test]
fn acknowledged_is_on_disk() {
    let mut broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let topics: Vec<_> = (0..20).map(|i| connection.create_topic(&format!("t-{i}"), 1, &[])).collect();
    for round in 0..5 {
        for topic in &topics {
            let batch = Batch::of(&[format!("{} {round}", topic.name).as_bytes()], T0).encode();
            assert_eq!(connection.produce(topic, &batch, 9).error_code, 0);
        }
    }
    broker.kill();
    broker.start();
    let mut connection = Connection::open(broker.address());
    for topic in &topics {
        let data = connection.fetch(topic, 0, 13);
        assert_eq!((data.error_code, data.high_watermark), (0, 5), "{}", topic.name);
        let bytes = requests::records(&data);
        for round in 0..5 {
            let value = format!("{} {round}", topic.name).into_bytes();
            assert!(bytes.windows(value.len()).any(|part| part == value), "{} {round}", topic.name);
        }
    }
}

#[test]
fn a_clean_restart_keeps_everything() {
    let mut broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let topic =
        connection.create_topic("kept", 1, &[("retention.ms", "123456789"), ("segment.bytes", "1048576")]);
    let gone = connection.create_topic("gone", 1, &[]);
    let batch = Batch::of(&[b"x"], T0).encode();
    connection.produce(&gone, &batch, 9);
    rd::block(rd::admin(&broker).delete_topics(&["gone"], &rd::options())).expect("a reply");
    let init = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() };
    let producer: InitProducerIdResponse = connection.ask(&init, 4);
    let sequenced = |sequence| Batch::of(&[b"s"], T0).by(producer.producer_id, 0, sequence).encode();
    for sequence in 0..3 {
        assert_eq!(connection.produce(&topic, &sequenced(sequence), 9).error_code, 0);
    }
    let cluster = connection.metadata("kept").cluster_id;

    broker.restart();
    let mut connection = Connection::open(broker.address());
    let metadata = connection.metadata("kept");
    assert_eq!(metadata.cluster_id, cluster);
    assert_eq!((metadata.topics[0].error_code, metadata.topics[0].topic_id), (0, topic.id));
    assert_ne!(connection.metadata("gone").topics[0].error_code, 0, "a deleted topic stays deleted");
    let again = connection.produce(&topic, &sequenced(2), 9);
    assert_eq!((again.error_code, again.base_offset), (0, 2), "a duplicate is known across the restart");
    let next = connection.produce(&topic, &sequenced(3), 9);
    assert_eq!((next.error_code, next.base_offset), (0, 3));
    let other: InitProducerIdResponse = connection.ask(&init, 4);
    assert_ne!(other.producer_id, producer.producer_id, "a producer id is given once");

    broker.kill();
    broker.start();
    let mut connection = Connection::open(broker.address());
    let again = connection.produce(&topic, &sequenced(3), 9);
    assert_eq!((again.error_code, again.base_offset), (0, 3), "a duplicate is known after a kill, too");
    let third: InitProducerIdResponse = connection.ask(&init, 4);
    let ids = BTreeSet::from([producer.producer_id, other.producer_id, third.producer_id]);
    assert_eq!(ids.len(), 3, "a producer id is given once");
}

#[test]
fn the_stop_is_graceful_on_both_signals() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start_default();
        let mut connection = Connection::open(broker.address());
        let topic = connection.create_topic("t", 1, &[]);
        connection.produce(&topic, &Batch::of(&[b"x"], T0).encode(), 9);
        broker.signal(signal);
        let status = broker.wait_for_end(Duration::from_secs(20));
        assert!(status.success(), "{signal:?}: {status}");
        assert!(broker.directory().join(".kafka_cleanshutdown").exists(), "the mark of a clean stop");
    }
}

/// 10,000 partitions are ordinary: no directory before the first append, no descriptor, thread or timer each. There are more
/// partitions with data than files that the process may open.
#[test]
fn ten_thousand_partitions() {
    const OPEN_FILES_MAX: u64 = 700;
    let mut broker = BrokerOptions::default().open_files_max(OPEN_FILES_MAX).start();
    for topic in 0..10 {
        rd::create_topic(&broker, &format!("wide-{topic}"), 1_000, &[]);
    }
    let records: Vec<_> = (0..2_000)
        .map(|i| rd::Record {
            partition: i % 1_000,
            key: None,
            value: Some(i.to_string().into_bytes()),
            headers: Vec::new(),
            timestamp_ms: T0,
        })
        .collect();
    let fates = rd::send_all(&broker, &[], "wide-3", &records);
    assert!(fates.iter().all(Result::is_ok));
    let directories = || {
        let listed = std::fs::read_dir(broker.directory()).expect("the data directory");
        listed
            .filter(|entry| {
                entry.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with("wide-"))
            })
            .count()
    };
    assert_eq!(directories(), 1_000, "only partitions that were written to have a directory");
    broker.restart();
    let (rss_mib, threads) = (process::rss_bytes(broker.pid()) >> 20, process::threads(broker.pid()));
    println!("10,000 partitions: ready after {:?}, {rss_mib} MiB, {threads} threads", broker.ready_after());
    assert!(threads < 200, "{threads} threads");
    let mut connection = Connection::open(broker.address());
    let reply: MetadataResponse = connection.ask(&MetadataRequest { topics: None, ..Default::default() }, 12);
    let led = reply
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .filter(|p| p.error_code == 0 && p.leader_id >= 0)
        .count();
    assert_eq!(led, 10_000, "partitions with a leader");
    let topic = requests::Topic { name: "wide-3".to_owned(), id: ottla_protocol::ids::Uuid::default() };
    for partition in 0..1_000 {
        let request = requests::fetch_request(&topic, partition, 0, 12);
        let fetched: FetchResponse = connection.ask(&request, 12);
        let bytes = requests::records(&fetched.responses[0].partitions[0]);
        let batches = Batches::new(&bytes).map(|batch| batch.expect("whole batches").header().records_count);
        assert_eq!(batches.sum::<i32>(), 2, "records of partition {partition}");
    }
    assert!((process::descriptors(broker.pid()) as u64) < OPEN_FILES_MAX, "descriptors");
}

#[test]
fn a_second_broker_on_the_same_directory_gives_up() {
    let broker = Broker::start_default();
    let (status, log) = BrokerOptions::default().directory(broker.directory()).start_refused();
    assert!(!status.success(), "{status}");
    assert!(log.to_lowercase().contains("lock"), "the log says why:\n{log}");
    let mut connection = Connection::open(broker.address());
    connection.create_topic("unharmed", 1, &[]);
}

#[test]
fn a_second_broker_on_the_same_port_gives_up() {
    let broker = Broker::start_default();
    let (status, log) = BrokerOptions::default().port(broker.port()).start_refused();
    assert!(!status.success(), "{status}");
    assert!(log.contains(&broker.port().to_string()), "the log names the port:\n{log}");
    let mut connection = Connection::open(broker.address());
    connection.create_topic("unharmed", 1, &[]);
}
