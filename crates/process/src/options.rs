//! What every process takes on its command line.

use std::path::{Path, PathBuf};

use clap::Args;

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
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref().or(self.file.as_deref())
    }
}

/// Arguments of `health`.
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// The process's HTTP listener; by default ottla.http.listener of the configuration
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Asks only whether the process lives (/healthz), not whether it serves (/readyz)
    #[arg(long)]
    pub live: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub timeout_ms: u64,
}
