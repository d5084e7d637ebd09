//! Registering this broker with the controller.

use std::net::SocketAddr;

use anyhow::Context;
use ottla_coordinator::{CoordinatorHandle, OTTLA_FEATURE, OTTLA_FEATURE_LEVEL};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener as RegisteredListener,
};
use ottla_protocol::ids::Uuid;

use crate::BrokerConfig;
use crate::config::SecurityProtocol;

/// The request that registers this process. `listening` are the bound addresses by listener name: an advertised port of 0
/// means the bound one. `previous_epoch` is that of the life before, when it ended in order.
pub fn request(
    config: &BrokerConfig,
    cluster_id: &str,
    directory_ids: &[Uuid],
    previous_epoch: Option<i64>,
    listening: &[(String, SocketAddr)],
) -> BrokerRegistrationRequest {
    let listeners = config.advertised_listeners.iter().map(|advertised| {
        let bound = listening.iter().find(|(name, _)| *name == advertised.name);
        let bound_port = bound.map_or(0, |(_, address)| address.port());
        let protocol = config.listeners.iter().find(|l| l.name == advertised.name).map(|l| l.protocol);
        RegisteredListener {
            name: advertised.name.as_str().into(),
            host: advertised.host.as_str().into(),
            port: if advertised.port == 0 { bound_port } else { advertised.port },
            security_protocol: protocol.map_or(0, security_protocol_code),
            ..Default::default()
        }
    });
    let feature = Feature {
        name: OTTLA_FEATURE.into(),
        min_supported_version: OTTLA_FEATURE_LEVEL,
        max_supported_version: OTTLA_FEATURE_LEVEL,
        ..Default::default()
    };
    BrokerRegistrationRequest {
        broker_id: config.node_id,
        cluster_id: cluster_id.into(),
        incarnation_id: crate::broker::random_id(),
        listeners: listeners.collect(),
        features: vec![feature],
        rack: config.rack.as_deref().map(Into::into),
        log_dirs: directory_ids.to_vec(),
        previous_broker_epoch: previous_epoch.unwrap_or(-1),
        ..Default::default()
    }
}

/// Kafka's number of a security protocol.
fn security_protocol_code(protocol: SecurityProtocol) -> i16 {
    match protocol {
        SecurityProtocol::Plaintext => 0,
        SecurityProtocol::Ssl => 1,
        SecurityProtocol::SaslPlaintext => 2,
        SecurityProtocol::SaslSsl => 3,
    }
}

/// Registers, and gives back the broker's epoch.
///
/// # Errors
/// The controller refused, or could not write its log.
pub async fn register(handle: &CoordinatorHandle, request: BrokerRegistrationRequest) -> anyhow::Result<i64> {
    let decided = handle.register_broker(request).await.context("registering with the controller")?;
    match ErrorCode::from_code(decided.response.error_code) {
        Some(ErrorCode::None) => Ok(decided.response.broker_epoch),
        code => {
            anyhow::bail!("the controller refused this broker: {}", code.map_or("unknown", ErrorCode::name))
        }
    }
}
