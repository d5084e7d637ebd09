//! The orderly stop: who may ask for it (signals, a fatal fault) and who waits for it.
//!
//! SIGTERM and SIGINT ask for an orderly stop; a second one of either ends the process at once. PID 1 of a container has no
//! default action for SIGTERM, so that this must be installed before anything that may take long.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why the process stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGTERM or SIGINT (the signal's name).
    Signal(&'static str),
    /// The process cannot go on, with the cause; the process ends with exit code 1.
    Fatal(String),
}

/// The one switch of the process; clones share it. The first reason given stays.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
}

impl Shutdown {
    /// A switch nobody has pulled.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Asks for the orderly stop. Later calls change nothing.
    pub fn request(&self, reason: Reason) {
        if self.reason.set(reason).is_ok() {
            self.token.cancel();
        }
    }

    /// Waits until somebody has asked for the stop, and says why. Cancel-safe.
    pub async fn requested(&self) -> Reason {
        self.token.cancelled().await;
        self.reason.get().expect("the reason is set before the token is cancelled").clone()
    }

    /// A token that is cancelled when the stop begins, for tasks that end themselves.
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

/// Listens for SIGTERM and SIGINT from now on; a second signal ends the process at once with 128 plus its number. Must be
/// called inside a runtime that runs until the end (the control runtime).
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen_for_signals(shutdown: Shutdown) -> std::io::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        let mut seen = 0;
        loop {
            // Both branches are cancel-safe: a signal stays pending until it is received.
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            seen += 1;
            if seen > 1 {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(128 + number);
            }
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            shutdown.request(Reason::Signal(name));
        }
    }))
}
