//! How fast a log is compacted, and how small it gets, while it is appended to:
//! `cargo run --release -p ottla-storage --example compact_log -- <directory> [MiB] [codec]`. 1 % of the keys are distinct.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::compaction::{Cleaning, CleaningOptions, KeyHash};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::real::RealFiles;
use ottla_storage::log::{Log, LogConfig, OpenFrom};

const VALUE_BYTES: usize = 1000;
const RECORDS_PER_BATCH: u64 = 16;
const NOW_MS: i64 = 1_700_000_000_000;
const MIB: u64 = 1 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Producer {
    codec: Compression,
    keys: u64,
    random: u64,
}

impl Producer {
    /// Appends one batch of random keys; every hundredth record is a tombstone.
    fn append(&mut self, log: &Mutex<Log>) -> Result<u64, Failure> {
        let mut builder = Builder::new(self.codec);
        let mut value = vec![0; VALUE_BYTES];
        for _ in 0..RECORDS_PER_BATCH {
            self.random =
                self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("key-{:012}", (self.random >> 33) % self.keys);
            for (at, byte) in value.iter_mut().enumerate() {
                *byte = b'a' + ((self.random >> (at % 57)) as usize + at) as u8 % 20;
            }
            let is_tombstone = (self.random >> 40).is_multiple_of(100);
            builder.append(NOW_MS, Some(key.as_bytes()), (!is_tombstone).then_some(&value), &[])?;
        }
        let bytes = builder.finish()?;
        let mut log = log.lock().map_err(|_| "poisoned")?;
        let header = BatchHeader {
            base_offset: log.end_offset(),
            partition_leader_epoch: LeaderEpoch(0),
            ..BatchHeader::parse(&bytes)?
        };
        log.append(&header, &bytes[HEADER_BYTES..], NOW_MS)?;
        Ok(bytes.len() as u64)
    }
}

/// Seconds that this thread was on a CPU.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no number")?.parse::<f64>()? / 1e9)
}

fn clean(log: &Mutex<Log>, now_ms: i64) -> Result<(), Failure> {
    let options = CleaningOptions {
        dedupe_buffer_bytes: 128 * MIB,
        load_factor: 0.9,
        io_buffer_bytes: 512 << 10,
        hash: KeyHash::random(),
        now_ms,
    };
    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    let plan = {
        let mut log = log.lock().map_err(|_| "poisoned")?;
        log.sync()?;
        log.plan_cleaning(log.durable_offset(), now_ms)?
    };
    let Some(plan) = plan else {
        println!("nothing to clean");
        return Ok(());
    };
    let mut cleaning = Cleaning::prepare(plan, &options, &mut |_| true)?;
    for index in 0..cleaning.group_count() {
        let copied = cleaning.copy(index, &mut |_| true)?;
        cleaning.swap(&mut *log.lock().map_err(|_| "poisoned")?, index, copied)?;
        cleaning.sync_names()?;
    }
    cleaning.finish(&mut *log.lock().map_err(|_| "poisoned")?);
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let stats = cleaning.stats();
    let gigabytes = stats.replaced_bytes as f64 / 1e9;
    println!(
        "{:.1} MiB became {:.1} MiB ({:.1} % less) in {took:.2} s: {:.0} MB/s of log, {:.2} CPU-s/GB",
        stats.replaced_bytes as f64 / MIB as f64,
        stats.kept_bytes as f64 / MIB as f64,
        100.0 - 100.0 * stats.kept_bytes as f64 / stats.replaced_bytes as f64,
        gigabytes * 1e3 / took,
        cpu / gigabytes,
    );
    Ok(())
}

/// Records without a value in the log.
fn tombstones(log: &Log) -> Result<usize, Failure> {
    let (mut from, mut count) = (log.start_offset(), 0);
    while from < log.end_offset() {
        let slice = log.read(from, log.end_offset(), MIB as usize, true)?;
        let mut bytes = vec![0; slice.len_bytes()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += slice.read_at(&mut bytes[filled..], filled)?;
        }
        for batch in ottla_protocol::records::Batches::new(&bytes) {
            let batch = batch?;
            let mut records = batch.records(Default::default())?;
            while let Some(record) = records.next_record()? {
                count += usize::from(record.value.is_none());
            }
            from = batch.header().next_offset();
        }
    }
    Ok(count)
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("give a directory")?);
    let mib: u64 = arguments.next().map_or(Ok(1024), |mib| mib.parse())?;
    let codec = match arguments.next().as_deref() {
        None | Some("none") => Compression::None,
        Some("lz4") => Compression::Lz4,
        Some("zstd") => Compression::Zstd(3),
        Some(other) => return Err(format!("codec {other}?").into()),
    };
    let config = LogConfig {
        segment_bytes: 128 * MIB,
        compact_enabled: true,
        delete_enabled: false,
        delete_retention_ms: 1000,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    let descriptors = Descriptors::new(RealFiles::shared(), 64);
    let (log, _) = Log::open(&descriptors, dir.join("t-0"), config, OpenFrom::default(), NOW_MS)?;
    assert_eq!(log.end_offset(), Offset(0), "the directory is empty");
    let log = Mutex::new(log);
    let records = mib * MIB / (VALUE_BYTES as u64 + 30);
    let mut producer = Producer { codec, keys: records / 100, random: 42 };
    for batch in 0..records / RECORDS_PER_BATCH {
        producer.append(&log)?;
        if batch % 512 == 0 {
            log.lock().map_err(|_| "poisoned")?.sync()?;
        }
    }
    let before = log.lock().map_err(|_| "poisoned")?.size_bytes();
    println!("{records} records of {} keys, {} MiB", producer.keys, before / MIB);
    let (stop, appended) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<(), Failure> {
        let producing = scope.spawn(|| -> Result<(), Failure> {
            while !stop.load(Ordering::Relaxed) {
                appended.fetch_add(producer.append(&log)?, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
            Ok(())
        });
        let cleaned = clean(&log, NOW_MS);
        stop.store(true, Ordering::Relaxed);
        producing.join().map_err(|_| "the producer panicked")??;
        cleaned
    })?;
    let mut log = log.into_inner().map_err(|_| "poisoned")?;
    log.remove_deleted(NOW_MS)?;
    println!("{} MiB were appended meanwhile", appended.into_inner() / MIB);
    println!("the log has {} MiB and {} tombstones", log.size_bytes() / MIB, tombstones(&log)?);
    log.roll(NOW_MS)?;
    let log = Mutex::new(log);
    clean(&log, NOW_MS + 2000)?;
    let log = log.into_inner().map_err(|_| "poisoned")?;
    println!("after the next one, later: {} MiB, {} tombstones", log.size_bytes() / MIB, tombstones(&log)?);
    Ok(())
}
