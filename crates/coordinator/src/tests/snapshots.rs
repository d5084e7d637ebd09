//! Snapshots take the place of old entries: nothing is lost by it, not by a crash at any moment, and a full disk only puts it off.

use std::collections::BTreeSet;

use ottla_storage::files::faulty::Survival;

use super::crashes::{Answered, recover};
use super::*;

/// So few that every run makes several.
const LIMITS: SnapshotLimits = SnapshotLimits { entries: 4, bytes: u64::MAX, kept_entries: 1 };

fn start_small(files: &FaultyFiles) -> (Coordinator, CoordinatorHandle) {
    make_data_dir(files);
    Coordinator::start(CoordinatorOptions { snapshots: LIMITS, ..options(files) }).unwrap()
}

fn log_dir() -> PathBuf {
    Path::new("/data").join(LOG_DIRECTORY)
}

fn snapshots(files: &FaultyFiles) -> Vec<String> {
    let names = files.shared().list(&log_dir()).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(".checkpoint")).collect()
}

fn purged(files: &FaultyFiles) -> i64 {
    let state = hard_state::HardState::read(&files.shared(), &log_dir()).unwrap().unwrap();
    state.purged.map_or(-1, |purged| purged.index)
}

/// Creates topics until the log was purged above `index`.
async fn purge_above(files: &FaultyFiles, handle: &CoordinatorHandle, index: i64) {
    let began = std::time::Instant::now();
    let mut n = 0;
    while purged(files) <= index {
        create(handle, &format!("filler-{index}-{n}")).await;
        n += 1;
        assert!(began.elapsed() < DEADLINE, "no purge above {index}: {:?}", snapshots(files));
    }
}

#[tokio::test]
async fn a_start_from_a_snapshot_finds_everything() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start_small(&files);
    handle.register_broker(registration()).await.unwrap();
    create(&handle, "first").await;
    purge_above(&files, &handle, 5).await;
    create(&handle, "last").await;
    let image = handle.image();
    coordinator.stop().unwrap();
    assert_eq!(snapshots(&files).len(), 1, "one at a time");

    let (coordinator, handle) = start_small(&files);
    assert_eq!(handle.image(), image);
    purge_above(&files, &handle, purged(&files)).await;
    let image = handle.image();
    coordinator.stop().unwrap();
    let (_coordinator, handle) = start(&files);
    assert_eq!(handle.image(), image);
}

#[tokio::test]
async fn who_is_further_behind_than_the_log_gets_everything_at_once() {
    let files = FaultyFiles::new();
    let (_coordinator, handle) = start_small(&files);
    handle.register_broker(registration()).await.unwrap();
    create(&handle, "gone").await;
    let mut replica = ImageReplica::new(handle.image());
    let mut feed = handle.feed(replica.next_index());
    let gone = replica.image().topic_by_name("gone").unwrap().clone();
    handle.delete_topics(deletion("gone")).await.unwrap();
    // So many records that those before are in the log alone, and then not even there.
    handle.create_topics(creation("large", 9000)).await.unwrap();
    purge_above(&files, &handle, replica.next_index()).await;
    let before = replica.image().clone();
    let entries = tokio::time::timeout(DEADLINE, feed.next()).await.unwrap().unwrap();
    assert!(entries[0].is_whole && entries[0].index > before.index() + 1);
    let (after, delta) = replica.apply(&entries).unwrap();
    assert_eq!(delta, MetadataDelta::between(&before, &after));
    assert_eq!(delta.topics_removed.get(&gone.id), Some(&gone));
    let index = create(&handle, "next").await;
    follow(&mut feed, &mut replica, index).await;
    assert_eq!(replica.image(), &handle.image());
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_harms_nobody() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start_small(&files);
    handle.register_broker(registration()).await.unwrap();
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: ".checkpoint.tmp".to_owned(),
        after: 0,
        error: std::io::ErrorKind::StorageFull,
        written_bytes: 17,
    });
    for n in 0..20 {
        create(&handle, &format!("t{n}")).await;
    }
    assert_eq!((snapshots(&files).len(), purged(&files)), (0, -1));
    files.heal();
    purge_above(&files, &handle, 0).await;
    let image = handle.image();
    coordinator.stop().unwrap();
    let (_coordinator, handle) = start(&files);
    assert_eq!(handle.image(), image);
}

#[tokio::test]
async fn a_damaged_or_lost_snapshot_is_noticed() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start_small(&files);
    handle.register_broker(registration()).await.unwrap();
    purge_above(&files, &handle, 0).await;
    coordinator.stop().unwrap();
    let path = log_dir().join(&snapshots(&files)[0]);
    let copy = || files.crash_image(files.operation_count(), Survival::All, 0);
    let open = |files: &FaultyFiles| Coordinator::start(options(files)).map(|_| ()).unwrap_err();

    let damaged = copy();
    damaged.flip(&path, 100, 1).unwrap();
    let error = open(&damaged);
    assert!(matches!(error, OpenError::Snapshot { .. }), "{error}");

    let without = copy();
    without.shared().remove_file(&path).unwrap();
    let error = open(&without);
    assert!(matches!(error, OpenError::LogTooShort { .. }), "{error}");
}

#[tokio::test]
async fn nothing_answered_is_lost_with_snapshots_either() {
    let files = FaultyFiles::new();
    let mut answered = vec![Answered { operations: 0, topics: Vec::new() }];
    for round in 0..3 {
        let (coordinator, handle) = start_small(&files);
        handle.register_broker(registration()).await.unwrap();
        for n in 0..4 {
            create(&handle, &format!("t{round}{n}")).await;
            answered.push(Answered { operations: files.operation_count(), topics: names(&handle.image()) });
        }
        coordinator.stop().unwrap();
    }
    assert!(purged(&files) > 0);
    let mut distinct = BTreeSet::new();
    for at in 0..=files.operation_count() {
        for survival in super::crashes::SURVIVALS {
            let image = files.crash_image(at, survival, 0);
            if distinct.insert(image.content_hash()) {
                recover(&image, at, &answered);
            }
        }
    }
    println!("crash images with snapshots: {} distinct", distinct.len());
    assert!(distinct.len() > 100);
}
