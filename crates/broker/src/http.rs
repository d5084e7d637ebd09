//! The HTTP listener for operators: `/healthz` (the process lives), `/readyz` (it serves), `/metrics`. Runs on the control
//! runtime, so that it answers while the disks hang.

mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::HttpListener;
use crate::health::{self, Health};
use crate::metrics::exposition;
use crate::{Metrics, Shell};

/// The running listener.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// The listener's port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for HTTP (ottla.http.listener): {error}; choose another address, or an empty one to go without"
)]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

#[derive(Clone, Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// One scrape at a time: a source of sizes that hangs must not gather threads.
    scraping: Arc<AtomicBool>,
}

/// Starts the listener on the runtime this is called in. None when it is switched off, or when the address is the default
/// and taken (a warning says so).
///
/// # Errors
/// When the configured address cannot be bound.
pub async fn start(listener: HttpListener, shell: &Shell) -> Result<Option<HttpServer>, BindError> {
    let Some(address) = listener.address else {
        return Ok(None);
    };
    let bound = match TcpListener::bind(address).await {
        Ok(bound) => bound,
        Err(error) if listener.explicit => return Err(BindError { address, error }),
        Err(error) => {
            tracing::warn!(%address, %error, "no HTTP listener: the default address is taken; set ottla.http.listener to have one");
            return Ok(None);
        }
    };
    let address = bound.local_addr().map_err(|error| BindError { address, error })?;
    let shared =
        Shared { metrics: shell.metrics.clone(), health: shell.health.clone(), scraping: Arc::default() };
    let task = tokio::spawn(async move {
        let served = axum::serve(limits::LimitedListener::new(bound), routes(shared)).await;
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP listener ended");
        }
    });
    Ok(Some(HttpServer { address, task }))
}

impl HttpServer {
    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and its connections.
    pub async fn stop(self) {
        self.task.abort();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!("the HTTP listener panicked");
        }
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn index() -> &'static str {
    concat!("ottla-broker ", env!("CARGO_PKG_VERSION"), "\n/healthz\n/readyz\n/metrics\n")
}

/// 200 as long as the process can answer; the body tells the state.
async fn healthz(State(shared): State<Shared>) -> String {
    format!("{}\n", shared.health.state())
}

/// 200 when requests are served, otherwise 503.
async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let state = shared.health.state();
    let status = match state {
        health::State::Ready | health::State::Degraded(_) => StatusCode::OK,
        health::State::Starting | health::State::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{state}\n"))
}

async fn metrics(State(shared): State<Shared>) -> Response {
    if shared.scraping.swap(true, Ordering::AcqRel) {
        return (StatusCode::SERVICE_UNAVAILABLE, "another scrape is under way\n").into_response();
    }
    // On a thread of its own: the sizes of the logs may wait for a partition's lock.
    let text = tokio::task::spawn_blocking(move || {
        let text = exposition::text(&shared.metrics);
        shared.scraping.store(false, Ordering::Release);
        text
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be gathered\n").into_response(),
    }
}
