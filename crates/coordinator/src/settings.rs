//! From a node's settings to the options of its coordinator: which listeners it serves, what it says of them, where the quorum is.
//! The same for a coordinator of its own and for one inside a broker.

use std::io;

use ottla_process::config::{AdvertisedListener, Listener as Configured, QuorumConfig};
use ottla_transport::server::{BindError, Listener, ListenerOptions};

use crate::coordinator::QuorumOptions;
use crate::raft::VoterEndpoint;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Its host has no address.
    #[error("listener {name}: cannot resolve {host}: {error}")]
    Resolve {
        /// The listener.
        name: String,
        /// As it was configured.
        host: String,
        /// The system's answer.
        error: io::Error,
    },
    /// The system does not give the port.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Binds the controller listeners.
///
/// # Errors
/// The first that cannot be had.
pub fn bind(listeners: &[Configured]) -> Result<Vec<Listener>, ListenError> {
    let bind = |listener: &Configured| {
        let address = listener.address().map_err(|error| ListenError::Resolve {
            name: listener.name.clone(),
            host: listener.host.clone(),
            error,
        })?;
        Ok(Listener::bind(&ListenerOptions::new(listener.name.as_str(), address))?)
    };
    listeners.iter().map(bind).collect()
}

/// What others are told of the bound listeners: an advertised port of 0 means the bound one.
#[must_use]
pub fn endpoints(advertised: &[AdvertisedListener], bound: &[Listener]) -> Vec<VoterEndpoint> {
    let endpoint = |told: &AdvertisedListener| {
        let listening = bound.iter().find(|listener| **listener.name() == *told.name);
        let bound_port = listening.map_or(0, |listener| listener.local_address().port());
        VoterEndpoint {
            name: told.name.clone(),
            host: told.host.clone(),
            port: if told.port == 0 { bound_port } else { told.port },
        }
    };
    advertised.iter().map(endpoint).collect()
}

/// How the quorum is found.
#[must_use]
pub fn quorum(config: &QuorumConfig) -> QuorumOptions {
    if !config.voters.is_empty() {
        return QuorumOptions::Voters(config.voters.clone());
    }
    match config.bootstrap_servers.is_empty() {
        true => QuorumOptions::Alone,
        false => QuorumOptions::Bootstrap {
            servers: config.bootstrap_servers.clone(),
            auto_join: config.auto_join,
        },
    }
}
