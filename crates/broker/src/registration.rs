//! Registering this broker with the controller.

use std::net::SocketAddr;

use anyhow::Context;
use ottla_cluster::features::Features;
use ottla_coordinator::{CoordinatorHandle, RequestError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener as RegisteredListener,
};
use ottla_protocol::ids::Uuid;
use tokio::time::Instant;

use crate::BrokerConfig;
use crate::config::SecurityProtocol;
use crate::limits::{START_RETRY_PAUSE, WAIT_NOTICE_INTERVAL};

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
    let known = Features::known();
    let features = known.iter().map(|(name, levels)| Feature {
        name: name.into(),
        min_supported_version: levels.min,
        max_supported_version: levels.max,
        ..Default::default()
    });
    BrokerRegistrationRequest {
        broker_id: config.node_id,
        cluster_id: cluster_id.into(),
        incarnation_id: crate::broker::random_id(),
        listeners: listeners.collect(),
        features: features.collect(),
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

/// Registers, and gives back the broker's epoch. Asks until there is an answer: coordinators may be about to start, and a process that
/// was killed is not known to be dead at once.
///
/// # Errors
/// The controller refused, or could not write its log.
pub async fn register(
    handle: &CoordinatorHandle,
    request: &BrokerRegistrationRequest,
) -> anyhow::Result<i64> {
    let mut notice = Patience::default();
    loop {
        let why = match handle.register_broker(request.clone()).await {
            Ok(decided) => match ErrorCode::from_code(decided.response.error_code) {
                Some(ErrorCode::None) => return Ok(decided.response.broker_epoch),
                Some(ErrorCode::DuplicateBrokerRegistration) => {
                    "another process with this node.id is alive, or was until a moment ago".to_owned()
                }
                Some(ErrorCode::UnsupportedVersion) => {
                    let levels = Features::known();
                    let levels: Vec<_> =
                        levels.iter().map(|(name, levels)| format!("{name} {levels}")).collect();
                    anyhow::bail!(
                        "this broker is too old or too new for the cluster: it works with {}, and the cluster has finalized \
                         another level",
                        levels.join(", ")
                    )
                }
                code => {
                    let code = code.map_or("unknown", ErrorCode::name);
                    anyhow::bail!("the controller refused this broker: {code}")
                }
            },
            Err(error) if is_passing(&error) => error.to_string(),
            Err(error) => return Err(error).context("registering with the controller"),
        };
        notice.wait("registering with the controller", &why).await;
    }
}

/// Whether the same request may be answered a little later.
pub fn is_passing(error: &RequestError) -> bool {
    match error {
        RequestError::NotLeader | RequestError::LeadershipLost | RequestError::TimedOut => true,
        RequestError::Stopped
        | RequestError::Fenced(_)
        | RequestError::NoSpace
        | RequestError::OtherCluster(_)
        | RequestError::Unwritable(_) => false,
    }
}

/// Waits between tries, and tells of them now and then.
#[derive(Default)]
pub struct Patience {
    told: Option<Instant>,
}

impl Patience {
    /// Waits a little before `what` is tried again. Cancel-safe.
    pub async fn wait(&mut self, what: &str, why: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= WAIT_NOTICE_INTERVAL) {
            self.told = Some(Instant::now());
            tracing::info!(why, "{what}: waiting");
        }
        tokio::time::sleep(START_RETRY_PAUSE).await;
    }
}
