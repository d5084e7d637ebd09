//! Disks that fail or are full.

use std::io::ErrorKind;
use std::path::Path;

use ottla_broker::shutdown::Reason;
use ottla_protocol::generated::ErrorCode::{KafkaStorageError, LeaderNotAvailable};
use ottla_storage::directory::{CLEAN_SHUTDOWN_FILE, RESERVE_FILE};
use ottla_storage::files::Files as _;
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation};

use crate::support::{NONE, Running, batch, code, until};

const TWO_DIRS: [&str; 2] = ["log.dirs=/data,/more", "metadata.log.dir=/meta"];

fn fault(operation: Operation, path_suffix: &str, error: ErrorKind) -> Fault {
    Fault { operation, path_suffix: path_suffix.to_owned(), after: 0, error, written_bytes: 7 }
}

fn exists(files: &FaultyFiles, path: &str) -> bool {
    files.exists(Path::new(path)).unwrap()
}

/// In which of the two directories a partition lies.
fn place(files: &FaultyFiles, partition: &str) -> &'static str {
    ["/data", "/more"].into_iter().find(|dir| exists(files, &format!("{dir}/{partition}"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_takes_its_directory_offline_and_the_others_go_on() {
    for operation in [Operation::Sync, Operation::Write] {
        let files = FaultyFiles::new();
        let broker = Running::start_with(&files, &TWO_DIRS).await;
        assert_eq!(broker.create("t", 4, &[]).await, NONE);
        for index in 0..4 {
            assert_eq!(broker.try_produce(("t", index), batch(1), -1).await.unwrap().error_code, NONE);
        }
        let bad = place(&files, "t-0");
        let same: Vec<i32> = (0..4).filter(|i| place(&files, &format!("t-{i}")) == bad).collect();
        assert_eq!(same.len(), 2, "partitions are spread");
        files.fail(fault(operation, "t-0/00000000000000000000.log", ErrorKind::Other));
        let refused = broker.try_produce(("t", 0), batch(1), -1).await.unwrap();
        assert_eq!(refused.error_code, code(KafkaStorageError), "{:?}", refused.error_message);
        // Nothing is retried, whatever the disk does from now on.
        files.heal();
        for index in 0..4 {
            let offline = same.contains(&index);
            until("the directory's partitions are offline", || async {
                broker.partition_metadata("t", usize::try_from(index).unwrap()).await.leader_id
                    == if offline { -1 } else { 1 }
            })
            .await;
            let answer = broker.try_produce(("t", index), batch(1), -1).await.unwrap();
            assert_eq!(answer.error_code, if offline { code(KafkaStorageError) } else { NONE }, "{index}");
        }
        let metadata = broker.partition_metadata("t", 0).await;
        assert_eq!((metadata.error_code, metadata.offline_replicas), (code(LeaderNotAvailable), vec![1]));
        assert_eq!(broker.fetch("t", 0).await.error_code, code(KafkaStorageError));
        until("health says so", || async { broker.health().contains(&format!("{bad} is offline")) }).await;
        // The controller was told where they lie, and takes their leadership away.
        until("a new leader epoch", || async { broker.partition_metadata("t", 0).await.leader_epoch == 1 })
            .await;
        // New partitions go where they can be written.
        assert_eq!(broker.create("new", 2, &[]).await, NONE);
        for index in 0..2 {
            assert_eq!(broker.try_produce(("new", index), batch(1), -1).await.unwrap().error_code, NONE);
        }
        broker.stop().await;
        let other = if bad == "/data" { "/more" } else { "/data" };
        assert!(!exists(&files, &format!("{bad}/{CLEAN_SHUTDOWN_FILE}")), "the next start recovers it");
        assert!(exists(&files, &format!("{other}/{CLEAN_SHUTDOWN_FILE}")));
        let broker = Running::start_with(&files, &TWO_DIRS).await;
        assert_eq!(broker.try_produce(("t", 0), batch(1), -1).await.unwrap().error_code, NONE, "repaired");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_stops_when_its_only_directory_fails() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(3), -1).await, (NONE, 0));
    files.fail(fault(Operation::Sync, "t-0/00000000000000000000.log", ErrorKind::Other));
    assert_eq!(broker.produce("t", batch(1), -1).await.0, code(KafkaStorageError));
    let Reason::Fatal(why) = broker.shell.shutdown.requested().await else { panic!("not a signal") };
    assert!(
        why.contains("all log directories have failed") && why.contains("sync failed in /data/t-0"),
        "{why}"
    );
    broker.stop().await;
    assert!(!exists(&files, &format!("/data/{CLEAN_SHUTDOWN_FILE}")));
    files.heal();
    let broker = Running::start(&files).await;
    assert_eq!(broker.fetch("t", 2).await.error_code, NONE, "what was acknowledged is there");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_reads_and_deletes_and_takes_writes_again() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    for topic in ["t", "u"] {
        assert_eq!(broker.create(topic, 1, &[]).await, NONE);
        assert_eq!(broker.produce(topic, batch(10), -1).await, (NONE, 0));
    }
    files.set_available_bytes(0);
    files.fail(fault(Operation::Write, ".log", ErrorKind::StorageFull));
    let full = broker.produce("t", batch(10), -1).await;
    assert_eq!(full.0, code(KafkaStorageError));
    assert!(!exists(&files, &format!("/data/{RESERVE_FILE}")), "the reserve is there for deletions");
    until("health says so", || async { broker.health().contains("/data has no space left") }).await;
    // Refused before it is tried, in every partition of the directory.
    files.heal();
    assert_eq!(broker.produce("u", batch(1), 1).await.0, code(KafkaStorageError));
    // What was there before is read and deleted, and nothing of the torn write is seen.
    let fetched = broker.fetch("t", 0).await;
    assert_eq!((fetched.error_code, fetched.high_watermark), (NONE, 10));
    assert_eq!(broker.delete_records("t", 4).await, (NONE, 4));
    assert_eq!(broker.delete("u").await, NONE);
    files.set_available_bytes(64 << 20);
    until("writes are taken again", || async { broker.produce("t", batch(1), -1).await == (NONE, 10) }).await;
    assert!(exists(&files, &format!("/data/{RESERVE_FILE}")), "the reserve is taken again");
    until("health says so", || async { broker.health() == "ready" }).await;
    assert_eq!(broker.bounds("t").await, (4, 11));
    broker.stop().await;
    assert!(exists(&files, &format!("/data/{CLEAN_SHUTDOWN_FILE}")), "a full disk is no damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_offline_and_the_others_go_on() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    for topic in ["bad", "good"] {
        assert_eq!(broker.create(topic, 1, &[]).await, NONE);
        for _ in 0..3 {
            assert_eq!(broker.produce(topic, batch(1), -1).await.0, NONE);
        }
    }
    let at = files.operation_count();
    let crashed = files.crash_image(at, ottla_storage::files::faulty::Survival::All, 0);
    broker.stop().await;
    // In the first of three batches: whole ones follow, so that it is no torn end.
    crashed.flip(Path::new("/data/bad-0/00000000000000000000.log"), 70, 0xff).unwrap();
    for round in 0..2 {
        let broker = Running::start(&crashed).await;
        assert_eq!(broker.fetch("bad", 0).await.error_code, code(KafkaStorageError), "{round}");
        assert_eq!(broker.produce("bad", batch(1), -1).await.0, code(KafkaStorageError));
        assert_eq!(broker.partition_metadata("bad", 0).await.leader_id, -1);
        assert_eq!(broker.produce("good", batch(1), -1).await.0, NONE);
        until("health says so", || async { broker.health().contains("1 partitions are offline") }).await;
        broker.stop().await;
        assert!(
            !exists(&crashed, &format!("/data/{CLEAN_SHUTDOWN_FILE}")),
            "a stop that is marked as clean would let the next start open the damaged log"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_stops_when_the_metadata_log_fails() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    files.fail(fault(Operation::Sync, "__cluster_metadata-0/00000000000000000000.log", ErrorKind::Other));
    assert_eq!(broker.create("u", 1, &[]).await, code(KafkaStorageError));
    let Reason::Fatal(why) = broker.shell.shutdown.requested().await else { panic!("not a signal") };
    assert!(why.contains("the metadata log has failed"), "{why}");
    broker.stop().await;
    files.heal();
    let broker = Running::start(&files).await;
    assert_eq!(broker.produce("t", batch(1), -1).await, (NONE, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_topics_and_takes_them_again() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    files.fail(fault(Operation::Write, ".log", ErrorKind::StorageFull));
    assert_eq!(broker.create("u", 1, &[]).await, code(KafkaStorageError));
    files.heal();
    assert_eq!(broker.create("u", 1, &[]).await, NONE);
    assert_eq!(broker.produce("u", batch(1), -1).await, (NONE, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_written_is_not_promised() {
    for (error, fatal) in [(ErrorKind::StorageFull, false), (ErrorKind::Other, true)] {
        let files = FaultyFiles::new();
        let broker = Running::start(&files).await;
        assert_eq!(broker.create("t", 1, &[]).await, NONE);
        assert_eq!(broker.produce("t", batch(5), -1).await, (NONE, 0));
        files.fail(fault(Operation::Write, "log-start-offset-checkpoint.tmp", error));
        assert_eq!(broker.delete_records("t", 3).await, (code(KafkaStorageError), -1));
        if fatal {
            let Reason::Fatal(why) = broker.shell.shutdown.requested().await else { panic!("not a signal") };
            assert!(why.contains("cannot write the checkpoints"), "{why}");
        } else {
            files.heal();
            assert_eq!(broker.delete_records("t", 3).await, (NONE, 3));
        }
        broker.stop().await;
        assert_eq!(exists(&files, &format!("/data/{CLEAN_SHUTDOWN_FILE}")), !fatal);
    }
}
