//! How long it takes to open many cleanly closed logs: `open_logs DIRECTORY [LOGS] [SEGMENTS]`. Makes them there first.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::real::RealFiles;
use ottla_storage::log::{Log, LogConfig, OpenFrom};

const NOW_MS: i64 = 1_700_000_000_000;
const BATCHES_PER_SEGMENT: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which directory?")?;
    let logs: usize = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let segments: usize = arguments.next().map_or(Ok(1), |count| count.parse())?;
    let path = |index: usize| Path::new(&dir).join(format!("orders-{index}"));
    let descriptors = Descriptors::new(RealFiles::shared(), 4096);
    for index in 0..logs {
        fill(&descriptors, &path(index), segments)?;
    }
    drop(descriptors);
    let descriptors = Descriptors::new(RealFiles::shared(), 4096);
    let started = Instant::now();
    let mut opened = Vec::with_capacity(logs);
    for index in 0..logs {
        let from = OpenFrom { clean: true, ..OpenFrom::default() };
        let (log, report) = Log::open(&descriptors, path(index), LogConfig::default(), from, NOW_MS)?;
        if log.end_offset() != Offset((segments * BATCHES_PER_SEGMENT) as i64) || report.scanned_bytes > 0 {
            return Err(format!("{} is not what was closed: {report:?}", log.dir().display()).into());
        }
        opened.push(log);
    }
    println!("{logs} logs of {segments} segments opened in {:?}", started.elapsed());
    Ok(())
}

fn fill(descriptors: &Arc<Descriptors>, dir: &Path, segments: usize) -> Result<(), Box<dyn Error>> {
    let config = LogConfig { index_interval_bytes: 1000, ..LogConfig::default() };
    let (mut log, _) = Log::open(descriptors, dir.to_owned(), config, OpenFrom::default(), NOW_MS)?;
    for segment in 0..segments {
        for _ in 0..BATCHES_PER_SEGMENT {
            let offset = log.end_offset();
            let builder = Builder::new(Compression::None).base_offset(offset).leader_epoch(LeaderEpoch(0));
            let mut builder = builder.producer(ProducerId(7), 0, i32::try_from(offset.0)?);
            builder.append(NOW_MS + offset.0, None, Some(&[7; 300]), &[])?;
            let bytes = builder.finish()?;
            log.append(&BatchHeader::parse(&bytes)?, &bytes[HEADER_BYTES..], NOW_MS)?;
        }
        if segment + 1 < segments {
            log.roll(NOW_MS)?;
        }
    }
    log.close(NOW_MS)?;
    Ok(())
}
