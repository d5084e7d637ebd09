use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::checkpoint::*;
use crate::files::Open;
use crate::files::faulty::{Fault, FaultyFiles, Operation, Survival};
use crate::files::real::RealFiles;

const DIR: &str = "/var/data";

fn identity() -> Identity {
    let new_directory_id = Uuid::parse("k27iQs8yRKyLG1ZXtWvfAw").expect("an id");
    Identity { cluster_id: "cluster-a".into(), node_id: BrokerId(1), new_directory_id }
}

fn try_open(files: &FaultyFiles) -> Result<(LogDirectory, Found), DirectoryError> {
    LogDirectory::open(files.shared(), DIR.into(), &identity())
}

fn open(files: &FaultyFiles) -> (LogDirectory, Found) {
    try_open(files).expect("it opens")
}

fn refusal(files: &FaultyFiles) -> String {
    let error = try_open(files).map(|(_, found)| found).expect_err("it is refused");
    let error: &dyn std::error::Error = &error;
    error.to_string()
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn progress(recovery_point: i64, log_start_offset: Option<i64>) -> Progress {
    Progress {
        recovery_point: Offset(recovery_point),
        log_start_offset: log_start_offset.map(Offset),
        cleaned_to: None,
        high_watermark: None,
    }
}

fn make_partition(files: &FaultyFiles, directory: &LogDirectory, partition: &TopicPartition) {
    files.create_dir_all(&directory.partition_dir(partition)).expect("it is made");
    files.sync_dir(directory.path()).expect("it is synced");
}

fn file(files: &FaultyFiles, name: &str) -> Option<String> {
    let contents = checkpoint::read_whole(files, &Path::new(DIR).join(name)).expect("it is read");
    contents.map(|contents| String::from_utf8(contents).expect("text"))
}

fn put(files: &FaultyFiles, name: &str, contents: &str) {
    checkpoint::write_atomically(files, &Path::new(DIR).join(name), contents.as_bytes())
        .expect("it is written");
}

#[test]
fn a_new_directory_gets_an_identity_and_keeps_it() {
    let files = FaultyFiles::new();
    let (directory, found) = open(&files);
    assert_eq!(found, Found { is_new: true, ..Found::default() });
    assert!(!directory.was_clean());
    assert_eq!(directory.meta().directory_id, identity().new_directory_id);
    drop(directory);
    let other = Identity { new_directory_id: Uuid([7; 16]), ..identity() };
    let (directory, found) = LogDirectory::open(files.shared(), DIR.into(), &other).expect("it opens");
    assert!(!found.is_new);
    assert_eq!(directory.meta().directory_id, identity().new_directory_id);
}

#[test]
fn a_directory_is_used_by_one_broker_at_a_time() {
    let files = FaultyFiles::new();
    let first = open(&files);
    assert_eq!(
        refusal(&files),
        "log directory /var/data is in use by another broker (its lock is taken); give each broker its own log.dirs"
    );
    drop(first);
    open(&files);
}

#[test]
fn a_foreign_directory_is_refused_untouched() {
    let files = FaultyFiles::new();
    open(&files).0.close_clean(1).expect("it closes");
    let before = files.content_hash();
    for (foreign, text) in [
        (
            Identity { node_id: BrokerId(2), ..identity() },
            "log directory /var/data belongs to node.id 1, this broker has node.id 2; check log.dirs and the configuration, \
             the data were not touched",
        ),
        (
            Identity { cluster_id: "cluster-b".into(), ..identity() },
            "log directory /var/data belongs to cluster.id cluster-a, this broker has cluster.id cluster-b; check log.dirs \
             and the configuration, the data were not touched",
        ),
    ] {
        let error =
            LogDirectory::open(files.shared(), DIR.into(), &foreign).map(|_| ()).expect_err("refused");
        assert_eq!(error.to_string(), text);
        assert_eq!(files.content_hash(), before);
    }
    assert!(open(&files).0.was_clean());
}

#[test]
fn a_half_written_or_lost_identity_is_refused_untouched() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    drop(directory);
    put(&files, META_PROPERTIES_FILE, "version=1\ncluster.id=clus");
    let before = files.content_hash();
    assert_eq!(
        refusal(&files),
        "/var/data/meta.properties is unreadable (node.id is missing); restore it from a copy: it says to which cluster and \
         node the data belong"
    );
    assert_eq!(files.content_hash(), before);
    files.remove_file(&Path::new(DIR).join(META_PROPERTIES_FILE)).expect("removed");
    assert_eq!(
        refusal(&files),
        "log directory /var/data holds partitions (orders-0, ...) but no meta.properties; restore that file from a copy, or \
         start with an empty directory"
    );
    files.rename(&Path::new(DIR).join("orders-0"), &Path::new(DIR).join(METADATA_DIR)).expect("renamed");
    assert!(refusal(&files).contains("holds partitions (__cluster_metadata-0, ...)"));
    assert_eq!(file(&files, META_PROPERTIES_FILE), None);
}

#[test]
fn a_directory_has_its_id_before_anybody_knows_its_cluster() {
    let (first, second) = (Uuid([1; 16]), Uuid([2; 16]));
    let claim = |files: &FaultyFiles| Claim::take(files.shared(), DIR.into()).expect("it is free");
    let files = FaultyFiles::new();
    assert_eq!(claim(&files).directory_id(first).expect("written"), first);
    for survival in [Survival::SyncedOnly, Survival::All] {
        let files = files.crash_image(files.operation_count(), survival, 0);
        files.create_dir_all(&Path::new(DIR).join(METADATA_DIR)).expect("the quorum makes it");
        let held = claim(&files);
        assert!(matches!(Claim::take(files.shared(), DIR.into()), Err(DirectoryError::Locked { .. })));
        assert_eq!(held.directory_id(second).expect("read"), first, "a restart keeps it");
        let (directory, found) = held.open(&identity()).expect("it opens");
        assert_eq!((directory.meta().directory_id, found.is_new), (first, true));
        assert_eq!(file(&files, DIRECTORY_ID_FILE), None);
        drop(directory);
        assert_eq!(claim(&files).directory_id(second).expect("read"), first);
    }
}

#[test]
fn clean_is_only_what_was_closed_in_order_since_the_last_start() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    directory.close_clean(750).expect("it closes");
    assert_eq!(file(&files, CLEAN_SHUTDOWN_FILE).as_deref(), Some("{\"version\":0,\"brokerEpoch\":750}"));
    drop(directory);
    let (directory, _) = open(&files);
    assert!(directory.was_clean() && directory.open_from(&orders(0)).clean);
    assert_eq!(file(&files, CLEAN_SHUTDOWN_FILE), None);
    // A power loss right now: the mark does not come back.
    let image = files.crash_image(files.operation_count(), Survival::SyncedOnly, 0);
    assert!(!open(&image).0.was_clean());
    assert!(directory.fence("fdatasync failed"));
    assert!(!directory.fence("again"));
    let error = directory.close_clean(751).expect_err("it is fenced");
    assert_eq!(error.to_string(), "not marked as clean, because it is fenced: fdatasync failed");
    drop(directory);
    assert!(!open(&files).0.was_clean());
}

#[test]
fn checkpoints_come_back_and_unchanged_ones_are_not_written() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    for partition in 0..3 {
        make_partition(&files, &directory, &orders(partition));
    }
    let all =
        [(orders(0), progress(10, None)), (orders(1), progress(20, Some(7))), (orders(2), progress(0, None))];
    directory.write_checkpoints(all.clone()).expect("written");
    assert_eq!(file(&files, LOG_START_OFFSET_FILE).as_deref(), Some("0\n1\norders 1 7\n"));
    assert_eq!(
        file(&files, RECOVERY_POINT_FILE).as_deref(),
        Some("0\n3\norders 0 10\norders 1 20\norders 2 0\n")
    );
    let before = files.operation_count();
    directory.write_checkpoints(all).expect("nothing to write");
    assert_eq!(files.operation_count(), before);
    directory.write_checkpoints([(orders(0), progress(9, None))]).expect("back, before a cut");
    drop(directory);
    let (directory, found) = open(&files);
    assert_eq!(found.partitions, [orders(0), orders(1), orders(2)]);
    let from = |partition| {
        let from = directory.open_from(&orders(partition));
        (from.log_start_offset.0, from.recovery_point.0, from.clean)
    };
    assert_eq!(
        [from(0), from(1), from(2), from(3)],
        [(0, 9, false), (7, 20, false), (0, 0, false), (0, 0, false)]
    );
}

#[test]
fn a_checkpoint_that_could_not_be_written_is_written_next_time() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    let (operation, error) = (Operation::Write, io::ErrorKind::StorageFull);
    let path_suffix = format!("{RECOVERY_POINT_FILE}.tmp");
    files.fail(Fault { operation, path_suffix, after: 0, error, written_bytes: 3 });
    let failed = directory.write_checkpoints([(orders(0), progress(10, None))]).expect_err("no space");
    assert_eq!(failed.kind(), error);
    assert_eq!(file(&files, RECOVERY_POINT_FILE), None);
    files.heal();
    directory.write_checkpoints([]).expect("there is space again");
    assert_eq!(file(&files, RECOVERY_POINT_FILE).as_deref(), Some("0\n1\norders 0 10\n"));
}

#[test]
fn damaged_recovery_points_cost_time_and_damaged_start_offsets_stop() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    directory.write_checkpoints([(orders(0), progress(10, Some(4)))]).expect("written");
    directory.close_clean(1).expect("it closes");
    drop(directory);
    put(&files, RECOVERY_POINT_FILE, "0\n2\norders 0 10\n");
    let (directory, found) = open(&files);
    assert_eq!(
        found.warnings,
        [
            "/var/data/recovery-point-offset-checkpoint is damaged: 1 entries, 2 announced; every log is checked from its start"
        ]
    );
    let expected = OpenFrom { log_start_offset: Offset(4), recovery_point: Offset(0), ..OpenFrom::default() };
    assert_eq!(directory.open_from(&orders(0)), expected);
    directory.write_checkpoints([]).expect("the damaged file is replaced");
    assert_eq!(file(&files, RECOVERY_POINT_FILE).as_deref(), Some("0\n0\n"));
    drop(directory);
    put(&files, LOG_START_OFFSET_FILE, "");
    assert_eq!(
        refusal(&files),
        "/var/data/log-start-offset-checkpoint is damaged: empty; restore the file from a copy, or remove it: then records \
         deleted by DeleteRecords may be readable again until retention takes their segment"
    );
}

#[test]
fn what_is_not_a_partition_is_left_alone_and_what_is_deleted_is_found() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    let deleted = orders(3).deleted_dir_name(17);
    for name in [METADATA_DIR, "lost+found", "a-1", &deleted, "b-0.00000000000000000000000000000abc-stray"] {
        files.create_dir_all(&directory.path().join(name)).expect("made");
    }
    put(&files, "c-0", "a file");
    drop(directory);
    let (directory, found) = open(&files);
    assert_eq!(found.partitions, [TopicPartition::new("a", 1)]);
    assert_eq!(found.deleted, [directory.path().join(deleted)]);
    directory.remove_deleted(&found.deleted[0]).expect("removed");
    directory.remove_deleted(&found.deleted[0]).expect("gone already");
    assert!(!files.exists(&found.deleted[0]).expect("answered"));
}

#[test]
#[should_panic(expected = "is not a deleted partition")]
fn only_what_is_deleted_is_removed() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    drop(directory.remove_deleted(&directory.partition_dir(&orders(0))));
}

#[test]
fn a_deleted_partition_leaves_nothing_behind_for_its_successor() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    let mut renamed = BTreeSet::new();
    for round in 0..3 {
        make_partition(&files, &directory, &orders(0));
        directory.write_checkpoints([(orders(0), progress(100, Some(50)))]).expect("written");
        // orders-1 was never written to, so it has no directory.
        let dirs = directory.rename_for_deletion(&[orders(0), orders(1)]).expect("renamed");
        assert_eq!(dirs.len(), 1, "{round}");
        renamed.extend(dirs);
        assert_eq!(directory.open_from(&orders(0)), OpenFrom::default());
        assert_eq!(file(&files, RECOVERY_POINT_FILE).as_deref(), Some("0\n0\n"));
        assert_eq!(file(&files, LOG_START_OFFSET_FILE).as_deref(), Some("0\n0\n"));
    }
    assert_eq!(renamed.len(), 3, "each has its own name");
    drop(directory);
    let (directory, found) = open(&files);
    assert_eq!(found.deleted.iter().cloned().collect::<BTreeSet<_>>(), renamed);
    make_partition(&files, &directory, &orders(0));
    let again = directory.rename_for_deletion(&[orders(0)]).expect("renamed");
    assert!(!renamed.contains(&again[0]), "names of an earlier run are not taken again");
}

#[test]
fn a_partition_set_aside_keeps_its_files_and_gives_its_name_free() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    put(&files, "orders-0/x", "kept");
    directory.write_checkpoints([(orders(0), progress(100, Some(50)))]).expect("written");
    let dirs = directory.set_aside(&[orders(0)]).expect("renamed");
    let name = dirs[0].file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.starts_with("orders-0.") && name.ends_with("-stray"), "{name}");
    assert_eq!(file(&files, &format!("{name}/x")).as_deref(), Some("kept"));
    make_partition(&files, &directory, &orders(0));
    assert_eq!(directory.open_from(&orders(0)), OpenFrom::default());
    drop(directory);
    assert_eq!(open(&files).1, Found { partitions: vec![orders(0)], ..Found::default() });
}

#[test]
fn what_is_noted_of_a_partition_without_directory_is_not_given_to_its_successor() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    directory.write_checkpoints([(orders(0), progress(100, Some(50)))]).expect("too late");
    assert_eq!(directory.open_from(&orders(0)), OpenFrom::default());
    directory.write_checkpoints([]).expect("written");
    assert_eq!(file(&files, RECOVERY_POINT_FILE).as_deref(), Some("0\n0\n"));
}

#[test]
fn a_deleted_partition_stays_deleted_after_a_power_loss() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &orders(0));
    directory.rename_for_deletion(&[orders(0)]).expect("renamed");
    let (_, found) = open(&files.crash_image(files.operation_count(), Survival::SyncedOnly, 0));
    assert_eq!((found.partitions.len(), found.deleted.len()), (0, 1));
}

#[test]
fn the_reserve_is_released_and_taken_again() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    let reserve = directory.path().join(RESERVE_FILE);
    let size = || files.open(&reserve, Open::Read).and_then(|file| file.size_bytes());
    assert_eq!(size().expect("there"), RESERVE_BYTES);
    assert!(directory.mark_full() && !directory.mark_full() && directory.is_full());
    assert!(directory.release_reserve().expect("removed"));
    assert!(!directory.release_reserve().expect("gone already"));
    files.set_available_bytes(RESERVE_BYTES + 999);
    assert!(!directory.has_room_again(1000).expect("asked"));
    assert!(directory.is_full() && size().is_err());
    files.set_available_bytes(RESERVE_BYTES + 1000);
    let (operation, error) = (Operation::Write, io::ErrorKind::StorageFull);
    files.fail(Fault { operation, path_suffix: RESERVE_FILE.into(), after: 3, error, written_bytes: 100 });
    assert!(!directory.has_room_again(1000).expect("asked"), "it was gone again when we came");
    assert!(size().is_err(), "nothing is left of the attempt");
    files.heal();
    assert!(directory.has_room_again(1000).expect("asked"));
    assert!(!directory.is_full());
    assert_eq!(size().expect("there"), RESERVE_BYTES);
}

#[test]
fn a_full_disk_does_not_keep_an_existing_directory_from_opening() {
    let files = FaultyFiles::new();
    let (directory, _) = open(&files);
    directory.release_reserve().expect("removed");
    directory.close_clean(1).expect("it closes");
    drop(directory);
    for operation in [Operation::Write, Operation::Create] {
        let error = io::ErrorKind::StorageFull;
        files.fail(Fault { operation, path_suffix: String::new(), after: 0, error, written_bytes: 0 });
    }
    let (directory, found) = open(&files);
    assert!(directory.was_clean());
    assert_eq!(found.warnings, ["no space is kept in reserve in /var/data: no storage space"]);
}

/// A mebibyte of zeros in every image would only cost time.
fn without_reserve(files: &FaultyFiles) {
    let (operation, error) = (Operation::Create, io::ErrorKind::StorageFull);
    files.fail(Fault { operation, path_suffix: RESERVE_FILE.into(), after: 0, error, written_bytes: 0 });
}

/// What a run had been promised when `operations` had happened.
struct Promise {
    operations: usize,
    checkpoints: BTreeMap<TopicPartition, (i64, i64)>,
    partitions: Vec<TopicPartition>,
    is_clean: bool,
}

/// A short life of a directory, with what was promised after each call returned.
fn life(files: &FaultyFiles) -> Vec<Promise> {
    without_reserve(files);
    let mut promises = Vec::new();
    let mut promise = |partitions: &[i32], checkpoints: &[(i32, i64, i64)], is_clean| {
        promises.push(Promise {
            operations: files.operation_count(),
            checkpoints: checkpoints.iter().map(|&(id, point, start)| (orders(id), (point, start))).collect(),
            partitions: partitions.iter().copied().map(orders).collect(),
            is_clean,
        });
    };
    let (directory, _) = open(files);
    promise(&[], &[], false);
    make_partition(files, &directory, &orders(0));
    make_partition(files, &directory, &orders(1));
    promise(&[0, 1], &[], false);
    directory
        .write_checkpoints([(orders(0), progress(5, None)), (orders(1), progress(6, Some(2)))])
        .expect("w");
    promise(&[0, 1], &[(0, 5, 0), (1, 6, 2)], false);
    directory.rename_for_deletion(&[orders(1)]).expect("renamed");
    promise(&[0], &[(0, 5, 0)], false);
    make_partition(files, &directory, &orders(1));
    directory.write_checkpoints([(orders(0), progress(8, Some(3)))]).expect("w");
    promise(&[0, 1], &[(0, 8, 3)], false);
    directory.close_clean(1).expect("it closes");
    promise(&[0, 1], &[(0, 8, 3)], true);
    drop(directory);
    open(files);
    promise(&[0, 1], &[(0, 8, 3)], false);
    promises
}

#[test]
fn a_crash_anywhere_leaves_a_directory_that_opens_and_keeps_its_promises() {
    use Survival::{All, AnyPages, Prefix, SyncedOnly, TornPrefix};
    let files = FaultyFiles::new();
    let promises = life(&files);
    let mut images = BTreeSet::new();
    for at in 0..=files.operation_count() {
        for (survival, seeds) in [(All, 1), (SyncedOnly, 1), (Prefix, 4), (TornPrefix, 4), (AnyPages, 4)] {
            for seed in 0..seeds {
                let image = files.crash_image(at, survival, seed);
                if images.insert(image.content_hash()) {
                    check_image(&image, at, &promises);
                }
            }
        }
    }
    println!("log directory: {} distinct crash images", images.len());
    assert!(images.len() > 40, "{}", images.len());
}

fn check_image(image: &FaultyFiles, at: usize, promises: &[Promise]) {
    without_reserve(image);
    let (directory, found) = open(image);
    assert_eq!(directory.meta().directory_id, identity().new_directory_id);
    assert_eq!(found.warnings.len(), 1, "only that of the reserve: {:?}", found.warnings);
    let kept = promises.iter().rfind(|promise| promise.operations <= at);
    let next = promises.iter().find(|promise| promise.operations > at);
    // Each partition's state is the one promised last or the one that was being made.
    let possible: Vec<&Promise> = kept.into_iter().chain(next).collect();
    for id in [0, 1] {
        let partition = orders(id);
        let is_there = found.partitions.contains(&partition);
        assert!(
            possible.is_empty()
                || possible.iter().any(|promise| promise.partitions.contains(&partition) == is_there),
            "{partition} at {at}"
        );
        let from = directory.open_from(&partition);
        let offsets = |promise: &&Promise| promise.checkpoints.get(&partition).copied().unwrap_or_default();
        let (points, starts): (Vec<i64>, Vec<i64>) =
            possible.iter().map(offsets).chain(kept.is_none().then_some((0, 0))).unzip();
        assert!(points.contains(&from.recovery_point.0), "{partition} at {at}: {from:?} of {points:?}");
        assert!(starts.contains(&from.log_start_offset.0), "{partition} at {at}: {from:?} of {starts:?}");
    }
    let may_be_clean = possible.iter().any(|promise| promise.is_clean);
    assert!(may_be_clean || !directory.was_clean(), "at {at}");
    let must_be_clean = kept.is_some_and(|promise| promise.is_clean && promise.operations == at);
    assert!(directory.was_clean() || !must_be_clean, "at {at}");
}

#[test]
fn on_a_real_disk_too() {
    let parent = tempfile::tempdir().expect("a directory");
    let path = parent.path().join("deep/data");
    let open = || LogDirectory::open(RealFiles::shared(), path.clone(), &identity());
    let (directory, found) = open().expect("it opens");
    assert!(found.is_new);
    let second = open().map(|_| ()).expect_err("the lock is taken");
    assert!(matches!(second, DirectoryError::Locked { .. }), "{second}");
    std::fs::create_dir(directory.partition_dir(&orders(0))).expect("made");
    std::fs::write(directory.partition_dir(&orders(0)).join("x"), "x").expect("written");
    std::fs::create_dir(directory.partition_dir(&orders(1))).expect("made");
    let all = [(orders(0), progress(5, None)), (orders(1), progress(6, Some(2)))];
    directory.write_checkpoints(all).expect("written");
    let deleted = directory.rename_for_deletion(&[orders(0)]).expect("renamed");
    directory.close_clean(3).expect("it closes");
    drop(directory);
    let (directory, found) = open().expect("it opens");
    assert!(directory.was_clean());
    assert_eq!(found.partitions, [orders(1)]);
    assert_eq!(found.deleted, deleted);
    directory.remove_deleted(&deleted[0]).expect("removed");
    assert!(!deleted[0].exists());
    let expected = OpenFrom {
        log_start_offset: Offset(2),
        recovery_point: Offset(6),
        clean: true,
        ..OpenFrom::default()
    };
    assert_eq!(directory.open_from(&orders(1)), expected);
    assert!(directory.available_bytes().expect("asked") > 0);
}

#[test]
fn high_watermarks_come_back_and_are_never_above_where_a_log_is_cut() {
    let files = FaultyFiles::new();
    let name = orders(0);
    let (directory, _) = open(&files);
    make_partition(&files, &directory, &name);
    let noted = Progress { high_watermark: Some(Offset(7)), ..progress(9, None) };
    directory.write_checkpoints([(name.clone(), noted)]).unwrap();
    let written =
        || checkpoint::read_whole(&files, &Path::new(DIR).join(HIGH_WATERMARK_FILE)).unwrap().unwrap();
    assert_eq!(written(), b"0\n1\norders 0 7\n", "as Kafka writes it");
    directory.lower_recovery_point(&name, Offset(8)).unwrap();
    assert_eq!(directory.high_watermark(&name), Offset(7));
    directory.lower_recovery_point(&name, Offset(5)).unwrap();
    drop(directory);
    let (directory, _) = open(&files);
    assert_eq!(directory.high_watermark(&name), Offset(5));
    assert_eq!(directory.open_from(&name).recovery_point, Offset(5));
}
