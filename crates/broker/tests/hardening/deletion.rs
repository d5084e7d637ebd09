//! Topics that are deleted and made again under load, and power losses in the middle of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::generated::ErrorCode;
use ottla_storage::files::Files as _;
use ottla_storage::files::faulty::{FaultyFiles, Survival};

use crate::support::{NONE, Running, batch, code, until};

/// Names in the log directory that end so.
fn names(files: &FaultyFiles, suffix: &str) -> Vec<String> {
    let entries = files.list(Path::new("/data")).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(suffix)).collect()
}

/// A topic that goes and comes answers with one of these.
fn is_expected(error_code: i16) -> bool {
    use ErrorCode::{NotLeaderOrFollower, UnknownTopicOrPartition};
    [NONE, code(NotLeaderOrFollower), code(UnknownTopicOrPartition)].contains(&error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleted_and_made_again_under_load() {
    let files = FaultyFiles::new();
    let broker = Arc::new(Running::start(&files).await);
    let done = Arc::new(AtomicBool::new(false));
    let mut load = Vec::new();
    for acks in [1, -1, -1] {
        let (broker, done) = (broker.clone(), done.clone());
        load.push(tokio::spawn(async move {
            let mut accepted = 0;
            while !done.load(Ordering::Relaxed) {
                let (error_code, _) = broker.produce("t", batch(3), acks).await;
                assert!(is_expected(error_code), "produce: {error_code}");
                accepted += usize::from(error_code == NONE);
            }
            accepted
        }));
    }
    let (reader, stop) = (broker.clone(), done.clone());
    load.push(tokio::spawn(async move {
        let mut read = 0;
        while !stop.load(Ordering::Relaxed) {
            let fetched = reader.fetch_waiting("t", 0, 20).await;
            assert!(is_expected(fetched.error_code), "fetch: {}", fetched.error_code);
            read += usize::from(fetched.high_watermark > 0);
        }
        read
    }));
    for round in 0..60 {
        assert_eq!(broker.create("t", 2, &[]).await, NONE, "{round}");
        until("something is written", || async {
            let (error_code, offset) = broker.produce("t", batch(1), -1).await;
            error_code == NONE && offset > 3
        })
        .await;
        assert_eq!(broker.delete("t").await, NONE, "{round}");
    }
    done.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0, "each of them got something done");
    }
    assert_eq!(broker.health(), "ready", "no disk is blamed for a deletion");
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.bounds("t").await, (0, 0), "nothing of before comes back");
    assert_eq!(broker.produce("t", batch(1), -1).await, (NONE, 0));
    until("deleted directories are removed", || async { names(&files, "-delete").is_empty() }).await;
    Arc::into_inner(broker).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_a_deletion() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("stays", 1, &[]).await, NONE);
    assert_eq!(broker.produce("stays", batch(7), -1).await, (NONE, 0));
    assert_eq!(broker.create("t", 2, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(5), -1).await, (NONE, 0));
    assert_eq!(broker.delete_records("t", 3).await, (NONE, 3));
    let from = files.operation_count();
    assert_eq!(broker.delete("t").await, NONE);
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(1), -1).await, (NONE, 0));
    let to = files.operation_count();
    let mut images = std::collections::BTreeSet::new();
    for at in from..=to {
        for survival in [Survival::All, Survival::SyncedOnly] {
            let image = files.crash_image(at, survival, 0);
            if !images.insert(image.content_hash()) {
                continue;
            }
            let after = Running::start(&image).await;
            assert_eq!(after.bounds("stays").await, (0, 7), "{at} {survival:?}");
            let t = after.list_offsets("t", -1).await;
            if t.error_code == NONE {
                let (start, end) = after.bounds("t").await;
                // The old one as it was, or the new one with what was acknowledged or not yet.
                assert!(
                    [(3, 5), (0, 0), (0, 1)].contains(&(start, end)),
                    "{at} {survival:?}: {start}..{end}"
                );
                assert_eq!(after.produce("t", batch(1), -1).await, (NONE, end), "{at} {survival:?}");
            } else {
                assert_eq!(t.error_code, code(ErrorCode::UnknownTopicOrPartition), "{at} {survival:?}");
                assert_eq!(after.create("t", 1, &[]).await, NONE);
                assert_eq!(after.produce("t", batch(1), -1).await, (NONE, 0), "{at} {survival:?}");
            }
            assert_eq!(after.health(), "ready", "{at} {survival:?}");
            after.stop().await;
        }
    }
    assert!(images.len() > 10, "{} images", images.len());
    eprintln!("{} crash images", images.len());
    let end = files.crash_image(to, Survival::SyncedOnly, 0);
    broker.stop().await;
    let broker = Running::start(&end).await;
    assert_eq!(broker.bounds("t").await, (0, 1), "what was acknowledged is there");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_nobody_knows_are_set_aside() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(5), -1).await, (NONE, 0));
    assert_eq!(broker.delete_records("t", 3).await, (NONE, 3));
    broker.stop().await;
    files.rename(Path::new("/data/t-0"), Path::new("/data/unknown-3")).unwrap();
    let broker = Running::start(&files).await;
    let strays = names(&files, "-stray");
    assert!(strays.len() == 1 && strays[0].starts_with("unknown-3."), "{strays:?}");
    // The topic of that name begins anew, with nothing of what was noted of the other.
    assert_eq!(broker.create("unknown", 4, &[]).await, NONE);
    assert_eq!(broker.try_produce(("unknown", 3), batch(1), -1).await.unwrap().base_offset, 0);
    broker.stop().await;
    assert_eq!(names(&files, "-stray"), strays, "kept for an operator");
}
