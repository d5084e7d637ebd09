//! A script of requests in, text out.

use std::fmt::Write as _;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::allocate_producer_ids::AllocateProducerIdsRequest;
use ottla_protocol::generated::alter_configs;
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::generated::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::generated::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::generated::records::{FeatureLevelRecord, PartitionChangeRecord};

use super::*;
use crate::image::{PartitionImage, Resource};
use crate::limits::ELECTIONS_PER_REBALANCE_MAX;

/// A cluster in which every decision is committed at once. Every record goes through its bytes, and a second image that only ever
/// sees records must stay equal.
struct Script {
    image: MetadataImage,
    replayed: MetadataImage,
    settings: Settings,
    draws: u64,
    text: String,
}

impl Script {
    fn new(fixed: &[(&str, &str)]) -> Self {
        let fixed = fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (image, replayed) = (MetadataImage::default(), MetadataImage::default());
        let settings = Settings::new("c".to_owned(), fixed);
        let mut script = Self { image, replayed, settings, draws: 0, text: String::new() };
        let level =
            FeatureLevelRecord { name: "f".into(), feature_level: 2, ..FeatureLevelRecord::default() };
        script.commit(vec![level.into()]);
        script
    }

    /// One with brokers 1 to `count`, in racks a and b by turns.
    fn with_brokers(count: i32, fixed: &[(&str, &str)]) -> Self {
        let mut script = Self::new(fixed);
        for id in 1..=count {
            script.register(id, -1);
        }
        script.text.clear();
        script
    }

    fn image(&self) -> &MetadataImage {
        &self.image
    }

    fn commit(&mut self, records: Vec<MetadataRecord>) {
        let index = self.image.index() + 1;
        let mut deltas = [MetadataDelta::default(), MetadataDelta::default()];
        for record in &records {
            self.image.apply(record, &mut deltas[0]).unwrap();
            let read = MetadataRecord::decode(record.encode().unwrap()).unwrap();
            assert_eq!(&read, record);
            self.replayed.apply(&read, &mut deltas[1]).unwrap();
        }
        self.image.set_index(index);
        self.replayed.set_index(index);
        assert_eq!(self.image, self.replayed);
        assert_eq!(deltas[0], deltas[1]);
    }

    fn decide<R>(&mut self, decide: impl FnOnce(&mut Controller<'_>, &mut Context<'_>) -> Outcome<R>) -> R {
        let mut draws = self.draws;
        let mut entropy = || {
            draws += 1;
            draws.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let mut controller = Controller::new(self.image.clone(), &self.settings);
        let mut context = Context { index: self.image.index() + 1, entropy: &mut entropy };
        let outcome = decide(&mut controller, &mut context);
        let mut copy = controller.into_image();
        self.draws = draws;
        let changed = !outcome.records.is_empty();
        if changed {
            self.commit(outcome.records);
        }
        copy.set_index(self.image.index());
        assert_eq!(copy, self.image, "the working copy is what its records make of the image");
        outcome.response
    }

    fn say(&mut self, who: &str, code: i16, message: Option<&Str>) {
        let error = ErrorCode::from_code(code).unwrap().name();
        let message = message.map_or(String::new(), |text| format!(": {text}"));
        writeln!(self.text, "{who} {error}{message}").unwrap();
    }

    fn register(&mut self, id: i32, previous_epoch: i64) -> i64 {
        let request = registration(id, previous_epoch);
        self.register_as(&request)
    }

    fn register_as(&mut self, request: &BrokerRegistrationRequest) -> i64 {
        let response = self.decide(|controller, context| controller.register_broker(request, context));
        self.say(&format!("broker {}", request.broker_id), response.error_code, None);
        response.broker_epoch
    }

    fn create(&mut self, topics: Vec<CreatableTopic>, validate_only: bool) {
        let request = CreateTopicsRequest { topics, validate_only, ..CreateTopicsRequest::default() };
        let response = self.decide(|controller, context| controller.create_topics(&request, context));
        for topic in response.topics {
            self.say(&topic.name, topic.error_code, topic.error_message.as_ref());
        }
    }

    fn delete(&mut self, names: &[&str]) {
        let topic_names = names.iter().map(|name| Str::from(*name)).collect();
        self.delete_as(&DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() });
    }

    fn delete_as(&mut self, request: &DeleteTopicsRequest) {
        let response = self.decide(|controller, _| controller.delete_topics(request));
        for topic in response.responses {
            let name = topic.name.unwrap_or("(by id)".into());
            self.say(&name, topic.error_code, topic.error_message.as_ref());
        }
    }

    fn grow(&mut self, name: &str, count: i32, assignments: Option<&[&[i32]]>) {
        use ottla_protocol::generated::create_partitions::CreatePartitionsAssignment;
        let assignments = assignments.map(|lists| {
            let assign =
                |ids: &&[i32]| CreatePartitionsAssignment { broker_ids: ids.to_vec(), ..Default::default() };
            lists.iter().map(assign).collect()
        });
        let topic = CreatePartitionsTopic { name: name.into(), count, assignments, ..Default::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], ..CreatePartitionsRequest::default() };
        let response = self.decide(|controller, context| controller.create_partitions(&request, context));
        for result in response.results {
            self.say(&result.name, result.error_code, result.error_message.as_ref());
        }
    }

    fn alter(&mut self, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) {
        let configs = changes.iter().map(|(name, operation, value)| AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(Str::from),
            ..AlterableConfig::default()
        });
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: configs.collect(),
            ..AlterConfigsResource::default()
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let response = self.decide(|controller, _| controller.incremental_alter_configs(&request));
        for result in response.responses {
            let who = format!("{kind} '{name}'");
            self.say(&who, result.error_code, result.error_message.as_ref());
        }
    }

    fn replace(&mut self, name: &str, values: &[(&str, &str)]) {
        use alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
        let configs = values.iter().map(|(name, value)| AlterableConfig {
            name: (*name).into(),
            value: Some((*value).into()),
            ..AlterableConfig::default()
        });
        let configs = configs.collect();
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: name.into(),
            configs,
            ..Default::default()
        };
        let request = AlterConfigsRequest { resources: vec![resource], ..AlterConfigsRequest::default() };
        let response = self.decide(|controller, _| controller.alter_configs(&request));
        for result in response.responses {
            self.say(name, result.error_code, result.error_message.as_ref());
        }
    }

    /// Topics with leader/replicas/isr@epoch per partition, and values that are set.
    fn show(&mut self) {
        let mut text = String::new();
        for topic in self.image.topics() {
            let partitions = topic.partitions().map(|(n, p)| {
                let ids =
                    |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                format!(
                    "{n}: {} of {} isr {} epoch {}",
                    p.leader,
                    ids(&p.replicas),
                    ids(&p.isr),
                    p.leader_epoch
                )
            });
            writeln!(text, "{} [{}]", topic.name, partitions.collect::<Vec<_>>().join("; ")).unwrap();
        }
        for (resource, values) in self.image.configs() {
            writeln!(text, "{resource:?} {values:?}").unwrap();
        }
        self.text.push_str(&text);
    }

    #[track_caller]
    fn check(&mut self, expected: &str) {
        let lines = |text: &str| {
            text.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&std::mem::take(&mut self.text)), lines(expected));
    }
}

fn registration(id: i32, previous_broker_epoch: i64) -> BrokerRegistrationRequest {
    let listener = Listener { name: "PLAINTEXT".into(), host: "h".into(), port: 9092, ..Listener::default() };
    let feature = Feature {
        name: "f".into(),
        min_supported_version: 1,
        max_supported_version: 3,
        ..Feature::default()
    };
    BrokerRegistrationRequest {
        broker_id: id,
        cluster_id: "c".into(),
        incarnation_id: Uuid([1; 16]),
        listeners: vec![listener],
        features: vec![feature],
        rack: Some(if id % 2 == 1 { "a".into() } else { "b".into() }),
        log_dirs: vec![Uuid([id.to_be_bytes()[3]; 16])],
        previous_broker_epoch,
        ..BrokerRegistrationRequest::default()
    }
}

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    }
}

fn with(mut topic: CreatableTopic, name: &str, value: Option<&str>) -> CreatableTopic {
    let value = value.map(Str::from);
    topic.configs.push(CreatableTopicConfig { name: name.into(), value, ..CreatableTopicConfig::default() });
    topic
}

fn assigned(name: &str, lists: &[(i32, &[i32])]) -> CreatableTopic {
    let mut topic = topic(name, -1, -1);
    topic.assignments = lists
        .iter()
        .map(|(partition_index, ids)| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: ids.to_vec(),
            ..CreatableReplicaAssignment::default()
        })
        .collect();
    topic
}

#[test]
fn topics_are_made_each_by_itself() {
    let mut s = Script::with_brokers(1, &[("num.partitions", "2")]);
    let too_many = 10_001;
    s.create(
        vec![
            topic("a", 1, 1),
            topic("defaults", -1, -1),
            topic("a/b", 1, 1),
            topic("twice", 1, 1),
            topic("twice", 1, 1),
            topic("p0", 0, 1),
            topic("pminus", -2, 1),
            topic("r0", 1, 0),
            topic("r2", 1, 2),
            topic("many", too_many, 1),
            topic("__cluster_metadata", 1, 1),
            with(topic("null", 1, 1), "retention.ms", None),
            with(topic("unknown", 1, 1), "nonsense", Some("1")),
            with(topic("bad", 1, 1), "retention.ms", Some("soon")),
            with(topic("good", 1, 1), "cleanup.policy", Some("compact")),
        ],
        false,
    );
    s.check(
        "a NONE
        defaults NONE
        a/b INVALID_TOPIC_EXCEPTION: Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'
        twice INVALID_REQUEST: Duplicate topic name.
        p0 INVALID_PARTITIONS: Number of partitions was set to an invalid non-positive value.
        pminus INVALID_PARTITIONS: Number of partitions was set to an invalid non-positive value.
        r0 INVALID_REPLICATION_FACTOR: Replication factor must be larger than 0, or -1 to use the default value.
        r2 INVALID_REPLICATION_FACTOR: Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because only 1 broker(s) are registered.
        many POLICY_VIOLATION: Excessively large number of partitions per request: at most 10000.
        __cluster_metadata INVALID_REQUEST: Creation of internal topic __cluster_metadata is prohibited.
        null INVALID_CONFIG: Null value not supported for topic configs: retention.ms
        unknown INVALID_CONFIG: Unknown topic config name: nonsense
        bad INVALID_CONFIG: Invalid value soon for configuration retention.ms: Not a number of type LONG
        good NONE",
    );
    s.show();
    s.check(
        r#"a [0: 1 of 1 isr 1 epoch 0]
        defaults [0: 1 of 1 isr 1 epoch 0; 1: 1 of 1 isr 1 epoch 0]
        good [0: 1 of 1 isr 1 epoch 0]
        Topic("good") {"cleanup.policy": "compact"}"#,
    );
    s.create(vec![topic("a", 1, 1), topic("x.y", 1, 1), topic("x_y", 1, 1)], false);
    s.check(
        "a TOPIC_ALREADY_EXISTS: Topic 'a' already exists.
        x.y NONE
        x_y INVALID_TOPIC_EXCEPTION: Topic 'x_y' collides with existing topic: x.y",
    );
    s.delete(&["x.y"]);
    s.create(vec![topic("x_y", 1, 1)], false);
    s.check("x.y NONE\nx_y NONE");
}

#[test]
fn validation_alone_changes_nothing_and_sees_the_request_as_a_whole() {
    let mut s = Script::with_brokers(1, &[]);
    s.create(vec![topic("a.b", 1, 1), topic("a_b", 1, 1)], true);
    s.show();
    s.check(
        "a.b NONE
        a_b INVALID_TOPIC_EXCEPTION: Topic 'a_b' collides with existing topic: a.b",
    );
}

#[test]
fn the_response_tells_what_was_made() {
    let mut s = Script::with_brokers(1, &[]);
    let topics = vec![with(topic("a", 3, -1), "retention.ms", Some("7"))];
    let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
    let response = s.decide(|controller, context| controller.create_topics(&request, context));
    let made = &response.topics[0];
    assert_eq!((made.num_partitions, made.replication_factor), (3, 1));
    assert_eq!(made.topic_id, s.image().topic_by_name("a").unwrap().id);
    assert!(!made.topic_id.is_zero());
    let configs = made.configs.as_ref().unwrap();
    let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("7"), 1));
}

#[test]
fn replicas_spread_over_brokers_and_racks() {
    let mut s = Script::with_brokers(4, &[]);
    s.create(vec![topic("a", 4, 2)], false);
    s.check("a NONE");
    let topic = s.image().topic_by_name("a").unwrap().clone();
    let mut leaders: Vec<_> = topic.partitions.iter().map(|p| p.leader.0).collect();
    leaders.sort_unstable();
    assert_eq!(leaders, [1, 2, 3, 4]);
    for partition in &topic.partitions {
        let racks: Vec<_> = partition.replicas.iter().map(|id| id.0 % 2).collect();
        assert_ne!(racks[0], racks[1], "{partition:?}");
    }
}

#[test]
fn manual_assignments() {
    let mut s = Script::with_brokers(3, &[]);
    let mut both = assigned("both", &[(0, &[1])]);
    both.num_partitions = 1;
    s.create(
        vec![
            assigned("good", &[(1, &[2, 3]), (0, &[3, 1])]),
            both,
            assigned("gap", &[(0, &[1]), (2, &[1])]),
            assigned("unknown", &[(0, &[9])]),
            assigned("double", &[(0, &[1, 1])]),
            assigned("uneven", &[(0, &[1]), (1, &[1, 2])]),
            assigned("none", &[(0, &[])]),
        ],
        false,
    );
    s.grow("good", 3, Some(&[&[1, 2]]));
    s.grow("good", 4, Some(&[&[1]]));
    s.grow("good", 5, Some(&[&[1, 2]]));
    s.grow("good", 3, None);
    s.grow("good", 2, None);
    s.grow("absent", 2, None);
    s.show();
    s.check(
        "good NONE
        both INVALID_REQUEST: A manual partition assignment was specified, but the number of partitions or the replication factor was not set to -1.
        gap INVALID_REPLICA_ASSIGNMENT: Partitions should be a consecutive 0-based integer sequence.
        unknown INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 9, but no such broker is registered.
        double INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes the broker 1 more than once.
        uneven INVALID_REPLICA_ASSIGNMENT: The manual partition assignment has partitions with different numbers of replicas.
        none INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes an empty replica list.
        good NONE
        good INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with previous partitions, which have 2 replica(s).
        good INVALID_REPLICA_ASSIGNMENT: Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.
        good INVALID_PARTITIONS: Topic already has 3 partition(s).
        good INVALID_PARTITIONS: The topic good currently has 3 partition(s); 2 would not be an increase.
        absent UNKNOWN_TOPIC_OR_PARTITION: This server does not host this topic-partition.
        good [0: 3 of 3,1 isr 3,1 epoch 0; 1: 2 of 2,3 isr 2,3 epoch 0; 2: 1 of 1,2 isr 1,2 epoch 0]",
    );
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut s = Script::with_brokers(1, &[]);
    s.create(vec![with(topic("a", 2, 1), "retention.ms", Some("1")), topic("b", 1, 1)], false);
    let id = s.image().topic_by_name("b").unwrap().id;
    s.delete(&["a", "a", "absent"]);
    let state = |name: Option<&str>, topic_id| DeleteTopicState {
        name: name.map(Str::from),
        topic_id,
        ..Default::default()
    };
    let topics = vec![
        state(None, id),
        state(Some("b"), Uuid::ZERO),
        state(Some("b"), id),
        state(None, Uuid::ZERO),
        state(None, Uuid([9; 16])),
    ];
    s.delete_as(&DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() });
    s.show();
    s.check(
        "a NONE
        b NONE
        a NONE
        a INVALID_REQUEST: Duplicate topic name or id.
        absent UNKNOWN_TOPIC_OR_PARTITION: This server does not host this topic-partition.
        b NONE
        b INVALID_REQUEST: Duplicate topic name or id.
        b INVALID_REQUEST: Neither topic name nor id were specified, or both were.
        (by id) INVALID_REQUEST: Neither topic name nor id were specified.
        (by id) UNKNOWN_TOPIC_ID: This server does not host this topic ID.",
    );

    let mut s = Script::with_brokers(1, &[("delete.topic.enable", "false")]);
    s.create(vec![topic("a", 1, 1)], false);
    s.delete(&["a"]);
    s.check("a NONE\na TOPIC_DELETION_DISABLED: Topic deletion is disabled.");
}

#[test]
fn values_are_set_unset_and_lists_changed() {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;
    let mut s = Script::with_brokers(1, &[]);
    s.create(vec![topic("a", 1, 1)], false);
    s.alter(TOPIC, "a", &[("retention.ms", 0, Some("5")), ("cleanup.policy", 2, Some("compact"))]);
    s.alter(TOPIC, "a", &[("retention.ms", 2, Some("5"))]);
    s.alter(TOPIC, "a", &[("retention.ms", 0, Some("5")), ("retention.ms", 1, None)]);
    s.alter(TOPIC, "a", &[("retention.ms", 0, None)]);
    s.alter(TOPIC, "a", &[("retention.ms", 7, None)]);
    s.alter(TOPIC, "absent", &[("retention.ms", 0, Some("5"))]);
    s.alter(BROKER, "", &[("log.retention.ms", 0, Some("9"))]);
    s.alter(BROKER, "1", &[("message.max.bytes", 0, Some("99"))]);
    s.alter(BROKER, "", &[("num.partitions", 0, Some("9"))]);
    s.alter(BROKER, "", &[("num.io.threads", 0, Some("9"))]);
    s.alter(BROKER, "7", &[("log.retention.ms", 0, Some("9"))]);
    s.alter(BROKER, "x", &[("log.retention.ms", 0, Some("9"))]);
    s.alter(16, "x", &[]);
    s.show();
    s.check(
        r#"a NONE
        2 'a' NONE
        2 'a' INVALID_CONFIG: Can't append to key retention.ms because its type is not LIST.
        2 'a' INVALID_REQUEST: Duplicate config key retention.ms
        2 'a' INVALID_REQUEST: Null value not supported for: retention.ms
        2 'a' INVALID_REQUEST: Unknown operation type 7.
        2 'absent' UNKNOWN_TOPIC_OR_PARTITION: The topic 'absent' does not exist.
        4 '' NONE
        4 '1' NONE
        4 '' INVALID_REQUEST: Cannot update these configs dynamically: num.partitions
        4 '' INVALID_CONFIG: num.io.threads would have no effect: work runs on one thread per core, there are no such pools
        4 '7' INVALID_REQUEST: No broker with id 7 is registered.
        4 'x' INVALID_REQUEST: Resource 'x' of type 4 has no configs that can be altered.
        16 'x' INVALID_REQUEST: Resource 'x' of type 16 has no configs that can be altered.
        a [0: 1 of 1 isr 1 epoch 0]
        Topic("a") {"cleanup.policy": "delete,compact", "retention.ms": "5"}
        Broker(BrokerId(1)) {"message.max.bytes": "99"}
        Brokers {"log.retention.ms": "9"}"#,
    );
    s.alter(TOPIC, "a", &[("cleanup.policy", 3, Some("delete")), ("retention.ms", 1, None)]);
    s.replace("a", &[("segment.ms", "7")]);
    s.alter(BROKER, "", &[("log.retention.ms", 1, None)]);
    s.show();
    s.check(
        r#"2 'a' NONE
        a NONE
        4 '' NONE
        a [0: 1 of 1 isr 1 epoch 0]
        Topic("a") {"segment.ms": "7"}
        Broker(BrokerId(1)) {"message.max.bytes": "99"}"#,
    );
    assert_eq!(s.image().config(&Resource::Brokers).len(), 0);
}

#[test]
fn producer_ids_come_in_blocks_to_registered_brokers() {
    let mut s = Script::with_brokers(2, &[]);
    let epoch = |s: &Script, id| s.image().broker(BrokerId(id)).unwrap().epoch;
    let mut ask = |broker_id, broker_epoch| {
        let request = AllocateProducerIdsRequest { broker_id, broker_epoch, ..Default::default() };
        let response = s.decide(|controller, _| controller.allocate_producer_ids(&request));
        (response.error_code, response.producer_id_start, response.producer_id_len)
    };
    let none = ErrorCode::None.code();
    assert_eq!(ask(1, 1), (none, 0, 1000));
    assert_eq!(ask(2, 2), (none, 1000, 1000));
    assert_eq!(ask(1, 1), (none, 2000, 1000));
    assert_eq!(ask(1, 0).0, ErrorCode::StaleBrokerEpoch.code());
    assert_eq!(ask(3, 0).0, ErrorCode::BrokerIdNotRegistered.code());
    assert_eq!((epoch(&s, 1), epoch(&s, 2)), (1, 2));
}

#[test]
fn a_broker_that_did_not_stop_in_order_begins_new_leader_epochs() {
    let mut s = Script::with_brokers(1, &[]);
    s.create(vec![topic("a", 1, 1)], false);
    let first = s.image().broker(BrokerId(1)).unwrap().epoch;
    let second = s.register(1, first);
    s.show();
    assert!(second > first);
    s.register(1, -1);
    s.show();
    s.check(
        "a NONE
        broker 1 NONE
        a [0: 1 of 1 isr 1 epoch 0]
        broker 1 NONE
        a [0: 1 of 1 isr 1 epoch 1]",
    );
}

#[test]
fn strangers_are_not_registered() {
    let mut s = Script::new(&[]);
    let mut other = registration(1, -1);
    other.cluster_id = "d".into();
    s.register_as(&other);
    let mut old = registration(2, -1);
    old.features[0].max_supported_version = 1;
    s.register_as(&old);
    s.register(-3, -1);
    s.create(vec![topic("a", 1, 1)], false);
    s.check(
        "broker 1 INCONSISTENT_CLUSTER_ID
        broker 2 UNSUPPORTED_VERSION
        broker -3 INVALID_REQUEST
        a INVALID_REPLICATION_FACTOR: Unable to replicate the partition 1 time(s): The target replication factor of 1 cannot be reached because only 0 broker(s) are registered.",
    );
}

#[test]
fn auto_creation_takes_what_exists_for_success() {
    let mut s = Script::with_brokers(1, &[]);
    let mut ask = |names: &[&str]| {
        let names: Vec<Str> = names.iter().map(|name| Str::from(*name)).collect();
        let response = s.decide(|controller, context| controller.auto_create_topics(&names, context));
        response.topics.iter().map(|t| (t.name.to_string(), t.error_code, t.topic_id)).collect::<Vec<_>>()
    };
    let first = ask(&["a", "a"]);
    assert_eq!(first.len(), 1);
    let second = ask(&["a", "b/c"]);
    assert_eq!(second[0], first[0]);
    assert_eq!(second[1].1, ErrorCode::InvalidTopicException.code());
}

mod cluster;
mod features;
mod internal_topics;
mod sequences;
