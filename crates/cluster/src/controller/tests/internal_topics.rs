//! `__consumer_offsets`: how it is made, and what clients may not do to it.

use super::{Script, topic};
use crate::controller::{OFFSETS_TOPIC, OffsetsTopicSettings};

impl Script {
    fn auto_create(&mut self, name: &str) {
        let names = [name.into()];
        let response = self.decide(|controller, context| controller.auto_create_topics(&names, context));
        for topic in response.topics {
            self.say(&topic.name, topic.error_code, topic.error_message.as_ref());
        }
    }
}

#[test]
fn the_offsets_topic_is_made_with_settings_of_its_own() {
    let fixed = [
        ("num.partitions", "7"),
        ("offsets.topic.num.partitions", "2"),
        ("offsets.topic.segment.bytes", "2000000"),
        ("ottla.durability", "replicated"),
    ];
    let mut s = Script::with_brokers(2, &fixed);
    s.auto_create(OFFSETS_TOPIC);
    s.auto_create(OFFSETS_TOPIC);
    s.check("__consumer_offsets NONE\n__consumer_offsets NONE");
    s.show();
    // Three replicas are configured, two brokers live.
    s.check(
        r#"__consumer_offsets [0: 2 of 2,1 isr 2,1 epoch 0; 1: 1 of 1,2 isr 1,2 epoch 0]
        Topic("__consumer_offsets") {"cleanup.policy": "compact", "compression.type": "producer", "ottla.durability": "durable", "segment.bytes": "2000000"}"#,
    );
    let mut s = Script::with_brokers(
        4,
        &[("offsets.topic.num.partitions", "1"), ("offsets.topic.segment.bytes", "5")],
    );
    s.auto_create(OFFSETS_TOPIC);
    assert_eq!(s.image().topic_by_name(OFFSETS_TOPIC).unwrap().partitions[0].replicas.len(), 3);
}

#[test]
fn the_offsets_topic_keeps_its_partitions() {
    let mut s = Script::with_brokers(1, &[]);
    let defaults =
        OffsetsTopicSettings { num_partitions: 50, replication_factor: 3, segment_bytes: 104_857_600 };
    assert_eq!(s.settings.offsets_topic, defaults);
    // As in Kafka, an operator may make it beforehand.
    s.create(vec![topic(OFFSETS_TOPIC, 5, 1)], false);
    s.grow(OFFSETS_TOPIC, 6, None);
    s.delete(&[OFFSETS_TOPIC]);
    s.check(
        "__consumer_offsets NONE
        __consumer_offsets INVALID_REQUEST: __consumer_offsets is internal: its partitions cannot be added to, since where a group or a transactional id is kept follows from its partitions.
        __consumer_offsets INVALID_REQUEST: __consumer_offsets is internal: it cannot be deleted, since where a group or a transactional id is kept follows from its partitions.",
    );
    assert_eq!(s.image().topic_by_name(OFFSETS_TOPIC).unwrap().partitions.len(), 5);
}
