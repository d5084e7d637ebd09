//! Random sequences of requests: whatever is decided, the records alone lead to the same metadata.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Register { id: i32, clean: bool },
    Create { names: Vec<usize>, partitions: i32, replicas: i16, validate_only: bool },
    Delete { names: Vec<usize> },
    Grow { name: usize, count: i32 },
    Alter { kind: i8, resource: usize, operation: i8, set: usize },
    ProducerIds { id: i32 },
}

const NAMES: &[&str] = &["a", "b.c", "b_c", "d", "..", ""];
const RESOURCES: &[&str] = &["a", "b.c", "1", "2", ""];
/// Mostly what is accepted, so that sequences get somewhere.
const VALUES: &[(&str, Option<&str>)] = &[
    ("retention.ms", Some("1")),
    ("segment.ms", Some("2")),
    ("cleanup.policy", Some("compact")),
    ("cleanup.policy", Some("delete")),
    ("log.retention.ms", Some("3")),
    ("retention.ms", Some("x")),
    ("retention.ms", None),
    ("nonsense", Some("1")),
];

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0..NAMES.len(), 1..4);
    prop_oneof![
        (1..4, any::<bool>()).prop_map(|(id, clean)| Step::Register { id, clean }),
        (names(), -1..5, prop_oneof![3 => Just(1i16), 1 => -1i16..4], prop::bool::weighted(0.2)).prop_map(
            |(names, partitions, replicas, validate_only)| {
                Step::Create { names, partitions, replicas, validate_only }
            }
        ),
        names().prop_map(|names| Step::Delete { names }),
        (0..NAMES.len(), 0..8).prop_map(|(name, count)| Step::Grow { name, count }),
        (
            prop_oneof![4 => Just(2i8), 2 => Just(4), 1 => Just(32)],
            0..RESOURCES.len(),
            prop_oneof![4 => Just(0i8), 3 => 1i8..5],
            0..VALUES.len()
        )
            .prop_map(|(kind, resource, operation, set)| Step::Alter {
                kind,
                resource,
                operation,
                set
            }),
        (1..4).prop_map(|id| Step::ProducerIds { id }),
    ]
}

fn run(script: &mut Script, step: &Step) {
    match step {
        Step::Register { id, clean } => {
            let known = script.image().broker(BrokerId(*id)).map_or(-1, |broker| broker.epoch);
            script.register(*id, if *clean { known } else { -1 });
        }
        Step::Create { names, partitions, replicas, validate_only } => {
            let topics = names.iter().map(|i| topic(NAMES[*i], *partitions, *replicas)).collect();
            script.create(topics, *validate_only);
        }
        Step::Delete { names } => {
            let names: Vec<_> = names.iter().map(|i| NAMES[*i]).collect();
            script.delete(&names);
        }
        Step::Grow { name, count } => script.grow(NAMES[*name], *count, None),
        Step::Alter { kind, resource, operation, set } => {
            let (key, value) = VALUES[*set];
            script.alter(*kind, RESOURCES[*resource], &[(key, *operation, value)]);
        }
        Step::ProducerIds { id } => {
            let broker_epoch = script.image().broker(BrokerId(*id)).map_or(-1, |broker| broker.epoch);
            let request = AllocateProducerIdsRequest { broker_id: *id, broker_epoch, ..Default::default() };
            script.decide(|controller, _| controller.allocate_producer_ids(&request));
        }
    }
}

/// What must hold of every image.
fn check_image(image: &MetadataImage) {
    let mut names: Vec<_> = image.topics().map(|topic| topic.name.replace('.', "_")).collect();
    assert_eq!(names.len(), image.topic_count());
    names.dedup();
    assert_eq!(names.len(), image.topic_count(), "no two names collide");
    for topic in image.topics() {
        assert_eq!(image.topic_by_id(&topic.id), Some(topic));
        assert!(!topic.partitions.is_empty());
        for partition in &topic.partitions {
            assert!(partition.isr.iter().all(|id| partition.replicas.contains(id)));
            assert!(partition.isr.contains(&partition.leader));
            assert!(partition.replicas.iter().all(|id| image.broker(*id).is_some()));
        }
    }
    for (resource, values) in image.configs() {
        assert!(!values.is_empty());
        if let Resource::Topic(name) = resource {
            assert!(image.topic_by_name(name).is_some(), "values go with their topic");
        }
    }
    let everything = MetadataDelta::everything(image);
    assert_eq!(everything.topics_created.len(), image.topic_count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // `Script` itself demands that the working copy, the image and an image made of the records' bytes are equal after each step.
    #[test]
    fn records_alone_lead_to_the_same_metadata(steps in prop::collection::vec(step(), 1..60)) {
        let mut script = Script::with_brokers(1, &[]);
        let mut again = Script::with_brokers(1, &[]);
        for step in &steps {
            run(&mut script, step);
            check_image(script.image());
            run(&mut again, step);
        }
        // Nothing depends on anything but the requests and the drawn numbers.
        prop_assert_eq!(script.image(), again.image());
        prop_assert_eq!(&script.text, &again.text);
    }
}
