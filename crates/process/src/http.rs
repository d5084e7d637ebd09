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
use crate::metrics::CONTENT_TYPE;

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

/// What the listener tells.
#[derive(Clone)]
pub struct Told {
    /// The program's name.
    pub program: &'static str,
    /// What `/healthz` and `/readyz` answer.
    pub health: Arc<Health>,
    /// Puts the text of `/metrics` together, on a thread that may block.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("program", &self.program).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Shared {
    told: Told,
    /// One scrape at a time: a source of sizes that hangs must not gather threads.
    scraping: Arc<AtomicBool>,
}

/// Starts the listener on the runtime this is called in. None when it is switched off, or when the address is the default
/// and taken (a warning says so).
///
/// # Errors
/// When the configured address cannot be bound.
pub async fn start(listener: HttpListener, told: Told) -> Result<Option<HttpServer>, BindError> {
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
    let shared = Shared { told, scraping: Arc::default() };
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

async fn index(State(shared): State<Shared>) -> String {
    format!("{} {}\n/healthz\n/readyz\n/metrics\n", shared.told.program, env!("CARGO_PKG_VERSION"))
}

/// 200 as long as the process can answer; the body tells the state.
async fn healthz(State(shared): State<Shared>) -> String {
    format!("{}\n", shared.told.health.state())
}

/// 200 when requests are served, otherwise 503.
async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let state = shared.told.health.state();
    let status = match state {
        health::State::Ready | health::State::Degraded(_) => StatusCode::OK,
        health::State::Starting | health::State::Fenced | health::State::Stopping => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, format!("{state}\n"))
}

async fn metrics(State(shared): State<Shared>) -> Response {
    if shared.scraping.swap(true, Ordering::AcqRel) {
        return (StatusCode::SERVICE_UNAVAILABLE, "another scrape is under way\n").into_response();
    }
    // On a thread of its own: the sizes of the logs may wait for a partition's lock.
    let text = tokio::task::spawn_blocking(move || {
        let text = (shared.told.metrics)();
        shared.scraping.store(false, Ordering::Release);
        text
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be gathered\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn told(metrics: impl Fn() -> String + Send + Sync + 'static) -> Told {
        Told { program: "test", health: Arc::new(Health::default()), metrics: Arc::new(metrics) }
    }

    fn anywhere(explicit: bool) -> HttpListener {
        HttpListener { address: Some(([127, 0, 0, 1], 0).into()), explicit }
    }

    async fn get(server: &HttpServer, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn ready_follows_the_state_and_healthy_does_not() {
        let told = told(String::new);
        let server = start(anywhere(true), told.clone()).await.unwrap().unwrap();
        let states = [
            (health::State::Starting, 503, "starting\n"),
            (health::State::Ready, 200, "ready\n"),
            (health::State::Degraded("/data is fenced".to_owned()), 200, "degraded: /data is fenced\n"),
            (health::State::Stopping, 503, "stopping\n"),
        ];
        for (state, status, text) in states {
            told.health.set(state);
            let (head, body) = get(&server, "/readyz").await;
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
            assert_eq!(body, text);
            let (head, body) = get(&server, "/healthz").await;
            assert!(head.starts_with("http/1.1 200"), "{head}");
            assert_eq!(body, text);
        }
        server.stop().await;
    }

    #[tokio::test]
    async fn a_scrape_that_hangs_does_not_gather_others() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let (held, entered) = (std::sync::Mutex::new(held), std::sync::Mutex::new(Some(entered)));
        let told = told(move || {
            if let Some(entered) = entered.lock().unwrap().take() {
                entered.send(()).unwrap();
                held.lock().unwrap().recv().unwrap();
            }
            "# EOF\n".to_owned()
        });
        let server = Arc::new(start(anywhere(true), told).await.unwrap().unwrap());
        let first = tokio::spawn({
            let server = server.clone();
            async move { get(&server, "/metrics").await }
        });
        inside.await.unwrap();
        assert!(get(&server, "/metrics").await.0.starts_with("http/1.1 503"));
        assert!(get(&server, "/healthz").await.0.starts_with("http/1.1 200"));
        release.send(()).unwrap();
        let (head, body) = first.await.unwrap();
        assert!(head.starts_with("http/1.1 200") && head.contains("openmetrics"), "{head}");
        assert!(body.ends_with("# EOF\n"));
        assert!(get(&server, "/metrics").await.0.starts_with("http/1.1 200"));
    }

    #[tokio::test]
    async fn a_taken_default_port_is_not_fatal_and_a_configured_one_is() {
        let told = || told(String::new);
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Some(taken.local_addr().unwrap());
        assert!(start(HttpListener { address, explicit: false }, told()).await.unwrap().is_none());
        let error = start(HttpListener { address, explicit: true }, told()).await.unwrap_err().to_string();
        assert!(error.contains("ottla.http.listener") && error.contains("in use"), "{error}");
        assert!(start(HttpListener { address: None, explicit: true }, told()).await.unwrap().is_none());
    }
}
