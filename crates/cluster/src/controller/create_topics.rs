//! CreateTopics.

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::records::{ConfigRecord, TopicRecord};
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_protocol::wire::Str;

use super::placement::{new_partition, place, validate_assignment};
use super::{
    Context, Controller, METADATA_TOPIC, Outcome, Refusal, code_and_message, named_twice, new_topic_id,
    validate_topic_name,
};
use crate::config::{ConfigMap, TopicConfig};
use crate::image::{MetadataRecord, Resource};
use crate::limits::{CONFIG_VALUE_BYTES_MAX, PARTITIONS_PER_REQUEST_MAX};

/// One topic that will be made.
struct Plan {
    records: Vec<MetadataRecord>,
    result: CreatableTopicResult,
    partitions: usize,
}

impl Controller<'_> {
    /// Makes topics, each by itself: one that is refused does not keep the others from being made.
    pub fn create_topics(
        &mut self,
        request: &CreateTopicsRequest,
        context: &mut Context<'_>,
    ) -> Outcome<CreateTopicsResponse> {
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut partitions_left = PARTITIONS_PER_REQUEST_MAX;
        let mut answered = BTreeSet::new();
        let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
        // Later topics of a request that only validates must see the earlier ones, as they would when it did not.
        let committed = request.validate_only.then(|| self.image.clone());
        for topic in &request.topics {
            if !answered.insert(topic.name.as_str()) {
                continue;
            }
            let plan = if twice.contains(topic.name.as_str()) {
                Err((ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned()))
            } else {
                self.plan_topic(topic, partitions_left, context)
            };
            match plan {
                Ok(mut plan) => {
                    self.decided(&plan.records);
                    partitions_left -= plan.partitions;
                    if request.validate_only {
                        plan.result.topic_id = Uuid::ZERO;
                    } else {
                        records.append(&mut plan.records);
                    }
                    topics.push(plan.result);
                }
                Err(refusal) => topics.push(refused(&topic.name, refusal)),
            }
        }
        if let Some(committed) = committed {
            self.image = committed;
        }
        Outcome { records, response: CreateTopicsResponse { topics, ..CreateTopicsResponse::default() } }
    }

    fn plan_topic(
        &self,
        topic: &CreatableTopic,
        partitions_left: usize,
        context: &mut Context<'_>,
    ) -> Result<Plan, Refusal> {
        self.check_name(&topic.name)?;
        let configs = topic_configs(topic)?;
        let replicas = if topic.assignments.is_empty() {
            self.automatic(topic, partitions_left, context)?
        } else {
            self.manual(topic)?
        };
        if replicas.len() > partitions_left {
            return Err(too_many());
        }
        let id = new_topic_id(&self.image, context.entropy);
        let mut records: Vec<MetadataRecord> = Vec::with_capacity(1 + configs.len() + replicas.len());
        records
            .push(TopicRecord { name: topic.name.detached(), topic_id: id, ..TopicRecord::default() }.into());
        let (resource_type, _) = Resource::Topic(String::new()).to_wire();
        records.extend(configs.iter().map(|(name, value)| {
            let (name, value) = (Str::from(name), Some(Str::from(value)));
            let resource_name = topic.name.detached();
            ConfigRecord { resource_type, resource_name, name, value, ..ConfigRecord::default() }.into()
        }));
        let numbered = (0i32..).zip(&replicas);
        records.extend(numbered.map(|(n, replicas)| new_partition(&self.image, id, n, replicas).into()));
        let result = CreatableTopicResult {
            name: topic.name.detached(),
            topic_id: id,
            num_partitions: i32::try_from(replicas.len()).expect("bounded by the limit of a request"),
            replication_factor: replicas
                .first()
                .map_or(-1, |first| i16::try_from(first.len()).unwrap_or(i16::MAX)),
            configs: Some(self.result_configs(&configs)),
            ..CreatableTopicResult::default()
        };
        Ok(Plan { records, result, partitions: replicas.len() })
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        validate_topic_name(name).map_err(|text| (ErrorCode::InvalidTopicException, text))?;
        if name == METADATA_TOPIC {
            let text = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
            return Err((ErrorCode::InvalidRequest, text));
        }
        if self.image.topic_by_name(name).is_some() {
            return Err((ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        if let Some(other) = self.image.colliding_topic(name) {
            let text = format!("Topic '{name}' collides with existing topic: {other}");
            return Err((ErrorCode::InvalidTopicException, text));
        }
        Ok(())
    }

    fn automatic(
        &self,
        topic: &CreatableTopic,
        partitions_left: usize,
        context: &mut Context<'_>,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let partitions = match topic.num_partitions {
            -1 => self.settings.num_partitions,
            asked => asked,
        };
        let replication_factor = match topic.replication_factor {
            -1 => self.settings.default_replication_factor,
            asked => asked,
        };
        if partitions <= 0 {
            let text = "Number of partitions was set to an invalid non-positive value.".to_owned();
            return Err((ErrorCode::InvalidPartitions, text));
        }
        if replication_factor <= 0 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.".to_owned();
            return Err((ErrorCode::InvalidReplicationFactor, text));
        }
        let partitions = usize::try_from(partitions).expect("positive");
        if partitions > partitions_left {
            return Err(too_many());
        }
        place(&self.image, None, partitions, replication_factor, context.entropy)
    }

    fn manual(&self, topic: &CreatableTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let text = "A manual partition assignment was specified, but the number of partitions or the replication \
                        factor was not set to -1.";
            return Err((ErrorCode::InvalidRequest, text.to_owned()));
        }
        let mut assignments: Vec<_> = topic.assignments.iter().collect();
        assignments.sort_by_key(|assignment| assignment.partition_index);
        let mut replicas: Vec<Vec<BrokerId>> = Vec::with_capacity(assignments.len());
        for (number, assignment) in (0i32..).zip(assignments) {
            if assignment.partition_index != number {
                let text = "Partitions should be a consecutive 0-based integer sequence.".to_owned();
                return Err((ErrorCode::InvalidReplicaAssignment, text));
            }
            let chosen = validate_assignment(&self.image, &assignment.broker_ids)?;
            if replicas.first().is_some_and(|first| first.len() != chosen.len()) {
                let text =
                    "The manual partition assignment has partitions with different numbers of replicas."
                        .to_owned();
                return Err((ErrorCode::InvalidReplicaAssignment, text));
            }
            replicas.push(chosen);
        }
        Ok(replicas)
    }

    /// All values in force, as CreateTopics tells them from version 5 (KIP-525).
    fn result_configs(&self, set: &ConfigMap) -> Vec<CreatableTopicConfigs> {
        let entries = self.topic_layers(set).describe_topic(None);
        let configs = entries.into_iter().map(|entry| CreatableTopicConfigs {
            name: entry.name.into(),
            value: entry.value.map(Str::from),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.sensitive,
            ..CreatableTopicConfigs::default()
        });
        configs.collect()
    }
}

fn topic_configs(topic: &CreatableTopic) -> Result<ConfigMap, Refusal> {
    let mut configs = ConfigMap::new();
    for config in &topic.configs {
        let invalid = |text: String| (ErrorCode::InvalidConfig, text);
        let Some(value) = &config.value else {
            return Err(invalid(format!("Null value not supported for topic configs: {}", config.name)));
        };
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            return Err(invalid(format!("The value of {} is too long", config.name)));
        }
        configs.insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    TopicConfig::validate(&configs).map_err(|error| (ErrorCode::InvalidConfig, error.0))?;
    Ok(configs)
}

fn too_many() -> Refusal {
    let text =
        format!("Excessively large number of partitions per request: at most {PARTITIONS_PER_REQUEST_MAX}.");
    (ErrorCode::PolicyViolation, text)
}

fn refused(name: &Str, refusal: Refusal) -> CreatableTopicResult {
    let (error_code, error_message) = code_and_message(refusal);
    CreatableTopicResult {
        name: name.detached(),
        error_code,
        error_message,
        ..CreatableTopicResult::default()
    }
}
