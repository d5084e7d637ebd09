//! librdkafka through the rdkafka crate: every codec and acks, idempotent producing, reading by assignment,
//! administration.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_integration_tests::{Broker, BrokerOptions};
use rdkafka::admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::rd::{self, Record, TIMEOUT};

const PARTITIONS: i32 = 3;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Sends the records and finds them again, at the offsets that the producer was told.
fn round_trip(broker: &Broker, topic: &str, settings: &[(&str, &str)], offsets_are_told: bool) {
    rd::create_topic(broker, topic, PARTITIONS, &[]);
    let records = rd::varied(3_000, PARTITIONS);
    let fates = rd::send_all(broker, settings, topic, &records);
    let mut next = BTreeMap::<i32, i64>::new();
    for (record, fate) in records.iter().zip(fates) {
        let offset = next.entry(record.partition).or_default();
        let told = fate.expect("an acknowledgement");
        assert!(
            !offsets_are_told || told == *offset,
            "{topic}-{}: told {told}, not {offset}",
            record.partition
        );
        *offset += 1;
    }
    for partition in 0..PARTITIONS {
        let wanted: Vec<&Record> = records.iter().filter(|record| record.partition == partition).collect();
        let got = rd::read(broker, topic, partition, 0, wanted.len());
        for (at, ((offset, record), wanted)) in (0..).zip(got.iter().zip(wanted)) {
            assert_eq!((*offset, record), (at, wanted), "{topic}-{partition}");
        }
        assert_eq!(rd::watermarks(broker, topic, partition), (0, i64::try_from(got.len()).expect("small")));
    }
}

#[test]
fn every_codec() {
    let broker = Broker::start_default();
    for codec in CODECS {
        round_trip(&broker, &format!("codec-{codec}"), &[("compression.type", codec), ("acks", "all")], true);
    }
}

#[test]
fn every_acks() {
    let broker = Broker::start_default();
    round_trip(&broker, "acks-0", &[("acks", "0")], false);
    round_trip(&broker, "acks-1", &[("acks", "1")], true);
    round_trip(&broker, "acks-all", &[("acks", "all")], true);
}

#[test]
fn idempotent_producing() {
    let broker = Broker::start_default();
    round_trip(&broker, "idempotent", &[("enable.idempotence", "true"), ("linger.ms", "1")], true);
}

#[test]
fn reading_from_the_middle_of_a_batch() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "middle", 1, &[]);
    let records = rd::varied(500, 1);
    rd::send_all(&broker, &[("linger.ms", "100"), ("compression.type", "zstd")], "middle", &records);
    for offset in [1, 250, 499] {
        let got = rd::read(&broker, "middle", 0, offset, 1);
        assert_eq!(got, [(offset, records[usize::try_from(offset).expect("small")].clone())]);
    }
}

#[test]
fn a_consumer_at_the_end_gets_what_comes() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "tail", 1, &[]);
    let consumer = rd::consumer(&broker, "tail", 0, 0);
    assert!(consumer.poll(Duration::from_millis(300)).is_none(), "nothing was written yet");
    let records = rd::varied(1, 1);
    rd::send_all(&broker, &[], "tail", &records);
    let deadline = Instant::now() + TIMEOUT;
    let got = std::iter::repeat_with(|| consumer.poll(Duration::from_millis(100)))
        .take_while(|_| Instant::now() < deadline)
        .find_map(|polled| polled)
        .expect("the record comes")
        .expect("no error");
    assert_eq!(rdkafka::Message::offset(&got), 0);
}

#[test]
fn offsets_for_times() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "times", 1, &[]);
    // Several batches, so that both the index and the search inside a batch are used.
    for part in rd::varied(1_000, 1).chunks(100) {
        rd::send_all(&broker, &[("compression.type", "lz4")], "times", part);
    }
    let consumer: BaseConsumer = rd::config(&broker, &[]).create().expect("a consumer");
    for (asked, answer) in
        [(0, Offset::Offset(0)), (555, Offset::Offset(555)), (999, Offset::Offset(999)), (1_000, Offset::End)]
    {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("times", 0, Offset::Offset(1_700_000_000_000 + asked)).expect("valid");
        let found = consumer.offsets_for_times(list, TIMEOUT).expect("a reply");
        assert_eq!(found.elements()[0].offset(), answer, "{asked} ms after the first");
    }
}

#[test]
fn deleting_records() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "trim", 1, &[]);
    let records = rd::varied(100, 1);
    rd::send_all(&broker, &[], "trim", &records);
    let mut until = TopicPartitionList::new();
    until.add_partition_offset("trim", 0, Offset::Offset(40)).expect("valid");
    let deleted = rd::block(rd::admin(&broker).delete_records(&until, &rd::options())).expect("a reply");
    assert_eq!(deleted.elements()[0].offset(), Offset::Offset(40));
    assert_eq!(rd::watermarks(&broker, "trim", 0), (40, 100));
    assert_eq!(rd::read(&broker, "trim", 0, 40, 1)[0], (40, records[40].clone()));
}

#[test]
fn topics_are_created_grown_and_deleted() {
    let broker = Broker::start_default();
    let admin = rd::admin(&broker);
    rd::create_topic(&broker, "life", 1, &[]);
    let again = NewTopic::new("life", 1, TopicReplication::Fixed(1));
    let refused = rd::block(admin.create_topics([&again], &rd::options())).expect("a reply");
    assert_eq!(refused, [Err(("life".to_owned(), RDKafkaErrorCode::TopicAlreadyExists))]);

    let more = NewPartitions::new("life", 5);
    let grown = rd::block(admin.create_partitions([&more], &rd::options())).expect("a reply");
    assert_eq!(grown, [Ok("life".to_owned())]);
    let metadata = admin.inner().fetch_metadata(Some("life"), TIMEOUT).expect("metadata");
    assert_eq!(metadata.topics()[0].partitions().len(), 5);
    let fewer = NewPartitions::new("life", 4);
    let refused = rd::block(admin.create_partitions([&fewer], &rd::options())).expect("a reply");
    assert_eq!(refused, [Err(("life".to_owned(), RDKafkaErrorCode::InvalidPartitions))]);

    let too_wide = NewTopic::new("wide", 1, TopicReplication::Fixed(2));
    let refused = rd::block(admin.create_topics([&too_wide], &rd::options())).expect("a reply");
    assert_eq!(refused, [Err(("wide".to_owned(), RDKafkaErrorCode::InvalidReplicationFactor))]);

    let deleted = rd::block(admin.delete_topics(&["life"], &rd::options())).expect("a reply");
    assert_eq!(deleted, [Ok("life".to_owned())]);
    let gone = rd::block(admin.delete_topics(&["life"], &rd::options())).expect("a reply");
    assert_eq!(gone, [Err(("life".to_owned(), RDKafkaErrorCode::UnknownTopicOrPartition))]);
    rd::create_topic(&broker, "life", 1, &[]);
    assert_eq!(rd::watermarks(&broker, "life", 0), (0, 0), "a new topic of an old name is empty");
}

#[test]
fn configs_are_described_and_altered() {
    let broker = Broker::start_default();
    let admin = rd::admin(&broker);
    rd::create_topic(&broker, "set", 1, &[("retention.ms", "1000000")]);
    let value = |key: &str| {
        let asked = ResourceSpecifier::Topic("set");
        let resource =
            rd::block(admin.describe_configs([&asked], &rd::options())).expect("a reply").remove(0);
        let resource = resource.expect("the topic's settings");
        let entry = resource.get(key).unwrap_or_else(|| panic!("{key} is not described"));
        (entry.value.clone().unwrap_or_default(), entry.is_default)
    };
    assert_eq!(value("retention.ms"), ("1000000".to_owned(), false));
    assert_eq!(value("segment.bytes"), ("1073741824".to_owned(), true));

    let change = AlterConfig::new(ResourceSpecifier::Topic("set")).set("max.message.bytes", "1000");
    let altered = rd::block(admin.alter_configs([&change], &rd::options())).expect("a reply");
    assert!(altered[0].is_ok(), "{altered:?}");
    assert_eq!(value("max.message.bytes"), ("1000".to_owned(), false));
    assert_eq!(value("retention.ms"), ("604800000".to_owned(), true), "AlterConfigs replaces all settings");

    let fates = rd::send_all(&broker, &[], "set", &rd::numbered(0..1, 2_000));
    assert_eq!(fates, [Err(RDKafkaErrorCode::MessageSizeTooLarge)]);

    let bad = AlterConfig::new(ResourceSpecifier::Topic("set")).set("max.message.bytes", "many");
    // The crate does not pass on the error of a single resource, so what counts is that nothing changed.
    rd::block(admin.alter_configs([&bad], &rd::options())).expect("a reply");
    assert_eq!(
        value("max.message.bytes"),
        ("1000".to_owned(), false),
        "a value that is no number is refused"
    );
}

#[test]
fn topics_come_by_themselves_unless_forbidden() {
    let broker = Broker::start_default();
    let fates = rd::send_all(&broker, &[], "by-itself", &rd::numbered(0..1, 10));
    assert_eq!(fates, [Ok(0)]);

    let strict = BrokerOptions::default().set("auto.create.topics.enable", false).start();
    let fates = rd::send_all(
        &strict,
        &[("message.timeout.ms", "10000"), ("topic.metadata.propagation.max.ms", "0")],
        "by-itself",
        &rd::numbered(0..1, 10),
    );
    assert!(
        matches!(fates[0], Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)),
        "{fates:?}"
    );
}

#[test]
fn the_broker_stamps_and_recompresses_where_the_topic_says_so() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    rd::create_topic(&broker, "repacked", 1, &[("compression.type", "gzip")]);
    let records = rd::varied(200, 1);
    for topic in ["stamped", "repacked"] {
        rd::send_all(&broker, &[("compression.type", "lz4"), ("linger.ms", "50")], topic, &records);
    }
    let stamped = rd::read(&broker, "stamped", 0, 0, 200);
    assert!(
        stamped.iter().all(|(_, record)| record.timestamp_ms > 1_750_000_000_000),
        "the broker's own clock"
    );
    assert_eq!(stamped[5].1.value, records[5].value);
    let repacked = rd::read(&broker, "repacked", 0, 0, 200);
    assert!(repacked.iter().map(|(_, record)| record).eq(records.iter()));
    let log = broker.directory().join("repacked-0/00000000000000000000.log");
    let bytes = std::fs::read(log).expect("the log");
    assert_eq!(bytes[22] & 7, 1, "the first stored batch is compressed by gzip");
}
