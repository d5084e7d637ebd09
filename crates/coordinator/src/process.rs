//! The process `ottla-coordinator`: a coordinator without a broker. From the command line to its place in the quorum and back.

mod config;
mod exposition;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
pub use config::CoordinatorConfig;
use ottla_process::health::{self, Health, State};
use ottla_process::options::{ConfigArgs, HealthArgs};
use ottla_process::runner::{self, RUNTIME_STOP_MAX, outcome};
use ottla_process::shutdown::{Reason, Shutdown, listen_for_signals};
use ottla_process::{http, logging, random};
use ottla_protocol::ids::BrokerId;
use ottla_storage::directory::{Claim, Identity, LogDirectory};
use ottla_storage::files::Files;
use ottla_storage::files::real::RealFiles;

use crate::{Coordinator, CoordinatorHandle, CoordinatorOptions, settings};

const PROGRAM: &str = "ottla-coordinator";

const ABOUT: &str = "A node of the metadata quorum of an Ottla cluster.";

const LONG_ABOUT: &str = "A node of the metadata quorum of an Ottla cluster: an odd number of them agree on which brokers and topics there are and \
who leads what. Without any argument it is a quorum of its own, keeps its data in ./ottla-data and listens on the listeners that \
controller.listener.names says; no format step is needed before the first start.";

const AFTER_HELP: &str = "Settings are Kafka's, as for ottla-broker. Later sources win: the file, KAFKA_* environment variables, --override.

Example, the first of three:
  ottla-coordinator --override node.id=101 --override log.dirs=/var/lib/ottla \\
    --override controller.listener.names=CONTROLLER --override listeners=CONTROLLER://0.0.0.0:9093 \\
    --override controller.quorum.voters=101@one:9093,102@two:9093,103@three:9093
  ottla-coordinator health

ottla.http.listener answers /healthz, /readyz and /metrics. RUST_LOG sets the log's detail, for example RUST_LOG=debug.";

/// The command line of `ottla-coordinator`.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Options {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where the settings come from.
    #[command(flatten)]
    pub sources: ConfigArgs,
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Asks the coordinator on this machine whether it is ready; exit code 0 if it is, 1 if not (for containers without a shell)
    Health(HealthArgs),
}

/// Runs the process to its end.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let options = Options::parse();
    match &options.command {
        None => runner::exit_code(PROGRAM, serve(&options.sources, started)),
        Some(Command::Health(args)) => health::ask(args, || runner::gather(&options.sources)),
    }
}

fn serve(sources: &ConfigArgs, started: Instant) -> anyhow::Result<()> {
    let config = CoordinatorConfig::from_settings(runner::gather(sources)?)?;
    logging::start(config.log_format);
    announce(&config, sources.file());
    runner::raise_descriptor_limit();
    let runtime = runner::control_runtime()?;
    let done = runtime.block_on(run(config, started));
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    if done.is_ok() {
        tracing::info!("stopped");
    }
    done
}

fn announce(config: &CoordinatorConfig, file: Option<&Path>) {
    let listeners: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
    let (listeners, quorum) = (listeners.join(","), config.quorum.addresses().join(","));
    let metadata = config.metadata_log_dir.display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, node_id = config.node_id, listeners, quorum, metadata, "{PROGRAM} starts");
    let without_any = format!("a quorum of its own, data in {metadata}; see {PROGRAM} --help");
    runner::announce_settings(&config.settings, file, &without_any);
}

async fn run(config: CoordinatorConfig, started: Instant) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let signals = listen_for_signals(shutdown.clone()).context("installing the signal handlers")?;
    let health = Arc::new(Health::default());
    let metrics = Arc::new(exposition::Source::default());
    let told = http::Told {
        program: PROGRAM,
        health: health.clone(),
        metrics: {
            let metrics = metrics.clone();
            Arc::new(move || exposition::text(&metrics))
        },
    };
    let http = http::start(config.http_listener, told).await?;
    if let Some(http) = &http {
        tracing::info!("http on http://{} (/healthz, /readyz, /metrics)", http.address());
    }
    let done = match start(&config) {
        Ok((coordinator, handle, claim)) => {
            metrics.set(handle.clone());
            let done = live(&config, &handle, claim, &health, &shutdown, started).await;
            health.set(State::Stopping);
            let stopped = tokio::task::spawn_blocking(|| coordinator.stop());
            let stopped = stopped.await.context("the stop of the coordinator panicked")?;
            done.and(stopped.context("the coordinator did not stop in order"))
        }
        Err(error) => Err(error),
    };
    if let Some(http) = http {
        http.stop().await;
    }
    signals.abort();
    done
}

/// Binds the listeners, locks the directory and starts the coordinator. A second one on the same port ends before it has touched any
/// data.
fn start(config: &CoordinatorConfig) -> anyhow::Result<(Coordinator, CoordinatorHandle, Claim)> {
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let listeners = settings::bind(&config.listeners)?;
    let claim = Claim::take(files.clone(), config.metadata_log_dir.clone())?;
    let cluster_id = claim.meta()?.map(|meta| meta.cluster_id);
    let directory_id = claim.directory_id(random::id())?;
    let options = CoordinatorOptions {
        cluster_id,
        config: (*config.fixed).clone(),
        advertised: settings::endpoints(&config.advertised, &listeners),
        listeners,
        quorum: settings::quorum(&config.quorum),
        ..CoordinatorOptions::new(
            files,
            config.metadata_log_dir.clone(),
            String::new(),
            config.node_id,
            directory_id,
        )
    };
    let (coordinator, handle) = Coordinator::start(options).context("starting the coordinator")?;
    Ok((coordinator, handle, claim))
}

/// From the start to the request to stop.
async fn live(
    config: &CoordinatorConfig,
    handle: &CoordinatorHandle,
    claim: Claim,
    health: &Health,
    shutdown: &Shutdown,
    started: Instant,
) -> anyhow::Result<()> {
    // Both branches are cancel-safe.
    let cluster_id = tokio::select! {
        cluster_id = handle.cluster_id() => cluster_id?,
        reason = shutdown.requested() => return outcome(reason),
    };
    let _directory = own(config, claim, &cluster_id)?;
    let mut feed = handle.feed(0);
    loop {
        // Both branches are cancel-safe.
        tokio::select! {
            entries = feed.next() => match entries {
                Ok(_) if health.state() == State::Starting => {
                    health.set_started();
                    tracing::info!(cluster_id, took_ms = started.elapsed().as_millis(), "ready");
                }
                Ok(_) => {}
                Err(error) => {
                    let cause = format!("the coordinator has ended: {error}");
                    shutdown.request(Reason::Fatal(cause));
                }
            },
            reason = shutdown.requested() => return outcome(reason),
        }
    }
}

/// The directory belongs to this node of this cluster from now on.
fn own(config: &CoordinatorConfig, claim: Claim, cluster_id: &str) -> anyhow::Result<LogDirectory> {
    let identity = Identity {
        cluster_id: cluster_id.to_owned(),
        node_id: BrokerId(config.node_id),
        new_directory_id: random::id(),
    };
    let (directory, found) = claim.open(&identity)?;
    for warning in found.warnings {
        tracing::warn!("{warning}");
    }
    Ok(directory)
}
