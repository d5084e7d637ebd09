//! IncrementalAlterConfigs (KIP-339) and the older AlterConfigs, which replaces everything.

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::ConfigRecord;
use ottla_protocol::generated::{alter_configs, incremental_alter_configs};
use ottla_protocol::wire::Str;

use super::{Controller, Outcome, Refusal, code_and_message, named_twice};
use crate::config::{
    ConfigMap, Key, Layers, Scope, Status, TopicConfig, Type, broker_key, group_key, topic_key,
};
use crate::image::{MetadataRecord, Resource};
use crate::limits::CONFIG_VALUE_BYTES_MAX;

/// What is to be done to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

struct Change<'a> {
    name: &'a str,
    operation: Operation,
    value: Option<&'a str>,
}

impl Controller<'_> {
    /// Sets, unsets, or changes lists of single values, each resource by itself and as a whole.
    pub fn incremental_alter_configs(
        &mut self,
        request: &incremental_alter_configs::IncrementalAlterConfigsRequest,
    ) -> Outcome<incremental_alter_configs::IncrementalAlterConfigsResponse> {
        use incremental_alter_configs::{AlterConfigsResourceResponse, IncrementalAlterConfigsResponse};
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let twice =
            named_twice(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        for resource in &request.resources {
            let changes =
                once(&twice, (resource.resource_type, resource.resource_name.as_str())).and_then(|()| {
                    let changes: Result<Vec<_>, Refusal> = resource.configs.iter().map(incremental).collect();
                    self.alter(resource.resource_type, &resource.resource_name, &changes?, false)
                });
            let mut response = AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.detached(),
                ..AlterConfigsResourceResponse::default()
            };
            match changes {
                Ok(changes) => records.extend(changes),
                Err(refusal) => (response.error_code, response.error_message) = code_and_message(refusal),
            }
            responses.push(response);
        }
        let response =
            IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() };
        Outcome { records: self.unless(request.validate_only, records), response }
    }

    /// Replaces all values of each resource: what is not named is unset.
    pub fn alter_configs(
        &mut self,
        request: &alter_configs::AlterConfigsRequest,
    ) -> Outcome<alter_configs::AlterConfigsResponse> {
        use alter_configs::{AlterConfigsResourceResponse, AlterConfigsResponse};
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let twice =
            named_twice(request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
        for resource in &request.resources {
            let changes =
                once(&twice, (resource.resource_type, resource.resource_name.as_str())).and_then(|()| {
                    let set = resource.configs.iter().map(|config| Change {
                        name: &config.name,
                        operation: Operation::Set,
                        value: config.value.as_deref(),
                    });
                    let set: Vec<_> = set.collect();
                    self.alter(resource.resource_type, &resource.resource_name, &set, true)
                });
            let mut response = AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.detached(),
                ..AlterConfigsResourceResponse::default()
            };
            match changes {
                Ok(changes) => records.extend(changes),
                Err(refusal) => (response.error_code, response.error_message) = code_and_message(refusal),
            }
            responses.push(response);
        }
        let response = AlterConfigsResponse { responses, ..AlterConfigsResponse::default() };
        Outcome { records: self.unless(request.validate_only, records), response }
    }

    fn unless(&mut self, validate_only: bool, mut records: Vec<MetadataRecord>) -> Vec<MetadataRecord> {
        if validate_only {
            return Vec::new();
        }
        self.decided(&records);
        let elections = self.elect_after_config_change(&records);
        records.extend(elections);
        records
    }

    /// The records that bring one resource to its new values.
    fn alter(
        &self,
        kind: i8,
        name: &str,
        changes: &[Change<'_>],
        replace: bool,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let resource = self.alterable(kind, name)?;
        let before = self.image.config(&resource);
        let mut after = if replace { ConfigMap::new() } else { before.clone() };
        let mut seen = BTreeSet::new();
        for change in changes {
            if !seen.insert(change.name) {
                return Err((ErrorCode::InvalidRequest, format!("Duplicate config key {}", change.name)));
            }
            self.change(&resource, change, &mut after)?;
        }
        if matches!(resource, Resource::Topic(_)) {
            TopicConfig::validate(&after).map_err(|error| (ErrorCode::InvalidConfig, error.0))?;
        }
        Ok(difference(&resource, before, &after))
    }

    fn alterable(&self, kind: i8, name: &str) -> Result<Resource, Refusal> {
        let resource = Resource::from_wire(kind, name).ok_or_else(|| {
            (
                ErrorCode::InvalidRequest,
                format!("Resource '{name}' of type {kind} has no configs that can be altered."),
            )
        })?;
        match &resource {
            Resource::Topic(topic) if self.image.topic_by_name(topic).is_none() => {
                Err((ErrorCode::UnknownTopicOrPartition, format!("The topic '{topic}' does not exist.")))
            }
            Resource::Broker(id) if self.image.broker(*id).is_none() => {
                Err((ErrorCode::InvalidRequest, format!("No broker with id {id} is registered.")))
            }
            Resource::Group(group) if group.is_empty() => {
                Err((ErrorCode::InvalidRequest, "Default group resources are not allowed.".to_owned()))
            }
            Resource::Topic(_) | Resource::Broker(_) | Resource::Brokers | Resource::Group(_) => Ok(resource),
        }
    }

    fn change(&self, resource: &Resource, change: &Change<'_>, after: &mut ConfigMap) -> Result<(), Refusal> {
        let name = change.name;
        if change.operation == Operation::Delete {
            after.remove(name);
            return Ok(());
        }
        let key = settable(resource, name)?;
        let Some(value) = change.value else {
            return Err((ErrorCode::InvalidRequest, format!("Null value not supported for: {name}")));
        };
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            return Err((ErrorCode::InvalidConfig, format!("The value of {name} is too long")));
        }
        let value = match change.operation {
            Operation::Set | Operation::Delete => value.to_owned(),
            Operation::Append | Operation::Subtract => self.changed_list(resource, key, change, after)?,
        };
        key.validate(&value).map_err(|error| (ErrorCode::InvalidConfig, error.0))?;
        after.insert(name.to_owned(), value);
        Ok(())
    }

    /// A list after append or subtract. One that is not set begins as what is in force.
    fn changed_list(
        &self,
        resource: &Resource,
        key: &Key,
        change: &Change<'_>,
        after: &ConfigMap,
    ) -> Result<String, Refusal> {
        if key.kind != Type::List {
            let what = if change.operation == Operation::Append { "append to" } else { "subtract from" };
            let text = format!("Can't {what} key {} because its type is not LIST.", key.name);
            return Err((ErrorCode::InvalidConfig, text));
        }
        let layers = match resource {
            Resource::Topic(_) | Resource::Group(_) => self.topic_layers(after),
            Resource::Broker(_) | Resource::Brokers => Layers { cluster: after, ..self.topic_layers(after) },
        };
        let present = layers.value(key).unwrap_or_default();
        let items = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let asked = items(change.value.unwrap_or_default());
        let mut list = items(&present);
        if change.operation == Operation::Append {
            list.extend(asked.into_iter().filter(|item| !items(&present).contains(item)));
        } else {
            list.retain(|item| !asked.contains(item));
        }
        Ok(list.join(","))
    }
}

fn incremental<'a>(config: &'a incremental_alter_configs::AlterableConfig) -> Result<Change<'a>, Refusal> {
    let operation = match config.config_operation {
        0 => Operation::Set,
        1 => Operation::Delete,
        2 => Operation::Append,
        3 => Operation::Subtract,
        other => return Err((ErrorCode::InvalidRequest, format!("Unknown operation type {other}."))),
    };
    Ok(Change { name: &config.name, operation, value: config.value.as_deref() })
}

fn once(twice: &BTreeSet<(i8, &str)>, resource: (i8, &str)) -> Result<(), Refusal> {
    if twice.contains(&resource) {
        return Err((ErrorCode::InvalidRequest, "Each resource must appear at most once.".to_owned()));
    }
    Ok(())
}

/// The key, if it may be set on the resource. Topic keys without effect may be, because programs set them when they make their
/// topics; broker and group keys without effect may not.
fn settable(resource: &Resource, name: &str) -> Result<&'static Key, Refusal> {
    let unknown = |what: &str| (ErrorCode::InvalidConfig, format!("Unknown {what} config name: {name}"));
    let key = match resource {
        Resource::Topic(_) => return topic_key(name).ok_or_else(|| unknown("topic")),
        Resource::Group(_) => group_key(name).ok_or_else(|| unknown("group"))?,
        Resource::Broker(_) | Resource::Brokers => broker_key(name).ok_or_else(|| unknown("broker"))?,
    };
    if key.scope == Scope::ReadOnly {
        return Err((ErrorCode::InvalidRequest, format!("Cannot update these configs dynamically: {name}")));
    }
    if key.scope == Scope::PerBroker && *resource == Resource::Brokers {
        let text = format!(
            "Cannot update these configs at default cluster level, broker id must be specified: {name}"
        );
        return Err((ErrorCode::InvalidRequest, text));
    }
    match key.status {
        Status::Honoured(_) => Ok(key),
        Status::Fixed(why) | Status::NotUsed(why) => {
            Err((ErrorCode::InvalidConfig, format!("{name} would have no effect: {why}")))
        }
    }
}

fn difference(resource: &Resource, before: &ConfigMap, after: &ConfigMap) -> Vec<MetadataRecord> {
    let (resource_type, resource_name) = resource.to_wire();
    let record = |name: &str, value: Option<&str>| {
        MetadataRecord::from(ConfigRecord {
            resource_type,
            resource_name: Str::from(&resource_name),
            name: Str::from(name),
            value: value.map(Str::from),
            ..ConfigRecord::default()
        })
    };
    let set = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let unset = before.keys().filter(|name| !after.contains_key(*name));
    set.map(|(name, value)| record(name, Some(value))).chain(unset.map(|name| record(name, None))).collect()
}
