//! `make bench`: a release broker, driven by librdkafka, beside the ceilings of the same machine measured in the same run.
//! Ratios first, absolute numbers after. Prints the report and writes it to `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "a command line tool")]

mod ceilings;
mod compaction;
mod groups;
mod load;
mod matrix;
mod report;
mod sdk;
mod whole;

use std::path::PathBuf;

use anyhow::{Result, bail};
use ottla_integration_tests::clients;

/// What the command line asks for.
pub struct Options {
    /// Every combination instead of the chosen ones.
    pub full: bool,
    /// A tenth of the volume: to see that it works, not to quote.
    pub quick: bool,
    /// Where the report goes; `None` prints it only.
    pub out: Option<PathBuf>,
    /// Only the parts with these names: produce, latency, process, groups, compaction, sdk.
    pub only: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Options> {
        let out = clients::root().join("docs/benchmarks.md");
        let mut options = Options { full: false, quick: false, out: Some(out), only: Vec::new() };
        for argument in arguments {
            match argument.as_str() {
                // cargo bench says so to every benchmark.
                "--bench" => {}
                "--full" => options.full = true,
                "--quick" => (options.quick, options.out) = (true, None),
                "--print" => options.out = None,
                "produce" | "latency" | "process" | "groups" | "compaction" | "sdk" => {
                    options.only.push(argument)
                }
                _ => bail!(
                    "usage: make bench ARGS=\"[--full] [--quick] [--print] [produce|latency|process|groups|compaction|sdk]...\""
                ),
            }
        }
        if !options.only.is_empty() {
            options.out = None;
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// Bytes or counts, less of them with `--quick`.
    fn scaled(&self, amount: u64) -> u64 {
        if self.quick { amount / 10 } else { amount }
    }
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut report = report::Report::begin();
    if options.wants("produce") {
        let ceilings = ceilings::measure(&options);
        report.ceilings(&ceilings);
        matrix::run(&options, &ceilings, &mut report);
    }
    if options.wants("latency") {
        whole::one_in_flight(&options, &mut report);
    }
    if options.wants("process") {
        whole::process_figures(&options, &mut report);
    }
    if options.wants("groups") {
        groups::figures(&options, &mut report);
    }
    if options.wants("compaction") {
        compaction::figures(&options, &mut report);
    }
    if options.wants("sdk") {
        sdk::figures(&options, &mut report);
    }
    report.finish(options.out.as_deref())
}
