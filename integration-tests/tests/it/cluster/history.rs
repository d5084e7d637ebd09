//! A load whose history can be judged: an idempotent producer (acks=all) writes numbers round robin to every partition while things
//! happen; in the end every acknowledged number is there, once, in order, at the offset that was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_integration_tests::{Cluster, wait_until};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

pub const TOPIC: &str = "history";
pub const PARTITIONS: i32 = 6;
const WAIT: Duration = Duration::from_secs(60);

/// (number, offset) of what was acknowledged, by partition, and errors.
#[derive(Default)]
struct Acknowledged {
    by_partition: Mutex<BTreeMap<i32, Vec<(u64, i64)>>>,
    errors: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Deliveries(Arc<Acknowledged>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let mut by_partition = self.0.by_partition.lock().expect("no panic while held");
                by_partition.entry(message.partition()).or_default().push((*number, message.offset()));
            }
            Err((error, _)) => self.0.errors.lock().expect("no panic while held").push(error.to_string()),
        }
    }
}

/// A running load.
pub struct History {
    bootstrap: String,
    acknowledged: Arc<Acknowledged>,
    stop: Arc<AtomicBool>,
    load: JoinHandle<()>,
}

fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

impl History {
    /// Makes the topic, with three replicas of which two have to be in sync, and begins.
    pub fn begin(cluster: &Cluster) -> Self {
        let bootstrap = cluster.bootstrap();
        let admin: AdminClient<DefaultClientContext> = config(&bootstrap, &[]).create().expect("settings");
        let topic =
            NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
        let options = AdminOptions::new().request_timeout(Some(WAIT)).operation_timeout(Some(WAIT));
        let created = crate::rd::block(admin.create_topics([&topic], &options)).expect("a reply");
        assert_eq!(created, [Ok(TOPIC.to_owned())]);
        let acknowledged = Arc::<Acknowledged>::default();
        let stop = Arc::<AtomicBool>::default();
        let settings = [
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("message.timeout.ms", "120000"),
            ("socket.timeout.ms", "3000"),
            ("request.timeout.ms", "2000"),
            ("topic.metadata.refresh.interval.ms", "1000"),
            ("reconnect.backoff.max.ms", "500"),
        ];
        let producer: BaseProducer<Deliveries> = config(&bootstrap, &settings)
            .create_with_context(Deliveries(acknowledged.clone()))
            .expect("settings that librdkafka knows");
        let stopping = stop.clone();
        let load = std::thread::spawn(move || produce(&producer, &stopping));
        let history = Self { bootstrap, acknowledged, stop, load };
        history.wait_for_progress();
        history
    }

    /// How many were acknowledged in each partition.
    fn counts(&self) -> Vec<usize> {
        let by_partition = self.acknowledged.by_partition.lock().expect("no panic while held");
        (0..PARTITIONS).map(|partition| by_partition.get(&partition).map_or(0, Vec::len)).collect()
    }

    /// Waits until something more is acknowledged in every partition.
    pub fn wait_for_progress(&self) {
        let before = self.counts();
        wait_until(WAIT, "an acknowledgement in every partition", || {
            self.counts().iter().zip(&before).all(|(now, before)| now > before).then_some(())
        });
    }

    /// Waits until every partition has all its replicas in sync.
    pub fn wait_for_full_isrs(&self) {
        let consumer: BaseConsumer = config(&self.bootstrap, &[]).create().expect("settings");
        wait_until(WAIT, "full ISRs", || {
            let metadata = consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(5)).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let full = |partition: &rdkafka::metadata::MetadataPartition| partition.isr().len() == 3;
            (i32::try_from(partitions.len()) == Ok(PARTITIONS) && partitions.iter().all(full)).then_some(())
        });
    }

    /// Ends the load, reads everything and judges it. Gives how many were acknowledged.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.load.join().expect("the load ends");
        let errors = self.acknowledged.errors.lock().expect("no panic while held");
        assert!(errors.is_empty(), "{} were refused, the first: {}", errors.len(), errors[0]);
        let acknowledged = self.acknowledged.by_partition.lock().expect("no panic while held");
        for partition in 0..PARTITIONS {
            let read = read_all(&self.bootstrap, partition);
            assert!(
                read.windows(2).all(|pair| pair[0].0 < pair[1].0),
                "{partition}: doubled or out of order"
            );
            for (number, offset) in &acknowledged[&partition] {
                let found = read.binary_search_by_key(number, |(number, _)| *number);
                let found = found.unwrap_or_else(|_| panic!("{partition}: {number} at {offset} is lost"));
                // librdkafka does not know the offset of a batch whose answer was that time is over, and that it takes for
                // acknowledged because a later one was.
                let known = *offset >= 0;
                assert!(!known || read[found].1 == *offset, "{partition}: {number} is not at {offset}");
            }
        }
        acknowledged.values().map(Vec::len).sum()
    }
}

fn produce(producer: &BaseProducer<Deliveries>, stop: &AtomicBool) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for partition in 0..PARTITIONS {
            let payload = number.to_string();
            let record = BaseRecord {
                topic: TOPIC,
                partition: Some(partition),
                payload: Some(payload.as_bytes()),
                key: None::<&[u8]>,
                timestamp: None,
                headers: None,
                delivery_opaque: Box::new(number),
            };
            match producer.send(record) {
                Ok(()) => number += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        producer.poll(Duration::from_millis(5));
    }
    producer.flush(WAIT * 3).expect("every record meets its fate");
}

/// (number, offset) of a whole partition.
fn read_all(bootstrap: &str, partition: i32) -> Vec<(u64, i64)> {
    let settings =
        [("group.id", "unused"), ("enable.auto.commit", "false"), ("enable.partition.eof", "true")];
    let consumer: BaseConsumer = config(bootstrap, &settings).create().expect("settings");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a valid offset");
    consumer.assign(&assignment).expect("an assignment");
    let deadline = Instant::now() + WAIT;
    let mut read = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "{partition}: {} records, and no end", read.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let number = std::str::from_utf8(message.payload().expect("a value")).expect("text");
                read.push((number.parse().expect("a number"), message.offset()));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return read,
            Some(Err(_)) | None => {}
        }
    }
}
