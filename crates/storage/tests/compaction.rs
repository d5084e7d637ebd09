//! Compaction of random logs against a model that knows every record, and of what the model does not say: sizes, gaps in logs
//! of another policy, bounded tables, what a reader holds.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod compaction_run;

use compaction_run::{Driver, config, open};

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
    assert!(cleanings > 400 && kept < replaced / 2);
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
