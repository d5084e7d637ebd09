//! The command line: what every subcommand understands, and which there are.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::arguments;
use crate::bench::BenchArgs;
use crate::cluster::ClusterArgs;
use crate::config::ConfigArgs;
use crate::consume::ConsumeArgs;
use crate::dump::options::DumpArgs;
use crate::group::GroupArgs;
use crate::produce::ProduceArgs;
use crate::topic::TopicArgs;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  done, but what was looked at is not well (health, dump, records that were refused)
  2  the command or its input is wrong
  3  what was named does not exist
  4  no broker was reached, or not in time
  5  the cluster refused it

Environment: OTTLA_BOOTSTRAP, OTTLA_PROFILE, OTTLA_CONFIG (the file with profiles), NO_COLOR, RUST_LOG";

/// The command line of `ottla`.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, about = "The one command for an Ottla or Kafka cluster.", after_help = EXIT_CODES)]
pub struct Options {
    /// What every subcommand understands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand understands, before it or behind it.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Addresses of brokers [env: OTTLA_BOOTSTRAP] [default: 127.0.0.1:9092]
    #[arg(short, long, global = true, value_name = "HOST:PORT,...")]
    pub bootstrap: Option<String>,
    /// Named settings of the configuration file [env: OTTLA_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// For people, or one JSON object a line
    #[arg(long, global = true, value_enum)]
    pub output: Option<Output>,
    /// How long the cluster may take to answer, for example 500ms, 10s or 2m [default: 15s]
    #[arg(long, global = true, value_name = "TIME", value_parser = arguments::duration)]
    pub timeout: Option<Duration>,
    /// Colours: on a terminal only, unless said otherwise
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// How things are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// For people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates, lists, describes, alters, deletes and empties topics
    Topic(TopicArgs),
    /// Sends records: lines, whole files, or JSON
    Produce(ProduceArgs),
    /// Reads records
    Consume(ConsumeArgs),
    /// Lists, describes, explains, resets and deletes consumer groups
    Group(GroupArgs),
    /// Shows and changes settings of topics and brokers
    Config(ConfigArgs),
    /// Shows brokers, the metadata quorum, and what is not well
    Cluster(ClusterArgs),
    /// Measures throughput and latency
    Bench(BenchArgs),
    /// Tells in one line whether the cluster is well; exit code 0 if it is
    Health,
    /// Shows what crosses the wire, and what lies on the disk
    Dump(DumpArgs),
    /// Shows the profiles of the configuration file
    Profile,
    /// Writes a completion script for a shell
    #[command(after_help = "Examples:
  ottla completions bash > /etc/bash_completion.d/ottla
  ottla completions zsh > ~/.zfunc/_ottla
  ottla completions fish > ~/.config/fish/completions/ottla.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual page, or those of all subcommands into a directory
    #[command(after_help = "Examples:
  ottla man | man -l -
  ottla man --directory /usr/local/share/man/man1")]
    Man {
        /// Where the pages of all subcommands go
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}
