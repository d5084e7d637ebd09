//! `ottla dump`: arguments in, the dump crate does the work.

pub mod options;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use ottla_dump::file::{self, FileOptions, FrameWriter, Kind};
use ottla_dump::filter::{Errors, Filter};
use ottla_dump::hex;
use ottla_dump::limits::HEX_TEXT_BYTES_MAX;
use ottla_dump::pcap::Follower;
use ottla_dump::printer::{Format, Printer};
use ottla_dump::proxy::{Proxy, ProxyOptions};
use ottla_dump::session::Sessions;
use ottla_dump::show::Pasted;
use tokio_util::sync::CancellationToken;

use crate::options::Output;
use options::{DumpCommand, FileArgs, FilterArgs, HexArgs, PcapArgs, ProxyArgs, ShowArgs};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Exit code when something was shown that did not decode.
const DAMAGED: u8 = 1;

/// Runs the command; gives its exit code.
pub fn run(command: DumpCommand, output: Output) -> Result<ExitCode> {
    match command {
        DumpCommand::File(args) => files(args, output),
        DumpCommand::Proxy(args) => proxy(args, output),
        DumpCommand::Pcap(args) => pcap(args, output),
        DumpCommand::Hex(args) => pasted(&args, output),
    }
}

fn printer(show: &ShowArgs, output: Output) -> Printer {
    let format = match output {
        Output::Text => Format::Text { hex: show.hex },
        Output::Json => Format::Json,
    };
    Printer::new(format, Box::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout())))
}

fn filter(args: FilterArgs) -> Result<Filter> {
    let api = |text: &String| {
        Filter::api_key(text)
            .ok_or_else(|| anyhow!("--api {text}: there is no such API; docs/protocol lists them"))
    };
    let errors = match args.error.as_deref() {
        None => None,
        Some("any") => Some(Errors::Any),
        Some(text) => {
            let code = Filter::error_code(text);
            Some(Errors::Code(code.ok_or_else(|| anyhow!("--error {text}: there is no such error"))?))
        }
    };
    Ok(Filter {
        apis: args.api.iter().map(api).collect::<Result<_>>()?,
        client_ids: args.client_id.into_iter().collect(),
        topics: args.topic.into_iter().collect(),
        connections: args.connection.into_iter().collect(),
        errors,
    })
}

fn proxy(args: ProxyArgs, output: Output) -> Result<ExitCode> {
    let printer = printer(&args.show, output);
    let sessions = Sessions::new(filter(args.filter)?, args.show.show_secrets);
    let recording = match &args.record {
        None => None,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--record {}", path.display()))?;
            Some(FrameWriter::new(BufWriter::with_capacity(BUFFER_BYTES, file)))
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    runtime.block_on(stop_on_signals(stop.clone()))?;
    let ProxyArgs { listen, upstream, advertised_host, .. } = args;
    let options = ProxyOptions { listen: listen.clone(), upstream: upstream.clone(), advertised_host };
    let (proxy, events) = runtime
        .block_on(Proxy::bind(options, stop))
        .with_context(|| format!("cannot listen on {listen}; name another address with --listen"))?;
    // Where standard error is gone nobody wants to know.
    drop(writeln!(io::stderr(), "ottla: {} stands before {upstream}", proxy.local_addr()?));
    let shown = std::thread::Builder::new()
        .name("show".to_owned())
        .spawn(move || ottla_dump::proxy::show(events, sessions, printer, recording))?;
    runtime.block_on(proxy.run());
    match shown.join() {
        Ok(shown) => shown?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM and SIGINT end the proxy in order: what was passed on is shown before.
async fn stop_on_signals(stop: CancellationToken) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        // Both are cancel-safe: a signal stays pending until it is received.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn files(args: FileArgs, output: Output) -> Result<ExitCode> {
    let mut printer = printer(&args.show, output);
    let kind = match &args.kind {
        None => None,
        Some(name) => Some(Kind::named(name).with_context(|| format!("--as {name}: there is no such kind"))?),
    };
    let filter = filter(args.filter)?;
    let options = FileOptions { kind, show_secrets: args.show.show_secrets, filter };
    let mut is_whole = true;
    for path in &args.files {
        is_whole &= file::show(path, &options, &mut printer)?;
    }
    printer.flush()?;
    Ok(exit_code(is_whole))
}

fn pcap(args: PcapArgs, output: Output) -> Result<ExitCode> {
    let mut printer = printer(&args.show, output);
    let sessions = Sessions::new(filter(args.filter)?, args.show.show_secrets);
    let follower = Follower::new(sessions, args.port, &mut printer);
    let name = || args.file.display().to_string();
    let is_whole = if args.file == Path::new("-") {
        follower.follow(io::stdin()).with_context(name)?
    } else {
        follower.follow(File::open(&args.file).with_context(name)?).with_context(name)?
    };
    printer.flush()?;
    Ok(exit_code(is_whole))
}

fn pasted(args: &HexArgs, output: Output) -> Result<ExitCode> {
    let what = match (&args.response_to, &args.message) {
        (Some(text), _) => Pasted::response_to(text)
            .with_context(|| format!("--response-to {text}: say API:VERSION, for example Metadata:9"))?,
        (None, Some(text)) => Pasted::named(text).with_context(|| {
            format!("--as {text}: say records, or NAME:VERSION, for example OffsetCommitValue:3")
        })?,
        (None, None) => Pasted::Requests,
    };
    let mut text = String::new();
    io::stdin().take(HEX_TEXT_BYTES_MAX as u64).read_to_string(&mut text).context("standard input")?;
    let bytes = hex::parse(&text)?;
    let mut printer = printer(&args.show, output);
    let is_whole = what.show(&bytes, args.show.show_secrets, &mut printer)?;
    printer.flush()?;
    Ok(exit_code(is_whole))
}

fn exit_code(is_whole: bool) -> ExitCode {
    if is_whole { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}
