//! The table: record sizes, batch sizes, acks and durability, partitions in use, codecs; each case produces a volume,
//! consumes it, and is then looked at for latency at a gentle pace.

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, process};

use crate::Options;
use crate::ceilings::{Ceilings, SIZES};
use crate::load::{self, Latency, Load};
use crate::report::Report;

/// acks and the topic's durability.
#[derive(Clone, Copy, PartialEq)]
pub struct Mode {
    pub name: &'static str,
    acks: &'static str,
    durability: &'static str,
}

const MODES: [Mode; 3] = [
    Mode { name: "acks=1", acks: "1", durability: "durable" },
    Mode { name: "acks=all, replicated", acks: "all", durability: "replicated" },
    Mode { name: "acks=all, durable", acks: "all", durability: "durable" },
];
const RECORDS: [usize; 2] = [100, 1024];
const PARTITIONS: [usize; 3] = [1, 100, 1000];
const CODECS: [&str; 3] = ["none", "lz4", "zstd"];

/// One line of the matrix.
pub struct Case {
    pub record_bytes: usize,
    pub batch_bytes: usize,
    pub mode: Mode,
    pub partitions: usize,
    pub codec: &'static str,
}

/// What one case gave.
pub struct Figures {
    pub produce_mb_s: f64,
    pub produce_cpu: f64,
    pub consume_mb_s: f64,
    pub consume_cpu: f64,
    pub latency: Latency,
    pub rss_mib: u64,
}

fn cases(full: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for codec in CODECS {
        for partitions in PARTITIONS {
            for mode in MODES {
                for batch_bytes in SIZES {
                    for record_bytes in RECORDS {
                        // Without --full one thing at a time leaves the ordinary case (1 KiB, 1 partition, no codec).
                        let unusual = [codec != "none", partitions != 1, record_bytes != 1024]
                            .into_iter()
                            .filter(|&is| is)
                            .count();
                        if full || unusual <= 1 && (partitions == 1 || mode != MODES[1]) {
                            cases.push(Case { record_bytes, batch_bytes, mode, partitions, codec });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// Runs the matrix on one broker and reports each case.
pub fn run(options: &Options, ceilings: &Ceilings, report: &mut Report) {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    let pool = load::pool();
    // A broker that has just started allocates and maps what it keeps; that is not the cost of the first case.
    connection.create_topic("warm", 1, &[]);
    let warm = Load {
        topic: "warm".to_owned(),
        partitions: 1,
        record_bytes: 1024,
        batch_bytes: SIZES[1],
        codec: "none",
        acks: "1",
    };
    load::produce(&broker, &warm, &pool, usize::try_from(options.scaled(200_000)).expect("fits"));
    report.matrix_begin();
    for (number, case) in cases(options.full).into_iter().enumerate() {
        let topic = format!("case-{number}");
        let partitions = i32::try_from(case.partitions).expect("few partitions");
        connection.create_topic(&topic, partitions, &[("ottla.durability", case.mode.durability)]);
        let figures = measure(options, &broker, &case, topic.clone(), &pool);
        report.case(&case, &figures, ceilings);
        drop_topic(&mut connection, &topic);
    }
}

fn measure(options: &Options, broker: &Broker, case: &Case, topic: String, pool: &[u8]) -> Figures {
    let volume = options.scaled(if case.record_bytes < 1000 { 200_000_000 } else { 500_000_000 });
    let count = usize::try_from(volume).expect("fits") / case.record_bytes;
    let gb = (count * case.record_bytes) as f64 / 1e9;
    let load = Load {
        topic,
        partitions: case.partitions,
        record_bytes: case.record_bytes,
        batch_bytes: case.batch_bytes,
        codec: case.codec,
        acks: case.mode.acks,
    };
    let before = process::cpu_s(broker.pid());
    let produce_s = load::produce(broker, &load, pool, count);
    let between = process::cpu_s(broker.pid());
    let consume_s = load::consume(broker, &load, count);
    let after = process::cpu_s(broker.pid());
    let latency = load::latency(broker, &load, if options.quick { 1 } else { 3 });
    Figures {
        produce_mb_s: gb * 1e3 / produce_s,
        produce_cpu: (between - before) / gb,
        consume_mb_s: gb * 1e3 / consume_s,
        consume_cpu: (after - between) / gb,
        latency,
        rss_mib: process::rss_bytes(broker.pid()) >> 20,
    }
}

fn drop_topic(connection: &mut Connection, name: &str) {
    use ottla_protocol::generated::delete_topics::{
        DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
    };
    let topic = DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let reply: DeleteTopicsResponse = connection.ask(&request, 6);
    assert_eq!(reply.responses[0].error_code, 0);
}
