//! librdkafka as the load: produce a volume, consume it, and produce at a gentle pace to see latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ottla_integration_tests::Broker;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(300);

/// What is sent and how.
#[derive(Clone)]
pub struct Load {
    pub topic: String,
    pub partitions: usize,
    pub record_bytes: usize,
    pub batch_bytes: usize,
    pub codec: &'static str,
    pub acks: &'static str,
}

#[derive(Default)]
struct Deliveries {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.delivered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    config
}

/// Values that compress about as text does, cut from a larger pool.
pub fn pool() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = Vec::new();
    while text.len() < 4 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let line = format!(
            "user={} action=open item={} at=2026-11-22T10:{:02}\n",
            state % 9_973,
            state >> 40,
            state % 60
        );
        text.extend(line.as_bytes());
    }
    text
}

/// Produces `count` records as fast as they are taken and gives the seconds that took.
pub fn produce(broker: &Broker, load: &Load, pool: &[u8], count: usize) -> f64 {
    let mut config = client(broker);
    config
        .set("acks", load.acks)
        .set("batch.size", load.batch_bytes.to_string())
        .set("batch.num.messages", "100000")
        .set("linger.ms", "10")
        .set("compression.type", load.codec)
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144");
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(Deliveries::default()).expect("a producer");
    let per_batch = (load.batch_bytes / (load.record_bytes + 10)).max(1);
    let began = Instant::now();
    for i in 0..count {
        let at = (i * load.record_bytes) % (pool.len() - load.record_bytes);
        let partition = i32::try_from(i / per_batch % load.partitions).expect("few partitions");
        let mut record = BaseRecord::<(), [u8]>::to(&load.topic)
            .partition(partition)
            .payload(&pool[at..at + load.record_bytes]);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        if i % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let took = began.elapsed().as_secs_f64();
    let context = producer.context();
    assert_eq!(context.failed.load(Ordering::Relaxed), 0, "no record failed");
    assert_eq!(context.delivered.load(Ordering::Relaxed), count as u64);
    took
}

/// Consumes `count` records from the beginning and gives the seconds that took.
pub fn consume(broker: &Broker, load: &Load, count: usize) -> f64 {
    let consumer = consumer(broker, load, Offset::Beginning);
    let began = Instant::now();
    let mut got = 0;
    while got < count {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(_)) => got += 1,
            Some(Err(error)) => panic!("{error}"),
            None => assert!(began.elapsed() < PATIENCE, "{got} of {count} records"),
        }
    }
    began.elapsed().as_secs_f64()
}

fn consumer(broker: &Broker, load: &Load, from: Offset) -> BaseConsumer {
    let consumer: BaseConsumer = client(broker)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "1000000")
        .set("fetch.wait.max.ms", "100")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..load.partitions {
        let partition = i32::try_from(partition).expect("few partitions");
        assignment.add_partition_offset(&load.topic, partition, from).expect("valid");
    }
    consumer.assign(&assignment).expect("an assignment");
    consumer
}

/// Microseconds from sending to the acknowledgement, and from sending to a consumer's hands.
pub struct Latency {
    pub acknowledged_us: Histogram<u64>,
    pub consumed_us: Histogram<u64>,
}

struct Timed {
    began: Instant,
    acknowledged_us: std::sync::Mutex<Histogram<u64>>,
}

impl ClientContext for Timed {}

impl ProducerContext for Timed {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_us: Box<u64>) {
        assert!(result.is_ok(), "no record fails");
        let took = micros(self.began) - *sent_us;
        self.acknowledged_us.lock().expect("no panic while held").record(took).expect("within a minute");
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("a short run")
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds")
}

/// Sends 1,000 records a second for `seconds` while a consumer waits for them.
pub fn latency(broker: &Broker, load: &Load, seconds: u64) -> Latency {
    let began = Instant::now();
    let context = Timed { began, acknowledged_us: std::sync::Mutex::new(histogram()) };
    let producer: BaseProducer<Timed> = client(broker)
        .set("acks", load.acks)
        .set("linger.ms", "0")
        .set("compression.type", load.codec)
        .create_with_context(context)
        .expect("a producer");
    let count = seconds * 1_000;
    let reader = consumer(broker, load, Offset::End);
    let reading = Arc::new(std::sync::Barrier::new(2));
    let ready = Arc::clone(&reading);
    let consumed = std::thread::spawn(move || {
        let mut consumed_us = histogram();
        // The first poll starts the fetching; what was sent before the position was known is not waited for.
        assert!(reader.poll(Duration::from_millis(500)).is_none(), "nothing is sent yet");
        ready.wait();
        let deadline = Instant::now() + Duration::from_secs(seconds + 10);
        while consumed_us.len() < count && Instant::now() < deadline {
            if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
                let head: [u8; 8] = message.payload().expect("a value")[..8].try_into().expect("8 bytes");
                consumed_us.record(micros(began) - u64::from_be_bytes(head)).expect("within a minute");
            }
        }
        consumed_us
    });
    reading.wait();
    let start = Instant::now();
    let mut value = vec![b'x'; load.record_bytes];
    for i in 0..count {
        let due = Duration::from_millis(i);
        while start.elapsed() < due {
            producer.poll(due.saturating_sub(start.elapsed()));
        }
        let now = micros(began);
        value[..8].copy_from_slice(&now.to_be_bytes());
        let partition = i32::try_from(i as usize % load.partitions).expect("few partitions");
        let record = BaseRecord::<(), [u8], Box<u64>>::with_opaque_to(&load.topic, Box::new(now))
            .partition(partition)
            .payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("the queue is far from full");
    }
    producer.flush(PATIENCE).expect("everything is delivered");
    let consumed_us = consumed.join().expect("the consumer ends");
    let acknowledged_us = producer.context().acknowledged_us.lock().expect("no panic while held").clone();
    Latency { acknowledged_us, consumed_us }
}
