//! A group whose members read while brokers fail: what it has committed stays committed, wherever its coordinator goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);

/// A member of the group `readers`, and what it has committed: the next offset by partition.
pub struct Member {
    consumer: BaseConsumer,
    topic: String,
    committed: BTreeMap<i32, i64>,
}

impl Member {
    pub fn join(bootstrap: &str, topic: &str) -> Member {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "readers")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .expect("settings that librdkafka knows");
        consumer.subscribe(&[topic]).expect("a subscription");
        Member { consumer, topic: topic.to_owned(), committed: BTreeMap::new() }
    }

    /// Reads until a commit of something new from every one of `partitions` has been taken. Nothing is read that was committed before.
    pub fn read_and_commit(&mut self, partitions: i32) {
        let deadline = Instant::now() + WAIT;
        let mut next = BTreeMap::new();
        let before = self.committed.clone();
        loop {
            assert!(Instant::now() < deadline, "no commit was taken; read up to {next:?}");
            if let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) {
                let (partition, offset) = (message.partition(), message.offset());
                let from = before.get(&partition).copied().unwrap_or(0);
                assert!(offset >= from, "{partition}: {offset} again, {from} is committed");
                next.insert(partition, offset + 1);
            }
            if next.len() == usize::try_from(partitions).expect("few") && self.commit(&next) {
                self.committed = next;
                return;
            }
        }
    }

    fn commit(&self, next: &BTreeMap<i32, i64>) -> bool {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            let offset = Offset::Offset(*offset);
            offsets.add_partition_offset(&self.topic, *partition, offset).expect("a valid offset");
        }
        self.consumer.commit(&offsets, CommitMode::Sync).is_ok()
    }

    /// What the group has committed is what this member was told that it has.
    pub fn check(&self) {
        let mut asked = TopicPartitionList::new();
        for partition in self.committed.keys() {
            asked.add_partition(&self.topic, *partition);
        }
        let known = self.consumer.committed_offsets(asked, WAIT).expect("the committed offsets");
        for element in known.elements() {
            let committed = self.committed[&element.partition()];
            assert_eq!(element.offset(), Offset::Offset(committed), "partition {}", element.partition());
        }
    }
}
