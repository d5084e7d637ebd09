//! The report: printed as it comes, and written as one page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::ceilings::{Ceilings, SIZES};
use crate::matrix::{Case, Figures};

/// The page so far.
pub struct Report {
    text: String,
}

impl Report {
    /// The head of the page: what it is and which machine it was.
    pub fn begin() -> Report {
        let mut report = Report { text: String::new() };
        report.line("# Benchmarks");
        report.line("");
        report.line(
            "Written by `make bench` (`integration-tests/benches/figures`). Broker and clients share the machine, the clients are\n\
             librdkafka, and the ceilings are plain loops measured in the same run: a ratio of 1 means that the broker costs as\n\
             much as moving the bytes does. Ratios carry over to other machines of this kind; absolute numbers do not. GB are\n\
             10^9 bytes of record values, before compression.",
        );
        report.line("");
        for line in machine() {
            report.line(&format!("* {line}"));
        }
        report
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The ceilings.
    pub fn ceilings(&mut self, ceilings: &Ceilings) {
        self.line("\n## Ceilings: processor seconds for a GB\n");
        self.line("| what a server does | 16 KiB | 128 KiB |\n| --- | ---: | ---: |");
        let [small, large] = ceilings.dropped;
        self.line(&format!("| reads frames and drops them | {small:.2} | {large:.2} |"));
        let [small, large] = ceilings.written;
        self.line(&format!("| reads them, CRC32C, writes them to a file | {small:.2} | {large:.2} |"));
        self.line(&format!(
            "| reads a file from the page cache, sends it (1 MiB) | {:.2} | {0:.2} |",
            ceilings.sent
        ));
    }

    /// The head of the matrix.
    pub fn matrix_begin(&mut self) {
        self.line("\n## Produce and consume\n");
        self.line(
            "Ratio: the broker's processor time to the ceiling (receive, checksum, write; or read, send). Latency: 1,000 records a\n\
             second, from sending to the acknowledgement, and to a consumer that waits. Targets, uncompressed: produce with\n\
             acks=1 or replicated at most 1.5 at 128 KiB and 2 at 16 KiB, consume at most 1.2. One thing at a time differs from the\n\
             ordinary case (1 KiB records, one partition, no codec); `make bench ARGS=--full` measures every combination.\n",
        );
        self.line(
            "| batch | record | partitions | codec | mode | produce ratio | consume ratio | produce CPU-s/GB | consume CPU-s/GB \
             | produce MB/s | consume MB/s | ack ms p50 / p99 / p99.9 | to consumer ms p50 / p99 / p99.9 | RSS MiB |\n\
             | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        );
    }

    /// One line of the matrix.
    pub fn case(&mut self, case: &Case, figures: &Figures, ceilings: &Ceilings) {
        debug_assert!(SIZES.contains(&case.batch_bytes));
        let line = format!(
            "| {} KiB | {} B | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {} | {} | {} |",
            case.batch_bytes >> 10,
            case.record_bytes,
            case.partitions,
            case.codec,
            case.mode.name,
            figures.produce_cpu / ceilings.written_for(case.batch_bytes),
            figures.consume_cpu / ceilings.sent,
            figures.produce_cpu,
            figures.consume_cpu,
            figures.produce_mb_s,
            figures.consume_mb_s,
            percentiles(&figures.latency.acknowledged_us),
            percentiles(&figures.latency.consumed_us),
            figures.rss_mib,
        );
        self.line(&line);
    }

    /// One request at a time beside fdatasync.
    pub fn one_in_flight(&mut self, produced: &Histogram<u64>, synced: &Histogram<u64>) {
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e3;
        let limit = 1.3 * p99(synced) + 1.0;
        self.line("\n## One in flight: 1 KiB, acks=all, durable\n");
        self.line(&format!(
            "p99 {:.2} ms; at most 1.3 times this disk's fdatasync p99 plus 1 ms: {limit:.2} ms\n",
            p99(produced)
        ));
        self.line("| what | ms p50 / p99 / p99.9 |\n| --- | ---: |");
        self.line(&format!("| produce, acknowledged on disk | {} |", percentiles(produced)));
        self.line(&format!(
            "| the same bytes written and fdatasynced, in turn with it | {} |",
            percentiles(synced)
        ));
    }

    /// The head of the figures of the process.
    pub fn process_begin(&mut self) {
        self.line("\n## The process\n\n| what | measured | aim |\n| --- | ---: | ---: |");
    }

    /// One figure of the process.
    pub fn process(&mut self, what: &str, measured: &str, aim: &str) {
        self.line(&format!("| {what} | {measured} | {aim} |"));
    }

    /// The end of them.
    pub fn process_end(&mut self) {
        self.line("");
    }

    /// The head of the figures of groups.
    pub fn groups_begin(&mut self) {
        self.line("\n## Consumer groups\n\nSettings of the broker are the defaults. Members are connections of their own.\n");
        self.line("| what | measured |\n| --- | ---: |");
    }

    /// One figure of groups.
    pub fn group(&mut self, what: &str, measured: &str) {
        self.line(&format!("| {what} | {measured} |"));
    }

    /// The figures of compaction.
    pub fn compaction(&mut self, rows: &[(&str, String)]) {
        self.line("\n## Compaction: records of 1 KiB, 1 % distinct keys, segments of 16 MiB\n");
        self.line("| what | measured |\n| --- | ---: |");
        rows.iter().for_each(|(what, measured)| self.line(&format!("| {what} | {measured} |")));
    }

    /// The head of the client crate's figures.
    pub fn sdk_begin(&mut self) {
        self.line("\n## The client crate beside librdkafka\n");
        self.line("One partition, acks from all, idempotent; the rdkafka crate with its defaults. Medians of rounds in turn.\n");
        self.line("| what | MB/s | librdkafka's | ratio | CPU-s/GB of the client | librdkafka's | ratio |");
        self.line("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    }

    /// One line of them: the client crate's figure and librdkafka's.
    pub fn sdk(&mut self, what: &str, rates: [f64; 2], cpu: [f64; 2]) {
        self.line(&format!(
            "| {what} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            rates[0],
            rates[1],
            rates[0] / rates[1],
            cpu[0],
            cpu[1],
            cpu[0] / cpu[1]
        ));
    }

    /// Writes the page.
    pub fn finish(self, out: Option<&Path>) -> Result<()> {
        let Some(out) = out else { return Ok(()) };
        let text = self.text.trim_end().to_owned() + "\n";
        fs::write(out, text).with_context(|| format!("writing {}", out.display()))?;
        println!("written to {}", out.display());
        Ok(())
    }
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let mut text = String::new();
    for quantile in [0.5, 0.99, 0.999] {
        let separator = if text.is_empty() { "" } else { " / " };
        let ms = histogram.value_at_quantile(quantile) as f64 / 1e3;
        write!(text, "{separator}{ms:.2}").expect("memory");
    }
    text
}

fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kib: u64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let data = ottla_integration_tests::work_directory();
    let disk = output("df", &["--output=fstype,source", &data.to_string_lossy()]);
    vec![
        format!("processor: {}, {cores} cores", field(&read("/proc/cpuinfo"), "model name")),
        format!("memory: {} GiB", kib.div_ceil(1 << 20)),
        format!("kernel: {}", read("/proc/sys/kernel/osrelease").trim()),
        format!(
            "data on: {}",
            disk.lines().last().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" on ")
        ),
        format!("compiler: {}", output("rustc", &["--version"])),
        format!("date: {}", output("date", &["-u", "+%Y-%m-%d"])),
    ]
}
