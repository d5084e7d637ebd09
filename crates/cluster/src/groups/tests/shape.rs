//! Subscriptions, assignments and names of partitions as scripts write them.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::generated::records::consumer_protocol::TopicPartition;
use ottla_protocol::generated::records::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_protocol::wire::{Message, Reader, Str, Writer};

const VERSION: i16 = 1;

fn bytes_of<M: Message>(message: &M) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    message.write(&mut writer, VERSION);
    writer.finish_bytes().unwrap()
}

fn message_of<M: Message>(bytes: &Bytes) -> Option<M> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16();
    let message = M::read(&mut reader, version);
    reader.finish().ok().map(|()| message)
}

/// `t-0` is partition 0 of t.
pub(super) fn partition_name(name: &str) -> (&str, i32) {
    let (topic, partition) = name.rsplit_once('-').expect("topic-partition");
    (topic, partition.parse().expect("a partition"))
}

/// Topics, separated by commas.
pub(super) fn subscription(topics: &str) -> Bytes {
    let topics = topics.split(',').filter(|topic| !topic.is_empty()).map(Str::from).collect();
    bytes_of(&ConsumerProtocolSubscription { topics, ..ConsumerProtocolSubscription::default() })
}

/// Partitions, separated by commas; text behind a `!` is taken as it is.
pub(super) fn assignment(partitions: &str) -> Bytes {
    if let Some(opaque) = partitions.strip_prefix('!') {
        return Bytes::copy_from_slice(opaque.as_bytes());
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for name in partitions.split(',').filter(|name| !name.is_empty()) {
        let (topic, partition) = partition_name(name);
        topics.entry(topic).or_default().push(partition);
    }
    let assigned_partitions = topics
        .into_iter()
        .map(|(topic, partitions)| TopicPartition { topic: topic.into(), partitions })
        .collect();
    bytes_of(&ConsumerProtocolAssignment { assigned_partitions, ..ConsumerProtocolAssignment::default() })
}

/// The topics of a subscription, or its text.
pub(super) fn topics_text(bytes: &Bytes) -> String {
    match message_of::<ConsumerProtocolSubscription>(bytes) {
        Some(subscription) => subscription.topics.join(","),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The partitions of an assignment, or its text.
pub(super) fn partitions_text(bytes: &Bytes) -> String {
    let Some(assignment) = message_of::<ConsumerProtocolAssignment>(bytes) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let names = assignment
        .assigned_partitions
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |p| format!("{}-{p}", topic.topic)));
    names.collect::<Vec<_>>().join(",")
}
