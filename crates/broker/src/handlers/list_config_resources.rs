//! ListConfigResources: what has a configuration, from this broker's image (KIP-1142).

use ottla_cluster::controller::list_config_resources;
use ottla_protocol::generated::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use crate::state::State;

/// Answers ListConfigResources.
pub fn handle(
    state: &State,
    request: &ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    list_config_resources(&state.image(), request, version)
}
