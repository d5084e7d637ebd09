//! librdkafka, as the tests use it: produce a list and learn what became of each record, read a partition from an offset,
//! create a topic.

use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ottla_integration_tests::Broker;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

pub const TIMEOUT: Duration = Duration::from_secs(30);

/// One record to send, or one read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp_ms: i64,
}

/// Where a record went: its offset, or the error that the client was told.
pub type Fate = Result<i64, RDKafkaErrorCode>;

#[derive(Default)]
pub struct Fates(Mutex<Vec<(usize, Fate)>>);

impl ClientContext for Fates {}

impl ProducerContext for Fates {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let fate = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().expect("a delivery error has a code")),
        };
        self.0.lock().expect("no panic while held").push((*index, fate));
    }
}

pub fn config(broker: &Broker, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// A producer whose records are followed one by one.
pub struct Sender {
    producer: BaseProducer<Fates>,
    sent: usize,
}

impl Sender {
    pub fn new(broker: &Broker, settings: &[(&str, &str)]) -> Sender {
        let producer = config(broker, settings)
            .create_with_context(Fates::default())
            .expect("settings that librdkafka knows");
        Sender { producer, sent: 0 }
    }

    /// Queues a record, waiting while the queue is full.
    pub fn send(&mut self, topic: &str, record: &Record) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            });
            let next = BaseRecord {
                topic,
                partition: Some(record.partition),
                payload: record.value.as_deref(),
                key: record.key.as_deref(),
                timestamp: Some(record.timestamp_ms),
                headers: (!record.headers.is_empty()).then_some(headers),
                delivery_opaque: Box::new(self.sent),
            };
            match self.producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    assert!(Instant::now() < deadline, "the queue stays full");
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        self.sent += 1;
        self.producer.poll(Duration::ZERO);
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.producer.poll(Duration::from_millis(1));
        let fates = self.producer.context().0.lock().expect("no panic while held");
        fates.iter().filter(|(_, fate)| fate.is_ok()).count()
    }

    /// Waits until the fate of each record is known, and gives them in the order of sending.
    pub fn finish(self) -> Vec<Fate> {
        self.producer.flush(TIMEOUT * 4).expect("every record meets its fate");
        let mut fates = std::mem::take(&mut *self.producer.context().0.lock().expect("no panic while held"));
        fates.sort_by_key(|(index, _)| *index);
        assert_eq!(fates.len(), self.sent, "each record has exactly one fate");
        fates.into_iter().map(|(_, fate)| fate).collect()
    }
}

/// Sends all records and gives their fates.
pub fn send_all(broker: &Broker, settings: &[(&str, &str)], topic: &str, records: &[Record]) -> Vec<Fate> {
    let mut sender = Sender::new(broker, settings);
    for record in records {
        sender.send(topic, record);
    }
    sender.finish()
}

/// A consumer without a group that reads `topic`-`partition` from `offset`.
pub fn consumer(broker: &Broker, topic: &str, partition: i32, offset: i64) -> BaseConsumer {
    let settings = [("group.id", "unused"), ("enable.auto.commit", "false"), ("check.crcs", "true")];
    let consumer: BaseConsumer = config(broker, &settings).create().expect("settings that librdkafka knows");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
    consumer.assign(&assignment).expect("an assignment");
    consumer
}

/// The next `count` records of a partition from `offset` on, with their offsets.
pub fn read(broker: &Broker, topic: &str, partition: i32, offset: i64, count: usize) -> Vec<(i64, Record)> {
    let consumer = consumer(broker, topic, partition, offset);
    let deadline = Instant::now() + TIMEOUT;
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        assert!(Instant::now() < deadline, "{topic}-{partition}: {} records of {count}", records.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push((message.offset(), own(&message))),
            // A broker that has just come back is asked again by librdkafka itself.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )))
            | None => {}
            Some(Err(error)) => panic!("{topic}-{partition}: {error}"),
        }
    }
    records
}

fn own(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    }
}

/// The offsets `[start, end)` of a partition.
pub fn watermarks(broker: &Broker, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = config(broker, &[]).create().expect("settings that librdkafka knows");
    consumer.fetch_watermarks(topic, partition, TIMEOUT).expect("the watermarks")
}

pub fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    config(broker, &[]).create().expect("settings that librdkafka knows")
}

/// Runs an administrative call to its end.
pub fn block<T>(call: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(call)
}

pub fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

pub fn create_topic(broker: &Broker, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let created = block(admin(broker).create_topics([&topic], &options())).expect("a reply");
    assert_eq!(created, [Ok(name.to_owned())]);
}

/// Records with keys, headers, null and empty values, spread over the partitions.
pub fn varied(count: usize, partitions: i32) -> Vec<Record> {
    (0..count)
        .map(|i| Record {
            partition: i32::try_from(i).expect("a small count") % partitions,
            key: (i % 3 != 0).then(|| format!("key-{i}").into_bytes()),
            value: match i % 10 {
                7 => None,
                8 => Some(Vec::new()),
                _ => Some(format!("value {i} ").repeat(i % 40 + 1).into_bytes()),
            },
            headers: match i % 5 {
                0 => vec![("n".to_owned(), Some(i.to_be_bytes().to_vec())), ("none".to_owned(), None)],
                _ => Vec::new(),
            },
            timestamp_ms: 1_700_000_000_000 + i64::try_from(i).expect("a small count"),
        })
        .collect()
}

/// Plain numbered records for one partition.
pub fn numbered(range: std::ops::Range<usize>, size_bytes: usize) -> Vec<Record> {
    let filler = "x".repeat(size_bytes);
    range
        .map(|i| Record {
            partition: 0,
            key: None,
            value: Some(format!("{i} {filler}").into_bytes()),
            headers: Vec::new(),
            timestamp_ms: 1_700_000_000_000 + i64::try_from(i).expect("a small count"),
        })
        .collect()
}
