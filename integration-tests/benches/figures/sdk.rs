//! The client crate beside librdkafka, over the same release broker: throughput, and the client's CPU time per GB. Each
//! round measures both one after the other, in turn first; what is reported is the median over the rounds.

use std::time::{Duration, Instant};

use ottla_client_sdk::{Client, Compression, Position, Record};
use ottla_integration_tests::Broker;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::Options;
use crate::report::Report;

const MEGABYTES: u64 = 200;
const ROUNDS: usize = 3;

/// Wall and CPU seconds of this process.
struct Cost {
    wall: f64,
    cpu: f64,
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn measured(work: impl FnOnce()) -> Cost {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    work();
    Cost { wall: began.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }
}

#[derive(Clone, Copy)]
struct Load {
    record_bytes: usize,
    lz4: bool,
    records: usize,
}

/// Text-like values that compress about by half.
fn pool() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let words = ["broker", "offset", "partition", "leader", "epoch", "record", "batch", "topic"];
    let mut text = Vec::new();
    while text.len() < 4 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend_from_slice(words[(state % 8) as usize].as_bytes());
        text.extend_from_slice(format!("={:x} ", state >> 40).as_bytes());
    }
    text
}

fn value(pool: &[u8], load: Load, index: usize) -> &[u8] {
    let from = index * 61 % (pool.len() - load.record_bytes);
    &pool[from..from + load.record_bytes]
}

fn sdk_produce(client: &Client, runtime: &tokio::runtime::Runtime, topic: &str, load: Load, pool: &[u8]) {
    runtime.block_on(async {
        let compression = if load.lz4 { Compression::Lz4 } else { Compression::None };
        let producer = client.producer().compression(compression).start().await.expect("a producer");
        let mut last = None;
        for index in 0..load.records {
            let record = Record::to(topic).partition(0).value(value(pool, load, index));
            last = Some(producer.send(record).await.expect("queued"));
        }
        producer.flush().await;
        let receipt = last.expect("some were sent").await.expect("written");
        assert_eq!(receipt.offset, i64::try_from(load.records).ok().map(|count| count - 1));
        producer.close().await.expect("closed");
    });
}

fn rd_produce(broker: &Broker, topic: &str, load: Load, pool: &[u8]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("enable.idempotence", "true");
    config.set("compression.type", if load.lz4 { "lz4" } else { "none" });
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().expect("settings");
    for index in 0..load.records {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(value(pool, load, index));
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            // Its own thread takes the acknowledgements; meanwhile there is nothing to do here.
            ottla_integration_tests::wait::let_pass(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(300)).expect("written");
}

fn sdk_consume(client: &Client, runtime: &tokio::runtime::Runtime, topic: &str, load: Load) {
    runtime.block_on(async {
        let mut consumer = client.consumer().start().expect("a consumer");
        consumer.assign_topic(topic, Position::Beginning).await.expect("the topic");
        let mut bytes = 0;
        for _ in 0..load.records {
            bytes += consumer.recv().await.expect("a record").value().map_or(0, <[u8]>::len);
        }
        assert_eq!(bytes, load.records * load.record_bytes);
        consumer.close().await;
    });
}

fn rd_consume(broker: &Broker, topic: &str, load: Load) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("group.id", "unused");
    config.set("enable.auto.commit", "false").set("check.crcs", "true");
    let consumer: BaseConsumer = config.create().expect("settings");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(0)).expect("valid");
    consumer.assign(&assignment).expect("assigned");
    let (mut bytes, mut count) = (0, 0);
    while count < load.records {
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            bytes += message.expect("a record").payload().map_or(0, <[u8]>::len);
            count += 1;
        }
    }
    assert_eq!(bytes, load.records * load.record_bytes);
}

fn median(costs: &mut [Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What each of the two costs in each round; the client crate first.
type Rounds = [Vec<Cost>; 2];

/// Its figures.
pub fn figures(options: &Options, report: &mut Report) {
    println!("client crate");
    let broker = Broker::start_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = runtime.block_on(Client::connect(&broker.bootstrap())).expect("a broker");
    let pool = pool();
    let megabytes = usize::try_from(options.scaled(MEGABYTES)).expect("it is small");
    report.sdk_begin();
    for (record_bytes, lz4) in [(100, false), (1024, false), (100, true), (1024, true)] {
        let load = Load { record_bytes, lz4, records: megabytes * 1_000_000 / record_bytes };
        let (mut produced, mut consumed) = measure(&broker, &runtime, &client, load, &pool);
        let gigabytes = (load.records * record_bytes) as f64 / 1e9;
        for (name, costs) in [("produce", &mut produced), ("consume", &mut consumed)] {
            let rates = [0, 1].map(|who| gigabytes * 1e3 / median(&mut costs[who], |cost| cost.wall));
            let cpu = [0, 1].map(|who| median(&mut costs[who], |cost| cost.cpu) / gigabytes);
            let codec = if lz4 { "lz4" } else { "none" };
            report.sdk(&format!("{name}, {record_bytes} B, {codec}"), rates, cpu);
        }
    }
}

fn measure(
    broker: &Broker,
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    load: Load,
    pool: &[u8],
) -> (Rounds, Rounds) {
    let (mut produced, mut consumed) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            let topic = format!("cost-{}-{}-{round}-{who}", load.record_bytes, load.lz4);
            let new = ottla_client_sdk::NewTopic::new(&topic).partitions(1);
            runtime.block_on(client.admin().create_topic(&new)).expect("created");
            produced[who].push(measured(|| match who {
                0 => sdk_produce(client, runtime, &topic, load, pool),
                _ => rd_produce(broker, &topic, load, pool),
            }));
            consumed[who].push(measured(|| match who {
                0 => sdk_consume(client, runtime, &topic, load),
                _ => rd_consume(broker, &topic, load),
            }));
            runtime.block_on(client.admin().delete_topic(&topic)).expect("deleted");
        }
    }
    (produced, consumed)
}
