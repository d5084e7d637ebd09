//! Random logs with keys, tombstones, transactions and idempotent producers, cleaned again and again, and a model that knows
//! every record ever appended: what a reader may see of them.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, Builder, Compression, DecompressLimit, HEADER_BYTES};
use ottla_storage::checkpoint::{
    CLEANER_OFFSET_FILE, LOG_START_OFFSET_FILE, OffsetCheckpoint, RECOVERY_POINT_FILE,
};
use ottla_storage::compaction::{Cleaning, CleaningError, CleaningOptions, CleaningStats, KeyHash};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::Files;
use ottla_storage::files::faulty::FaultyFiles;
use ottla_storage::log::{Log, LogConfig, LogError, OpenFrom};
use ottla_storage::names::TopicPartition;

pub const DATA: &str = "/data";
pub const START_MS: i64 = 1_700_000_000_000;

pub fn dir() -> PathBuf {
    Path::new(DATA).join("t-0")
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound.max(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Settled,
    Open,
    Aborted,
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
    pub producer_id: i64,
    pub fate: Fate,
    pub is_control: bool,
    /// When a cleaning had first reached it.
    pub reached_ms: Option<i64>,
    /// Offset of the marker that ended its transaction.
    pub marker: Option<i64>,
}

/// Every record ever appended, by offset.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub records: BTreeMap<i64, Appended>,
    pub delete_retention_ms: i64,
}

/// A record that a reader got.
#[derive(Clone, Debug)]
pub struct Seen {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// All that a reader gets from the start on, batch by batch.
pub fn read_all(log: &Log) -> Vec<Seen> {
    let mut all = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let slice = log.read(from, log.end_offset(), 900, true).unwrap();
        let mut bytes = vec![0; slice.len_bytes()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += slice.read_at(&mut bytes[filled..], filled).unwrap();
        }
        let before = from;
        for batch in ottla_protocol::records::Batches::new(&bytes).verifying() {
            let batch = batch.unwrap();
            let header = batch.header();
            assert!(header.last_offset() >= from, "batches come in order");
            let mut records = batch.records(DecompressLimit::default()).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                let offset = header.offset_of_delta(record.offset_delta);
                assert!(offset >= header.base_offset && offset <= header.last_offset());
                if offset >= log.start_offset() {
                    all.push(Seen {
                        offset: offset.0,
                        timestamp: header.timestamp_of_delta(record.timestamp_delta),
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                    });
                }
            }
            from = header.next_offset();
        }
        if from == before {
            assert_eq!(bytes.len(), 0, "a slice holds a whole batch");
            break;
        }
    }
    assert!(all.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    all
}

impl Model {
    /// What a reader saw of the log whose records below `end` count.
    pub fn check(&self, log: &Log, now_ms: i64) {
        let (start, end) = (log.start_offset().0, log.end_offset().0);
        let seen = read_all(log);
        let visible: BTreeSet<i64> = seen.iter().map(|record| record.offset).collect();
        for record in &seen {
            let appended = &self.records[&record.offset];
            assert_eq!((&record.key, &record.value), (&appended.key, &appended.value), "{}", record.offset);
            assert_eq!(record.timestamp, appended.timestamp, "offset {}", record.offset);
            if let Some(marker) = appended.marker.filter(|&marker| marker < end && !appended.is_control) {
                assert!(visible.contains(&marker), "the marker {marker} of {} is gone", record.offset);
            }
        }
        let mut last: BTreeMap<&Vec<u8>, i64> = BTreeMap::new();
        let mut last_cleaned: BTreeMap<&Vec<u8>, i64> = BTreeMap::new();
        let settled = |record: &&Appended| !record.is_control && record.fate == Fate::Settled;
        for (&offset, record) in self.records.range(..end).filter(|(_, record)| settled(record)) {
            let Some(key) = &record.key else { continue };
            last.insert(key, offset);
            if offset < log.cleaned_to().0 {
                last_cleaned.insert(key, offset);
            }
        }
        for (key, &offset) in last.range::<Vec<u8>, _>(..) {
            let record = &self.records[&offset];
            let may_go = record.value.is_none()
                && record.reached_ms.is_some_and(|reached| now_ms >= reached + self.delete_retention_ms);
            if offset >= start && !may_go {
                assert!(visible.contains(&offset), "the last record of {key:?}, {offset}, is gone");
            }
            if !visible.contains(&offset) && offset >= start && record.value.is_none() {
                let back = self.records.range(start..offset).find(|(at, other)| {
                    visible.contains(at)
                        && other.key.as_ref() == Some(*key)
                        && other.value.is_some()
                        && other.fate == Fate::Settled
                });
                assert!(back.is_none(), "deleted {key:?} is back: {back:?}");
            }
        }
        for (&offset, record) in self.records.range(start..log.cleaned_to().0.clamp(start, end)) {
            if let (Fate::Settled, false, Some(key)) = (record.fate, record.is_control, &record.key) {
                let is_last = last_cleaned.get(key) == Some(&offset);
                assert!(is_last || !visible.contains(&offset), "{offset} of {key:?} should be gone");
            }
            if record.fate == Fate::Aborted && !record.is_control {
                assert!(!visible.contains(&offset), "aborted {offset} should be gone");
            }
        }
    }

    /// Lookups by offset and time give what a walk over all records gives.
    pub fn check_lookups(&self, log: &Log, random: &mut Random) {
        let seen = read_all(log);
        let span = (log.end_offset().0 - log.start_offset().0) as u64;
        for _ in 0..10 {
            let offset = log.start_offset().plus(random.below(span + 1) as i64);
            let slice = log.read(offset, log.end_offset(), 1 << 20, true).unwrap();
            if offset < log.end_offset() && slice.len_bytes() > 0 {
                let mut head = [0; HEADER_BYTES];
                assert_eq!(slice.read_at(&mut head, 0).unwrap(), HEADER_BYTES);
                assert!(BatchHeader::parse(&head).unwrap().last_offset() >= offset);
            }
            if let Some(some) = seen.get(random.below(seen.len() as u64) as usize) {
                let first = seen.iter().find(|record| record.timestamp >= some.timestamp).unwrap();
                let found = log.find_by_timestamp(some.timestamp).unwrap().unwrap();
                assert_eq!((found.offset.0, found.timestamp), (first.offset, first.timestamp));
            }
        }
        let highest = seen.iter().map(|record| record.timestamp).max();
        let found = log.find_max_timestamp(log.end_offset()).unwrap();
        assert_eq!(found.map(|found| found.timestamp), highest);
    }
}

/// One log and what is done to it.
pub struct Driver {
    pub files: FaultyFiles,
    pub log: Log,
    pub model: Model,
    pub random: Random,
    pub config: LogConfig,
    pub now_ms: i64,
    pub options: CleaningOptions,
    /// Producer id, sequence, where its transaction began.
    producers: Vec<(i64, i32, Option<i64>)>,
    keys: u64,
    pub cleanings: usize,
    pub stats: CleaningStats,
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 3_000,
        index_interval_bytes: 300,
        compact_enabled: true,
        delete_enabled: false,
        delete_retention_ms: 5_000,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

pub fn options(dedupe_buffer_bytes: u64) -> CleaningOptions {
    CleaningOptions {
        dedupe_buffer_bytes,
        load_factor: 0.9,
        io_buffer_bytes: 2_000,
        hash: KeyHash::random(),
        now_ms: START_MS,
    }
}

pub fn from_checkpoints(files: &dyn Files) -> OpenFrom {
    let get = |name: &str| {
        let checkpoint = OffsetCheckpoint::read(files, &Path::new(DATA).join(name)).unwrap();
        checkpoint.get(&TopicPartition::new("t", 0)).unwrap_or_default()
    };
    OpenFrom {
        log_start_offset: get(LOG_START_OFFSET_FILE),
        recovery_point: get(RECOVERY_POINT_FILE),
        cleaned_to: get(CLEANER_OFFSET_FILE),
        clean: false,
    }
}

pub fn open(files: &FaultyFiles, config: &LogConfig) -> Result<Log, LogError> {
    let descriptors = Descriptors::new(files.shared(), 4);
    Log::open(&descriptors, dir(), config.clone(), from_checkpoints(files), START_MS).map(|(log, _)| log)
}

/// A whole cleaning, as an owner does it.
pub fn clean(log: &mut Log, options: &CleaningOptions) -> Result<Option<CleaningStats>, CleaningError> {
    let Some(plan) = log.plan_cleaning(log.durable_offset(), options.now_ms)? else { return Ok(None) };
    let mut cleaning = Cleaning::prepare(plan, options, &mut |_| true)?;
    for index in 0..cleaning.group_count() {
        let copied = cleaning.copy(index, &mut |_| true)?;
        cleaning.swap(log, index, copied)?;
        cleaning.sync_names()?;
    }
    cleaning.finish(log);
    Ok(Some(cleaning.stats()))
}

impl Driver {
    pub fn new(seed: u64, config: LogConfig, dedupe_buffer_bytes: u64) -> Self {
        let files = FaultyFiles::new();
        files.create_dir_all(Path::new(DATA)).unwrap();
        files.sync_dir(Path::new("/")).unwrap();
        let log = open(&files, &config).unwrap();
        let model = Model { delete_retention_ms: config.delete_retention_ms, ..Model::default() };
        Self {
            files,
            log,
            model,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            config,
            now_ms: START_MS,
            options: options(dedupe_buffer_bytes),
            producers: vec![
                (-1, 0, None),
                (1000, 0, None),
                (1001, 0, None),
                (1002, 0, None),
                (1003, 0, None),
            ],
            // Often more than the smallest table holds.
            keys: if seed % 4 < 2 { 1 + seed % 40 } else { 80 + seed },
            cleanings: 0,
            stats: CleaningStats::default(),
        }
    }

    pub fn append(&mut self) {
        let who = self.random.below(self.producers.len() as u64) as usize;
        // The last two write in transactions only.
        let transactional = who >= 3;
        if transactional && self.producers[who].2.is_some() && self.random.below(3) == 0 {
            return self.end_transaction(who);
        }
        let base = self.log.end_offset();
        let (producer_id, sequence, _) = self.producers[who];
        let codecs = [
            Compression::None,
            Compression::Gzip(-1),
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd(3),
        ];
        let codec = codecs[self.random.below(9).min(4) as usize];
        let mut builder = Builder::new(codec).base_offset(base).leader_epoch(LeaderEpoch(1));
        if producer_id >= 0 {
            builder = builder.producer(ProducerId(producer_id), 0, sequence);
        }
        if transactional {
            builder = builder.transactional();
        }
        let count = 1 + self.random.below(5);
        for i in 0..count {
            let key = format!("key-{}", self.random.below(self.keys)).into_bytes();
            let key = (self.random.below(50) > 0).then_some(key);
            let size = self.random.below(80) as usize;
            let value = (self.random.below(5) > 0).then(|| vec![self.random.below(256) as u8; size]);
            let timestamp = self.now_ms + self.random.below(20) as i64 - 10;
            builder.append(timestamp, key.as_deref(), value.as_deref(), &[]).unwrap();
            let fate = if transactional { Fate::Open } else { Fate::Settled };
            let record = Appended {
                key,
                value,
                timestamp,
                producer_id,
                fate,
                is_control: false,
                reached_ms: None,
                marker: None,
            };
            self.model.records.insert(base.0 + i as i64, record);
        }
        self.write(builder.finish().unwrap());
        let producer = &mut self.producers[who];
        producer.1 += count as i32;
        if transactional {
            producer.2.get_or_insert(base.0);
        }
    }

    /// Open ones keep what follows from being cleaned.
    pub fn end_transactions(&mut self) {
        let open = |who: &usize| self.producers[*who].2.is_some();
        let open: Vec<usize> = (0..self.producers.len()).filter(open).collect();
        open.into_iter().for_each(|who| self.end_transaction(who));
    }

    fn end_transaction(&mut self, who: usize) {
        let is_abort = self.random.below(2) == 0;
        let base = self.log.end_offset();
        let (producer_id, _, first) = self.producers[who];
        let key = [0, 0, 0, u8::from(!is_abort)];
        let value = [0, 0, 0, 0, 0, 1];
        let mut builder = Builder::new(Compression::None)
            .base_offset(base)
            .leader_epoch(LeaderEpoch(1))
            .producer(ProducerId(producer_id), 0, -1)
            .transactional()
            .control();
        builder.append(self.now_ms, Some(&key), Some(&value), &[]).unwrap();
        let fate = if is_abort { Fate::Aborted } else { Fate::Settled };
        for (_, record) in self.model.records.range_mut(first.unwrap()..) {
            if record.producer_id == producer_id && record.fate == Fate::Open {
                record.fate = fate;
                record.marker = Some(base.0);
            }
        }
        let record = Appended {
            key: Some(key.to_vec()),
            value: Some(value.to_vec()),
            timestamp: self.now_ms,
            producer_id,
            fate: Fate::Settled,
            is_control: true,
            reached_ms: None,
            marker: None,
        };
        self.model.records.insert(base.0, record);
        self.write(builder.finish().unwrap());
        self.producers[who].2 = None;
    }

    fn write(&mut self, bytes: Vec<u8>) {
        let header = BatchHeader::parse(&bytes).unwrap();
        self.log.append(&header, &bytes[HEADER_BYTES..], self.now_ms).unwrap();
    }

    pub fn clean(&mut self) -> Option<CleaningStats> {
        self.options.now_ms = self.now_ms;
        let before = self.log.producers().encode();
        let stats = clean(&mut self.log, &self.options).unwrap();
        assert_eq!(self.log.producers().encode(), before, "a cleaning changes no producer");
        self.note_reached();
        let stats = stats?;
        self.cleanings += 1;
        self.stats.replaced_bytes += stats.replaced_bytes;
        self.stats.kept_bytes += stats.kept_bytes;
        Some(stats)
    }

    /// A cleaning has reached what lies below its end.
    pub fn note_reached(&mut self) {
        let cleaned_to = self.log.cleaned_to().0;
        for (_, record) in self.model.records.range_mut(..cleaned_to) {
            record.reached_ms.get_or_insert(self.now_ms);
        }
    }

    pub fn delete_records(&mut self) {
        let span = self.log.durable_offset().0 - self.log.start_offset().0;
        let offset = self.log.start_offset().plus(self.random.below(span as u64 / 4 + 1) as i64);
        self.log.advance_start_offset(offset, self.now_ms).unwrap();
        self.checkpoint(LOG_START_OFFSET_FILE, self.log.start_offset());
    }

    pub fn checkpoint(&self, name: &str, offset: Offset) {
        let mut checkpoint = OffsetCheckpoint::default();
        checkpoint.offsets.insert(TopicPartition::new("t", 0), offset);
        checkpoint.write(&self.files, &Path::new(DATA).join(name)).unwrap();
    }

    /// One random thing.
    pub fn step(&mut self) {
        match self.random.below(60) {
            0..42 => self.append(),
            42..48 => drop(self.log.sync().unwrap()),
            48..52 => drop(self.clean()),
            52 => self.delete_records(),
            53 => self.log.roll(self.now_ms).unwrap(),
            54 => self.checkpoint(RECOVERY_POINT_FILE, self.log.durable_offset()),
            55 => self.checkpoint(CLEANER_OFFSET_FILE, self.log.cleaned_to()),
            56 => self.log.remove_deleted(self.now_ms).unwrap(),
            _ => self.now_ms += self.random.below(3_000) as i64,
        }
    }
}
