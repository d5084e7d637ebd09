//! What a coordinator tells at `/metrics`.

use std::fmt::Error;
use std::sync::{Arc, OnceLock};

use ottla_process::metrics::{self, gauge};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::CoordinatorHandle;

/// Who is asked at a scrape, once it is there.
#[derive(Debug, Default)]
pub struct Source(OnceLock<CoordinatorHandle>);

impl Source {
    /// The coordinator has started.
    pub fn set(&self, handle: CoordinatorHandle) {
        assert!(self.0.set(handle).is_ok(), "a process has one coordinator");
    }
}

/// All metrics as text.
pub fn text(source: &Arc<Source>) -> String {
    metrics::exposition(Box::new(CoordinatorCollector(source.clone())))
}

#[derive(Debug)]
struct CoordinatorCollector(Arc<Source>);

impl Collector for CoordinatorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let e = &mut encoder;
        let mut family = e.encode_descriptor("build", "The version that runs", None, MetricType::Info)?;
        family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let Some(handle) = self.0.0.get() else { return Ok(()) };
        let image = handle.image();
        let index = u64::try_from(image.index() + 1).unwrap_or(0);
        gauge(
            e,
            "metadata_entries",
            "Committed entries of the metadata log, those in the snapshot included",
            index,
        )?;
        let brokers = image.brokers().count() as u64;
        let fenced = image.brokers().filter(|broker| broker.fenced).count() as u64;
        gauge(e, "brokers", "Brokers that are registered", brokers)?;
        gauge(
            e,
            "brokers_fenced",
            "Registered brokers that lead nothing, because they are not heard of or start",
            fenced,
        )?;
        gauge(e, "topics", "Topics of the cluster", image.topics().count() as u64)
    }
}
