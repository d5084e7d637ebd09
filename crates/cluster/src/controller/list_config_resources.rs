//! ListConfigResources (KIP-1142).

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use crate::image::{MetadataImage, Resource};

/// The first version that names kinds of resources; the one before is about client metrics.
const KINDS_SINCE: i16 = 1;
/// `ConfigResource.Type` of what a broker logs; it cannot be set here.
const BROKER_LOGGER: i8 = 8;
/// `ConfigResource.Type` of subscriptions to client metrics, which are not served.
const CLIENT_METRICS: i8 = 16;

/// The resources that can be configured, of the kinds asked for or of all: every topic, every broker that serves, and the groups
/// that have values of their own. Any broker can tell from its image.
#[must_use]
pub fn list_config_resources(
    image: &MetadataImage,
    request: &ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    if version < KINDS_SINCE {
        return ListConfigResourcesResponse::default();
    }
    let asked = &request.resource_types;
    let is_kind =
        |kind: i8| kind == BROKER_LOGGER || kind == CLIENT_METRICS || Resource::from_wire(kind, "").is_some();
    if !asked.iter().all(|kind| is_kind(*kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
    }
    let groups = image.configs().filter_map(|(resource, _)| match resource {
        Resource::Group(_) => Some(resource.clone()),
        Resource::Topic(_) | Resource::Broker(_) | Resource::Brokers => None,
    });
    let serving = image.brokers().filter(|broker| !broker.fenced);
    let brokers = serving.map(|broker| Resource::Broker(broker.id));
    let topics = image.topics().map(|topic| Resource::Topic(topic.name.to_string()));
    let all = groups.chain(brokers).chain(topics).map(|resource| resource.to_wire());
    let wanted = all.filter(|(kind, _)| asked.is_empty() || asked.contains(kind));
    let config_resources = wanted.map(|(resource_type, name)| ConfigResource {
        resource_name: name.into(),
        resource_type,
        ..ConfigResource::default()
    });
    ListConfigResourcesResponse {
        config_resources: config_resources.collect(),
        ..ListConfigResourcesResponse::default()
    }
}
