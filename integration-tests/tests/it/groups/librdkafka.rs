//! librdkafka as a member, on a thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_integration_tests::Broker;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::member::{Diary, Settings, What};
use crate::rd;

/// Records between two commits.
const POLLS_MAX: usize = 100;

pub struct Telling {
    diary: Diary,
    /// Set before the consumer is dropped. The drop polls to its end and so passes over records that nobody gets to see:
    /// they must not be committed.
    closing: AtomicBool,
}

impl ClientContext for Telling {}

impl ConsumerContext for Telling {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.diary.write(What::Assigned(partitions(list))),
            Rebalance::Revoke(list) if consumer.assignment_lost() => {
                self.diary.write(What::Lost(partitions(list)));
            }
            Rebalance::Revoke(list) => {
                if !self.closing.load(Ordering::Relaxed) {
                    commit(consumer, &self.diary);
                }
                self.diary.write(What::Revoked(partitions(list)));
            }
            Rebalance::Error(error) => self.diary.write(What::Failed(error.to_string())),
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    let mut partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
    partitions.sort_unstable();
    partitions
}

/// A consumer that has subscribed.
pub fn consumer(broker: &Broker, settings: &Settings, diary: Diary) -> BaseConsumer<Telling> {
    let session_ms = settings.session_ms.to_string();
    let mut config = rd::config(
        broker,
        &[
            ("group.id", &settings.group),
            ("partition.assignment.strategy", &settings.strategy),
            ("session.timeout.ms", &session_ms),
            ("heartbeat.interval.ms", "300"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.wait.max.ms", "100"),
            ("reconnect.backoff.max.ms", "200"),
            ("topic.metadata.refresh.interval.ms", "1000"),
        ],
    );
    if let Some(instance) = &settings.instance {
        config.set("group.instance.id", instance);
    }
    let consumer: BaseConsumer<Telling> = config
        .create_with_context(Telling { diary, closing: AtomicBool::new(false) })
        .expect("settings that librdkafka knows");
    consumer.subscribe(&[&settings.topic]).expect("a subscription");
    consumer
}

/// Consumes and commits until told to stop; then leaves in order.
pub fn run(consumer: BaseConsumer<Telling>, stop: &AtomicBool, diary: &Diary) {
    while !stop.load(Ordering::Relaxed) {
        let mut spans: Vec<(i32, i64, i64)> = Vec::new();
        let mut wait = Duration::from_millis(50);
        for _ in 0..POLLS_MAX {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => match spans.last_mut() {
                    Some(span) if span.0 == message.partition() && span.2 + 1 == message.offset() => {
                        span.2 += 1
                    }
                    _ => spans.push((message.partition(), message.offset(), message.offset())),
                },
                Some(Err(error)) if consumer.client().fatal_error().is_some() => {
                    return diary.write(What::Failed(error.to_string()));
                }
                // Everything else, a broker that is away above all, librdkafka gets over by itself.
                Some(Err(_)) => {}
            }
            wait = Duration::ZERO;
        }
        if !spans.is_empty() {
            diary.write(What::Got(spans));
            commit(&consumer, diary);
        }
    }
    consumer.context().closing.store(true, Ordering::Relaxed);
}

/// Commits the positions. During a rebalance that may be refused; then the next owner reads those records again.
fn commit(consumer: &BaseConsumer<Telling>, diary: &Diary) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) => diary.write(What::Committed),
        Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::NoOffset
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::WaitingForCoordinator
            | RDKafkaErrorCode::NotCoordinator,
        )) => {}
        Err(error) => diary.write(What::Failed(error.to_string())),
    }
}
