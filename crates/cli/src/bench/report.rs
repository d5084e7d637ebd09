//! What a benchmark shows: a live line while it runs, figures and distribution at its end.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::output::{Column, Out};

/// Latencies are kept up to an hour, in microseconds, to three digits.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// How often the live line changes.
const SHOW_EVERY: Duration = Duration::from_millis(200);
const MIB: f64 = (1 << 20) as f64;

/// What is counted while it runs.
pub struct Meter {
    began: Instant,
    shown: Instant,
    bar: ProgressBar,
    /// Latencies in microseconds.
    histogram: Histogram<u64>,
    records: u64,
    bytes: u64,
}

/// The figures of a run.
#[derive(Serialize)]
struct Figures<'a> {
    what: &'a str,
    topic: &'a str,
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    mib_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Latency>,
}

/// A distribution in microseconds.
#[derive(Serialize)]
struct Latency {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    p9999: u64,
    max: u64,
}

impl Meter {
    /// A meter that begins now. `total` is how many records there will be, where that is known.
    pub fn new(total: Option<u64>) -> Meter {
        let template = match total {
            Some(_) => "{bar:20} {pos}/{len} {msg}",
            None => "{spinner} {pos} {msg}",
        };
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let style = ProgressStyle::with_template(template).expect("a template of ours");
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds of ours");
        let now = Instant::now();
        Meter { began: now, shown: now, bar: bar.with_style(style), histogram, records: 0, bytes: 0 }
    }

    /// Counts a record.
    pub fn count(&mut self, bytes: usize, latency: Option<Duration>) {
        self.records += 1;
        self.bytes += bytes as u64;
        if let Some(latency) = latency {
            self.histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
        }
        // The clock is looked at now and then only: it would be a part of what is measured.
        if self.records.is_multiple_of(256) || self.histogram.len() < 256 {
            self.show();
        }
    }

    /// How many records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn show(&mut self) {
        let now = Instant::now();
        if now - self.shown < SHOW_EVERY {
            return;
        }
        self.shown = now;
        self.bar.set_position(self.records);
        let seconds = (now - self.began).as_secs_f64();
        let rate = format!(
            "{:.0} records/s, {:.1} MiB/s",
            self.records as f64 / seconds,
            self.bytes as f64 / MIB / seconds
        );
        let message = match self.histogram.is_empty() {
            true => rate,
            false => format!("{rate}, p50 {} us, p99 {} us", self.at(0.5), self.at(0.99)),
        };
        self.bar.set_message(message);
    }

    fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// Time that passed at the end in which nothing was to be done.
    pub fn leave_out(&mut self, idle: Duration) {
        self.began += idle;
    }

    /// Shows the figures.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn finish(self, what: &str, topic: &str, out: &mut Out) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        let latency = (!self.histogram.is_empty()).then(|| Latency {
            min: self.histogram.min(),
            mean: self.histogram.mean(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: self.histogram.max(),
        });
        let figures = Figures {
            what,
            topic,
            records: self.records,
            bytes: self.bytes,
            seconds,
            records_per_second: self.records as f64 / seconds,
            mib_per_second: self.bytes as f64 / MIB / seconds,
            latency_us: latency,
        };
        let text = format!(
            "{} records, {:.1} MiB in {seconds:.2} s: {:.0} records/s, {:.1} MiB/s",
            figures.records,
            figures.bytes as f64 / MIB,
            figures.records_per_second,
            figures.mib_per_second
        );
        out.done(&figures, &text)?;
        if figures.latency_us.is_some() && !out.is_json() {
            self.show_distribution(out)?;
        }
        Ok(())
    }

    fn show_distribution(&self, out: &mut Out) -> Result<()> {
        let quantiles = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];
        let rows: Vec<_> = quantiles
            .iter()
            .map(|quantile| {
                let value = self.at(*quantile);
                let slower = self.records - self.histogram.count_between(0, value).min(self.records);
                json!({"percentile": format!("{:.2}", quantile * 100.0), "latency_us": value, "slower": slower})
            })
            .collect();
        let columns = [
            Column::new("percentile", "PERCENTILE"),
            Column::new("latency_us", "LATENCY (US)"),
            Column::new("slower", "RECORDS SLOWER"),
        ];
        Ok(out.rows(&columns, &rows, "")?)
    }
}
