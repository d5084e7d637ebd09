//! Start and stop of everything a broker consists of.

use crate::{BrokerConfig, Shell};

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    _shell: Shell,
}

impl Broker {
    /// Opens the log directories, starts the embedded coordinator and the listeners. When it returns, requests are served.
    ///
    /// # Errors
    /// What keeps the broker from serving: a directory in use or unreadable, a port in use.
    pub async fn start(_config: BrokerConfig, shell: Shell) -> anyhow::Result<Broker> {
        Ok(Broker { _shell: shell })
    }

    /// Stops accepting, finishes what is in flight, syncs and closes the logs.
    pub async fn stop(self) {}
}
