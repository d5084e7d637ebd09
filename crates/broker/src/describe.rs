//! What DescribeConfigs answers, from the registry and the layers in force (KIP-133, KIP-226, KIP-569).

use ottla_cluster::config::Entry;
use ottla_cluster::image::{MetadataImage, Resource};
use ottla_protocol::ids::BrokerId;

use crate::BrokerConfig;
use crate::config::effective;

/// A resource this broker cannot describe; INVALID_REQUEST on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Unexpected broker id, expected {own} or empty string, but received {asked}")]
pub struct OtherBroker {
    own: i32,
    asked: i32,
}

/// The entries of a resource: all keys, or those of `names` that exist. Whether a topic exists is the caller's question.
///
/// # Errors
/// Another broker is asked for: its file is known to it alone.
pub fn entries(
    config: &BrokerConfig,
    image: &MetadataImage,
    resource: &Resource,
    names: Option<&[String]>,
) -> Result<Vec<Entry>, OtherBroker> {
    let layers = effective::layers(config, image, resource);
    match resource {
        Resource::Topic(_) => Ok(layers.describe_topic(names)),
        Resource::Group(_) => Ok(layers.describe_group(names)),
        Resource::Brokers => Ok(layers.describe_cluster(names)),
        Resource::Broker(BrokerId(id)) if *id == config.node_id => Ok(layers.describe_broker(names)),
        Resource::Broker(BrokerId(asked)) => Err(OtherBroker { own: config.node_id, asked: *asked }),
    }
}
