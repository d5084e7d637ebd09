//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const ABOUT: &str = "A commit log that speaks the Apache Kafka protocol.";

const LONG_ABOUT: &str = "A commit log that speaks the Apache Kafka protocol: clients of Kafka connect to it as they are.

Without any argument it keeps its data in ./ottla-data and listens on 127.0.0.1:9092; no format step is needed before the
first start.";

const AFTER_HELP: &str = "Settings are Kafka's. Later sources win:
  1. the file (server.properties)
  2. environment variables: KAFKA_LOG_DIRS is log.dirs (_ is a dot, __ is _, ___ is -)
  3. --override key=value, the last one of a key wins

Examples:
  ottla-broker
  ottla-broker server.properties --override log.dirs=/var/lib/ottla
  ottla-broker --override listeners=PLAINTEXT://0.0.0.0:9092 --override advertised.listeners=PLAINTEXT://db1:9092
  ottla-broker health

http://127.0.0.1:9095 (ottla.http.listener) answers /healthz, /readyz and /metrics. RUST_LOG sets the log's detail,
for example RUST_LOG=debug.";

/// The command line of `ottla-broker`.
#[derive(Debug, Parser)]
#[command(name = "ottla-broker", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Options {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where the settings come from.
    #[command(flatten)]
    pub sources: ConfigArgs,
}

/// The sources of settings that the command line names.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// The configuration file, in the syntax of Kafka's server.properties
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The configuration file (the same as FILE)
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Sets one key; may be repeated, and the last value of a key wins
    #[arg(long = "override", value_name = "KEY=VALUE", global = true)]
    pub overrides: Vec<String>,
    /// Writes the log as one JSON object a line (the same as --override ottla.log.format=json)
    #[arg(long, global = true)]
    pub log_json: bool,
}

impl ConfigArgs {
    /// The file, by whichever of the two ways it was named.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.config.as_deref().or(self.file.as_deref())
    }
}

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Asks the broker on this machine whether it is ready; exit code 0 if it is, 1 if not (for containers without a shell)
    Health(HealthArgs),
    /// Writes the reference of all settings in Markdown
    #[command(hide = true)]
    PrintConfigDocs,
}

/// Arguments of `health`.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// The broker's HTTP listener; by default ottla.http.listener of the configuration
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Asks only whether the process lives (/healthz), not whether it serves (/readyz)
    #[arg(long)]
    pub live: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub timeout_ms: u64,
}
