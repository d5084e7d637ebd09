//! A seeded run of a log with everything an owner does to it, and what a reader may expect at each of its moments.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::io;
use std::path::{Path, PathBuf};

use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::checkpoint::OffsetCheckpoint;
use ottla_storage::descriptors::Descriptors;
use ottla_storage::epochs::LeaderEpochs;
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation};
use ottla_storage::files::{Files, Open};
use ottla_storage::log::{Log, LogConfig, LogError, OpenFrom};
use ottla_storage::names::TopicPartition;
use ottla_storage::producers::ProducerStates;

pub const DATA: &str = "/data";
const RECOVERY_POINTS: &str = "/data/recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "/data/log-start-offset-checkpoint";
const CLEANED_TO: &str = "/data/cleaner-offset-checkpoint";
const CLEAN: &str = "/data/.kafka_cleanshutdown";

pub fn dir() -> PathBuf {
    Path::new(DATA).join("t-0")
}

pub fn now_ms() -> i64 {
    1_700_000_000_000
}

/// What an owner knows about the log from the files beside it.
pub fn from_checkpoints(files: &dyn Files) -> OpenFrom {
    let partition = TopicPartition::new("t", 0);
    let get = |path: &str| {
        let checkpoint = OffsetCheckpoint::read(files, Path::new(path)).unwrap();
        checkpoint.get(&partition).unwrap_or_default()
    };
    OpenFrom {
        log_start_offset: get(LOG_STARTS),
        recovery_point: get(RECOVERY_POINTS),
        cleaned_to: get(CLEANED_TO),
        clean: files.exists(Path::new(CLEAN)).unwrap(),
    }
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    pub payload: Vec<u8>,
}

impl Batch {
    pub fn bytes(&self) -> Vec<u8> {
        [&self.header.encode()[..], &self.payload].concat()
    }
}

/// `records` records with together about `size` bytes of values; `producer` is id and sequence.
pub fn batch(base: Offset, epoch: i32, records: u32, size: usize, producer: Option<(i64, i32)>) -> Batch {
    let mut builder = Builder::new(Compression::None).base_offset(base).leader_epoch(LeaderEpoch(epoch));
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId(id), 0, sequence);
    }
    for i in 0..records {
        // Bytes that differ from place to place, none of them a batch.
        let value: Vec<u8> = (0..size / records as usize)
            .map(|at| (base.0 as usize * 31 + at * 7 + i as usize) as u8)
            .collect();
        builder.append(now_ms() + base.0 + i64::from(i), None, Some(&value), &[]).unwrap();
    }
    let bytes = builder.finish().unwrap();
    Batch { header: BatchHeader::parse(&bytes).unwrap(), payload: bytes[HEADER_BYTES..].to_vec() }
}

/// Everything from start to end, read in small pieces.
pub fn read_log(log: &Log) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let slice = log.read(from, log.end_offset(), 700, true).unwrap();
        let mut bytes = vec![0; slice.len_bytes()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += slice.read_at(&mut bytes[filled..], filled).unwrap();
        }
        let mut used = 0;
        while let Ok(header) = BatchHeader::parse(&bytes[used..]) {
            if used + header.size_bytes() > bytes.len() {
                break;
            }
            used += header.size_bytes();
            assert!(used == header.size_bytes() || header.base_offset == from, "offsets are contiguous");
            from = header.next_offset();
        }
        assert!(used > 0, "nothing at {from}");
        whole.extend_from_slice(&bytes[..used]);
    }
    whole
}

/// What the log is between two steps.
#[derive(Clone, Debug)]
pub struct State {
    pub start: Offset,
    pub end: Offset,
    /// Acknowledged as on disk.
    pub durable: Offset,
    /// Acknowledged as the start by DeleteRecords.
    pub promised_start: Offset,
    /// All batches since offset 0 or the last emptying, those deleted at the start too.
    pub batches: Vec<Batch>,
}

/// Epochs and producers of a state's batches below `end`.
pub fn replayed(state: &State, start: Offset, end: Offset) -> (LeaderEpochs, ProducerStates) {
    let (mut epochs, mut producers) = (LeaderEpochs::default(), ProducerStates::default());
    for batch in state.batches.iter().filter(|batch| batch.header.base_offset < end) {
        epochs.assign(batch.header.partition_leader_epoch, batch.header.base_offset);
        producers.replay(&batch.header, now_ms());
    }
    epochs.truncate_from_start(start);
    epochs.truncate_from_end(end);
    (epochs, producers)
}

/// A step: the operations from `from` on belong to it.
#[derive(Debug)]
struct Moment {
    from: usize,
    what: String,
    before: State,
    after: State,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    pub files: FaultyFiles,
    pub config: LogConfig,
    /// Earlier ones made the data directory.
    pub first_operation: usize,
    moments: Vec<Moment>,
}

impl Run {
    /// Equal seeds, equal runs.
    pub fn new(seed: u64, steps: usize) -> Self {
        Self::with_pace(seed, steps, Pace { segment_bytes: 4_000, syncs: 7 })
    }

    /// Like [`Run::new`], with small segments and rare syncs: several segments wait for one.
    pub fn with_unsynced_rolls(seed: u64, steps: usize) -> Self {
        Self::with_pace(seed, steps, Pace { segment_bytes: 1_500, syncs: 2 })
    }

    fn with_pace(seed: u64, steps: usize, pace: Pace) -> Self {
        let files = FaultyFiles::new();
        files.create_dir_all(Path::new(DATA)).unwrap();
        files.sync_dir(Path::new("/")).unwrap();
        let first_operation = files.operation_count();
        let config = LogConfig {
            segment_bytes: pace.segment_bytes,
            index_interval_bytes: 600,
            retention_bytes: 9_000,
            retention_ms: -1,
            ..LogConfig::default()
        };
        let log = reopen(&files, &config);
        let zero = Offset(0);
        let state =
            State { start: zero, end: zero, durable: zero, promised_start: zero, batches: Vec::new() };
        let mut driver = Driver {
            random: Random(seed.wrapping_mul(0x1234_5678_9abc_def1) + 1),
            files: files.clone(),
            config: config.clone(),
            log,
            state,
            syncs: pace.syncs,
            epoch: 0,
            sequences: [0; 3],
        };
        let mut moments = Vec::new();
        for _ in 0..steps {
            let (from, before) = (files.operation_count(), driver.state.clone());
            let what = driver.step();
            driver.state.start = driver.log.start_offset();
            driver.state.end = driver.log.end_offset();
            moments.push(Moment { from, what, before, after: driver.state.clone() });
        }
        Self { files, config, first_operation, moments }
    }

    fn moment_at(&self, at: usize) -> &Moment {
        let index = self.moments.partition_point(|moment| moment.from <= at);
        // The last step that had begun; steps without operations share their beginning with the next one.
        &self.moments[index.saturating_sub(1)]
    }

    /// The states before and after the step that the operation `at` belongs to.
    pub fn states_at(&self, at: usize) -> (&State, &State) {
        let moment = self.moment_at(at);
        (&moment.before, &moment.after)
    }

    pub fn describe(&self, at: usize) -> String {
        let moment = self.moment_at(at);
        format!("in step {:?} that began with operation {}", moment.what, moment.from)
    }
}

struct Pace {
    segment_bytes: u64,
    syncs: u64,
}

fn reopen(files: &FaultyFiles, config: &LogConfig) -> Log {
    let from = from_checkpoints(files);
    if from.clean {
        files.remove_file(Path::new(CLEAN)).unwrap();
        files.sync_dir(Path::new(DATA)).unwrap();
    }
    let descriptors = Descriptors::new(files.shared(), 3);
    Log::open(&descriptors, dir(), config.clone(), from, now_ms()).unwrap().0
}

struct Driver {
    random: Random,
    files: FaultyFiles,
    config: LogConfig,
    log: Log,
    state: State,
    /// Of 27 appends and syncs.
    syncs: u64,
    epoch: i32,
    /// Next sequence of each producer.
    sequences: [i32; 3],
}

impl Driver {
    fn step(&mut self) -> String {
        match self.random.below(40) {
            choice @ 0..27 if choice + self.syncs < 27 => self.append(),
            0..27 => self.sync(),
            27..30 => self.write_recovery_point(self.log.durable_offset()),
            30..32 => self.truncate(),
            32..34 => self.retain(),
            34..36 => self.delete_records(),
            36 => self.roll(),
            37 => self.append_without_room(),
            38 => self.close(),
            _ => self.new_epoch(),
        }
    }

    fn next_batch(&mut self) -> (Batch, Option<usize>) {
        let producer = self.random.below(5) as usize;
        let records = 1 + self.random.below(4) as u32;
        let size_bits = 6 + self.random.below(5);
        let size = 20 + self.random.below(1 << size_bits) as usize;
        let id = self.sequences.get(producer).map(|&sequence| (1000 + producer as i64, sequence));
        (batch(self.log.end_offset(), self.epoch, records, size, id), id.map(|_| producer))
    }

    fn append(&mut self) -> String {
        let (batch, producer) = self.next_batch();
        self.log.append(&batch.header, &batch.payload, now_ms()).unwrap();
        if let Some(producer) = producer {
            self.sequences[producer] += batch.header.records_count;
        }
        self.state.batches.push(batch);
        "append".into()
    }

    fn append_without_room(&mut self) -> String {
        self.files.fail(Fault {
            operation: Operation::Write,
            path_suffix: ".log".into(),
            after: 0,
            error: io::ErrorKind::StorageFull,
            written_bytes: 70,
        });
        let (batch, _) = self.next_batch();
        let refused = self.log.append(&batch.header, &batch.payload, now_ms());
        assert!(matches!(refused, Err(LogError::NoSpace)), "{refused:?}");
        self.files.heal();
        "append without room".into()
    }

    /// Also with an append, a roll or a truncation while the sync is under way.
    fn sync(&mut self) -> String {
        let ticket = self.log.sync_begin();
        let meanwhile = match self.random.below(4) {
            0 => self.append(),
            1 => self.roll(),
            _ => "nothing".into(),
        };
        ticket.sync().unwrap();
        if self.random.below(3) == 0 {
            self.append();
        }
        self.state.durable = self.log.sync_end(ticket).unwrap();
        format!("sync, meanwhile {meanwhile}")
    }

    fn write_checkpoint(&mut self, path: &str, offset: Offset) {
        let mut checkpoint = OffsetCheckpoint::default();
        checkpoint.offsets.insert(TopicPartition::new("t", 0), offset);
        checkpoint.write(&self.files, Path::new(path)).unwrap();
    }

    fn write_recovery_point(&mut self, offset: Offset) -> String {
        self.write_checkpoint(RECOVERY_POINTS, offset);
        format!("recovery point {offset}")
    }

    fn truncate(&mut self) -> String {
        let span = (self.log.end_offset().0 - self.log.start_offset().0) as u64;
        let offset = self.log.end_offset().plus(-(self.random.below(span.min(9) + 1) as i64));
        let point = self.log.truncation_point(offset).unwrap();
        self.write_recovery_point(point.min(self.log.durable_offset()));
        self.log.truncate_to(offset, now_ms()).unwrap();
        let end = self.log.end_offset();
        assert_eq!(end, point);
        self.state.batches.retain(|batch| batch.header.next_offset() <= end);
        if self.state.batches.last().is_some_and(|last| last.header.next_offset() < end) {
            // Emptied, because the start lies inside a batch: what went before is forgotten.
            self.state.batches.clear();
        }
        self.state.durable = self.log.durable_offset();
        for producer in 0..self.sequences.len() {
            let mine = |batch: &&Batch| batch.header.producer_id == ProducerId(1000 + producer as i64);
            let last = self.state.batches.iter().rev().find(mine);
            self.sequences[producer] =
                last.map_or(0, |last| last.header.base_sequence + last.header.records_count);
        }
        self.new_epoch();
        format!("truncate to {offset}")
    }

    fn retain(&mut self) -> String {
        let removed = self.log.apply_retention(now_ms(), self.log.durable_offset()).unwrap();
        if self.random.below(2) == 0 {
            self.log.remove_deleted(now_ms() + self.config.file_delete_delay_ms).unwrap();
        }
        format!("retention removed {removed:?}")
    }

    fn delete_records(&mut self) -> String {
        let span = self.log.durable_offset().0 - self.log.start_offset().0;
        if span <= 0 {
            return "nothing to delete".into();
        }
        let offset = self.log.start_offset().plus(self.random.below(span as u64 + 1) as i64);
        self.log.advance_start_offset(offset, now_ms()).unwrap();
        self.write_checkpoint(LOG_STARTS, self.log.start_offset());
        self.state.promised_start = self.log.start_offset();
        format!("delete records below {offset}")
    }

    fn roll(&mut self) -> String {
        self.log.roll(now_ms()).unwrap();
        "roll".into()
    }

    fn new_epoch(&mut self) -> String {
        self.epoch += 1;
        format!("epoch {}", self.epoch)
    }

    fn close(&mut self) -> String {
        self.log.close(now_ms()).unwrap();
        self.state.durable = self.log.durable_offset();
        self.write_recovery_point(self.log.durable_offset());
        self.files.open(Path::new(CLEAN), Open::Create).unwrap();
        self.files.sync_dir(Path::new(DATA)).unwrap();
        self.log = reopen(&self.files, &self.config);
        assert_eq!(self.log.end_offset(), self.state.durable);
        "close and open".into()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound.max(1)
    }
}
