//! Compaction by a real broker: the topic of committed offsets stays small, and clients read on while a topic is cleaned.

use std::fs;
use std::time::Duration;

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, BrokerOptions, clients, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// The smallest that there is.
const SEGMENT_BYTES: u64 = 1 << 20;
const COMMITS: i64 = 1_200;
/// The longest that is taken (`offset.metadata.max.bytes`) has 96 more.
const METADATA_BYTES: usize = 4_000;
/// What remains of the few keys of a test, beside the open segment.
const CLEAN_BYTES_MAX: u64 = 64 << 10;

/// A cleaner that looks often and begins early.
fn cleaning() -> BrokerOptions {
    BrokerOptions::default()
        .set("log.cleaner.backoff.ms", 20)
        .set("log.cleaner.min.cleanable.ratio", 0.01)
        .set("log.segment.delete.delay.ms", 100)
}

/// Bytes of the partition's segments, those that wait to be removed aside.
fn log_bytes(broker: &Broker, partition: &str) -> u64 {
    let entries = fs::read_dir(broker.directory().join(partition)).expect("the partition's directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        // It may be replaced meanwhile.
        .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum()
}

/// The committed offset, once the group's coordinator is loaded.
fn committed(connection: &mut Connection, group: &str) -> i64 {
    wait_until(LIMIT, "a coordinator that is loaded", || {
        connection.committed(group, "t", 1).ok().map(|offsets| offsets[0])
    })
}

#[test]
fn the_offsets_topic_shrinks_and_the_last_offsets_outlive_a_kill() {
    let options =
        cleaning().set("offsets.topic.num.partitions", 1).set("offsets.topic.segment.bytes", SEGMENT_BYTES);
    let mut broker = options.start();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("t", 1, &[]);
    let metadata = "m".repeat(METADATA_BYTES);
    for round in 1..=2 {
        wait_until(LIMIT, "a coordinator", || {
            (connection.commit_alone("quiet", "t", round, "") == 0).then_some(())
        });
        for offset in 1..=COMMITS {
            let offset = round * COMMITS + offset;
            assert_eq!(connection.commit_alone("busy", "t", offset, &metadata), 0, "{offset}");
        }
        let written = COMMITS as u64 * METADATA_BYTES as u64;
        assert!(written > 4 * SEGMENT_BYTES);
        wait_until(LIMIT, "the offsets topic to shrink", || {
            (log_bytes(&broker, "__consumer_offsets-0") <= SEGMENT_BYTES + CLEAN_BYTES_MAX).then_some(())
        });
        broker.kill();
        broker.start();
        connection = Connection::open(broker.address());
        assert_eq!(committed(&mut connection, "busy"), round * COMMITS + COMMITS);
        assert_eq!(committed(&mut connection, "quiet"), round);
    }
}

#[test]
fn clients_read_on_while_a_topic_is_cleaned() {
    let broker = cleaning().start();
    let text = clients::python("compacted.py", &[&broker.bootstrap()]);
    assert!(text.ends_with("all checks hold\n"), "{text}");
    assert!(log_bytes(&broker, "compacted-0") < CLEAN_BYTES_MAX);
}
