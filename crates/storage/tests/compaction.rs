//! Compaction of random logs against a model that knows every record, and of what the model does not say: sizes, gaps in logs
//! of another policy, bounded tables, what a reader holds.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod compaction_run;

use compaction_run::{Driver, config, dir, open, read_all};
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, Batches, Builder, Compression, HEADER_BYTES};
use ottla_storage::compaction::{Cleaning, CleaningError};
use ottla_storage::files::faulty::{Fault, Operation};
use ottla_storage::files::{Files as _, Open};
use ottla_storage::log::{Log, LogConfig};

const SEEDS: u64 = 80;
const STEPS: usize = 400;

#[test]
fn a_reader_sees_the_last_value_of_every_key_whatever_happens() {
    let (mut cleanings, mut replaced, mut kept, mut records) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        // A small table every other time: several passes.
        let mut driver = Driver::new(seed, config(), if seed % 2 == 0 { 1 << 20 } else { 0 });
        for _ in 0..STEPS {
            driver.step();
        }
        driver.log.sync().unwrap();
        driver.clean();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check_ends(&driver);
            driver.model.check(&driver.log, driver.now_ms);
            driver.model.check_lookups(&driver.log, &mut driver.random);
            check_reopened(&driver);
        }));
        assert!(checked.is_ok(), "seed {seed}");
        cleanings += driver.cleanings;
        replaced += driver.stats.replaced_bytes;
        kept += driver.stats.kept_bytes;
        records += driver.model.records.len();
    }
    println!("{records} records in {SEEDS} logs, {cleanings} cleanings, {replaced} bytes became {kept}");
    assert!(cleanings > 400 && kept < replaced * 2 / 3);
}

/// The last batch of a closed segment says where the next one begins, also where all its records are gone: recovery tells by
/// it which segments a swap replaces.
fn check_ends(driver: &Driver) {
    let entries = driver.files.list(&dir()).unwrap();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.name.strip_suffix(".log")).collect();
    for pair in names.windows(2) {
        let file = driver.files.open(&dir().join(format!("{}.log", pair[0])), Open::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        let last = Batches::new(&bytes).last().expect("a closed segment is never empty").unwrap();
        assert_eq!(last.header().next_offset().0, pair[1].parse::<i64>().unwrap(), "after {}", pair[0]);
    }
}

/// After a crash of the process: also with snapshots gone, from the start, and under the policy `delete`.
fn check_reopened(driver: &Driver) {
    use ottla_storage::files::Files as _;
    use ottla_storage::files::faulty::Survival;
    for (without_snapshots, compact_enabled) in [(false, true), (true, true), (true, false)] {
        let files = driver.files.crash_image(driver.files.operation_count(), Survival::All, 0);
        if without_snapshots {
            for entry in files.list(&compaction_run::dir()).unwrap() {
                if entry.name.ends_with(".snapshot") {
                    files.remove_file(&compaction_run::dir().join(entry.name)).unwrap();
                }
            }
            // Everything is read.
            drop(files.remove_file(std::path::Path::new("/data/recovery-point-offset-checkpoint")));
        }
        let config = ottla_storage::log::LogConfig { compact_enabled, ..driver.config.clone() };
        let log = open(&files, &config).unwrap();
        assert_eq!(log.end_offset(), driver.log.end_offset());
        driver.model.check(&log, driver.now_ms);
        let state = |log: &ottla_storage::log::Log| {
            let producers = log.producers().iter();
            producers
                .map(|p| (p.producer_id, p.epoch, p.last_sequence, p.transaction_first_offset.is_some()))
                .collect::<Vec<_>>()
        };
        assert_eq!(state(&log), state(&driver.log), "snapshots gone: {without_snapshots}");
    }
}

/// A log of some twenty segments, all on disk.
fn filled(seed: u64, config: LogConfig) -> Driver {
    let mut driver = Driver::new(seed, LogConfig { segment_bytes: 1_000, ..config }, 1 << 20);
    (0..120).for_each(|_| driver.append());
    driver.end_transactions();
    driver.log.sync().unwrap();
    driver
}

fn left_behind(driver: &Driver) -> Vec<String> {
    let names = driver.files.list(&dir()).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.contains(".cleaned") || name.contains(".swap")).collect()
}

fn prepared(driver: &Driver) -> Cleaning {
    let plan = driver.log.plan_cleaning(driver.log.durable_offset(), driver.now_ms).unwrap().unwrap();
    Cleaning::prepare(plan, &driver.options, &mut |_| true).unwrap()
}

#[test]
fn a_reader_goes_on_reading_the_segment_that_was_replaced() {
    let mut driver = filled(3, config());
    let slice = driver.log.read(Offset(0), driver.log.end_offset(), 1 << 20, true).unwrap();
    let read = || {
        let mut bytes = vec![0; slice.len_bytes()];
        assert_eq!(slice.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    };
    let before = read();
    assert!(driver.clean().unwrap().kept_bytes < before.len() as u64 * 10);
    driver.log.remove_deleted(driver.now_ms).unwrap();
    assert_eq!(read(), before);
    driver.model.check(&driver.log, driver.now_ms);
}

#[test]
fn small_segments_become_one_and_none_grows_too_large() {
    let mut driver = filled(3, config());
    driver.clean();
    let before = driver.log.segment_count();
    let close_one = |driver: &mut Driver| {
        driver.append();
        driver.end_transactions();
        driver.log.roll(driver.now_ms).unwrap();
        driver.append();
        driver.end_transactions();
        driver.log.sync().unwrap();
    };
    close_one(&mut driver);
    driver.clean();
    let after = driver.log.segment_count();
    assert!(after < before, "{before} segments became {after}");
    driver.config.segment_bytes = 1 << 20;
    driver.log.set_config(driver.config.clone());
    close_one(&mut driver);
    driver.clean();
    let sizes = driver.files.list(&dir()).unwrap().into_iter().filter(|entry| entry.name.ends_with(".log"));
    assert_eq!(sizes.count(), 2, "one cleaned and the active one");
    driver.model.check(&driver.log, driver.now_ms);
}

/// What happens to the log between copy and swap.
type Meanwhile = fn(&mut Log, i64);

#[test]
fn a_log_that_changes_meanwhile_is_left_as_it_is() {
    let cases: [(&str, Meanwhile); 3] = [
        ("truncated", |log, now_ms| log.truncate_to(log.end_offset().plus(-2), now_ms).unwrap()),
        ("deleted", |log, now_ms| drop(log.advance_start_offset(log.end_offset(), now_ms).unwrap())),
        ("emptied", |log, now_ms| log.truncate_all_and_start_at(Offset(5_000), now_ms).unwrap()),
    ];
    for (what, meanwhile) in cases {
        let mut driver = filled(5, config());
        let mut cleaning = prepared(&driver);
        let copied = cleaning.copy(0, &mut |_| true).unwrap();
        meanwhile(&mut driver.log, driver.now_ms);
        let before = read_all(&driver.log).len();
        let swapped = cleaning.swap(&mut driver.log, 0, copied);
        assert!(matches!(swapped, Err(CleaningError::Stale)), "{what}: {swapped:?}");
        assert_eq!(left_behind(&driver), Vec::<String>::new(), "{what}");
        assert_eq!(read_all(&driver.log).len(), before, "{what}");
    }
}

#[test]
fn a_stopped_cleaning_leaves_nothing_and_can_begin_anew() {
    for after in 1..12 {
        let mut driver = filled(7, config());
        let before = read_all(&driver.log).len();
        let mut left = after;
        let mut pace = |_| {
            left -= 1;
            left > 0
        };
        let plan = driver.log.plan_cleaning(driver.log.durable_offset(), driver.now_ms).unwrap().unwrap();
        let stopped = Cleaning::prepare(plan, &driver.options, &mut pace)
            .and_then(|mut cleaning| cleaning.copy(0, &mut pace).map(drop));
        assert!(matches!(stopped, Err(CleaningError::Stopped)), "{after}: {stopped:?}");
        assert_eq!(left_behind(&driver), Vec::<String>::new());
        assert_eq!(read_all(&driver.log).len(), before);
        driver.clean();
        driver.model.check(&driver.log, driver.now_ms);
    }
}

/// Each file operation of a cleaning fails once: before the swap is decided the log goes on as it was, after that it is fenced, and
/// opening it anew finishes the swap.
#[test]
fn a_failing_disk_ends_a_cleaning_without_loss() {
    let mut fenced = 0;
    for operation in
        [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir]
    {
        for after in 0..8 {
            let mut driver = filled(9, config());
            let error = std::io::ErrorKind::Other;
            driver.files.fail(Fault {
                operation,
                path_suffix: String::new(),
                after,
                error,
                written_bytes: 5,
            });
            let failed = compaction_run::clean(&mut driver.log, &driver.options);
            driver.files.heal();
            if failed.is_err() {
                fenced += usize::from(driver.log.fenced().is_some());
            }
            driver.model.check(&driver.log, driver.now_ms);
            let files = driver.files.crash_image(
                driver.files.operation_count(),
                ottla_storage::files::faulty::Survival::All,
                0,
            );
            let log = open(&files, &driver.config).unwrap();
            assert_eq!(log.end_offset(), driver.log.end_offset());
            driver.model.check(&log, driver.now_ms);
        }
    }
    assert!(fenced > 0, "no fault came after a swap was decided");
}

#[test]
fn what_is_young_or_not_durable_is_not_cleaned() {
    let mut driver = filled(11, config());
    let durable = driver.log.durable_offset();
    driver.append();
    let all = driver.log.cleanable(Offset(i64::MAX), driver.now_ms).unwrap();
    assert!(all.end <= durable && all.dirty_ratio() > 0.99);
    // Neither a segment that was closed before it was synced.
    driver.end_transactions();
    driver.log.roll(driver.now_ms).unwrap();
    assert!(driver.log.end_offset() > durable && driver.log.durable_offset() == durable);
    assert_eq!(driver.log.cleanable(Offset(i64::MAX), driver.now_ms).unwrap().end, all.end);
    let half = driver.log.cleanable(Offset(durable.0 / 2), driver.now_ms).unwrap();
    assert!(half.end.0 <= durable.0 / 2 && half.dirty_bytes > 0);
    driver.config.min_compaction_lag_ms = 1_000;
    driver.log.set_config(driver.config.clone());
    assert_eq!(driver.log.cleanable(durable, driver.now_ms).unwrap().dirty_bytes, 0);
    let later = driver.log.cleanable(durable, driver.now_ms + 1_011).unwrap();
    assert_eq!(later.dirty_bytes, all.dirty_bytes);
    assert!(!later.is_overdue);
    driver.config.max_compaction_lag_ms = 2_000;
    driver.log.set_config(driver.config.clone());
    assert!(driver.log.cleanable(durable, driver.now_ms + 2_011).unwrap().is_overdue);
}

#[test]
fn tombstones_go_with_the_first_cleaning_after_their_retention() {
    let mut driver = filled(14, config());
    let close = |driver: &mut Driver| {
        driver.log.roll(driver.now_ms).unwrap();
        driver.log.sync().unwrap();
    };
    let tombstones = |driver: &Driver| {
        let end = driver.log.cleaned_to();
        let is_tombstone = |seen: &compaction_run::Seen| seen.value.is_none() && seen.offset < end.0;
        read_all(&driver.log).iter().filter(|seen| is_tombstone(seen)).count()
    };
    close(&mut driver);
    driver.clean().unwrap();
    let first = (tombstones(&driver), driver.log.cleaned_to());
    assert!(first.0 > 0);
    for (later_ms, all_stay) in [(driver.config.delete_retention_ms - 1, true), (1, false)] {
        driver.now_ms += later_ms;
        (0..3).for_each(|_| driver.append());
        driver.end_transactions();
        close(&mut driver);
        driver.clean().unwrap();
        driver.model.check(&driver.log, driver.now_ms);
        let old =
            read_all(&driver.log).into_iter().filter(|seen| seen.offset < first.1.0 && seen.value.is_none());
        let old: Vec<i64> = old.map(|seen| seen.offset).collect();
        assert_eq!(!old.is_empty(), all_stay, "{old:?} after {later_ms} ms more");
    }
}

/// A batch of one record, appended at the end.
fn append_one(driver: &mut Driver, builder: Builder, key: &[u8], value: &[u8]) {
    let mut builder = builder.base_offset(driver.log.end_offset()).leader_epoch(LeaderEpoch(1));
    builder.append(driver.now_ms, Some(key), Some(value), &[]).unwrap();
    let bytes = builder.finish().unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    driver.log.append(&header, &bytes[HEADER_BYTES..], driver.now_ms).unwrap();
}

/// A marker of a later epoch than the data's, as of a producer that was fenced: without snapshots it alone tells the epoch.
#[test]
fn the_marker_that_tells_a_producers_epoch_stays() {
    let mut driver = Driver::new(1, config(), 1 << 20);
    let plain = || Builder::new(Compression::None);
    append_one(&mut driver, plain().producer(ProducerId(7), 3, 0).transactional(), b"k", b"old");
    let marker = plain().producer(ProducerId(7), 4, -1).transactional().control();
    append_one(&mut driver, marker, &[0, 0, 0, 1], &[0, 0, 0, 0, 0, 1]);
    for _ in 0..4 {
        append_one(&mut driver, plain(), b"k", b"new");
        driver.log.roll(driver.now_ms).unwrap();
        driver.log.sync().unwrap();
        driver.options.now_ms = driver.now_ms;
        compaction_run::clean(&mut driver.log, &driver.options).unwrap().unwrap();
        driver.now_ms += 2 * driver.config.delete_retention_ms;
    }
    for entry in driver.files.list(&dir()).unwrap() {
        if entry.name.ends_with(".snapshot") {
            driver.files.remove_file(&dir().join(entry.name)).unwrap();
        }
    }
    let log = open(&driver.files, &driver.config).unwrap();
    let known: Vec<_> = log.producers().iter().map(|p| (p.producer_id, p.epoch)).collect();
    assert_eq!(known, [(ProducerId(7), 4)]);
}
