//! What the system says about this process, under the names that every Prometheus dashboard knows.

use std::fmt::Error;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::gauge;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let e = &mut encoder;
        if let Some(bytes) = resident_memory_bytes() {
            gauge(e, "process_resident_memory_bytes", "Resident memory of the process", bytes)?;
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            let open = descriptors.count() as u64;
            gauge(e, "process_open_fds", "Open file descriptors", open)?;
        }
        Ok(())
    }
}

/// The line VmRSS of `/proc/self/status`; none where there is no `/proc`.
fn resident_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
