//! The bytes that members of a consumer group exchange: what each wants and owns, and what it gets. Owns the layout,
//! which is that of Java's and librdkafka's members; the fields are in `protocol-spec/records/consumer_protocol.txt`.

use bytes::Bytes;
use ottla_protocol::generated::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, ConsumerProtocolSubscriptionTopicPartition,
    TopicPartition as AssignedTopic,
};
use ottla_protocol::wire::{DecodeError, Reader, Str, Writer};

use crate::offsets::TopicPartition;

/// What this crate writes: with owned partitions (1) and their generation (2).
const SUBSCRIPTION_VERSION: i16 = 2;
const SUBSCRIPTION_VERSION_MAX: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 1;
const ASSIGNMENT_VERSION_MAX: i16 = 3;

/// What a member wants, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub topics: Vec<Str>,
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got what it owns; -1 where it does not say.
    pub generation: i32,
}

pub(crate) fn write_subscription(subscription: &Subscription) -> Bytes {
    let mut owned: Vec<ConsumerProtocolSubscriptionTopicPartition> = Vec::new();
    for place in &subscription.owned {
        match owned.iter_mut().find(|topic| topic.topic == place.topic) {
            Some(topic) => topic.partitions.push(place.partition),
            None => owned.push(ConsumerProtocolSubscriptionTopicPartition {
                topic: place.topic.clone(),
                partitions: vec![place.partition],
            }),
        }
    }
    let message = ConsumerProtocolSubscription {
        topics: subscription.topics.clone(),
        user_data: None,
        owned_partitions: owned,
        generation_id: subscription.generation,
        ..ConsumerProtocolSubscription::default()
    };
    let mut writer = Writer::new();
    writer.i16(SUBSCRIPTION_VERSION);
    message.write(&mut writer, SUBSCRIPTION_VERSION);
    writer.finish_bytes().expect("a subscription has no field that its version lacks")
}

/// Reads what a member of whatever client wants. A version from the future is read as the last that is known: fields are
/// only ever added behind.
pub(crate) fn read_subscription(bytes: &Bytes) -> Result<Subscription, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().clamp(0, SUBSCRIPTION_VERSION_MAX);
    let message = ConsumerProtocolSubscription::read(&mut reader, version);
    reader.check()?;
    let owned = message.owned_partitions.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| TopicPartition { topic: topic.topic.detached(), partition: *partition })
    });
    Ok(Subscription {
        topics: message.topics.iter().map(Str::detached).collect(),
        owned: owned.collect(),
        generation: if version >= 2 { message.generation_id } else { -1 },
    })
}

pub(crate) fn write_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut assigned: Vec<AssignedTopic> = Vec::new();
    for place in partitions {
        match assigned.iter_mut().find(|topic| topic.topic == place.topic) {
            Some(topic) => topic.partitions.push(place.partition),
            None => {
                assigned.push(AssignedTopic { topic: place.topic.clone(), partitions: vec![place.partition] })
            }
        }
    }
    let message = ConsumerProtocolAssignment { assigned_partitions: assigned, user_data: None };
    let mut writer = Writer::new();
    writer.i16(ASSIGNMENT_VERSION);
    message.write(&mut writer, ASSIGNMENT_VERSION);
    writer.finish_bytes().expect("an assignment has no field that its version lacks")
}

/// Reads what a leader of whatever client has given; no bytes are no partitions.
pub(crate) fn read_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().clamp(0, ASSIGNMENT_VERSION_MAX);
    let message = ConsumerProtocolAssignment::read(&mut reader, version);
    reader.check()?;
    let places = message.assigned_partitions.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| TopicPartition { topic: topic.topic.detached(), partition: *partition })
    });
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_java_client() {
        let subscription = Subscription {
            topics: vec![Str::from("t")],
            owned: vec![TopicPartition::new("t", 1)],
            generation: 7,
        };
        let bytes = write_subscription(&subscription);
        // version, topics, user data (null), owned partitions, generation
        let expected: &[u8] = &[
            0, 2, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0,
            0, 1, 0, 0, 0, 7,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(read_subscription(&bytes).unwrap(), subscription);
        let assignment = write_assignment(&subscription.owned);
        let expected: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(assignment, expected);
        assert_eq!(read_assignment(&assignment).unwrap(), subscription.owned);
    }

    #[test]
    fn the_oldest_and_the_next_version_are_read() {
        let oldest = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
        let read = read_subscription(&oldest).unwrap();
        assert_eq!((read.topics, read.owned, read.generation), (vec![Str::from("t")], vec![], -1));
        let next =
            [&[0, 9, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff][..], &[1, 2]];
        assert_eq!(read_subscription(&next.concat().into()).unwrap().generation, 3);
        assert!(read_subscription(&Bytes::from_static(&[0, 1, 0, 0])).is_err());
        assert_eq!(read_assignment(&Bytes::new()).unwrap(), vec![]);
    }
}
