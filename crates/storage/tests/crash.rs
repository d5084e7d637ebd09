//! Power losses at every operation of seeded runs: what was acknowledged as durable is there afterwards, contents equal,
//! offsets contiguous, epochs and producers as a replay says, and the log goes on.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod crash_run;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSlice};
use std::path::Path;

use crash_run::{Batch, Run, State, batch, dir, from_checkpoints, now_ms, read_log, replayed};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::faulty::{FaultyFiles, Survival};
use ottla_storage::files::{Files, Open};
use ottla_storage::log::{Log, LogConfig, LogError};

const SEEDS: std::ops::Range<u64> = 0..12;
const STEPS: usize = 70;
const IMAGES_MIN: usize = 5_000;
const UNSYNCED_ROLLS_MIN: usize = 2_000;
const IMAGES_PER_MOMENT: [(Survival, u64); 5] = [
    (Survival::All, 2),
    (Survival::SyncedOnly, 1),
    (Survival::Prefix, 1),
    (Survival::TornPrefix, 2),
    (Survival::AnyPages, 2),
];

fn open(image: &FaultyFiles, config: &LogConfig) -> Result<Log, LogError> {
    let descriptors = Descriptors::new(image.shared(), 4);
    Log::open(&descriptors, dir(), config.clone(), from_checkpoints(image), now_ms()).map(|(log, _)| log)
}

/// The log after the power loss. Only where pages survive in any order may something stand behind a hole: that is refused,
/// and cut when asked for.
fn recover(image: &FaultyFiles, config: &LogConfig, survival: Survival, durable: Offset) -> (Log, bool) {
    match open(image, config) {
        Ok(log) => (log, false),
        Err(LogError::Damaged(range)) => {
            assert_eq!(survival, Survival::AnyPages, "{range}");
            assert!(range.from >= durable, "{range}, durable up to {durable}");
            assert!(range.until.is_some_and(|until| until > range.from), "{range}");
            let descriptors = Descriptors::new(image.shared(), 4);
            let from = from_checkpoints(image);
            let cut = Log::open_cutting_damage(&descriptors, dir(), config.clone(), from, now_ms());
            (cut.unwrap().0, true)
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether `log` is `state`, perhaps without some of its undurable end and of what is being deleted at its start.
fn is_part_of(log: &Log, contents: &[u8], state: &State) -> Result<(), String> {
    let (start, end) = (log.start_offset(), log.end_offset());
    if start > state.start.max(state.end) || end > state.end {
        return Err(format!("{start} to {end} is not in {} to {}", state.start, state.end));
    }
    let is_at = |batch: &Batch| batch.header.base_offset == end || batch.header.next_offset() == end;
    let is_boundary = end == state.end || state.batches.iter().any(is_at);
    if !is_boundary {
        return Err(format!("it ends at {end}, inside a batch"));
    }
    let inside = |batch: &&Batch| batch.header.last_offset() >= start && batch.header.base_offset < end;
    let expected: Vec<u8> = state.batches.iter().filter(inside).flat_map(|batch| batch.bytes()).collect();
    if expected != contents {
        return Err(format!("contents of {start} to {end} differ"));
    }
    let (epochs, producers) = replayed(state, start, end);
    if epochs.entries() != log.epochs().entries() {
        return Err(format!("epochs {:?} are not {:?}", log.epochs(), epochs));
    }
    if producers.encode() != log.producers().encode() {
        return Err(format!("producers {:?} are not {:?}", log.producers(), producers));
    }
    Ok(())
}

/// Recovers one image and compares it with the states that the moment allows.
fn check_image(run: &Run, at: usize, image: &FaultyFiles, survival: Survival) -> bool {
    let (before, after) = run.states_at(at);
    let durable = before.durable.min(after.durable);
    let (mut log, was_damaged) = recover(image, &run.config, survival, durable);
    assert!(log.end_offset() >= durable, "durable up to {durable}, recovered up to {}", log.end_offset());
    assert!(log.start_offset() >= before.promised_start, "deleted records are back");
    assert_eq!(log.durable_offset(), log.end_offset());
    let contents = read_log(&log);
    if let Err(not_before) = is_part_of(&log, &contents, before)
        && let Err(not_after) = is_part_of(&log, &contents, after)
    {
        panic!("neither before ({not_before}) nor after ({not_after})");
    }
    // It goes on.
    let next = batch(log.end_offset(), 99, 3, 400, None);
    log.append(&next.header, &next.payload, now_ms()).unwrap();
    assert_eq!(log.sync().unwrap(), log.end_offset());
    let slice = log.read(next.header.base_offset, log.end_offset(), 1 << 20, true).unwrap();
    assert_eq!(slice.len_bytes(), HEADER_BYTES + next.payload.len());
    was_damaged
}

fn has_unsynced_roll(image: &FaultyFiles) -> bool {
    let entries = image.list(&dir()).unwrap_or_default();
    let has = |name: String| entries.iter().any(|entry| entry.name == name);
    entries
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(".unsynced"))
        .any(|base| has(format!("{base}.log")))
}

#[test]
fn what_is_durable_survives_a_power_loss_at_any_moment() {
    let mut seen = HashSet::new();
    let mut by_survival: BTreeMap<Survival, usize> = BTreeMap::new();
    let mut by_operation: BTreeMap<String, usize> = BTreeMap::new();
    let (mut damaged, mut with_unsynced_rolls) = (0, 0);
    let runs = SEEDS.map(|seed| (seed, Run::new(seed, STEPS)));
    let rolling = (0..6).map(|seed| (100 + seed, Run::with_unsynced_rolls(seed, STEPS)));
    for (seed, run) in runs.chain(rolling) {
        let history = run.files.history();
        for at in run.first_operation..=history.len() {
            for (survival, images) in IMAGES_PER_MOMENT {
                for image_seed in 0..images {
                    let image = run.files.crash_image(at, survival, image_seed);
                    if !seen.insert(image.content_hash()) {
                        continue;
                    }
                    with_unsynced_rolls += usize::from(has_unsynced_roll(&image));
                    let context = format!("seed {seed}, operation {at}, {survival:?}, image {image_seed}");
                    let checked = std::panic::catch_unwind(|| check_image(&run, at, &image, survival));
                    let Ok(was_damaged) = checked else {
                        panic!("{context}: {}", run.describe(at));
                    };
                    damaged += usize::from(was_damaged);
                    *by_survival.entry(survival).or_default() += 1;
                    let operation = history.get(at).map_or("end".to_owned(), |o| format!("{o:?}"));
                    *by_operation.entry(operation).or_default() += 1;
                }
            }
        }
    }
    println!("{} distinct crash images, {damaged} of them with whole batches behind a hole", seen.len());
    println!("{with_unsynced_rolls} of them with a segment that began before the one before was synced");
    println!("by what survived: {by_survival:?}");
    println!("by the operation that was next: {by_operation:?}");
    assert!(seen.len() >= IMAGES_MIN, "{} images", seen.len());
    assert!(damaged > 0, "no image had a hole");
    assert!(with_unsynced_rolls >= UNSYNCED_ROLLS_MIN, "{with_unsynced_rolls} images with unsynced rolls");
    for kind in ["Write", "Sync", "Rename", "Remove", "SetLen", "Create", "SyncDir"] {
        assert!(by_operation.get(kind).is_some_and(|&count| count > 20), "{kind}: {by_operation:?}");
    }
}

#[test]
fn equal_seeds_make_equal_runs() {
    let (one, two, other) = (Run::new(5, STEPS), Run::new(5, STEPS), Run::new(6, STEPS));
    assert_eq!(one.files.history(), two.files.history());
    assert_eq!(one.files.content_hash(), two.files.content_hash());
    assert_ne!(one.files.content_hash(), other.files.content_hash());
    let image = |run: &Run| run.files.crash_image(100, Survival::AnyPages, 7).content_hash();
    assert_eq!(image(&one), image(&two));
}

/// The check above can fail: an image whose durable bytes were changed does not pass.
#[test]
fn a_lost_durable_byte_is_noticed() {
    let run = Run::new(1, 20);
    let at = run.files.operation_count();
    let (_, after) = run.states_at(at);
    assert!(after.durable > after.start);
    let image = run.files.crash_image(at, Survival::All, 0);
    let first = after.batches.iter().find(|batch| batch.header.last_offset() >= after.start).unwrap();
    let log = open(&image, &run.config).unwrap();
    let slice = log.read(first.header.base_offset.max(after.start), after.end, 100, true).unwrap();
    assert!(slice.len_bytes() > HEADER_BYTES);
    drop(log);
    // Flipped in whatever segment is the first.
    let name = image.list(&dir()).unwrap().into_iter().find(|e| e.name.ends_with(".log") && e.size_bytes > 0);
    image.flip(&dir().join(name.unwrap().name), 70, 1).unwrap();
    let outcome = std::panic::catch_unwind(|| check_image(&run, at, &image, Survival::All));
    assert!(outcome.is_err());
}

#[test]
fn a_full_disk_cuts_the_partial_batch_and_the_log_goes_on() {
    use ottla_storage::files::faulty::{Fault, Operation};
    let files = FaultyFiles::new();
    let mut log = open(&files, &LogConfig::default()).unwrap();
    let one = batch(Offset(0), 0, 2, 500, None);
    log.append(&one.header, &one.payload, now_ms()).unwrap();
    let two = batch(Offset(2), 0, 2, 500, None);
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: ".log".into(),
        after: 0,
        error: io::ErrorKind::StorageFull,
        written_bytes: 100,
    });
    assert!(matches!(log.append(&two.header, &two.payload, now_ms()), Err(LogError::NoSpace)));
    assert_eq!(log.end_offset(), Offset(2));
    files.heal();
    log.append(&two.header, &two.payload, now_ms()).unwrap();
    assert_eq!(log.sync().unwrap(), Offset(4));
    assert_eq!(read_log(&log), [one.bytes(), two.bytes()].concat());
}

#[test]
fn a_failed_sync_or_write_fences_the_log_for_ever() {
    use ottla_storage::files::faulty::{Fault, Operation};
    for operation in [Operation::Sync, Operation::Write] {
        let files = FaultyFiles::new();
        let mut log = open(&files, &LogConfig::default()).unwrap();
        let one = batch(Offset(0), 0, 2, 500, None);
        log.append(&one.header, &one.payload, now_ms()).unwrap();
        let durable = log.sync().unwrap();
        let two = batch(Offset(2), 0, 2, 500, None);
        files.fail(Fault {
            operation,
            path_suffix: ".log".into(),
            after: 0,
            error: io::ErrorKind::Other,
            written_bytes: 10,
        });
        let failed = log.append(&two.header, &two.payload, now_ms()).and_then(|()| log.sync());
        assert!(matches!(failed, Err(LogError::Failed(_))), "{failed:?}");
        files.heal();
        assert!(matches!(log.append(&two.header, &two.payload, now_ms()), Err(LogError::Failed(_))));
        assert_eq!(log.durable_offset(), durable);
        assert_eq!(read_log(&log)[..one.bytes().len()], one.bytes());
    }
}

#[test]
fn a_read_error_is_not_damage() {
    use ottla_storage::files::faulty::{Fault, Operation};
    let files = FaultyFiles::new();
    let mut log = open(&files, &LogConfig::default()).unwrap();
    let one = batch(Offset(0), 0, 2, 500, None);
    log.append(&one.header, &one.payload, now_ms()).unwrap();
    log.sync().unwrap();
    drop(log);
    files.fail(Fault {
        operation: Operation::Read,
        path_suffix: ".log".into(),
        after: 0,
        error: io::ErrorKind::Other,
        written_bytes: 0,
    });
    let hash = files.content_hash();
    assert!(matches!(open(&files, &LogConfig::default()), Err(LogError::Io { .. })));
    files.heal();
    assert_eq!(files.content_hash(), hash);
    assert_eq!(open(&files, &LogConfig::default()).unwrap().end_offset(), Offset(2));
}

/// Appends three batches, changes the file behind the log's back, and opens it.
fn opened_after(recovery_point: i64, change: impl FnOnce(&FaultyFiles, &Path, u64)) -> Result<Log, LogError> {
    let files = FaultyFiles::new();
    let mut log = open(&files, &LogConfig::default()).unwrap();
    for i in 0..3 {
        let one = batch(Offset(i * 2), 0, 2, 500, None);
        log.append(&one.header, &one.payload, now_ms()).unwrap();
    }
    log.sync().unwrap();
    let size = log.size_bytes();
    drop(log);
    change(&files, &dir().join("00000000000000000000.log"), size);
    let from = ottla_storage::log::OpenFrom { recovery_point: Offset(recovery_point), ..Default::default() };
    let descriptors = Descriptors::new(files.shared(), 4);
    Log::open(&descriptors, dir(), LogConfig::default(), from, now_ms()).map(|(log, _)| log)
}

#[test]
fn damage_is_cut_only_at_the_end_above_the_recovery_point() {
    let flip_last = |files: &FaultyFiles, path: &Path, size: u64| files.flip(path, size - 3, 4).unwrap();
    let flip_middle = |files: &FaultyFiles, path: &Path, size: u64| files.flip(path, size / 2, 4).unwrap();
    let shorten = |files: &FaultyFiles, path: &Path, size: u64| {
        files.open(path, Open::ReadWrite).unwrap().set_len(size / 3 * 2).unwrap();
    };
    let garbage = |files: &FaultyFiles, path: &Path, size: u64| {
        files
            .open(path, Open::ReadWrite)
            .unwrap()
            .write_all_at(&mut [IoSlice::new(&[2; 300])], size)
            .unwrap();
    };
    assert_eq!(opened_after(4, flip_last).unwrap().end_offset(), Offset(4));
    assert_eq!(opened_after(6, garbage).unwrap().end_offset(), Offset(6));
    assert_eq!(opened_after(4, shorten).unwrap().end_offset(), Offset(4));
    let expect_damage = |outcome: Result<Log, LogError>, from: i64, until: Option<i64>| match outcome {
        Err(LogError::Damaged(range)) => {
            assert_eq!((range.from, range.until), (Offset(from), until.map(Offset)))
        }
        other => panic!("{other:?}"),
    };
    expect_damage(opened_after(6, flip_last), 4, None);
    expect_damage(opened_after(6, shorten), 4, None);
    expect_damage(opened_after(0, flip_middle), 2, Some(4));
}

/// Two segments of three batches; what the first one's end lacks is a loss only if the second had counted as durable.
#[test]
fn a_hole_before_a_segment_that_was_never_durable_is_an_end() {
    for is_synced in [false, true] {
        let files = FaultyFiles::new();
        let config = LogConfig::default();
        let mut log = open(&files, &config).unwrap();
        for i in 0..6 {
            if i == 3 {
                log.roll(now_ms()).unwrap();
            }
            let one = batch(Offset(i * 2), 0, 2, 500, None);
            log.append(&one.header, &one.payload, now_ms()).unwrap();
        }
        let size_bytes = log.size_bytes();
        if is_synced {
            assert_eq!(log.sync().unwrap(), Offset(12));
        }
        drop(log);
        assert_eq!(has_unsynced_roll(&files), !is_synced);
        let first = dir().join("00000000000000000000.log");
        files.open(&first, Open::ReadWrite).unwrap().set_len(size_bytes / 3).unwrap();
        match open(&files, &config) {
            Ok(log) => {
                assert!(!is_synced);
                assert_eq!((log.end_offset(), log.segment_count()), (Offset(4), 1));
                assert!(files.list(&dir()).unwrap().iter().all(|entry| !entry.name.ends_with(".unsynced")));
            }
            Err(LogError::Damaged(range)) => {
                assert!(is_synced, "{range}");
                assert_eq!((range.from, range.until), (Offset(4), Some(Offset(6))));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A roll is for a ticket to sync: appends only write.
#[test]
fn appends_never_sync() {
    use ottla_storage::files::faulty::Operation;
    let files = FaultyFiles::new();
    files.create_dir_all(Path::new(crash_run::DATA)).unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    let before = files.operation_count();
    let config = LogConfig { segment_bytes: 3_000, ..LogConfig::default() };
    let mut log = open(&files, &config).unwrap();
    for i in 0..40 {
        let one = batch(Offset(i * 2), i as i32 / 7, 2, 500, Some((5, i as i32 * 2)));
        log.append(&one.header, &one.payload, now_ms()).unwrap();
    }
    assert!(log.segment_count() > 5);
    let is_sync = |operation: &Operation| matches!(operation, Operation::Sync | Operation::SyncDir);
    assert_eq!(files.history()[before..].iter().filter(|operation| is_sync(operation)).count(), 0);
    assert_eq!(log.sync().unwrap(), Offset(80));
    let image = files.crash_image(files.operation_count(), Survival::SyncedOnly, 0);
    assert_eq!(open(&image, &config).unwrap().end_offset(), Offset(80));
}

/// A segment that could not be begun leaves no mark that a later one of its name would bear.
#[test]
fn a_roll_without_room_leaves_no_mark() {
    use ottla_storage::files::faulty::{Fault, Operation};
    let files = FaultyFiles::new();
    let mut log = open(&files, &LogConfig::default()).unwrap();
    let one = batch(Offset(0), 0, 2, 500, None);
    log.append(&one.header, &one.payload, now_ms()).unwrap();
    files.fail(Fault {
        operation: Operation::Create,
        path_suffix: "2.log".into(),
        after: 0,
        error: io::ErrorKind::StorageFull,
        written_bytes: 0,
    });
    assert!(matches!(log.roll(now_ms()), Err(LogError::NoSpace)));
    files.heal();
    assert_eq!(log.sync().unwrap(), Offset(2));
    log.roll(now_ms()).unwrap();
    assert!(!has_unsynced_roll(&files));
}

/// The base offset is outside the checksum: only its neighbours show that it is wrong.
#[test]
fn a_wrong_base_offset_is_damage_wherever_it_stands() {
    let size_of_one = batch(Offset(0), 0, 2, 500, None).bytes().len() as u64;
    for compact_enabled in [false, true] {
        for index in 0..3 {
            for (byte, mask) in [(7, 1), (7, 2), (7, 0x40), (6, 0x10), (5, 0x55), (3, 0x40), (0, 0x80)] {
                let files = FaultyFiles::new();
                let config = LogConfig { compact_enabled, ..LogConfig::default() };
                let mut log = open(&files, &config).unwrap();
                for i in 0..3 {
                    let one = batch(Offset(i * 2), 0, 2, 500, None);
                    log.append(&one.header, &one.payload, now_ms()).unwrap();
                }
                log.sync().unwrap();
                drop(log);
                files
                    .flip(&dir().join("00000000000000000000.log"), index * size_of_one + byte, mask)
                    .unwrap();
                let hash = files.content_hash();
                let context =
                    format!("batch {index}, byte {byte}, mask {mask}, compacted: {compact_enabled}");
                match open(&files, &config) {
                    Err(LogError::Damaged(_)) => assert_eq!(files.content_hash(), hash, "{context}"),
                    // A gap, as compaction leaves: the last batch has no neighbour to contradict it.
                    Ok(log) => {
                        assert!(compact_enabled && index == 2 && log.end_offset() > Offset(6), "{context}")
                    }
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
    }
}

#[test]
fn headers_survive_encoding() {
    let one = batch(Offset(7), 3, 2, 100, Some((5, 0)));
    assert_eq!(BatchHeader::parse(&one.bytes()).unwrap(), one.header);
}
