//! Topics, partitions, brokers, directories.

use ottla_protocol::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use ottla_protocol::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use ottla_protocol::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use ottla_protocol::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::generated::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::wire::Str;

use super::Admin;
use crate::ErrorCode;
use crate::error::{Error, check};
use crate::metadata::{Broker, Topic};
use crate::offsets::TopicPartition;
use crate::retry::Retries;

const CREATE_TOPICS_VERSIONS: (i16, i16) = (2, 7);
const DELETE_TOPICS_VERSIONS: (i16, i16) = (1, 6);
const CREATE_PARTITIONS_VERSIONS: (i16, i16) = (0, 3);
const DELETE_RECORDS_VERSIONS: (i16, i16) = (0, 2);
const DESCRIBE_LOG_DIRS_VERSIONS: (i16, i16) = (1, 4);
/// The first version of DeleteTopics that names a topic by name or id.
const DELETE_BY_STATE_SINCE: i16 = 6;

/// A topic to create. Without partitions and replicas, the brokers' defaults count.
#[derive(Clone, Debug)]
#[must_use]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication_factor: i16,
    configs: Vec<(String, String)>,
    validate_only: bool,
}

impl NewTopic {
    /// A topic of this name.
    pub fn new(name: impl Into<String>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            configs: Vec::new(),
            validate_only: false,
        }
    }

    /// How many partitions.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = count;
        self
    }

    /// How many replicas of each.
    pub fn replication_factor(mut self, count: i16) -> Self {
        self.replication_factor = count;
        self
    }

    /// Sets a configuration key.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }

    /// Only asks whether it could be created.
    pub fn validate_only(mut self, on: bool) -> Self {
        self.validate_only = on;
        self
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Its id, where the broker tells.
    pub id: Option<String>,
    /// The broker to which requests for the controller go.
    pub controller: Option<i32>,
    /// By id.
    pub brokers: Vec<Broker>,
}

/// A log directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    /// Whose it is.
    pub broker: i32,
    /// Its path.
    pub path: String,
    /// Bytes of each replica in it.
    pub replicas: Vec<(TopicPartition, i64)>,
}

impl Admin {
    /// The brokers.
    ///
    /// # Errors
    /// What keeps brokers from answering.
    pub async fn describe_cluster(&self) -> Result<ClusterInfo, Error> {
        let seen = self.client.cluster().generation;
        self.client.refresh(&[], false, seen, self.client.call_max()).await?;
        let cluster = self.client.cluster();
        let mut brokers: Vec<Broker> = cluster.brokers.values().cloned().collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterInfo { id: cluster.cluster_id.clone(), controller: cluster.controller_id, brokers })
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// What keeps brokers from answering.
    pub async fn list_topics(&self) -> Result<Vec<Topic>, Error> {
        let request =
            MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let response = self.client.ask_metadata(request, self.client.call_max()).await?;
        self.client.learn(&response);
        let mut topics: Vec<Topic> =
            response.topics.iter().filter(|topic| topic.error_code == 0).map(Topic::from_wire).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic, as the cluster knows it now.
    ///
    /// # Errors
    /// [`Error::Topic`] when there is none, at once.
    pub async fn describe_topic(&self, name: &str) -> Result<Topic, Error> {
        let topic = MetadataRequestTopic { name: Some(Str::from(name)), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = self.client.ask_metadata(request, self.client.call_max()).await?;
        self.client.learn(&response);
        let topic =
            response.topics.first().ok_or_else(|| Error::topic(name, ErrorCode::UnknownTopicOrPartition))?;
        check(topic.error_code, |code| Error::topic(name, code))?;
        Ok(Topic::from_wire(topic))
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`Error::Topic`] with `TopicAlreadyExists`, `InvalidTopicException`, `InvalidReplicationFactor`,
    /// `InvalidPartitions`, `InvalidConfig`.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), Error> {
        let configs = topic.configs.iter().map(|(key, value)| CreatableTopicConfig {
            name: Str::from(key.as_str()),
            value: Some(Str::from(value.as_str())),
            ..CreatableTopicConfig::default()
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(topic.name.as_str()),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: topic.validate_only,
            ..CreateTopicsRequest::default()
        };
        self.ask_controller(&request, CREATE_TOPICS_VERSIONS, |response: &CreateTopicsResponse| {
            let result = response.topics.first();
            judge_topic(&topic.name, result.map(|result| (result.error_code, &result.error_message)))
        })
        .await?;
        Ok(())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// [`Error::Topic`] when there is none.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let mut request =
            DeleteTopicsRequest { timeout_ms: self.timeout_ms(), ..DeleteTopicsRequest::default() };
        let judge = |response: &DeleteTopicsResponse| {
            let result = response.responses.first();
            judge_topic(name, result.map(|result| (result.error_code, &result.error_message)))
        };
        // Versions name the topic in different fields, so the version is settled first.
        let connection = self.client.any_connection().await?;
        let version = connection.version::<DeleteTopicsRequest>(DELETE_TOPICS_VERSIONS)?;
        if version >= DELETE_BY_STATE_SINCE {
            request.topics =
                vec![DeleteTopicState { name: Some(Str::from(name)), ..DeleteTopicState::default() }];
        } else {
            request.topic_names = vec![Str::from(name)];
        }
        self.ask_controller(&request, (version, version), judge).await?;
        Ok(())
    }

    /// Gives a topic more partitions, `count` in all. Keys may meet another partition afterwards.
    ///
    /// # Errors
    /// [`Error::Topic`] with `InvalidPartitions` when it has as many already.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), Error> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::from(topic),
                count,
                assignments: None,
                ..CreatePartitionsTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..CreatePartitionsRequest::default()
        };
        self.ask_controller(&request, CREATE_PARTITIONS_VERSIONS, |response: &CreatePartitionsResponse| {
            let result = response.results.first();
            judge_topic(topic, result.map(|result| (result.error_code, &result.error_message)))
        })
        .await?;
        Ok(())
    }

    /// Deletes the records of a partition before `offset` (-1: all), and gives the offset at which it begins now.
    ///
    /// # Errors
    /// [`Error::Partition`] with `OffsetOutOfRange` for an offset beyond the end.
    pub async fn delete_records(&self, place: &TopicPartition, offset: i64) -> Result<i64, Error> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: place.topic.clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: place.partition,
                    offset,
                    ..DeleteRecordsPartition::default()
                }],
                ..DeleteRecordsTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..DeleteRecordsRequest::default()
        };
        let mut retries = Retries::new(format!("deleting records of {place}"), self.client.call_max());
        loop {
            let topic = self.describe_topic(&place.topic).await?;
            let known = topic.partition(place.partition).ok_or_else(|| Error::NoSuchPartition {
                topic: place.topic.to_string(),
                partition: place.partition,
                count: topic.partitions_count(),
            })?;
            let answer = match known.leader {
                Some(leader) => self.delete_records_at(leader, place, &request).await,
                None => Err(Error::partition(&place.topic, place.partition, ErrorCode::LeaderNotAvailable)),
            };
            match answer {
                Ok(offset) => return Ok(offset),
                Err(error) => retries.pause(error).await?,
            }
        }
    }

    async fn delete_records_at(
        &self,
        leader: i32,
        place: &TopicPartition,
        request: &DeleteRecordsRequest,
    ) -> Result<i64, Error> {
        let (response, _): (DeleteRecordsResponse, _) =
            self.client.call_broker(leader, request, DELETE_RECORDS_VERSIONS).await?;
        let refused = |code| Error::partition(&place.topic, place.partition, code);
        let said = response.topics.first().and_then(|topic| topic.partitions.first());
        let said = said.ok_or_else(|| refused(ErrorCode::UnknownServerError))?;
        check(said.error_code, refused)?;
        Ok(said.low_watermark)
    }

    /// The log directories of all brokers, with what lies in them.
    ///
    /// # Errors
    /// What keeps a broker from answering.
    pub async fn describe_log_directories(&self) -> Result<Vec<LogDirectory>, Error> {
        let mut directories = Vec::new();
        for broker in self.describe_cluster().await?.brokers {
            let request = DescribeLogDirsRequest { topics: None, ..DescribeLogDirsRequest::default() };
            let (response, _): (DescribeLogDirsResponse, _) =
                self.client.call_broker(broker.id, &request, DESCRIBE_LOG_DIRS_VERSIONS).await?;
            for result in response.results {
                check(result.error_code, |code| Error::Refused {
                    what: format!("broker {}: {}", broker.id, result.log_dir),
                    code,
                    message: None,
                })?;
                let replicas = result.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|partition| {
                        let place = TopicPartition {
                            topic: topic.name.clone(),
                            partition: partition.partition_index,
                        };
                        (place, partition.partition_size)
                    })
                });
                directories.push(LogDirectory {
                    broker: broker.id,
                    path: result.log_dir.to_string(),
                    replicas: replicas.collect(),
                });
            }
        }
        Ok(directories)
    }
}

fn judge_topic(name: &str, said: Option<(i16, &Option<Str>)>) -> Result<(), Error> {
    let (code, message) = said.ok_or_else(|| Error::topic(name, ErrorCode::UnknownServerError))?;
    check(code, |code| Error::Topic {
        topic: name.to_owned(),
        code,
        message: message.as_ref().map(ToString::to_string),
    })
}
