//! What a log does for its owner: reading, rolling, retention, timestamps, sync tickets.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod crash_run;

use std::io;
use std::sync::Arc;

use crash_run::{Batch, batch, dir, read_log};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::faulty::FaultyFiles;
use ottla_storage::files::real::RealFiles;
use ottla_storage::files::{File, Files, Open};
use ottla_storage::log::{Log, LogConfig, LogError, LogSlice, OpenFrom};

fn open(files: &FaultyFiles, config: LogConfig) -> Log {
    open_from(files, config, OpenFrom::default())
}

fn open_from(files: &FaultyFiles, config: LogConfig, from: OpenFrom) -> Log {
    Log::open(&Descriptors::new(files.shared(), 8), dir(), config, from, 0).unwrap().0
}

fn append(log: &mut Log, records: u32, size: usize) -> Batch {
    let one = batch(log.end_offset(), 0, records, size, None);
    log.append(&one.header, &one.payload, 0).unwrap();
    one
}

/// A batch of one record with that timestamp.
fn append_at(log: &mut Log, timestamp: i64) {
    append_many_at(log, &[timestamp], Compression::None);
}

fn append_many_at(log: &mut Log, timestamps: &[i64], compression: Compression) {
    let mut builder = Builder::new(compression).base_offset(log.end_offset()).leader_epoch(LeaderEpoch(1));
    for &timestamp in timestamps {
        builder.append(timestamp, None, Some(&[7; 100]), &[]).unwrap();
    }
    let bytes = builder.finish().unwrap();
    log.append(&BatchHeader::parse(&bytes).unwrap(), &bytes[HEADER_BYTES..], timestamps[0]).unwrap();
}

fn bytes_of(slice: &LogSlice) -> Vec<u8> {
    let mut bytes = vec![0; slice.len_bytes()];
    let mut at = 0;
    while at < bytes.len() {
        at += slice.read_at(&mut bytes[at..], at).unwrap();
    }
    bytes
}

/// First and next offset of what a read gives, whole batches only.
fn span(log: &Log, from: i64, upper: i64, max_bytes: usize, at_least_one: bool) -> Option<(i64, i64)> {
    let bytes = bytes_of(&log.read(Offset(from), Offset(upper), max_bytes, at_least_one).unwrap());
    let (mut at, mut first, mut next) = (0, None, 0);
    while let Ok(header) = BatchHeader::parse(&bytes[at..]) {
        if at + header.size_bytes() > bytes.len() {
            break;
        }
        at += header.size_bytes();
        first.get_or_insert(header.base_offset.0);
        next = header.next_offset().0;
    }
    first.map(|first| (first, next))
}

#[test]
fn an_empty_log_makes_nothing_until_the_first_append() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig::default());
    assert_eq!((log.start_offset(), log.end_offset(), log.is_dirty()), (Offset(0), Offset(0), false));
    assert_eq!(log.read(Offset(0), Offset(9), 9, true).unwrap().len_bytes(), 0);
    assert_eq!(log.find_by_timestamp(0).unwrap(), None);
    log.begin_epoch(LeaderEpoch(4));
    assert_eq!(log.sync().unwrap(), Offset(0));
    log.close(0).unwrap();
    assert_eq!(files.operation_count(), 0);
}

#[test]
fn reads_begin_in_the_batch_and_end_below_the_bound() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig { index_interval_bytes: 1000, ..LogConfig::default() });
    for _ in 0..100 {
        append(&mut log, 2, 100);
    }
    let size = append(&mut log, 2, 100).bytes().len();
    for reopened in [false, true] {
        if reopened {
            log.close(0).unwrap();
            let from = OpenFrom { clean: true, ..OpenFrom::default() };
            log = open_from(&files, LogConfig::default(), from);
        }
        assert_eq!(span(&log, 0, 202, 1 << 20, true), Some((0, 202)));
        assert_eq!(span(&log, 31, 202, size, true), Some((30, 32)));
        assert_eq!(span(&log, 31, 202, 3 * size, true), Some((30, 36)));
        assert_eq!(span(&log, 199, 202, 1 << 20, true), Some((198, 202)));
        // A bound inside a batch leaves the batch out.
        assert_eq!(span(&log, 31, 41, 1 << 20, true), Some((30, 40)));
        assert_eq!(span(&log, 31, 40, 1 << 20, true), Some((30, 40)));
        assert_eq!(span(&log, 30, 31, 1 << 20, true), None);
        assert_eq!(span(&log, 31, 31, 1 << 20, true), None);
        assert_eq!(span(&log, 202, 202, 1 << 20, true), None);
        // A batch larger than what was asked for comes whole or not at all.
        assert_eq!(span(&log, 30, 202, 10, true), Some((30, 32)));
        assert_eq!(log.read(Offset(30), Offset(202), 10, false).unwrap().len_bytes(), 0);
        for outside in [-1, 203] {
            let refused = log.read(Offset(outside), Offset(202), 10, true);
            assert!(matches!(refused, Err(LogError::OffsetOutOfRange { .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_reader_in_sequence_costs_next_to_no_reads() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig::default());
    for _ in 0..600 {
        append(&mut log, 1, 16 << 10);
    }
    log.sync().unwrap();
    // At the end nothing is read but the data.
    let before = files.read_count();
    for from in 570..600 {
        log.read(Offset(from), Offset(600), 16 << 10, true).unwrap();
    }
    assert_eq!(files.read_count(), before);
    // Behind it one header per slice, and a block of the index now and then.
    let (mut from, mut slices) = (0, 0);
    while from < 500 {
        let (_, next) = span(&log, from, 600, 1 << 20, true).unwrap();
        assert!(next - from >= 60, "aligned at a batch near the limit: {from} to {next}");
        (from, slices) = (next, slices + 1);
    }
    // `span` reads each slice once.
    let extra = files.read_count() - before - slices;
    assert!(extra <= 2 * slices + 4, "{extra} reads for {slices} slices");
}

#[test]
fn segments_roll_by_size_time_index_and_offsets() {
    let roll = |config: LogConfig, timestamps: &[i64]| {
        let files = FaultyFiles::new();
        let mut log = open(&files, config);
        timestamps.iter().for_each(|&timestamp| append_at(&mut log, timestamp));
        assert_eq!(log.end_offset(), Offset(timestamps.len() as i64));
        assert_eq!(span(&log, 0, 1 << 40, 1 << 20, true).unwrap().0, 0);
        log.segment_count()
    };
    let by_size = LogConfig { segment_bytes: 400, ..LogConfig::default() };
    assert_eq!(roll(by_size, &[5, 5, 5, 5]), 2);
    let by_time = LogConfig { segment_ms: 100, ..LogConfig::default() };
    assert_eq!(roll(by_time.clone(), &[1000, 1100, 1101, 1050, 1202]), 3);
    // A segment whose first batch has no timestamp has no age.
    assert_eq!(roll(by_time, &[-1, 5000, 9000]), 1);
    let by_index = LogConfig { segment_index_bytes: 24, index_interval_bytes: 0, ..LogConfig::default() };
    // Room for two time entries, of which one is kept for the closing.
    assert_eq!(roll(by_index, &[5; 9]), 5);
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig { compact_enabled: true, ..LogConfig::default() });
    append(&mut log, 1, 10);
    let far = batch(Offset(1 << 31), 0, 1, 10, None);
    log.append(&far.header, &far.payload, 0).unwrap();
    assert_eq!((log.segment_count(), log.end_offset()), (2, Offset((1 << 31) + 1)));
}

#[test]
fn batches_that_do_not_continue_the_log_are_refused() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig { segment_bytes: 1000, ..LogConfig::default() });
    append(&mut log, 2, 10);
    let mut refuse = |header: &BatchHeader, payload: &[u8]| {
        assert!(matches!(log.append(header, payload, 0), Err(LogError::InvalidAppend(_))));
    };
    let behind = batch(Offset(1), 0, 1, 10, None);
    refuse(&behind.header, &behind.payload);
    let large = batch(Offset(2), 0, 1, 1000, None);
    refuse(&large.header, &large.payload);
    let short = batch(Offset(2), 0, 1, 10, None);
    refuse(&short.header, &short.payload[1..]);
    assert_eq!(log.end_offset(), Offset(2));
}

#[test]
fn retention_by_time_and_size_stops_at_the_high_watermark() {
    let config = LogConfig { segment_bytes: 400, retention_ms: 1000, ..LogConfig::default() };
    let filled = |config: LogConfig| {
        let files = FaultyFiles::new();
        let mut log = open(&files, config);
        (0..10).for_each(|i| append_at(&mut log, i * 100));
        assert_eq!(log.segment_count(), 5);
        (files, log)
    };
    let (files, mut log) = filled(config.clone());
    let removed = log.apply_retention(1400, Offset(10)).unwrap();
    assert_eq!(removed.iter().map(|segment| segment.base_offset.0).collect::<Vec<_>>(), [0, 2]);
    assert_eq!((log.start_offset(), log.epochs().earliest().unwrap().start_offset), (Offset(4), Offset(4)));
    assert!(matches!(log.read(Offset(3), Offset(9), 9, true), Err(LogError::OffsetOutOfRange { .. })));
    // The files go after their delay.
    let deleted = |files: &FaultyFiles| {
        files.list(&dir()).unwrap().iter().filter(|entry| entry.name.ends_with(".log.deleted")).count()
    };
    assert_eq!((deleted(&files), log.next_removal_ms()), (2, Some(61_400)));
    log.remove_deleted(61_399).unwrap();
    assert_eq!(deleted(&files), 2);
    log.remove_deleted(61_400).unwrap();
    assert_eq!((deleted(&files), log.next_removal_ms()), (0, None));
    // All of it, the active segment too; offsets go on.
    log.apply_retention(1 << 40, Offset(10)).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.segment_count()), (Offset(10), Offset(10), 1));
    append_at(&mut log, 5);
    assert_eq!(log.end_offset(), Offset(11));

    let (_, mut log) = filled(config.clone());
    assert_eq!(log.apply_retention(1 << 40, Offset(5)).unwrap().len(), 2);
    let (_, mut log) = filled(LogConfig { delete_enabled: false, ..config.clone() });
    assert_eq!(log.apply_retention(1 << 40, Offset(10)).unwrap().len(), 0);
    let (_, mut log) = filled(LogConfig { retention_ms: -1, retention_bytes: 1000, ..config });
    let size = log.size_bytes();
    let removed = log.apply_retention(1 << 40, Offset(10)).unwrap();
    assert!(log.size_bytes() >= 1000 && log.size_bytes() - removed[0].size_bytes < 1000);
    assert_eq!(log.size_bytes() + removed.iter().map(|s| s.size_bytes).sum::<u64>(), size);
}

/// Records without timestamps are as old as their file.
#[test]
fn segments_without_timestamps_expire_by_their_files_age() {
    let files = FaultyFiles::new();
    let config = LogConfig { segment_bytes: 400, retention_ms: 1000, ..LogConfig::default() };
    let mut log = open(&files, config);
    (0..6).for_each(|_| append_at(&mut log, -1));
    assert_eq!(log.segment_count(), 3);
    for (base_offset, modified_ms) in [(0, 100), (2, 400), (4, 900)] {
        files.set_modified_ms(&dir().join(format!("{base_offset:020}.log")), modified_ms).unwrap();
    }
    let mut start_at = |now_ms| {
        log.apply_retention(now_ms, Offset(6)).unwrap();
        log.start_offset().0
    };
    assert_eq!((start_at(1100), start_at(1101), start_at(1400)), (0, 2, 2));
    assert_eq!((start_at(1401), start_at(1900), start_at(1901)), (4, 4, 6));
}

#[test]
fn deletion_does_not_shorten_a_slice_that_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 300, file_delete_delay_ms: 0, ..LogConfig::default() };
    let descriptors = Descriptors::new(RealFiles::shared(), 1);
    let path = dir.path().join("t-0");
    let mut log = Log::open(&descriptors, path, config, OpenFrom::default(), 0).unwrap().0;
    let first = append(&mut log, 1, 200);
    append(&mut log, 1, 200);
    append(&mut log, 1, 200);
    let slice = log.read(Offset(0), Offset(3), 1 << 20, true).unwrap();
    log.sync().unwrap();
    assert_eq!(log.advance_start_offset(Offset(2), 0).unwrap().len(), 2);
    log.remove_deleted(0).unwrap();
    assert_eq!(bytes_of(&slice), first.bytes());
    // A truncation does, and says so.
    let slice = log.read(Offset(2), Offset(3), 1 << 20, true).unwrap();
    log.truncate_to(Offset(2), 0).unwrap();
    assert_eq!(slice.read_at(&mut [0; 10], 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!((log.start_offset(), log.end_offset()), (Offset(2), Offset(2)));
}

#[test]
fn slices_read_without_waiting_only_what_is_cached() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig::default());
    let one = append(&mut log, 1, 100);
    let slice = log.read(Offset(0), Offset(1), 1 << 20, true).unwrap();
    files.set_cold(true);
    assert_eq!(slice.read_at_nowait(&mut [0; 10], 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    files.set_cold(false);
    let mut buf = [0; 1000];
    assert_eq!(slice.read_at_nowait(&mut buf, 5).unwrap(), slice.len_bytes() - 5);
    assert_eq!(buf[..slice.len_bytes() - 5], one.bytes()[5..]);
    assert_eq!(slice.read_at(&mut buf, slice.len_bytes()).unwrap(), 0);
}

#[test]
fn records_are_found_by_timestamp() {
    let files = FaultyFiles::new();
    let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 300, ..LogConfig::default() };
    let mut log = open(&files, config.clone());
    // Rising by and large, with records out of order in and between batches.
    for i in 0..40 {
        let base = i * 10;
        append_many_at(&mut log, &[base + 3, base + 7, base - 20], Compression::Gzip(-1));
    }
    assert!(log.segment_count() > 2);
    log.advance_start_offset(Offset(1), 0).unwrap();
    let check = |log: &Log| {
        let all: Vec<(i64, i64)> = (0..40)
            .flat_map(|i| [(i * 3, i * 10 + 3), (i * 3 + 1, i * 10 + 7), (i * 3 + 2, i * 10 - 20)])
            .collect();
        for wanted in -30..420 {
            let expected = all.iter().find(|(offset, timestamp)| *offset >= 1 && *timestamp >= wanted);
            let found = log.find_by_timestamp(wanted).unwrap();
            assert_eq!(found.map(|f| (f.offset.0, f.timestamp)), expected.copied(), "at {wanted}");
        }
        let highest = log.find_max_timestamp(log.end_offset()).unwrap().unwrap();
        assert_eq!((highest.offset.0, highest.timestamp, highest.leader_epoch), (118, 397, LeaderEpoch(1)));
        assert_eq!(log.max_timestamp().unwrap(), 397);
        for upper in 1..=120 {
            let below =
                all.iter().filter(|(offset, timestamp)| (1..upper).contains(offset) && *timestamp >= 0);
            // Of several records with the highest timestamp the first one.
            let expected = below.copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
            let found = log.find_max_timestamp(Offset(upper)).unwrap();
            assert_eq!(found.map(|f| (f.offset.0, f.timestamp)), expected, "below {upper}");
        }
    };
    check(&log);
    log.close(0).unwrap();
    let from = OpenFrom { clean: true, log_start_offset: Offset(1), ..OpenFrom::default() };
    check(&open_from(&files, config, from));
}

#[test]
fn a_ticket_covers_what_was_appended_before_it() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig::default());
    append(&mut log, 2, 100);
    let ticket = log.sync_begin();
    assert_eq!(ticket.up_to(), Offset(2));
    append(&mut log, 3, 100);
    ticket.sync().unwrap();
    assert_eq!(log.durable_offset(), Offset(0));
    assert_eq!(log.sync_end(ticket).unwrap(), Offset(2));
    assert!(log.is_dirty());
    // A truncation in between takes the promise back.
    let ticket = log.sync_begin();
    ticket.sync().unwrap();
    log.truncate_to(Offset(2), 0).unwrap();
    append(&mut log, 3, 100);
    assert_eq!(log.sync_end(ticket).unwrap(), Offset(2));
    assert_eq!(log.sync().unwrap(), Offset(5));
    assert!(!log.is_dirty());
    // A ticket that was not synced is as good as one that failed.
    append(&mut log, 1, 100);
    let ticket = log.sync_begin();
    assert!(matches!(log.sync_end(ticket), Err(LogError::Failed(_))));
    assert!(log.fenced().is_some());
}

#[test]
fn an_append_is_one_write_and_a_sync_one_fdatasync() {
    let files = FaultyFiles::new();
    let mut log = open(&files, LogConfig { index_interval_bytes: 0, ..LogConfig::default() });
    append(&mut log, 1, 100);
    log.sync().unwrap();
    let before = files.operation_count();
    for _ in 0..100 {
        append(&mut log, 1, 100);
    }
    assert_eq!(files.operation_count() - before, 100);
    log.sync().unwrap();
    assert_eq!(files.operation_count() - before, 101);
}

#[test]
fn truncation_and_emptying_leave_a_log_that_goes_on() {
    let files = FaultyFiles::new();
    let config = LogConfig { segment_bytes: 1000, index_interval_bytes: 200, ..LogConfig::default() };
    let mut log = open(&files, config.clone());
    let batches: Vec<Batch> = (0..20).map(|_| append(&mut log, 2, 150)).collect();
    assert_eq!(log.truncation_point(Offset(11)).unwrap(), Offset(10));
    log.truncate_to(Offset(11), 0).unwrap();
    assert_eq!((log.end_offset(), log.durable_offset()), (Offset(10), Offset(10)));
    assert_eq!(read_log(&log), batches[..5].iter().flat_map(Batch::bytes).collect::<Vec<_>>());
    let again = append(&mut log, 1, 50);
    log.sync().unwrap();
    assert_eq!(span(&log, 10, 11, 1 << 20, true), Some((10, 11)));
    drop(log);
    let mut log = open(&files, config);
    assert_eq!(read_log(&log)[batches[..5].iter().map(|b| b.bytes().len()).sum()..], again.bytes());
    log.truncate_all_and_start_at(Offset(500), 0).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.size_bytes()), (Offset(500), Offset(500), 0));
    append(&mut log, 2, 50);
    assert_eq!(span(&log, 500, 502, 1 << 20, true), Some((500, 502)));
}

#[test]
fn logs_slices_and_tickets_go_from_thread_to_thread() {
    fn is_send<T: Send>(_: &T) {}
    let mut log = open(&FaultyFiles::new(), LogConfig::default());
    append(&mut log, 1, 100);
    is_send(&log.read(Offset(0), Offset(1), 100, true).unwrap());
    let ticket = log.sync_begin();
    let ticket = std::thread::spawn(move || ticket.sync().map(|()| ticket)).join().unwrap().unwrap();
    assert_eq!(log.sync_end(ticket).unwrap(), Offset(1));
    is_send(&log);
}

/// Wrong indexes, one way or another, are rebuilt or walked around.
#[test]
fn wrong_indexes_do_not_matter() {
    let files = FaultyFiles::new();
    let config = LogConfig { segment_bytes: 5000, index_interval_bytes: 300, ..LogConfig::default() };
    let mut log = open(&files, config.clone());
    let whole: Vec<u8> = (0..60).flat_map(|_| append(&mut log, 2, 150).bytes()).collect();
    log.close(0).unwrap();
    drop(log);
    let names: Vec<String> = files.list(&dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    let indexes = names.iter().filter(|name| name.ends_with("index")).cloned().collect::<Vec<_>>();
    assert!(indexes.len() >= 4);
    type Spoil = fn(&FaultyFiles, &str);
    let at = |name: &str| dir().join(name);
    let spoils: [Spoil; 4] = [
        |files, name| files.remove_file(&dir().join(name)).unwrap(),
        |files, name| files.open(&dir().join(name), Open::ReadWrite).unwrap().set_len(13).unwrap(),
        |files, name| files.flip(&dir().join(name), 5, 0xff).unwrap(),
        |files, name| {
            let file: Arc<dyn File> = files.open(&dir().join(name), Open::ReadWrite).unwrap();
            file.set_len(1 << 16).unwrap();
        },
    ];
    for clean in [true, false] {
        for spoil in spoils {
            for name in &indexes {
                if files.exists(&at(name)).unwrap()
                    && files.open(&at(name), Open::Read).unwrap().size_bytes().unwrap() > 5
                {
                    spoil(&files, name);
                }
            }
            let from = OpenFrom { clean, recovery_point: Offset(120), ..OpenFrom::default() };
            let mut log = open_from(&files, config.clone(), from);
            assert_eq!(log.end_offset(), Offset(120));
            assert_eq!(read_log(&log), whole);
            assert!(log.find_by_timestamp(crash_run::now_ms() + 50).unwrap().is_some());
            log.roll(0).unwrap();
            log.close(0).unwrap();
        }
    }
}
