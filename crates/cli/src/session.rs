//! One run against a cluster: the client, the output, and what ends a run early.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use ottla_client_sdk::{Admin, Client};

use crate::output::Out;
use crate::settings::Settings;

/// How long a topic is looked for that somebody may have created just now at another broker.
const UNKNOWN_TOPIC_MAX: Duration = Duration::from_secs(1);

/// One run against a cluster.
pub struct Session {
    /// Speaks to the cluster.
    pub client: Client,
    /// Standard output.
    pub out: Out,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// No broker answers in time.
    pub async fn start(settings: &Settings, out: Out) -> Result<Session> {
        let limit = settings.timeout;
        let client = Client::options(&settings.bootstrap)
            .client_id("ottla-cli")
            .connect_max(limit.min(Duration::from_secs(5)))
            .request_max(limit)
            .call_max(limit)
            .unknown_topic_max(UNKNOWN_TOPIC_MAX.min(limit))
            .connect()
            .await?;
        Ok(Session { client, out })
    }

    /// What an administrator can do.
    pub fn admin(&self) -> Admin {
        self.client.admin()
    }

    /// Asks before something is lost, where there is somebody to ask. Scripts are not asked.
    ///
    /// # Errors
    /// The answer is not yes.
    pub fn confirm(&mut self, what: &str, is_agreed: bool) -> Result<()> {
        let stdin = std::io::stdin();
        if is_agreed || !stdin.is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(());
        }
        let mut stderr = std::io::stderr();
        write!(stderr, "{what} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => bail!("nothing was done: answer y, or say --yes"),
        }
    }
}

/// Is done when SIGINT or SIGTERM comes: work in progress is finished in order then.
pub async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    // Both are cancel-safe: a signal stays pending until it is received.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
