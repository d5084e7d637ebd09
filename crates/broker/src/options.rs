//! The command line.

use clap::{Parser, Subcommand};
use ottla_process::options::{ConfigArgs, HealthArgs};

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

/// What to do instead of serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Asks the broker on this machine whether it is ready; exit code 0 if it is, 1 if not (for containers without a shell)
    Health(HealthArgs),
    /// Writes the reference of all settings in Markdown
    #[command(hide = true)]
    PrintConfigDocs,
}
