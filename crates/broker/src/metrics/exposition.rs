//! The text of `/metrics` (OpenMetrics), put together from the atomics when it is asked for.

use std::borrow::Cow;
use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ottla_process::metrics::{counter, gauge, histogram, signed};
use ottla_protocol::generated::{ApiKey, ErrorCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{ApiMetrics, CleanerMetrics, LogSize, Metrics, look};

/// All metrics as text. May block as long as the source of log sizes does.
pub fn text(metrics: &Arc<Metrics>) -> String {
    ottla_process::metrics::exposition(Box::new(BrokerCollector(metrics.clone())))
}

/// The name of an API in the label `api`.
fn api_name(key: i16) -> Cow<'static, str> {
    ApiKey::from_i16(key).map_or_else(|| Cow::Owned(key.to_string()), |key| Cow::Borrowed(key.name()))
}

/// The name of an error in the label `error`.
fn error_name(code: i16) -> Cow<'static, str> {
    ErrorCode::from_code(code).map_or_else(|| Cow::Owned(code.to_string()), |code| Cow::Borrowed(code.name()))
}

#[derive(Debug)]
struct BrokerCollector(Arc<Metrics>);

impl Collector for BrokerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let e = &mut encoder;
        info(e)?;
        requests(e, &self.0)?;
        network(e, &self.0)?;
        logs(e, &self.0)?;
        cleaner(e, &self.0.cleaner)?;
        log_sizes(e, &self.0)?;
        groups(e, &self.0)?;
        super::cluster::encode(e, &self.0)
    }
}

fn info(e: &mut DescriptorEncoder) -> Result<(), Error> {
    let mut family = e.encode_descriptor("build", "The version that runs", None, MetricType::Info)?;
    family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}

/// The APIs that have seen a request or an error.
fn seen(metrics: &Metrics) -> impl Iterator<Item = (Cow<'static, str>, &ApiMetrics)> {
    metrics
        .apis_in_order()
        .filter(|(_, api)| api.latency.count() > 0 || api.errors().next().is_some())
        .map(|(key, api)| (key.map_or(Cow::Borrowed("other"), api_name), api))
}

fn requests(e: &mut DescriptorEncoder, metrics: &Metrics) -> Result<(), Error> {
    let mut family = e.encode_descriptor("requests", "Requests answered", None, MetricType::Counter)?;
    for (name, api) in seen(metrics) {
        let labels = [("api", name.as_ref())];
        let mut sample = family.encode_family(&labels)?;
        sample.encode_counter::<NoLabelSet, _, f64>(&api.latency.count(), None)?;
    }
    let help = "Error codes in replies, one for each topic or partition that has one";
    let mut family = e.encode_descriptor("request_errors", help, None, MetricType::Counter)?;
    for (name, api) in seen(metrics) {
        for (code, count) in api.errors() {
            let labels = [("api", name.as_ref()), ("error", &error_name(code))];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
    }
    let help = "From the arrival of a request's last byte to its finished reply, waiting included";
    let unit = Unit::Seconds;
    let mut family = e.encode_descriptor("request_duration", help, Some(&unit), MetricType::Histogram)?;
    for (name, api) in seen(metrics) {
        let labels = [("api", name.as_ref())];
        let mut sample = family.encode_family(&labels)?;
        let latency = &api.latency;
        let buckets = latency.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        sample.encode_histogram::<NoLabelSet>(latency.sum_seconds(), count, &buckets, None)?;
    }
    Ok(())
}

fn network(e: &mut DescriptorEncoder, metrics: &Metrics) -> Result<(), Error> {
    let now = look(&metrics.network);
    counter(e, "network_received_bytes", "Bytes read from clients", now.received_bytes)?;
    counter(e, "network_sent_bytes", "Bytes written to clients", now.sent_bytes)?;
    gauge(e, "connections", "Connections open", now.connections)?;
    counter(e, "connections_accepted", "Connections accepted", now.connections_accepted)?;
    counter(e, "connections_refused", "Connections closed because of a limit", now.connections_refused)?;
    counter(e, "accept_errors", "Accepts that failed", now.accept_errors)?;
    gauge(e, "request_memory_bytes", "Bytes of requests that are not answered yet", now.request_memory_bytes)
}

fn logs(e: &mut DescriptorEncoder, m: &Metrics) -> Result<(), Error> {
    counter(e, "appended_bytes", "Bytes appended to logs", m.appended_bytes.get())?;
    counter(e, "appended_batches", "Record batches appended to logs", m.appended_batches.get())?;
    counter(e, "appended_records", "Records appended to logs", m.appended_records.get())?;
    counter(e, "fetched_bytes", "Bytes of records handed to consumers", m.fetched_bytes.get())?;
    histogram(e, "append_duration", "One append to a log's page cache", &m.append)?;
    histogram(e, "fdatasync_duration", "One fdatasync of a log", &m.fdatasync)
}

fn cleaner(e: &mut DescriptorEncoder, m: &CleanerMetrics) -> Result<(), Error> {
    counter(e, "cleaner_runs", "Compactions of a log", m.runs.get())?;
    counter(e, "cleaner_cleaned_bytes", "Bytes of segments that compaction replaced", m.cleaned_bytes.get())?;
    counter(e, "cleaner_kept_bytes", "Bytes of the segments in their place", m.kept_bytes.get())?;
    let last_run_seconds = m.last_run_ms.load(Relaxed) / 1000;
    gauge(e, "cleaner_last_run_seconds", "When the last compaction ended, since 1970", last_run_seconds)?;
    let help = "Logs that are not compacted because that failed";
    gauge(e, "cleaner_uncleanable_logs", help, m.uncleanable.load(Relaxed))
}

fn groups(e: &mut DescriptorEncoder, metrics: &Metrics) -> Result<(), Error> {
    let now = look(&metrics.groups);
    let help = "Groups that this broker coordinates, by state";
    let mut family = e.encode_descriptor("groups", help, None, MetricType::Gauge)?;
    for (state, count) in &now.groups {
        family.encode_family(&[("state", state.as_str())])?.encode_gauge(&signed(*count))?;
    }
    gauge(e, "group_members", "Members of groups that this broker coordinates", now.members)?;
    gauge(e, "group_offsets", "Committed offsets, one for each group and partition", now.offsets)?;
    counter(
        e,
        "group_rebalances",
        "Rebalances of groups that came to their end",
        metrics.group_rebalances.get(),
    )?;
    gauge(
        e,
        "group_shards_loading",
        "Partitions of the groups' topic that are being loaded",
        now.shards_loading,
    )?;
    gauge(
        e,
        "group_shards_failed",
        "Partitions of the groups' topic that could not be loaded",
        now.shards_failed,
    )?;
    histogram(e, "group_load_duration", "Loading one partition of the groups' topic", &metrics.group_load)
}

fn log_sizes(e: &mut DescriptorEncoder, metrics: &Metrics) -> Result<(), Error> {
    let now = look(&metrics.logs);
    let partitions = now.topics.iter().map(|topic| topic.partitions).sum();
    gauge(e, "partitions", "Partitions on this broker", partitions)?;
    let help = "Partitions that a failed write or sync took offline";
    gauge(e, "partitions_offline", help, now.partitions_offline)?;
    gauge(e, "log_dirs_offline", "Log directories that are fenced", now.log_dirs_offline)?;
    let by_topic = |e: &mut DescriptorEncoder, name, help, value: fn(&LogSize) -> u64| {
        let mut family = e.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for topic in &now.topics {
            family.encode_family(&[("topic", topic.topic.as_str())])?.encode_gauge(&signed(value(topic)))?;
        }
        Ok(())
    };
    by_topic(e, "log_size_bytes", "Bytes of a topic's open logs on this broker", |topic| topic.size_bytes)?;
    by_topic(e, "topic_partitions", "A topic's partitions on this broker", |topic| topic.partitions)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{ClusterView, LogsView, NetworkView};

    fn lines_of(text: &str, start: &str) -> Vec<String> {
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn requests_and_errors_have_their_labels() {
        let metrics = Arc::new(Metrics::new());
        metrics.api(3).observe(Duration::from_micros(70));
        metrics.api(3).observe(Duration::from_millis(3));
        metrics.api(3).error(0);
        metrics.api(3).error(3);
        metrics.api(3).error(3);
        metrics.api(3).error(-1);
        metrics.api(1000).observe(Duration::from_micros(1));
        let text = text(&metrics);
        assert_eq!(
            lines_of(&text, "ottla_requests_total"),
            [
                format!("ottla_requests_total{{api=\"{}\"}} 2", api_name(3)),
                "ottla_requests_total{api=\"other\"} 1".to_owned()
            ]
        );
        let api = api_name(3);
        assert_eq!(
            lines_of(&text, "ottla_request_errors_total"),
            [
                format!("ottla_request_errors_total{{api=\"{api}\",error=\"{}\"}} 1", error_name(-1)),
                format!("ottla_request_errors_total{{api=\"{api}\",error=\"{}\"}} 2", error_name(3)),
            ]
        );
        let buckets =
            lines_of(&text, &format!("ottla_request_duration_seconds_bucket{{le=\"0.0001\",api=\"{api}\""));
        assert_eq!(buckets.len(), 1, "{text}");
        assert!(buckets[0].ends_with(" 1"), "{buckets:?}");
        let all =
            lines_of(&text, &format!("ottla_request_duration_seconds_bucket{{le=\"+Inf\",api=\"{api}\""));
        assert!(all[0].ends_with(" 2"), "{all:?}");
    }

    #[test]
    fn every_family_is_there_with_its_value() {
        let metrics = Arc::new(Metrics::new());
        metrics.set_network(|| NetworkView {
            received_bytes: 11,
            connections: 1,
            request_memory_bytes: 77,
            ..NetworkView::default()
        });
        metrics.appended(500, 3, Duration::from_micros(10));
        metrics.fdatasync.observe(Duration::from_secs(60));
        metrics.set_logs(|| LogsView {
            topics: vec![LogSize { topic: "a\"b".into(), partitions: 3, size_bytes: 99 }],
            partitions_offline: 2,
            log_dirs_offline: 1,
        });
        metrics.set_cluster(|| ClusterView { under_min_isr: 4, ..ClusterView::default() });
        metrics.replication.isr_shrinks.add(1);
        let text = text(&metrics);
        for line in [
            "ottla_network_received_bytes_total 11",
            "ottla_connections 1",
            "ottla_request_memory_bytes 77",
            "ottla_appended_bytes_total 500",
            "ottla_appended_batches_total 1",
            "ottla_appended_records_total 3",
            "ottla_partitions 3",
            "ottla_partitions_offline 2",
            "ottla_log_dirs_offline 1",
            "ottla_append_duration_seconds_bucket{le=\"0.000025\"} 1",
            "ottla_fdatasync_duration_seconds_bucket{le=\"30.0\"} 0",
            "ottla_fdatasync_duration_seconds_bucket{le=\"+Inf\"} 1",
            "ottla_log_size_bytes{topic=\"a\\\"b\"} 99",
            "ottla_topic_partitions{topic=\"a\\\"b\"} 3",
            "ottla_partitions_under_min_isr 4",
            "ottla_isr_shrinks_total 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert_eq!(text.matches("# EOF").count(), 1);
        assert_eq!(lines_of(&text, "process_resident_memory_bytes").len(), 1, "{text}");
    }
}
