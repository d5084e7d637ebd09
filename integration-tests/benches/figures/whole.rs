//! Figures of the process as a whole: start, memory, creating many partitions, idling; and one request at a time beside
//! this disk's own fdatasync.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ottla_integration_tests::batch::Batch;
use ottla_integration_tests::wait::let_pass;
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, process, wait_until};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use crate::Options;
use crate::report::Report;
use ottla_integration_tests::work_directory;

const T0: i64 = 1_700_000_000_000;

/// One request of 1 KiB in flight with acks=all on a durable topic; after each, one write and fdatasync of as many bytes to
/// a file of the same disk.
pub fn one_in_flight(options: &Options, report: &mut Report) {
    println!("one in flight, beside fdatasync");
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let topic = connection.create_topic("single", 1, &[("ottla.durability", "durable")]);
    let batch = Batch::of(&[&[b'x'; 1024]], T0).encode();
    let file = tempfile::tempfile_in(work_directory()).expect("a file");
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
    let (mut produced, mut synced) = (histogram(), histogram());
    let mut at = 0;
    for _ in 0..options.scaled(3_000) {
        let began = Instant::now();
        assert_eq!(connection.produce(&topic, &batch, 9).error_code, 0);
        produced.record(micros(began)).expect("within a minute");
        let began = Instant::now();
        file.write_all_at(&batch, at).expect("room on the disk");
        file.sync_data().expect("a disk that syncs");
        synced.record(micros(began)).expect("within a minute");
        at += batch.len() as u64;
    }
    report.one_in_flight(&produced, &synced);
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).expect("a short run")
}

/// Start, memory, 1,000 and 10,000 partitions, idling.
pub fn process_figures(options: &Options, report: &mut Report) {
    println!("the process: start, memory, many partitions, idling");
    report.process_begin();
    let starts = (0..5).map(|_| Broker::start_default().ready_after());
    let ready = starts.min().expect("five starts");
    report.process("ready on an empty directory, best of 5", &format!("{:.1} ms", ms(ready)), "50 ms");

    let mut broker = Broker::start_default();
    let_pass(Duration::from_secs(2));
    let before = process::cpu_s(broker.pid());
    let seconds = if options.quick { 5 } else { 30 };
    let_pass(Duration::from_secs(seconds));
    let idle = (process::cpu_s(broker.pid()) - before) / seconds as f64 * 100.0;
    report.process("idle processor time", &format!("{idle:.2} % of a core"), "0.2 %");
    report.process("idle memory (RSS)", &mib(&broker), "20 MiB, 40 MiB with the Raft library");

    let mut connection = Connection::open(broker.address());
    let began = Instant::now();
    connection.create_topic("thousand", 1_000, &[]);
    wait_for_leaders(&mut connection, "thousand", 1_000);
    report.process(
        "1,000 partitions created, all with leaders",
        &format!("{:.0} ms", ms(began.elapsed())),
        "2 s",
    );
    for topic in 0..9 {
        connection.create_topic(&format!("more-{topic}"), 1_000, &[]);
        wait_for_leaders(&mut connection, &format!("more-{topic}"), 1_000);
    }
    report.process("memory (RSS) after creating 10,000 partitions", &mib(&broker), "150 MiB");
    write_to_each(&broker);
    report.process("memory (RSS) with 10,000 partitions, all written to", &mib(&broker), "150 MiB");
    broker.restart();
    report.process(
        "ready with 10,000 partitions after a clean stop",
        &format!("{:.0} ms", ms(broker.ready_after())),
        "1 s",
    );
    report.process("memory (RSS) with 10,000 partitions after that start", &mib(&broker), "150 MiB");
    report.process_end();
}

/// One record to every partition, by librdkafka.
fn write_to_each(broker: &Broker) {
    let pool = crate::load::pool();
    for topic in std::iter::once("thousand".to_owned()).chain((0..9).map(|topic| format!("more-{topic}"))) {
        let load = crate::load::Load {
            topic,
            partitions: 1_000,
            record_bytes: 100,
            // Smaller than a record: every record is a batch, each for the next partition.
            batch_bytes: 1,
            codec: "none",
            acks: "1",
        };
        crate::load::produce(broker, &load, &pool, 1_000);
    }
}

fn wait_for_leaders(connection: &mut Connection, topic: &str, count: usize) {
    wait_until(Duration::from_secs(120), "leaders", || {
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![asked]), ..Default::default() };
        let reply: MetadataResponse = connection.ask(&request, 12);
        let led = reply.topics[0].partitions.iter().filter(|p| p.error_code == 0 && p.leader_id >= 0).count();
        (led == count).then_some(())
    });
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mib(broker: &Broker) -> String {
    format!("{:.1} MiB", process::rss_bytes(broker.pid()) as f64 / f64::from(1 << 20))
}
