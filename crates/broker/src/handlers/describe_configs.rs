//! DescribeConfigs: topics, brokers and groups, every key with its value, where that comes from, and whether it can be changed.

use ottla_cluster::config::Entry;
use ottla_cluster::controller::validate_topic_name;
use ottla_cluster::image::{MetadataImage, Resource};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::wire::Str;

use crate::describe;
use crate::state::State;

/// Answers DescribeConfigs.
pub fn handle(state: &State, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = state.image();
    let one = |asked: &DescribeConfigsResource| {
        let mut result = match entries(state, &image, asked) {
            Ok(entries) => DescribeConfigsResult {
                configs: entries.into_iter().map(|entry| shown(entry, request)).collect(),
                ..Default::default()
            },
            Err((code, message)) => DescribeConfigsResult {
                error_code: code.code(),
                error_message: Some(message.into()),
                ..Default::default()
            },
        };
        result.resource_type = asked.resource_type;
        result.resource_name = asked.resource_name.clone();
        result
    };
    DescribeConfigsResponse { results: request.resources.iter().map(one).collect(), ..Default::default() }
}

fn entries(
    state: &State,
    image: &MetadataImage,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Entry>, (ErrorCode, String)> {
    let resource = Resource::from_wire(asked.resource_type, &asked.resource_name).ok_or_else(|| {
        let text = format!("resource type {} with name {:?}", asked.resource_type, &*asked.resource_name);
        (ErrorCode::InvalidRequest, format!("there is no configuration for {text}"))
    })?;
    match &resource {
        Resource::Topic(name) if image.topic_by_name(name).is_none() => {
            validate_topic_name(name).map_err(|text| (ErrorCode::InvalidTopicException, text))?;
            return Err((ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name}")));
        }
        Resource::Group(group) if group.is_empty() => {
            return Err((ErrorCode::InvalidRequest, "Group name must not be empty".to_owned()));
        }
        // A group has settings whether or not it exists.
        Resource::Group(_) | Resource::Topic(_) | Resource::Broker(_) | Resource::Brokers => {}
    }
    let names: Option<Vec<String>> =
        asked.configuration_keys.as_ref().map(|keys| keys.iter().map(Str::to_string).collect());
    describe::entries(&state.config, image, &resource, names.as_deref())
        .map_err(|error| (ErrorCode::InvalidRequest, error.to_string()))
}

fn shown(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    let documentation = entry.documentation.filter(|_| request.include_documentation);
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Into::into),
                source: synonym.source.code(),
                ..Default::default()
            })
            .collect(),
        config_type: entry.kind,
        documentation: documentation.map(Into::into),
        ..Default::default()
    }
}
