//! `ottla bench`: what a cluster does under load, with the distribution of latencies.

mod load;
mod report;
mod run;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::arguments;
use crate::produce::{AcksArg, Codec};
use crate::session::Session;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Sends records; latency is from sending to the acknowledgement
    Produce(ProduceBench),
    /// Reads records that are there
    Consume(ConsumeBench),
    /// Sends and reads the same records; latency is from sending to reading
    #[command(after_help = "Example:
  ottla bench latency --rate 1k --duration 10s")]
    Latency(ProduceBench),
}

/// Arguments of `bench produce` and `bench latency`.
#[derive(Clone, Debug, Args)]
pub struct ProduceBench {
    /// The topic; it is created if it is not there
    #[arg(default_value = "ottla-bench")]
    pub topic: String,
    /// Partitions of the topic, if it is created
    #[arg(short, long, default_value_t = 6)]
    pub partitions: i32,
    /// Replicas of each partition, if the topic is created; by default what the brokers say
    #[arg(short, long)]
    pub replicas: Option<i16>,
    /// Bytes of a record's value
    #[arg(short, long, value_name = "BYTES", default_value = "1KiB", value_parser = arguments::bytes)]
    pub size: usize,
    /// How many records, at most
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = arguments::count)]
    pub records: Option<u64>,
    /// How long, at most; 10s by default
    #[arg(short, long, value_name = "TIME", value_parser = arguments::duration)]
    pub duration: Option<Duration>,
    /// Records a second; as many as go by default, for latency 1000
    #[arg(long, value_name = "COUNT", value_parser = arguments::count)]
    pub rate: Option<u64>,
    /// What a broker must have done before it acknowledges
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    pub acks: AcksArg,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
    /// How long a batch waits for more records
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = arguments::duration)]
    pub linger: Duration,
}

/// Arguments of `bench consume`.
#[derive(Clone, Debug, Args)]
pub struct ConsumeBench {
    /// The topic
    #[arg(default_value = "ottla-bench")]
    pub topic: String,
    /// How many records, at most
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = arguments::count)]
    pub records: Option<u64>,
    /// How long, at most
    #[arg(short, long, value_name = "TIME", value_parser = arguments::duration)]
    pub duration: Option<Duration>,
}

/// Runs the command.
///
/// # Errors
/// What keeps the cluster from doing it.
pub async fn run(command: BenchCommand, session: &mut Session) -> Result<ExitCode> {
    match command {
        BenchCommand::Produce(args) => run::produce(args, session).await?,
        BenchCommand::Consume(args) => run::consume(args, session).await?,
        BenchCommand::Latency(args) => run::latency(args, session).await?,
    }
    Ok(ExitCode::SUCCESS)
}
