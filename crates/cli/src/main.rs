//! `ottla`: the one command for a cluster.

mod arguments;
mod bench;
mod cluster;
mod config;
mod consume;
mod dump;
mod failure;
mod group;
mod manual;
mod options;
mod output;
mod produce;
mod record_json;
mod session;
mod settings;
mod topic;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::options::{Command, Options};
use crate::output::{Out, remark};
use crate::session::Session;
use crate::settings::{Environment, Settings};

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr();
    match run(options) {
        Ok(code) => code,
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            remark(&format!("ottla: {error:#}"));
            if let Some(hint) = failure::hint(&error) {
                remark(&format!("  hint: {hint}"));
            }
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    let environment = Environment::of_process();
    match options.command {
        // These need no settings, and work where those are broken.
        Command::Completions { shell } => return manual::completions(shell),
        Command::Man { directory } => return manual::pages(directory.as_deref()),
        _ => {}
    }
    let settings = Settings::settle(&options.common, &environment)?;
    let mut out = Out::new(settings.output, options.common.color);
    match options.command {
        Command::Dump(args) => return dump::run(args.command, settings.output),
        Command::Profile => {
            settings::show_profiles(&environment, &mut out)?;
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = Session::start(&settings, out).await?;
        let code = against_cluster(options.command, &mut session).await;
        session.out.flush()?;
        code
    })
}

async fn against_cluster(command: Command, session: &mut Session) -> Result<ExitCode> {
    match command {
        Command::Topic(args) => topic::run(args.command, session).await,
        Command::Produce(args) => produce::run(args, session).await,
        Command::Consume(args) => consume::run(args, session).await,
        Command::Group(args) => group::run(args.command, session).await,
        Command::Config(args) => config::run(args.command, session).await,
        Command::Cluster(args) => cluster::run(args.command, session).await,
        Command::Bench(args) => bench::run(args.command, session).await,
        Command::Health => cluster::in_one_line(session).await,
        Command::Dump(_) | Command::Profile | Command::Completions { .. } | Command::Man { .. } => {
            unreachable!("done without a cluster")
        }
    }
}

/// Errors, and what `RUST_LOG` asks for.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::ERROR.into())
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}
