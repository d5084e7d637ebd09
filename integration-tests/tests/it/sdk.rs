//! The client crate against a real broker and against librdkafka's mock cluster, and beside librdkafka in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use ottla_client_sdk::{
    Acks, Assignor, Client, Compression, Consumer, ConsumerRecord, Delivery, Error, ErrorCode, Position,
    Producer, Record, Spread, TopicPartition, partition_of_key,
};
use ottla_integration_tests::{Broker, BrokerOptions, wait_until};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;

use crate::rd;

const TIMEOUT: Duration = Duration::from_secs(60);
/// The mock cluster lets a rebalance last as long as a session may.
const SESSION: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Runs to the end, within the time of a test.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, work).await.expect("in time") })
}

async fn client(bootstrap: &str) -> Client {
    Client::connect(bootstrap).await.expect("a broker")
}

fn to_send(topic: &str, record: &rd::Record) -> Record<'static> {
    // Leaked: a test's records are few, and live as long as the test.
    let topic: &'static str = Box::leak(topic.to_owned().into_boxed_str());
    let record: &'static rd::Record = Box::leak(Box::new(record.clone()));
    let mut send = Record::to(topic).partition(record.partition).timestamp_ms(record.timestamp_ms);
    if let Some(key) = &record.key {
        send = send.key(key);
    }
    if let Some(value) = &record.value {
        send = send.value(value);
    }
    record.headers.iter().fold(send, |send, (name, value)| send.header(name, value.as_deref()))
}

fn read_back(record: &ConsumerRecord) -> rd::Record {
    let headers = record.headers().map(|(name, value)| {
        (String::from_utf8(name.to_vec()).expect("a name of ours"), value.map(<[u8]>::to_vec))
    });
    rd::Record {
        partition: record.partition(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: headers.collect(),
        timestamp_ms: record.timestamp_ms(),
    }
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        records.push(consumer.next().await.expect("a stream without end").expect("a record"));
    }
    records
}

async fn delivered(deliveries: Vec<Delivery>) -> Vec<Option<i64>> {
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.expect("an acknowledgement").offset);
    }
    offsets
}

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip(-1)),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd(3)),
];

#[test]
fn librdkafka_reads_what_is_sent_in_every_codec() {
    let broker = Broker::start_default();
    let records = rd::varied(200, 1);
    for (name, compression) in CODECS {
        rd::create_topic(&broker, name, 1, &[]);
        run(async {
            let client = client(&broker.bootstrap()).await;
            let producer = client.producer().compression(compression).start().await.expect("a producer");
            let mut deliveries = Vec::new();
            for record in &records {
                deliveries.push(producer.send(to_send(name, record)).await.expect("queued"));
            }
            producer.flush().await;
            let offsets: Vec<_> = (0..200).map(Some).collect();
            assert_eq!(delivered(deliveries).await, offsets, "{name}");
            producer.close().await.expect("closed");
        });
        let read = rd::read(&broker, name, 0, 0, 200);
        assert!(read.iter().map(|(_, record)| record).eq(records.iter()), "{name}");
    }
}

#[test]
fn what_librdkafka_sends_is_read_in_every_codec() {
    let broker = Broker::start_default();
    let records = rd::varied(200, 1);
    for (name, _) in CODECS {
        rd::create_topic(&broker, name, 1, &[]);
        rd::send_all(&broker, &[("compression.type", name), ("linger.ms", "20")], name, &records);
    }
    run(async {
        let client = client(&broker.bootstrap()).await;
        for (name, _) in CODECS {
            let mut consumer = client.consumer().start().expect("a consumer");
            consumer.assign_topic(name, Position::Beginning).await.expect("the topic");
            let read = take(&mut consumer, 200).await;
            assert!(read.iter().map(ConsumerRecord::offset).eq(0..200), "{name}");
            assert!(read.iter().map(read_back).eq(records.iter().cloned()), "{name}");
            consumer.close().await;
        }
    });
}

#[test]
fn keys_meet_the_partitions_of_librdkafka() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "theirs", 7, &[]);
    // Every length from 0 to 63 bytes, every value of a byte; the generator is Knuth's, so that each run has the same.
    let mut state = 20_260_101u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut keys = BTreeSet::new();
    while keys.len() < 10_000 {
        let length = random() % 64;
        keys.insert((0..length).map(|_| random() as u8).collect::<Vec<u8>>());
    }
    let producer: rdkafka::producer::BaseProducer =
        rd::config(&broker, &[("partitioner", "murmur2_random")]).create().expect("settings");
    for key in &keys {
        let record = rdkafka::producer::BaseRecord::<[u8], [u8]>::to("theirs").key(key).payload(b"");
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    rdkafka::producer::Producer::flush(&producer, rd::TIMEOUT).expect("sent");
    run(async {
        let client = client(&broker.bootstrap()).await;
        let mut consumer = client.consumer().start().expect("a consumer");
        consumer.assign_topic("theirs", Position::Beginning).await.expect("the topic");
        for record in take(&mut consumer, keys.len()).await {
            let key = record.key().expect("each has one");
            assert_eq!(record.partition(), partition_of_key(key, 7), "{key:?}");
            assert!(keys.contains(key));
        }
        let producer = client.producer().start().await.expect("a producer");
        for key in keys.iter().take(100) {
            let receipt = producer.send(Record::to("theirs").key(key)).await.expect("queued").await;
            assert_eq!(receipt.expect("written").partition, partition_of_key(key, 7));
        }
    });
}

#[test]
fn records_without_a_key_are_spread() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "spread", 4, &[]);
    run(async {
        let client = client(&broker.bootstrap()).await;
        let counts = async |producer: Producer, value: &[u8]| {
            let mut deliveries = Vec::new();
            for _ in 0..400 {
                deliveries.push(producer.send(Record::to("spread").value(value)).await.expect("queued"));
            }
            producer.flush().await;
            let mut counts = BTreeMap::new();
            for delivery in deliveries {
                *counts.entry(delivery.await.expect("written").partition).or_insert(0) += 1;
            }
            counts
        };
        let by_record = client.producer().spread(Spread::RecordByRecord).start().await.expect("a producer");
        assert_eq!(counts(by_record, b"v").await, BTreeMap::from([(0, 100), (1, 100), (2, 100), (3, 100)]));
        let by_batch = client.producer().batch_bytes(2_000).linger(Duration::from_secs(1));
        let by_batch = counts(by_batch.start().await.expect("a producer"), &[b'x'; 100]).await;
        assert_eq!(by_batch.len(), 4, "{by_batch:?}");
    });
}

#[test]
fn errors_name_what_they_concern() {
    let broker = BrokerOptions::default().set("auto.create.topics.enable", false).start();
    rd::create_topic(&broker, "small", 1, &[("max.message.bytes", "1000")]);
    run(async {
        let client = Client::options(&broker.bootstrap()).unknown_topic_max(Duration::from_millis(200));
        let client = client.connect().await.expect("a broker");
        let producer = client.producer().start().await.expect("a producer");
        let unknown = producer.send(Record::to("nowhere").value("v")).await.expect_err("no such topic");
        assert_eq!(unknown.code(), Some(ErrorCode::UnknownTopicOrPartition), "{unknown}");
        assert!(unknown.to_string().contains("nowhere"), "{unknown}");
        let beyond =
            producer.send(Record::to("small").partition(3).value("v")).await.expect_err("no partition 3");
        assert!(matches!(beyond, Error::NoSuchPartition { partition: 3, count: 1, .. }), "{beyond}");
        let large = vec![b'x'; 2_000];
        let refused = producer.send(Record::to("small").value(&large)).await.expect("queued").await;
        let refused = refused.expect_err("too large");
        assert_eq!(refused.code(), Some(ErrorCode::MessageTooLarge), "{refused}");
        assert!(refused.to_string().contains("small-0"), "{refused}");
        producer.send(Record::to("small").value("v")).await.expect("queued").await.expect("fits");
        let huge = vec![0; 33 << 20];
        let never = producer.send(Record::to("small").value(&huge)).await.expect_err("beyond the memory");
        assert!(matches!(never, Error::RecordTooLarge { .. }), "{never}");
    });
    let nobody = format!("127.0.0.1:{}", ottla_integration_tests::broker::free_port());
    let error = run(Client::options(&nobody).call_max(Duration::from_millis(300)).connect());
    assert!(error.err().expect("nobody listens").to_string().contains(&nobody));
}

#[test]
fn a_dropped_producer_leaves_no_delivery_waiting() {
    let broker = Broker::start_default();
    run(async {
        let client = client(&broker.bootstrap()).await;
        let producer = client.producer().linger(Duration::from_secs(600)).start().await.expect("a producer");
        let delivery = producer.send(Record::to("dropped").value("v")).await.expect("queued");
        drop(producer);
        assert!(matches!(delivery.await, Err(Error::Closed(_))));
    });
}

#[test]
fn memory_holds_back_the_sender() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "held", 1, &[]);
    run(async {
        let client = client(&broker.bootstrap()).await;
        let options = client.producer().batch_bytes(20_000).buffer_bytes(50_000);
        // Lingering longer than the test: only the want of memory sends a batch that is not full.
        let producer = options.linger(Duration::from_secs(600)).start().await.expect("a producer");
        let value = vec![b'x'; 15_000];
        let mut deliveries = Vec::new();
        for _ in 0..50 {
            deliveries.push(producer.send(Record::to("held").value(&value)).await.expect("queued"));
        }
        producer.flush().await;
        assert_eq!(delivered(deliveries).await, (0..50).map(Some).collect::<Vec<_>>());
    });
}

#[test]
fn positions_move_by_offset_and_time_and_pause() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "moved", 2, &[]);
    let records = rd::varied(200, 2);
    rd::send_all(&broker, &[], "moved", &records);
    run(async {
        let client = client(&broker.bootstrap()).await;
        let mut consumer = client.consumer().start().expect("a consumer");
        let (first, second) = (TopicPartition::new("moved", 0), TopicPartition::new("moved", 1));
        consumer.assign([(first.clone(), Position::Offset(90)), (second.clone(), Position::End)]);
        let read = take(&mut consumer, 10).await;
        assert!(read.iter().map(ConsumerRecord::offset).eq(90..100));
        assert_eq!(consumer.position(&first), Some(100));

        let timestamp_ms = records[150].timestamp_ms;
        consumer.seek(&first, Position::Timestamp(timestamp_ms)).expect("assigned");
        let record = take(&mut consumer, 1).await.remove(0);
        assert_eq!((record.offset(), record.timestamp_ms()), (75, timestamp_ms));

        consumer.pause(&first).expect("assigned");
        consumer.seek(&second, Position::Beginning).expect("assigned");
        let read = take(&mut consumer, 100).await;
        assert!(read.iter().all(|record| record.partition() == 1), "the other one is paused");
        consumer.resume(&first).expect("assigned");
        let read = take(&mut consumer, 24).await;
        assert!(read.iter().map(ConsumerRecord::offset).eq(76..100), "goes on where it was paused");

        let elsewhere = consumer.seek(&TopicPartition::new("moved", 9), Position::End);
        assert!(matches!(elsewhere, Err(Error::NotAssigned { partition: 9, .. })));
    });
}

#[test]
fn an_offset_outside_of_the_log_is_an_error_or_a_rule() {
    use ottla_client_sdk::StartAt;
    let broker = Broker::start_default();
    rd::create_topic(&broker, "short", 1, &[]);
    rd::send_all(&broker, &[], "short", &rd::numbered(0..10, 10));
    run(async {
        let client = client(&broker.bootstrap()).await;
        let place = TopicPartition::new("short", 0);
        let mut strict = client.consumer().start_at(StartAt::Nowhere).start().expect("a consumer");
        strict.assign([(place.clone(), Position::Offset(500))]);
        let error = strict.recv().await.expect_err("no such offset");
        assert!(matches!(error, Error::OffsetOutOfRange { offset: 500, .. }), "{error}");
        strict.seek(&place, Position::Offset(9)).expect("assigned");
        assert_eq!(strict.recv().await.expect("a record").offset(), 9);

        let mut lenient = client.consumer().start_at(StartAt::Beginning).start().expect("a consumer");
        lenient.assign([(place, Position::Offset(500))]);
        assert_eq!(lenient.recv().await.expect("a record").offset(), 0);
    });
}

/// A broker that is killed again and again loses, doubles and reorders nothing that an idempotent producer sends.
#[test]
fn every_record_once_and_in_order_over_kills() {
    let mut broker = Broker::start_default();
    rd::create_topic(&broker, "killed", 3, &[]);
    let bootstrap = broker.bootstrap();
    let (progress, mut seen) = tokio::sync::watch::channel(0);
    let sender = std::thread::spawn(move || {
        run(async {
            let client = client(&bootstrap).await;
            let producer = client.producer().batch_bytes(1_000).start().await.expect("a producer");
            let mut deliveries = Vec::new();
            for i in 0..6_000u32 {
                let value = i.to_string();
                let record = Record::to("killed").partition((i % 3) as i32).value(&value);
                deliveries.push(producer.send(record).await.expect("queued"));
                if i % 100 == 99 {
                    for delivery in deliveries.drain(..50) {
                        delivery.await.expect("written in the end");
                    }
                    progress.send(i).expect("the test listens");
                }
            }
            for delivery in deliveries {
                delivery.await.expect("written in the end");
            }
            producer.close().await.expect("closed");
        });
    });
    for kill_at in [1_000, 2_500, 4_000] {
        run(async { seen.wait_for(|sent| *sent >= kill_at).await.map(|_sent| ()).expect("it goes on") });
        broker.kill();
        broker.start();
    }
    sender.join().expect("all was written");
    run(async {
        let client = client(&broker.bootstrap()).await;
        let mut consumer = client.consumer().start().expect("a consumer");
        consumer.assign_topic("killed", Position::Beginning).await.expect("the topic");
        let mut next = [0u32, 1, 2];
        for record in take(&mut consumer, 6_000).await {
            let value: u32 =
                String::from_utf8_lossy(record.value().expect("a value")).parse().expect("a number");
            let expected = &mut next[record.partition() as usize];
            assert_eq!(value, *expected, "partition {}", record.partition());
            *expected += 3;
        }
    });
}

#[test]
fn a_consumer_goes_on_after_its_broker_came_back() {
    let mut broker = Broker::start_default();
    rd::create_topic(&broker, "back", 1, &[]);
    rd::send_all(&broker, &[], "back", &rd::numbered(0..10, 10));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut consumer = runtime.block_on(async {
        let mut consumer = client(&broker.bootstrap()).await.consumer().start().expect("a consumer");
        consumer.assign_topic("back", Position::Beginning).await.expect("the topic");
        take(&mut consumer, 10).await;
        consumer
    });
    broker.kill();
    broker.start();
    rd::send_all(&broker, &[], "back", &rd::numbered(10..20, 10));
    let read = runtime.block_on(async { tokio::time::timeout(TIMEOUT, take(&mut consumer, 10)).await });
    assert!(read.expect("in time").iter().map(ConsumerRecord::offset).eq(10..20));
}

#[test]
fn the_mock_cluster_is_served_and_its_leaders_are_followed() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("mocked", 4, 3).expect("a topic");
    run(async {
        let client = client(&cluster.bootstrap_servers()).await;
        let producer = client.producer().start().await.expect("a producer");
        for round in 0..6 {
            for partition in 0..4 {
                cluster
                    .partition_leader("mocked", partition, Some((round + partition) % 3 + 1))
                    .expect("a leader");
            }
            let mut deliveries = Vec::new();
            for i in 0..100 {
                let value = i.to_string();
                let record = Record::to("mocked").partition(i % 4).value(&value);
                deliveries.push(producer.send(record).await.expect("queued"));
            }
            delivered(deliveries).await;
        }
        let mut consumer = client.consumer().start().expect("a consumer");
        consumer.assign_topic("mocked", Position::Beginning).await.expect("the topic");
        let mut counts = BTreeMap::new();
        for record in take(&mut consumer, 600).await {
            let next = counts.entry(record.partition()).or_insert(0);
            assert_eq!(record.offset(), *next);
            *next += 1;
        }
    });
}

#[test]
fn acknowledgements_can_be_done_without() {
    let broker = Broker::start_default();
    rd::create_topic(&broker, "acks", 1, &[]);
    run(async {
        let client = client(&broker.bootstrap()).await;
        for (acks, expected) in [(Acks::None, None), (Acks::Leader, Some(1))] {
            let producer = client.producer().idempotence(false).acks(acks).start().await.expect("a producer");
            let receipt = producer.send(Record::to("acks").value("v")).await.expect("queued").await;
            assert_eq!(receipt.expect("sent").offset, expected);
            producer.close().await.expect("closed");
            // The next one connects anew, so what was sent without acknowledgement has to be there first.
            let mut consumer = client.consumer().start().expect("a consumer");
            consumer.assign_topic("acks", Position::Beginning).await.expect("the topic");
            consumer.recv().await.expect("the first record");
        }
        let both = client.producer().acks(Acks::Leader).start().await;
        assert!(matches!(both, Err(Error::Options(_))));
    });
}

#[test]
fn members_of_both_clients_share_a_group_by_range() {
    share_a_group(Assignor::Range, "range");
}

#[test]
fn members_of_both_clients_share_a_group_round_robin() {
    share_a_group(Assignor::RoundRobin, "roundrobin");
}

#[test]
fn members_of_both_clients_share_a_group_cooperatively() {
    share_a_group(Assignor::CooperativeSticky, "cooperative-sticky");
}

fn share_a_group(assignor: Assignor, name: &str) {
    let broker = BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start();
    rd::create_topic(&broker, "shared", 6, &[]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let member = runtime.block_on(async {
        let client = client(&broker.bootstrap()).await;
        let options = client.consumer().group("both").subscribe(["shared"]).assignors([assignor]);
        options.session_max(SESSION).heartbeat_every(HEARTBEAT).start().expect("a member")
    });
    let handle = member.handle().clone();
    wait_until(TIMEOUT, "the first member's partitions", || (handle.assignment().len() == 6).then_some(()));
    let mut settings = rdkafka::ClientConfig::new();
    settings.set("bootstrap.servers", broker.bootstrap()).set("group.id", "both");
    settings.set("partition.assignment.strategy", name).set("heartbeat.interval.ms", "100");
    settings.set("session.timeout.ms", SESSION.as_millis().to_string());
    let other: BaseConsumer = settings.create().expect("settings");
    other.subscribe(&["shared"]).expect("a subscription");
    wait_until(TIMEOUT, "three partitions each", || {
        if let Some(message) = other.poll(Duration::from_millis(10)) {
            assert!(message.is_err(), "nobody sends");
        }
        let theirs = other.assignment().expect("an assignment");
        let theirs: BTreeSet<i32> = theirs.elements().iter().map(|element| element.partition()).collect();
        let ours: BTreeSet<i32> = handle.assignment().iter().map(|place| place.partition).collect();
        let all: BTreeSet<i32> = theirs.union(&ours).copied().collect();
        (ours.len() == 3 && theirs.len() == 3 && all.len() == 6).then_some(())
    });
    runtime.block_on(member.close()).expect("left");
    wait_until(TIMEOUT, "all partitions for the one who stays", || {
        if let Some(message) = other.poll(Duration::from_millis(10)) {
            assert!(message.is_err(), "nobody sends");
        }
        (other.assignment().expect("an assignment").count() == 6).then_some(())
    });
}

/// Once with the commits of `close` alone, once with commits by hand alone.
#[test]
fn a_group_goes_on_where_it_stopped() {
    use ottla_client_sdk::StartAt;
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("stopped", 1, 1).expect("a topic");
    run(async {
        let client = client(&cluster.bootstrap_servers()).await;
        let producer = client.producer().start().await.expect("a producer");
        for i in 0..40 {
            let value = i.to_string();
            producer.send(Record::to("stopped").value(&value)).await.expect("queued").await.expect("written");
        }
        let begin = |every: Option<Duration>| {
            let consumer = client.consumer().start_at(StartAt::Beginning);
            let options = consumer.group("stopping").subscribe(["stopped"]).commit_every(every);
            options.session_max(SESSION).heartbeat_every(HEARTBEAT).start().expect("a member")
        };
        let mut next = 0;
        let mut expect = async |member: &mut ottla_client_sdk::GroupConsumer, from: i64| {
            for offset in from..from + 10 {
                assert_eq!(member.recv().await.expect("a record").offset(), offset);
            }
            next = from + 10;
        };
        let mut member = begin(Some(Duration::from_secs(600)));
        expect(&mut member, 0).await;
        member.close().await.expect("left");
        let mut member = begin(None);
        expect(&mut member, 10).await;
        member.handle().commit().await.expect("committed");
        let record = member.recv().await.expect("a record that is not committed");
        assert_eq!(record.offset(), 20);
        member.close().await.expect("left");
        let mut member = begin(None);
        expect(&mut member, 20).await;
        member.close().await.expect("left");
        assert_eq!(next, 30);
    });
}

#[test]
fn an_administrator_sees_and_changes_topics() {
    use ottla_client_sdk::{ConfigChange, NewTopic, Resource};
    let broker = Broker::start_default();
    run(async {
        let client = client(&broker.bootstrap()).await;
        let admin = client.admin();
        admin
            .create_topic(&NewTopic::new("seen").partitions(2).config("retention.ms", "1000000"))
            .await
            .expect("created");
        let again = admin.create_topic(&NewTopic::new("seen")).await.expect_err("there already");
        assert_eq!(again.code(), Some(ErrorCode::TopicAlreadyExists), "{again}");
        admin.create_partitions("seen", 3).await.expect("grown");
        assert_eq!(admin.describe_topic("seen").await.expect("a topic").partitions_count(), 3);
        assert_eq!(admin.describe_cluster().await.expect("a cluster").brokers.len(), 1);

        let topic = Resource::Topic("seen".to_owned());
        let value = async |key: &str| {
            let entries = admin.describe_configs(&topic).await.expect("settings");
            entries.into_iter().find(|entry| entry.key == key).map(|entry| (entry.value, entry.is_default))
        };
        assert_eq!(value("retention.ms").await, Some((Some("1000000".to_owned()), false)));
        let change = ConfigChange::Set("max.message.bytes".to_owned(), "5000".to_owned());
        admin
            .alter_configs(&topic, &[change, ConfigChange::Reset("retention.ms".to_owned())])
            .await
            .expect("altered");
        assert_eq!(value("max.message.bytes").await, Some((Some("5000".to_owned()), false)));
        assert_eq!(value("retention.ms").await.map(|(_, is_default)| is_default), Some(true));

        let producer = client.producer().start().await.expect("a producer");
        for _ in 0..10 {
            let delivery = producer.send(Record::to("seen").partition(1).value("v")).await.expect("queued");
            delivery.await.expect("written");
        }
        let place = TopicPartition::new("seen", 1);
        assert_eq!(admin.delete_records(&place, 4).await.expect("deleted"), 4);
        let wanted = [(place.clone(), Position::Beginning)];
        let found = admin.find_offsets(&wanted, ottla_client_sdk::Isolation::Committed).await.expect("found");
        assert_eq!(found[&place].offset, 4);
        let directories = admin.describe_log_directories().await.expect("directories");
        assert!(directories.iter().flat_map(|directory| &directory.replicas).any(|(held, _)| *held == place));
        admin.delete_topic("seen").await.expect("deleted");
        let gone = admin.describe_topic("seen").await.expect_err("gone");
        assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition), "{gone}");
        assert!(admin.list_topics().await.expect("topics").is_empty());
    });
}
