//! `ottla`: the one command for a cluster.

mod dump;
mod options;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options};

/// Exit code of a command that could not do its work.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr();
    let done = match options.command {
        Command::Dump(dump) => dump::run(dump.command),
    };
    match done {
        Ok(code) => code,
        // Whoever reads has seen enough (`ottla dump ... | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where the error cannot be told, the exit code still is.
            drop(writeln!(io::stderr(), "ottla: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Warnings, and what `RUST_LOG` asks for.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}
