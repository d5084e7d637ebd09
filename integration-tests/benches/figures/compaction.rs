//! A topic of 1 GiB with 1 % distinct keys, compacted while it is produced to.

use std::path::Path;
use std::time::{Duration, Instant};

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, process, wait_until};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::Options;
use crate::report::Report;

const RECORD_BYTES: usize = 1024;
const DISTINCT: u64 = 100;
const SHRUNK_MAX: Duration = Duration::from_secs(300);
const TOPIC: &str = "compacted";

/// Its figures.
pub fn figures(options: &Options, report: &mut Report) {
    println!("compaction");
    let broker = Broker::start_default();
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "16777216"), ("segment.ms", "1000")];
    Connection::open(broker.address()).create_topic(TOPIC, 1, &settings);
    let count = options.scaled(1 << 20);
    let keys = count / DISTINCT;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("linger.ms", "10")
        .set("batch.size", "131072")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    let cpu = process::cpu_s(broker.pid());
    let began = Instant::now();
    for number in 0..count {
        send(&producer, number, keys);
    }
    producer.flush(SHRUNK_MAX).expect("everything is delivered");
    let produced_s = began.elapsed().as_secs_f64();
    let bytes = count * RECORD_BYTES as u64;
    let directory = broker.directory().join(format!("{TOPIC}-0"));
    let mut next = count;
    let left = wait_until(SHRUNK_MAX, "the topic to be a tenth of what was sent", || {
        send(&producer, next, keys);
        next += 1;
        producer.poll(Duration::from_millis(5));
        let left = log_bytes(&directory);
        (left < bytes / 10).then_some(left)
    });
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.compaction(&[
        ("sent", format!("{:.0} MiB, {} keys", mib(bytes), keys)),
        ("on disk after compaction, while it is produced to", format!("{:.0} MiB", mib(left))),
        ("produced in", format!("{produced_s:.0} s")),
        ("a tenth on disk, after the first record", format!("{:.0} s", began.elapsed().as_secs_f64())),
        (
            "processor time of the broker, producing included",
            format!("{:.1} s", process::cpu_s(broker.pid()) - cpu),
        ),
        ("largest memory (RSS)", format!("{:.0} MiB", mib(process::rss_peak_bytes(broker.pid())))),
    ]);
}

fn send(producer: &BaseProducer<DefaultProducerContext>, number: u64, keys: u64) {
    let key = (number % keys).to_be_bytes();
    let mut value = [0; RECORD_BYTES];
    // Bytes that no codec would shrink, should one be on the way.
    value.iter_mut().zip((number..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).for_each(
        |(byte, mixed)| {
            *byte = mixed.to_be_bytes()[0];
        },
    );
    let mut record = BaseRecord::to(TOPIC).partition(0).key(&key).payload(&value[..]);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(5));
                record = back;
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

/// Bytes of the segments that readers see. Files may go while they are counted.
fn log_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("the partition's directory");
    let logs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "log"));
    logs.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
