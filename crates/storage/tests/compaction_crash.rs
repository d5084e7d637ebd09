//! Power losses at every operation of cleanings: a swap that was decided is finished, another is undone, no last value is lost,
//! no deleted key is back, and the log goes on and can be cleaned again.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod compaction_run;

use std::collections::{BTreeMap, HashSet};

use compaction_run::{Driver, Model, START_MS, clean, config, dir, from_checkpoints, open, options};
use ottla_protocol::ids::Offset;
use ottla_storage::checkpoint::{CLEANER_OFFSET_FILE, RECOVERY_POINT_FILE};
use ottla_storage::compaction::{Cleaning, CleaningOptions};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::Files as _;
use ottla_storage::files::faulty::{FaultyFiles, Operation, Survival};
use ottla_storage::log::{Log, LogConfig, LogError};

const SEEDS: u64 = 22;
const IMAGES_MIN: usize = 2_000;
const IMAGES_PER_MOMENT: [(Survival, u64); 5] = [
    (Survival::All, 2),
    (Survival::SyncedOnly, 1),
    (Survival::Prefix, 2),
    (Survival::TornPrefix, 2),
    (Survival::AnyPages, 2),
];

/// A cleaning, with appends, syncs and deletions of files beside it.
fn clean_amid_appends(driver: &mut Driver) -> bool {
    driver.options.now_ms = driver.now_ms;
    let plan = driver.log.plan_cleaning(driver.log.durable_offset(), driver.now_ms).unwrap();
    let Some(plan) = plan else { return false };
    let mut cleaning = Cleaning::prepare(plan, &driver.options, &mut |_| true).unwrap();
    for index in 0..cleaning.group_count() {
        let copied = cleaning.copy(index, &mut |_| true).unwrap();
        driver.append();
        cleaning.swap(&mut driver.log, index, copied).unwrap();
        match driver.random.below(3) {
            0 => cleaning.sync_names().unwrap(),
            1 => drop(driver.log.sync().unwrap()),
            _ => driver.log.remove_deleted(driver.now_ms).unwrap(),
        }
    }
    cleaning.sync_names().unwrap();
    cleaning.finish(&mut driver.log);
    driver.checkpoint(CLEANER_OFFSET_FILE, driver.log.cleaned_to());
    true
}

/// What stands in the directory of an image.
fn kind_of(image: &FaultyFiles) -> &'static str {
    let names: Vec<String> = image.list(&dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    let has = |suffix: &str| names.iter().any(|name| name.ends_with(suffix));
    match (has(".log.swap"), has(".log.cleaned"), has(".swap")) {
        (true, _, _) => "decided",
        (false, true, true) => "about to be decided",
        (false, true, false) => "being written",
        (false, false, true) => "only a side file of a swap",
        (false, false, false) => "no swap",
    }
}

/// Where pages survive in any order, what was appended meanwhile may stand behind a hole: that is refused, and cut when asked for.
fn recover(image: &FaultyFiles, config: &LogConfig, durable: Offset) -> Log {
    match open(image, config) {
        Err(LogError::Damaged(range)) => {
            assert!(range.from >= durable && range.until.is_some(), "{range}, durable up to {durable}");
            let descriptors = Descriptors::new(image.shared(), 4);
            let from = from_checkpoints(image);
            Log::open_cutting_damage(&descriptors, dir(), config.clone(), from, START_MS).unwrap().0
        }
        other => other.unwrap(),
    }
}

fn check_image(image: &FaultyFiles, config: &LogConfig, model: &Model, durable: Offset, now_ms: i64) {
    let mut log = recover(image, config, durable);
    assert!(log.end_offset() >= durable, "durable up to {durable}, recovered up to {}", log.end_offset());
    let leftovers = image.list(&dir()).unwrap().into_iter().map(|entry| entry.name);
    let is_left = |name: &String| name.ends_with(".swap") || name.ends_with(".cleaned");
    assert_eq!(leftovers.filter(is_left).collect::<Vec<_>>(), Vec::<String>::new());
    model.check(&log, now_ms);
    if config.compact_enabled {
        clean(&mut log, &CleaningOptions { now_ms, ..options(1 << 20) }).unwrap();
        model.check(&log, now_ms);
    }
    log.close(now_ms).unwrap();
    model.check(&open(image, config).unwrap(), now_ms);
}

#[derive(Default)]
struct Counts {
    seen: HashSet<u64>,
    by_kind: BTreeMap<&'static str, usize>,
    by_survival: BTreeMap<Survival, usize>,
    by_operation: BTreeMap<String, usize>,
}

impl Counts {
    /// Checks the images of all moments from the operation `first` on.
    fn check_moments(&mut self, driver: &Driver, seed: u64, first: usize, durable: Offset) {
        let history = driver.files.history();
        for at in first..=history.len() {
            let operation = history.get(at).map_or("end".into(), |o: &Operation| format!("{o:?}"));
            for (survival, images) in IMAGES_PER_MOMENT {
                for image_seed in 0..images {
                    let image = driver.files.crash_image(at, survival, image_seed);
                    if !self.seen.insert(image.content_hash()) {
                        continue;
                    }
                    *self.by_kind.entry(kind_of(&image)).or_default() += 1;
                    *self.by_survival.entry(survival).or_default() += 1;
                    *self.by_operation.entry(operation.clone()).or_default() += 1;
                    // Under the policy `delete`, too: it may have been changed while the broker was down.
                    let compact_enabled = !self.seen.len().is_multiple_of(3);
                    let config = LogConfig { compact_enabled, ..driver.config.clone() };
                    let (model, now_ms) = (&driver.model, driver.now_ms);
                    let checked = std::panic::catch_unwind(|| {
                        check_image(&image, &config, model, durable, now_ms);
                    });
                    assert!(checked.is_ok(), "seed {seed}, operation {at}, {survival:?}, image {image_seed}");
                }
            }
        }
    }
}

#[test]
fn a_power_loss_in_a_cleaning_loses_nothing() {
    let mut counts = Counts::default();
    for seed in 0..SEEDS {
        let config = LogConfig { segment_bytes: 1_200, ..config() };
        let mut driver = Driver::new(seed, config, 1 << 20);
        for _ in 0..2 {
            (0..40).for_each(|_| driver.step());
            driver.log.sync().unwrap();
            if seed % 2 == 0 {
                driver.checkpoint(RECOVERY_POINT_FILE, driver.log.durable_offset());
            }
            let (durable, first) = (driver.log.durable_offset(), driver.files.operation_count());
            if clean_amid_appends(&mut driver) {
                counts.check_moments(&driver, seed, first, durable);
                driver.note_reached();
            }
        }
    }
    let Counts { seen, by_kind, by_survival, by_operation } = counts;
    println!("{} distinct crash images", seen.len());
    println!("by what they hold: {by_kind:?}");
    println!("by what survived: {by_survival:?}");
    println!("by the operation that was next: {by_operation:?}");
    assert!(seen.len() >= IMAGES_MIN, "{} images", seen.len());
    for kind in ["decided", "about to be decided", "being written", "no swap"] {
        assert!(by_kind.get(kind).is_some_and(|&count| count > 100), "{kind}: {by_kind:?}");
    }
    for operation in ["Write", "Sync", "Rename", "Remove", "SyncDir"] {
        assert!(
            by_operation.get(operation).is_some_and(|&count| count > 50),
            "{operation}: {by_operation:?}"
        );
    }
}
