//! The frame of a `main`: settings, the control runtime, the exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::config::{StaticSettings, notices};
use crate::options::ConfigArgs;
use crate::shutdown::Reason;

/// After the end, what still runs on a runtime gets that long.
pub const RUNTIME_STOP_MAX: Duration = Duration::from_secs(5);

/// The exit code of `program`; an error is told on standard error.
pub fn exit_code(program: &str, done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have started, and an operator looks here first.
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell when standard error is closed.
            writeln!(stderr, "{program}: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

/// The settings that the command line, the file and the environment give.
///
/// # Errors
/// As [`StaticSettings::gather`].
pub fn gather(sources: &ConfigArgs) -> anyhow::Result<StaticSettings> {
    let mut overrides = sources.overrides.clone();
    if sources.log_json {
        overrides.push("ottla.log.format=json".to_owned());
    }
    Ok(StaticSettings::gather(sources.file(), std::env::vars_os(), &overrides)?)
}

/// Tells where the settings come from, `without_any` when there are none, and what is odd about them.
pub fn announce_settings(settings: &StaticSettings, file: Option<&Path>, without_any: &str) {
    match file {
        Some(file) => tracing::info!("settings are read from {}", file.display()),
        None if settings.iter().next().is_none() => tracing::info!("no settings were given: {without_any}"),
        None => {}
    }
    for notice in notices::of(settings) {
        notice.log();
    }
}

/// The small runtime for control traffic, driven by the main thread.
///
/// # Errors
/// When the system does not give what it needs.
pub fn control_runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .context("starting the control runtime")
}

/// What a stop for that reason means for the exit code.
///
/// # Errors
/// The cause, when the process could not go on.
pub fn outcome(reason: Reason) -> anyhow::Result<()> {
    match reason {
        Reason::Signal(_) => Ok(()),
        Reason::Fatal(cause) => Err(anyhow::anyhow!(cause)),
    }
}

/// Every partition has files, every client a socket: use what the system allows, as Java does.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised to what the system allows");
    }
}
