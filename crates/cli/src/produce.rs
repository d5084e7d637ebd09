//! `ottla produce`.

mod input;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ottla_client_sdk::{Acks, Compression, Delivery, Error, Producer, Record};
use serde_json::json;
use tokio::time::Instant;

use crate::arguments::{self, setting};
use crate::failure::NOT_WELL;
use crate::output::remark;
use crate::record_json::Parsed;
use crate::session::{Session, stopped};
use input::Input;

/// Acknowledgements that may be outstanding before the oldest is waited for.
const DELIVERIES_MAX: usize = 100_000;
/// Refused records that are told one by one.
const REFUSALS_TOLD_MAX: u64 = 10;

/// Arguments of `produce`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | ottla produce greetings
  ottla produce orders --key-separator : < orders.txt
  ottla produce pictures --whole cat.jpg dog.jpg
  ottla consume orders --output json | ottla produce copy --json
  seq 1000000 | ottla produce numbers --rate 5k --compression lz4")]
pub struct ProduceArgs {
    /// Where to
    topic: String,
    /// Files to read; standard input by default
    files: Vec<PathBuf>,
    /// What stands between key and value in each line; \\t is a tab
    #[arg(short, long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Each line is a record in JSON, as `consume --output json` writes it
    #[arg(long, conflicts_with_all = ["key_separator", "whole", "key"])]
    json: bool,
    /// Each file is one record, whatever is in it
    #[arg(long, conflicts_with = "key_separator")]
    whole: bool,
    /// The key of all records
    #[arg(long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of all records
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = setting)]
    header: Vec<(String, String)>,
    /// An empty value is none: it deletes its key on a compacted topic
    #[arg(long)]
    tombstones: bool,
    /// The partition of all records; by default the key decides
    #[arg(short, long)]
    partition: Option<i32>,
    /// The timestamp of all records, in milliseconds since 1970; now by default
    #[arg(long, value_name = "MILLISECONDS")]
    timestamp: Option<i64>,
    /// Records a second, at most
    #[arg(long, value_name = "COUNT", value_parser = arguments::count)]
    rate: Option<u64>,
    /// What a broker must have done before it acknowledges
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Tells where each record went
    #[arg(short, long)]
    verbose: bool,
}

/// [`Acks`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AcksArg {
    /// All replicas in sync have it.
    All,
    /// The leader has it.
    #[value(alias = "1")]
    Leader,
    /// Nothing is waited for.
    #[value(alias = "0")]
    None,
}

/// [`Compression`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Codec {
    /// Not at all.
    None,
    /// Gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Acks {
        match acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        }
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip(-1),
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd(3),
        }
    }
}

/// What became of the records.
#[derive(Default)]
struct Tally {
    sent: u64,
    refused: u64,
    waiting: VecDeque<Delivery>,
}

/// Runs the command.
///
/// # Errors
/// Input that is not what the arguments say; a topic that does not exist and is not created either.
pub async fn run(args: ProduceArgs, session: &mut Session) -> Result<ExitCode> {
    if args.whole && args.files.is_empty() {
        bail!("--whole wants files: name them behind the topic");
    }
    let producer = producer(&args, session).await?;
    let mut tally = Tally::default();
    let produced = send_all(&args, &producer, &mut tally, session).await;
    tally.settle(0, args.verbose, session).await?;
    producer.close().await?;
    produced?;
    let Tally { sent, refused, .. } = tally;
    let row = json!({"topic": args.topic, "sent": sent - refused, "refused": refused});
    if session.out.is_json() {
        session.out.json(&row)?;
    } else {
        session.out.flush()?;
        let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
        remark(&format!("{} records to {}{refused}", sent - tally.refused, args.topic));
    }
    Ok(if refused > 0 { ExitCode::from(NOT_WELL) } else { ExitCode::SUCCESS })
}

async fn producer(args: &ProduceArgs, session: &Session) -> Result<Producer, Error> {
    let acks = Acks::from(args.acks);
    let options = session.client.producer().acks(acks).idempotence(acks == Acks::All);
    options.compression(args.compression.into()).start().await
}

async fn send_all(
    args: &ProduceArgs,
    producer: &Producer,
    tally: &mut Tally,
    session: &mut Session,
) -> Result<()> {
    if args.files.is_empty() && std::io::stdin().is_terminal() {
        remark("a record a line; Ctrl-D ends");
    }
    let bar = progress(args);
    let mut pace = args.rate.map(Pace::new);
    let mut stop = pin!(stopped());
    for input in Input::open(&args.files)? {
        if args.whole {
            let value = input.whole().await?;
            bar.inc(value.len() as u64);
            let parsed = Parsed { value: Some(value), ..Parsed::default() };
            send(args, producer, parsed, tally, session).await.with_context(|| input.name().to_owned())?;
            continue;
        }
        let mut lines = input.lines().await?;
        loop {
            // Both are cancel-safe: a line that has been read is kept for the next call.
            let is_there = tokio::select! {
                is_there = lines.advance() => is_there?,
                () = &mut stop => return Ok(()),
            };
            if !is_there {
                break;
            }
            bar.inc(lines.line().len() as u64 + 1);
            let where_from = || format!("{}, line {}", lines.name(), lines.number());
            let parsed = parse(args, lines.line()).with_context(where_from)?;
            if let Some(pace) = &mut pace {
                pace.wait().await;
            }
            send(args, producer, parsed, tally, session).await.with_context(where_from)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Bytes of the files that are read; nothing where their sizes are not known, or nobody looks.
fn progress(args: &ProduceArgs) -> ProgressBar {
    let sizes = args.files.iter().map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
    let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    match ProgressStyle::with_template(style) {
        Ok(style) if !args.files.is_empty() => ProgressBar::new(sizes.sum()).with_style(style),
        _ => ProgressBar::hidden(),
    }
}

/// At most so many records a second, evenly.
pub struct Pace {
    began: Instant,
    rate: u64,
    count: u64,
}

impl Pace {
    /// A pace that begins now.
    pub fn new(rate: u64) -> Pace {
        Pace { began: Instant::now(), rate: rate.max(1), count: 0 }
    }

    /// Waits for the next record's turn; gives when its turn was.
    pub async fn wait(&mut self) -> Instant {
        let turn = self.began + Duration::from_secs_f64(self.count as f64 / self.rate as f64);
        self.count += 1;
        // The clock's steps are a millisecond: what is due by then leaves now.
        if turn > Instant::now() + Duration::from_millis(1) {
            tokio::time::sleep_until(turn).await;
        }
        turn
    }
}

fn parse(args: &ProduceArgs, line: &[u8]) -> Result<Parsed> {
    if args.json {
        return crate::record_json::parse(line);
    }
    let Some(separator) = &args.key_separator else {
        return Ok(Parsed { value: Some(line.to_vec()), ..Parsed::default() });
    };
    let separator = arguments::unescape(separator).into_bytes();
    if separator.is_empty() {
        bail!("--key-separator is empty: say what stands between key and value");
    }
    let found = line.windows(separator.len()).position(|window| window == separator);
    let Some(at) = found else {
        bail!(
            "there is no {:?} between key and value: add it, or leave --key-separator out",
            String::from_utf8_lossy(&separator)
        );
    };
    let value = &line[at + separator.len()..];
    Ok(Parsed { key: Some(line[..at].to_vec()), value: Some(value.to_vec()), ..Parsed::default() })
}

async fn send(
    args: &ProduceArgs,
    producer: &Producer,
    mut parsed: Parsed,
    tally: &mut Tally,
    session: &mut Session,
) -> Result<()> {
    if args.tombstones && parsed.value.as_ref().is_some_and(Vec::is_empty) {
        parsed.value = None;
    }
    let mut record = Record::to(&args.topic);
    if let Some(partition) = args.partition.or(parsed.partition) {
        record = record.partition(partition);
    }
    if let Some(timestamp_ms) = args.timestamp.or(parsed.timestamp_ms) {
        record = record.timestamp_ms(timestamp_ms);
    }
    let key = args.key.as_ref().map(String::as_bytes).or(parsed.key.as_deref());
    if let Some(key) = key {
        record = record.key(key);
    }
    if let Some(value) = &parsed.value {
        record = record.value(value);
    }
    for (name, value) in &args.header {
        record = record.header(name, Some(value.as_bytes()));
    }
    for (name, value) in &parsed.headers {
        record = record.header(name, value.as_deref());
    }
    tally.waiting.push_back(producer.send(record).await?);
    tally.sent += 1;
    if tally.waiting.len() >= DELIVERIES_MAX {
        tally.settle(DELIVERIES_MAX / 2, args.verbose, session).await?;
    }
    Ok(())
}

impl Tally {
    /// Waits for acknowledgements until `left` are outstanding.
    async fn settle(&mut self, left: usize, verbose: bool, session: &mut Session) -> Result<()> {
        while self.waiting.len() > left {
            let Some(delivery) = self.waiting.pop_front() else { break };
            match delivery.await {
                Ok(receipt) if verbose => {
                    let row = json!({"topic": receipt.topic.as_str(), "partition": receipt.partition, "offset": receipt.offset});
                    let offset = receipt.offset.map_or("unknown".to_owned(), |offset| offset.to_string());
                    let text = format!("{}-{} offset {offset}", receipt.topic, receipt.partition);
                    session.out.done(&row, &text)?;
                }
                Ok(_receipt) => {}
                Err(error) => {
                    self.refused += 1;
                    if self.refused <= REFUSALS_TOLD_MAX {
                        remark(&format!("ottla: {error}"));
                    }
                }
            }
        }
        Ok(())
    }
}
