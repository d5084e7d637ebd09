//! Records that keep coming while a group is tormented, and an eye on the committed offsets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_integration_tests::Broker;
use ottla_integration_tests::wait::let_pass;
use ottla_integration_tests::wire::Connection;

use crate::rd::{self, Record, Sender};

const PAUSE: Duration = Duration::from_millis(2);

/// A producer that sends to all partitions in turn until it is told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<i64>>>,
}

impl Load {
    pub fn start(broker: &Broker, topic: &str, partitions: i32) -> Load {
        let settings =
            [("enable.idempotence", "true"), ("linger.ms", "5"), ("reconnect.backoff.max.ms", "200")];
        let mut sender = Sender::new(broker, &settings);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, topic) = (Arc::clone(&stop), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut counts = vec![0; usize::try_from(partitions).expect("a count")];
            for i in 0.. {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let partition = i % partitions;
                sender.send(&topic, &record(partition, i));
                counts[usize::try_from(partition).expect("not negative")] += 1;
                let_pass(PAUSE);
            }
            assert!(sender.finish().iter().all(Result::is_ok), "each record was acknowledged in the end");
            counts
        });
        Load { stop, thread: Some(thread) }
    }

    /// Stops it; gives how many records each partition has, all of them acknowledged.
    pub fn finish(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("finished once").join().expect("the load ends")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn record(partition: i32, number: i32) -> Record {
    Record {
        partition,
        key: None,
        value: Some(number.to_string().into_bytes()),
        headers: Vec::new(),
        timestamp_ms: 1_700_000_000_000,
    }
}

/// Fills a topic with `each` records a partition.
pub fn fill(broker: &Broker, topic: &str, partitions: i32, each: i32) {
    let records: Vec<Record> =
        (0..partitions * each).map(|number| record(number % partitions, number)).collect();
    let fates = rd::send_all(broker, &[("linger.ms", "5")], topic, &records);
    assert!(fates.iter().all(Result::is_ok), "the topic is filled");
}

/// Asks for the committed offsets of a group over and over: they may only grow.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Watch {
    pub fn start(broker: &Broker, group: &str, topic: &str, partitions: i32) -> Watch {
        let mut connection = Connection::open(broker.address());
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, group, topic) = (Arc::clone(&stop), group.to_owned(), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut highest = vec![-1; usize::try_from(partitions).expect("a count")];
            let mut changes = 0;
            while !stopping.load(Ordering::Relaxed) {
                let committed =
                    connection.committed(&group, &topic, partitions).expect("a coordinator that serves");
                for (partition, (before, now)) in highest.iter().zip(&committed).enumerate() {
                    assert!(
                        now >= before,
                        "{group}, {topic}-{partition}: {before} was committed, now it is {now}"
                    );
                }
                changes += usize::from(committed != highest);
                highest = committed;
                let_pass(PAUSE);
            }
            changes
        });
        Watch { stop, thread: Some(thread) }
    }

    /// Stops it; panics if an offset went back or never moved.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let changes = self.thread.take().expect("finished once").join().expect("committed offsets only grow");
        assert!(changes > 1, "the offsets moved {changes} times");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
