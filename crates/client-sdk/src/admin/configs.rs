//! Configuration of topics and brokers.

use std::fmt;

use ottla_protocol::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use ottla_protocol::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::wire::{Message, Str};

use super::Admin;
use crate::ErrorCode;
use crate::error::{Error, check};
use crate::retry::Retries;

const DESCRIBE_CONFIGS_VERSIONS: (i16, i16) = (1, 4);
const INCREMENTAL_ALTER_CONFIGS_VERSIONS: (i16, i16) = (0, 1);
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Where a value comes from when nobody has set it.
const SOURCE_DEFAULT: i8 = 5;
/// Set for this topic, or for this broker, while it runs.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 2;

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => TOPIC,
            Resource::Broker(_) => BROKER,
        }
    }

    /// Where a value comes from that was set for this very resource.
    fn source(&self) -> i8 {
        match self {
            Resource::Topic(_) => SOURCE_TOPIC,
            Resource::Broker(_) => SOURCE_BROKER,
        }
    }

    fn name(&self) -> Str {
        match self {
            Resource::Topic(name) => Str::from(name.as_str()),
            Resource::Broker(id) => Str::from(id.to_string().as_str()),
        }
    }

    fn refused(&self, code: ErrorCode, message: Option<&Str>) -> Error {
        let message = message.map(ToString::to_string);
        match self {
            Resource::Topic(topic) => Error::Topic { topic: topic.clone(), code, message },
            Resource::Broker(_) => Error::Refused { what: self.to_string(), code, message },
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Topic(name) => write!(f, "topic {name}"),
            Resource::Broker(id) => write!(f, "broker {id}"),
        }
    }
}

/// A key of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub key: String,
    /// Its value; `None` where it is secret or null.
    pub value: Option<String>,
    /// Has nobody set it?
    pub is_default: bool,
    /// Has somebody set it for this resource itself, not for all or in a file?
    pub is_set_here: bool,
    /// Can it not be changed?
    pub is_read_only: bool,
    /// Is its value kept secret?
    pub is_sensitive: bool,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a key to a value.
    Set(String, String),
    /// Gives a key its default again.
    Reset(String),
}

impl Admin {
    /// All keys of a resource.
    ///
    /// # Errors
    /// [`Error::Topic`] for a topic that does not exist.
    pub async fn describe_configs(&self, resource: &Resource) -> Result<Vec<ConfigEntry>, Error> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name(),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            ..DescribeConfigsRequest::default()
        };
        let judge = |response: &DescribeConfigsResponse| {
            let result = response.results.first();
            let result = result.ok_or_else(|| resource.refused(ErrorCode::UnknownServerError, None))?;
            check(result.error_code, |code| resource.refused(code, result.error_message.as_ref()))
        };
        let response = self.ask_about(resource, &request, DESCRIBE_CONFIGS_VERSIONS, judge).await?;
        let entries =
            response.results.into_iter().flat_map(|result| result.configs).map(|config| ConfigEntry {
                key: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_default: config.config_source == SOURCE_DEFAULT,
                is_set_here: config.config_source == resource.source(),
                is_read_only: config.read_only,
                is_sensitive: config.is_sensitive,
            });
        Ok(entries.collect())
    }

    /// Changes keys of a resource; others stay as they are.
    ///
    /// # Errors
    /// `InvalidConfig` for a key or value that the broker does not take; nothing is changed then.
    pub async fn alter_configs(&self, resource: &Resource, changes: &[ConfigChange]) -> Result<(), Error> {
        let configs = changes.iter().map(|change| {
            let (name, config_operation, value) = match change {
                ConfigChange::Set(key, value) => (key, SET, Some(Str::from(value.as_str()))),
                ConfigChange::Reset(key) => (key, DELETE, None),
            };
            AlterableConfig {
                name: Str::from(name.as_str()),
                config_operation,
                value,
                ..AlterableConfig::default()
            }
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name(),
                configs: configs.collect(),
                ..AlterConfigsResource::default()
            }],
            ..IncrementalAlterConfigsRequest::default()
        };
        let judge = |response: &IncrementalAlterConfigsResponse| {
            let result = response.responses.first();
            let result = result.ok_or_else(|| resource.refused(ErrorCode::UnknownServerError, None))?;
            check(result.error_code, |code| resource.refused(code, result.error_message.as_ref()))
        };
        self.ask_about(resource, &request, INCREMENTAL_ALTER_CONFIGS_VERSIONS, judge).await?;
        Ok(())
    }

    /// A broker answers for itself; all else is the controller's.
    async fn ask_about<Q: Message, R: Message>(
        &self,
        resource: &Resource,
        request: &Q,
        versions: (i16, i16),
        judge: impl Fn(&R) -> Result<(), Error>,
    ) -> Result<R, Error> {
        let broker = match resource {
            Resource::Topic(_) => return self.ask_controller(request, versions, judge).await,
            Resource::Broker(id) => *id,
        };
        let mut retries = Retries::new(Q::NAME.trim_end_matches("Request"), self.client.call_max());
        loop {
            let answer = self.client.call_broker(broker, request, versions).await;
            match answer.and_then(|(response, _)| judge(&response).map(|()| response)) {
                Ok(response) => return Ok(response),
                Err(error) => retries.pause(error).await?,
            }
        }
    }
}
