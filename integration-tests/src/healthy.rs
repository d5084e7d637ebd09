//! A well-behaved client that works all the while a test misbehaves: whatever the test does to the broker, this one must
//! notice nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::requests;
use crate::wait::wait_until;
use crate::wire::Connection;

/// Produces a record and fetches it again, over and over, on one connection.
pub struct HealthyClient {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Duration>>,
}

impl HealthyClient {
    /// Starts it on a topic of its own.
    pub fn start(address: SocketAddr) -> HealthyClient {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&rounds));
        let mut connection = Connection::open(address);
        let topic = connection.create_topic("healthy", 1, &[]);
        let thread = std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            for round in 0_i64.. {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                let batch = Batch::of(&[round.to_string().as_bytes()], 1_700_000_000_000).encode();
                let produced = connection.produce(&topic, &batch, 9);
                assert_eq!(
                    (produced.error_code, produced.base_offset),
                    (0, round),
                    "the healthy client's produce"
                );
                let fetched = connection.fetch(&topic, round, 12);
                let records = requests::records(&fetched);
                assert_eq!(records.get(..8), Some(&round.to_be_bytes()[..]), "the healthy client's fetch");
                slowest = slowest.max(began.elapsed());
                counting.fetch_add(1, Ordering::Relaxed);
            }
            slowest
        });
        HealthyClient { stop, rounds, thread: Some(thread) }
    }

    /// Waits until another round has passed: what the test did before cannot have stopped it.
    pub fn goes_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait_until(Duration::from_secs(20), "the healthy client's next round", || {
            assert!(
                !self.thread.as_ref().is_some_and(JoinHandle::is_finished),
                "the healthy client has failed"
            );
            (self.rounds.load(Ordering::Relaxed) > before + 1).then_some(())
        });
    }

    /// Stops it; panics if anything went wrong meanwhile. Gives the rounds and the slowest of them.
    pub fn finish(mut self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let slowest =
            self.thread.take().expect("finished once").join().expect("the healthy client noticed something");
        (self.rounds.load(Ordering::Relaxed), slowest)
    }
}

impl Drop for HealthyClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
