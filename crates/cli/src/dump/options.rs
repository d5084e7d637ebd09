//! The command line of `ottla dump`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Where from.
    #[command(subcommand)]
    pub command: DumpCommand,
}

/// Where frames and records come from.
#[derive(Debug, Subcommand)]
pub enum DumpCommand {
    /// Listens in: clients connect to it instead of the broker
    #[command(after_help = "Example:
  ottla dump proxy --listen 127.0.0.1:9192 --upstream 127.0.0.1:9092
  kcat -b 127.0.0.1:9192 -L")]
    Proxy(ProxyArgs),
    /// Shows files of a data directory: segments, indexes, snapshots, checkpoints, the metadata log
    #[command(
        after_help = "Exit code: 0 when all decoded, 1 when something was damaged (and shown as far as it goes).

Examples:
  ottla dump file ottla-data/orders-0/00000000000000000000.log
  ottla dump file --output json ottla-data/__consumer_offsets-7/*.log"
    )]
    File(FileArgs),
    /// Shows the sessions in a capture (pcap or pcapng)
    #[command(after_help = "Example:
  tcpdump -i lo -w - port 9092 | ottla dump pcap -")]
    Pcap(PcapArgs),
    /// Shows hex from standard input: frames, batches, or any message or record
    #[command(
        after_help = "Takes bare digits, the output of xxd and of hexdump -C. Frames may stand behind their lengths.

Examples:
  echo 0012000300000001000461626364000000 | ottla dump hex
  ottla dump hex --response-to Metadata:9 < reply.txt
  ottla dump hex --as OffsetCommitValue:3 < value.txt"
    )]
    Hex(HexArgs),
}

/// How everything is shown.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The bytes in hex beside each field
    #[arg(long)]
    pub hex: bool,
    /// Shows passwords, tokens and credentials, which are masked otherwise
    #[arg(long)]
    pub show_secrets: bool,
}

/// Which frames are shown. Every condition that is set has to hold; of one that is given more than once, any.
#[derive(Clone, Debug, Args)]
pub struct FilterArgs {
    /// Frames of this API only, by name or key
    #[arg(long, value_name = "API")]
    pub api: Vec<String>,
    /// Frames of this client id only
    #[arg(long, value_name = "ID")]
    pub client_id: Vec<String>,
    /// Frames that name this topic only, and their responses
    #[arg(long, value_name = "NAME")]
    pub topic: Vec<String>,
    /// Frames of this connection only
    #[arg(long, value_name = "NUMBER")]
    pub connection: Vec<u64>,
    /// Responses with an error only, and frames that do not decode; or responses with this error (name or code)
    #[arg(long, value_name = "ERROR", num_args = 0..=1, default_missing_value = "any")]
    pub error: Option<String>,
}

/// Arguments of `dump proxy`.
#[derive(Debug, Args)]
pub struct ProxyArgs {
    /// Where clients connect to; port 0 for any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9192")]
    pub listen: String,
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub upstream: String,
    /// Host that clients are told instead of the brokers'; by default the address that they reached the proxy at
    #[arg(long, value_name = "HOST")]
    pub advertised_host: Option<String>,
    /// Keeps the frames in this file, too, for `ottla dump file`
    #[arg(long, value_name = "FILE.frames")]
    pub record: Option<PathBuf>,
    /// How frames are shown.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `dump file`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What they are, where their names do not say: segment, offsets, transactions, metadata, metadata-snapshot, index,
    /// timeindex, txnindex, snapshot, checkpoint, properties, frames
    #[arg(long = "as", value_name = "KIND")]
    pub kind: Option<String>,
    /// How they are shown.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Which frames of a recording.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `dump pcap`.
#[derive(Debug, Args)]
pub struct PcapArgs {
    /// The capture; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Port of a broker; without any, every connection is tried
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// How frames are shown.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Arguments of `dump hex`.
#[derive(Debug, Args)]
pub struct HexArgs {
    /// It is a response to a request of this API and version, for example Metadata:9; requests name theirs themselves
    #[arg(long, value_name = "API:VERSION", conflicts_with = "message")]
    pub response_to: Option<String>,
    /// It is no frame but record batches (records), or a message or record of this schema and version
    #[arg(long = "as", value_name = "records|NAME:VERSION")]
    pub message: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub show: ShowArgs,
}
