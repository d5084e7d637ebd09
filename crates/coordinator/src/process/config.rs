//! The configuration of a coordinator without a broker.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_cluster::config::ConfigMap;
use ottla_process::config::{
    self, AdvertisedListener, ConfigError, HttpListener, Listener, LogFormat, QuorumConfig, Reader, Roles,
    StaticSettings, listeners, quorum,
};

/// What holds from start to stop, checked.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// `node.id`.
    pub node_id: i32,
    /// `controller.quorum.*`.
    pub quorum: QuorumConfig,
    /// Where coordinators, brokers and administrators connect.
    pub listeners: Vec<Listener>,
    /// What they are told of that, in the same order.
    pub advertised: Vec<AdvertisedListener>,
    /// `metadata.log.dir`, by default the first of `log.dirs`.
    pub metadata_log_dir: PathBuf,
    /// `ottla.http.listener`.
    pub http_listener: HttpListener,
    /// `ottla.log.format`.
    pub log_format: LogFormat,
    /// All that was set, by key, with its source; defaults are not in it.
    pub settings: Arc<StaticSettings>,
    /// The same without sources: what the controller goes by.
    pub fixed: Arc<ConfigMap>,
}

impl CoordinatorConfig {
    /// Checks every setting against the registry, then all together.
    ///
    /// # Errors
    /// The first value that is wrong, with its source and what to do.
    pub fn from_settings(settings: StaticSettings) -> Result<Self, ConfigError> {
        let r = Reader::new(&settings)?;
        let node_id = config::node_id(&r)?;
        let roles = quorum::roles(&r, Roles { broker: false, controller: true })?;
        if roles.broker {
            let advice = "start ottla-broker, which may have both roles";
            return Err(r.bad(
                "process.roles",
                "ottla-coordinator is not for a node with the role broker",
                advice,
            ));
        }
        let quorum = quorum::read(&r, node_id, roles)?;
        let listeners = listeners::read(&r, roles)?;
        let log_dirs = config::log_dirs(&r)?;
        Ok(Self {
            node_id,
            quorum,
            listeners: listeners.controllers,
            advertised: listeners.advertised_controllers,
            metadata_log_dir: config::metadata_log_dir(&r, &log_dirs)?,
            http_listener: config::http_listener(&r)?,
            log_format: config::log_format(&r),
            fixed: Arc::new(r.fixed()),
            settings: Arc::new(settings.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(overrides: &[&str]) -> Result<CoordinatorConfig, String> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let settings = StaticSettings::gather(None, [], &overrides).map_err(|error| error.to_string())?;
        CoordinatorConfig::from_settings(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn a_coordinator_serves_controller_listeners_alone() {
        let names = "controller.listener.names=CONTROLLER";
        let config = load(&["node.id=101", names, "listeners=CONTROLLER://127.0.0.1:0"]).unwrap();
        assert_eq!(config.listeners[0].to_string(), "CONTROLLER://127.0.0.1:0");
        assert_eq!(config.advertised[0].host, "127.0.0.1");
        let text = load(&["listeners=CONTROLLER://127.0.0.1:0"]).unwrap_err();
        assert!(text.contains("add CONTROLLER to controller.listener.names"), "{text}");
        let text = load(&["process.roles=broker,controller"]).unwrap_err();
        assert!(text.contains("start ottla-broker"), "{text}");
    }
}
