//! DescribeCluster: the brokers, fenced ones too when they are asked for (KIP-1073), the controller and the cluster's id.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use ottla_transport::server::ConnectionInfo;

use crate::operations;
use crate::state::State;

/// `EndpointType`: brokers.
const BROKERS: i8 = 1;
/// `EndpointType`: controllers, which have a listener of their own (KIP-919).
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster.
pub fn handle(
    state: &State,
    request: &DescribeClusterRequest,
    connection: &ConnectionInfo,
) -> DescribeClusterResponse {
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => {
            Some((ErrorCode::MismatchedEndpointType, "this listener serves brokers, not controllers"))
        }
        _ => {
            Some((ErrorCode::UnsupportedEndpointType, "the endpoint type is 1 (brokers) or 2 (controllers)"))
        }
    };
    if let Some((code, text)) = refused {
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(text.into()),
            ..Default::default()
        };
    }
    let brokers = state.all_endpoints(&state.image(), connection.listener()).into_iter();
    let brokers = brokers.filter(|broker| request.include_fenced_brokers || !broker.fenced);
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: state.cluster_id().into(),
        controller_id: state.config.node_id,
        cluster_authorized_operations: operations::if_asked(
            request.include_cluster_authorized_operations,
            operations::CLUSTER,
        ),
        brokers: brokers
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id.0,
                host: broker.host.into(),
                port: broker.port,
                rack: broker.rack.map(Into::into),
                is_fenced: broker.fenced,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
