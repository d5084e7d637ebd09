//! Leader epochs survive whatever happens to their file: recovery reads them from the batches, as far as it reads batches.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod crash_run;

use std::io;

use crash_run::{batch, dir};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation, Survival};
use ottla_storage::log::{Log, LogConfig, OpenFrom};

fn open(files: &FaultyFiles, recovery_point: Offset) -> Log {
    let from = OpenFrom { recovery_point, ..OpenFrom::default() };
    Log::open(&Descriptors::new(files.shared(), 8), dir(), LogConfig::default(), from, 0).unwrap().0
}

fn append(log: &mut Log, epoch: i32) {
    let mut one = batch(log.end_offset(), 0, 2, 100, None);
    one.header.partition_leader_epoch = LeaderEpoch(epoch);
    log.append(&one.header, &one.payload, 0).unwrap();
}

fn epochs(log: &Log) -> Vec<(i32, i64)> {
    log.epochs().entries().iter().map(|entry| (entry.epoch.0, entry.start_offset.0)).collect()
}

/// What a killed process leaves, opened with the recovery point that was written down.
fn after_a_kill(files: &FaultyFiles, log: &Log) -> Log {
    let image = files.crash_image(files.operation_count(), Survival::All, 0);
    open(&image, log.recovery_point())
}

#[test]
fn a_full_disk_misses_epochs_and_recovery_finds_them() {
    let files = FaultyFiles::new();
    let mut log = open(&files, Offset(0));
    append(&mut log, 1);
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: "leader-epoch-checkpoint.tmp".into(),
        after: 0,
        error: io::ErrorKind::StorageFull,
        written_bytes: 0,
    });
    append(&mut log, 3);
    log.roll(0).unwrap();
    append(&mut log, 3);
    log.sync().unwrap();
    assert_eq!((log.durable_offset(), log.recovery_point()), (Offset(6), Offset(0)));
    assert_eq!(epochs(&after_a_kill(&files, &log)), [(1, 0), (3, 2)]);
    files.heal();
    append(&mut log, 3);
    log.sync().unwrap();
    assert_eq!(log.recovery_point(), Offset(8), "the file says it now");
    assert_eq!(epochs(&after_a_kill(&files, &log)), [(1, 0), (3, 2)]);
}

#[test]
fn what_recovery_found_is_found_again_until_it_is_written() {
    let files = FaultyFiles::new();
    let mut log = open(&files, Offset(0));
    append(&mut log, 1);
    log.roll(0).unwrap();
    append(&mut log, 1);
    log.sync().unwrap();
    append(&mut log, 3);
    log.roll(0).unwrap();
    append(&mut log, 3);
    // Killed before the sync: the epochs' file does not know of epoch 3.
    let image = files.crash_image(files.operation_count(), Survival::All, 0);
    let log = open(&image, log.recovery_point());
    assert_eq!(epochs(&log), [(1, 0), (3, 4)]);
    assert_eq!((log.durable_offset(), log.recovery_point()), (Offset(8), Offset(4)));
    // Killed again, before anything was written.
    let mut log = open(&image, log.recovery_point());
    assert_eq!(epochs(&log), [(1, 0), (3, 4)]);
    append(&mut log, 3);
    log.sync().unwrap();
    assert_eq!(log.recovery_point(), Offset(10));
    assert_eq!(epochs(&open(&image, log.recovery_point())), [(1, 0), (3, 4)]);
}
