//! From the command line to a running broker and back: the order of start and stop.
//!
//! Threads: the main thread drives the control runtime (signals, HTTP, whatever control traffic the broker spawns there), and one
//! worker per core serves clients. Threads for blocking work come and go.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser as _;
use ottla_process::options::ConfigArgs;
use ottla_process::runner::{self, RUNTIME_STOP_MAX, outcome};
use ottla_process::{http, logging};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::health::{self, Health, State};
use crate::limits::FATAL_STOP_MAX;
use crate::metrics::exposition;
use crate::options::{Command, Options};
use crate::shutdown::{Reason, Shutdown, listen_for_signals};
use crate::{Metrics, Shell};

const PROGRAM: &str = "ottla-broker";
/// Threads for blocking work (flushes, cold reads) at once. They end after ten idle seconds.
const BLOCKING_THREADS_MAX: usize = 64;

/// Runs the process to its end.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let options = Options::parse();
    let done = match &options.command {
        None => serve(&options.sources, started),
        Some(Command::Health(args)) => return health::ask(args, || runner::gather(&options.sources)),
        Some(Command::PrintConfigDocs) => print_config_docs(),
    };
    runner::exit_code(PROGRAM, done)
}

fn print_config_docs() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(ottla_cluster::config::docs::render().as_bytes()).context("writing to standard output")
}

fn serve(sources: &ConfigArgs, started: Instant) -> anyhow::Result<()> {
    let config = BrokerConfig::from_settings(runner::gather(sources)?)?;
    logging::start(config.log_format);
    announce(&config, sources.file());
    runner::raise_descriptor_limit();
    let control = runner::control_runtime()?;
    let main = main_runtime().context("starting the main runtime")?;
    let done = control.block_on(run(config, &main, started));
    main.shutdown_timeout(RUNTIME_STOP_MAX);
    control.shutdown_timeout(RUNTIME_STOP_MAX);
    if done.is_ok() {
        tracing::info!("stopped");
    }
    done
}

fn main_runtime() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("ottla-main")
        .enable_all()
        .build()
}

async fn run(config: BrokerConfig, main: &Runtime, started: Instant) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let signals = listen_for_signals(shutdown.clone()).context("installing the signal handlers")?;
    let shell = Shell {
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::default()),
        control: tokio::runtime::Handle::current(),
        shutdown: shutdown.clone(),
    };
    let metrics = shell.metrics.clone();
    let told = http::Told {
        program: PROGRAM,
        health: shell.health.clone(),
        metrics: Arc::new(move || exposition::text(&metrics)),
    };
    let http = http::start(config.http_listener, told).await?;
    if let Some(http) = &http {
        tracing::info!("http on http://{} (/healthz, /readyz, /metrics)", http.address());
    }
    let done = run_broker(config, main, &shell, started).await;
    shell.health.set(State::Stopping);
    if let Some(http) = http {
        http.stop().await;
    }
    signals.abort();
    done
}

/// Starts the broker on the main runtime, waits for the stop, stops it.
async fn run_broker(
    config: BrokerConfig,
    main: &Runtime,
    shell: &Shell,
    started: Instant,
) -> anyhow::Result<()> {
    let mut starting = main.spawn(Broker::start(config, shell.clone()));
    // Both branches are cancel-safe: the task goes on until it is aborted.
    let broker = tokio::select! {
        broker = &mut starting => broker.context("the start of the broker panicked")??,
        reason = shell.shutdown.requested() => {
            // A start cut short is like a crash, which the next start recovers from.
            starting.abort();
            return outcome(reason);
        }
    };
    shell.health.set_started();
    tracing::info!(took_ms = started.elapsed().as_millis(), "ready");
    let reason = shell.shutdown.requested().await;
    shell.health.set(State::Stopping);
    let stopped = match &reason {
        Reason::Signal(_) => main.spawn(broker.stop()),
        Reason::Fatal(_) => main.spawn(async move {
            if timeout(FATAL_STOP_MAX, broker.stop_at_once()).await.is_err() {
                tracing::error!("the broker could not be closed: the next start will recover the logs");
            }
        }),
    };
    stopped.await.context("the stop of the broker panicked")?;
    outcome(reason)
}

/// Tells what is about to run, and what is odd about its settings.
fn announce(config: &BrokerConfig, file: Option<&Path>) {
    let join = |items: Vec<String>| items.join(",");
    let listeners = join(config.listeners.iter().map(ToString::to_string).collect());
    let advertised = join(config.advertised_listeners.iter().map(ToString::to_string).collect());
    let log_dirs = join(config.log_dirs.iter().map(|dir| dir.display().to_string()).collect());
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, node_id = config.node_id, listeners, advertised, log_dirs, "{PROGRAM} starts");
    let without_any = format!(
        "data in {log_dirs}, listening on {listeners} for this machine alone; see ottla-broker --help"
    );
    runner::announce_settings(&config.settings, file, &without_any);
}
