//! From the command line to a running broker and back: the order of start and stop.
//!
//! Threads: the main thread drives the control runtime (signals, HTTP, whatever control traffic the broker spawns there), and one
//! worker per core serves clients. Threads for blocking work come and go.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::broker::Broker;
use crate::config::{BrokerConfig, StaticSettings, notices};
use crate::health::{self, Health, State};
use crate::options::{Command, ConfigArgs, Options};
use crate::shutdown::{Reason, Shutdown, listen_for_signals};
use crate::{Metrics, Shell, http, logging};

/// After the broker has stopped, what still runs on a runtime gets that long.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(5);
/// Threads for blocking work (flushes, cold reads) at once. They end after ten idle seconds.
const BLOCKING_THREADS_MAX: usize = 64;

/// Runs the process to its end.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let options = Options::parse();
    let done = match &options.command {
        None => serve(&options.sources, started),
        Some(Command::Health(args)) => return health::ask(args, || load(&options.sources)),
        Some(Command::PrintConfigDocs) => print_config_docs(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have started, and an operator looks here first.
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell when standard error is closed.
            writeln!(stderr, "ottla-broker: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn print_config_docs() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(ottla_cluster::config::docs::render().as_bytes()).context("writing to standard output")
}

/// The configuration that the command line, the file and the environment give.
fn load(sources: &ConfigArgs) -> anyhow::Result<BrokerConfig> {
    let mut overrides = sources.overrides.clone();
    if sources.log_json {
        overrides.push("ottla.log.format=json".to_owned());
    }
    let settings = StaticSettings::gather(sources.file(), std::env::vars_os(), &overrides)?;
    Ok(BrokerConfig::from_settings(settings)?)
}

fn serve(sources: &ConfigArgs, started: Instant) -> anyhow::Result<()> {
    let config = load(sources)?;
    logging::start(config.log_format);
    announce(&config, sources.file());
    raise_descriptor_limit();
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("starting the control runtime")?;
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
    let http = http::start(config.http_listener, &shell).await?;
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
    main.spawn(broker.stop()).await.context("the stop of the broker panicked")?;
    outcome(reason)
}

fn outcome(reason: Reason) -> anyhow::Result<()> {
    match reason {
        Reason::Signal(_) => Ok(()),
        Reason::Fatal(cause) => Err(anyhow::anyhow!(cause)),
    }
}

/// Tells what is about to run, and what is odd about its settings.
fn announce(config: &BrokerConfig, file: Option<&Path>) {
    let join = |items: Vec<String>| items.join(",");
    let listeners = join(config.listeners.iter().map(ToString::to_string).collect());
    let advertised = join(config.advertised_listeners.iter().map(ToString::to_string).collect());
    let log_dirs = join(config.log_dirs.iter().map(|dir| dir.display().to_string()).collect());
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, node_id = config.node_id, listeners, advertised, log_dirs, "ottla-broker starts");
    match file {
        Some(file) => tracing::info!("settings are read from {}", file.display()),
        None if config.settings.iter().next().is_none() => tracing::info!(
            "no settings were given: data in {log_dirs}, listening on {listeners} for this machine alone; see ottla-broker --help"
        ),
        None => {}
    }
    for notice in notices::of(&config.settings) {
        notice.log();
    }
}

/// Every partition has files, every client a socket: use what the system allows, as Java does.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised to what the system allows");
    }
}
