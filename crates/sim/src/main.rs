//! `ottla-sim`: runs seeds and prints a line for each.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Simulates clusters in which things go wrong.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Say what happens, on stderr.
    #[arg(long)]
    verbose: bool,
    /// So many seeds from `--from` on.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plant a bug at a time instead, and see that it is caught.
    #[cfg(feature = "planted-bugs")]
    #[arg(long)]
    bugs: bool,
    /// Print how often things happened.
    #[arg(long)]
    counts: bool,
}

#[allow(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic is a violation like another, and is told with them.
    let is_verbose = arguments.verbose;
    std::panic::set_hook(Box::new(move |panic| {
        if is_verbose {
            eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
        }
    }));
    #[cfg(feature = "planted-bugs")]
    if arguments.bugs {
        let all = ottla_sim::catch_all(|line| println!("{line}"));
        return if all { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let (mut failed, mut seen, mut events, mut simulated) =
        (Vec::new(), std::collections::BTreeMap::new(), 0, 0.0);
    let begun = Instant::now();
    for seed in seeds {
        let started = Instant::now();
        let report = ottla_sim::run(seed, arguments.verbose);
        let simulated_s = report.simulated_us as f64 / 1e6;
        println!(
            "seed={seed} simulated_s={simulated_s:.0} wall_s={:.3} events={} trace={:016x}",
            started.elapsed().as_secs_f64(),
            report.events,
            report.trace
        );
        for violation in &report.violations {
            println!("seed {seed} at {simulated_s:.6} s: VIOLATION: {violation}");
        }
        if !report.violations.is_empty() {
            failed.push(seed);
        }
        for (what, count) in report.seen {
            *seen.entry(what).or_insert(0) += count;
        }
        events += report.events;
        simulated += simulated_s;
    }
    if arguments.counts {
        println!("{seen:#?}");
    }
    let wall = begun.elapsed().as_secs_f64();
    println!(
        "{simulated:.0} simulated seconds, {events} events, {:.0} times as fast as real time",
        simulated / wall
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} seeds with violations: {failed:?}", failed.len());
    ExitCode::FAILURE
}
