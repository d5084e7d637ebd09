//! How a process counts, and how that becomes the text of `/metrics` (OpenMetrics). What is counted is the process's own matter.

pub mod instruments;
mod process;

use std::fmt::Error;

pub use instruments::{Counter, LatencyHistogram};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// Content type of what [`exposition`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as text: those of `collector` with the prefix `ottla_`, and what the system says about the process.
#[must_use]
pub fn exposition(collector: Box<dyn Collector>) -> String {
    let mut registry = Registry::with_prefix("ottla");
    registry.register_collector(collector);
    let mut plain = Registry::default();
    plain.register_collector(Box::new(process::ProcessCollector));
    let mut text = String::with_capacity(16 * 1024);
    encode_registry(&mut text, &registry)
        .and_then(|()| encode_registry(&mut text, &plain))
        .and_then(|()| encode_eof(&mut text))
        .expect("writing to a String does not fail");
    text
}

/// One counter without labels.
///
/// # Errors
/// Those of the encoder.
pub fn counter(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result<(), Error> {
    let mut sample = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    sample.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

/// One gauge without labels.
///
/// # Errors
/// Those of the encoder.
pub fn gauge(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result<(), Error> {
    e.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&signed(value))
}

/// One histogram of seconds without labels.
///
/// # Errors
/// Those of the encoder.
pub fn histogram(
    e: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &LatencyHistogram,
) -> Result<(), Error> {
    let unit = Unit::Seconds;
    let mut sample = e.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    let buckets = values.buckets();
    let count = buckets.iter().map(|(_, count)| count).sum();
    sample.encode_histogram::<NoLabelSet>(values.sum_seconds(), count, &buckets, None)
}

/// What OpenMetrics' gauges hold.
#[must_use]
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
