//! Offsets at the edges of a log: before its start, inside a batch, between the high watermark and the end.

use ottla_protocol::generated::ErrorCode::{OffsetOutOfRange, UnknownTopicOrPartition};
use ottla_protocol::records::{BatchHeader, Compression};
use ottla_protocol::wire::Records;
use ottla_storage::files::faulty::{FaultyFiles, Survival};

use crate::support::{NONE, Running, batch, batch_of, code};

/// First offset of the first batch in a fetch.
fn base_offset(records: &Records) -> Option<i64> {
    let Records::Bytes(bytes) = records else { return None };
    BatchHeader::parse(bytes).ok().map(|header| header.base_offset.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_starts_inside_a_batch() {
    let files = FaultyFiles::new();
    let mut broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    let now = ottla_broker::state::now_ms();
    let records: Vec<_> = (0..10).map(|i| (now + 100 - i, "v")).collect();
    assert_eq!(broker.produce("t", batch_of(&records, Compression::Lz4), -1).await, (NONE, 0));
    assert_eq!(broker.produce("t", batch_of(&records, Compression::None), -1).await, (NONE, 10));
    assert_eq!(broker.delete_records("t", 4).await, (NONE, 4));
    assert_eq!(broker.delete_records("t", 2).await, (NONE, 4), "it never goes back");
    for round in 0..2 {
        assert_eq!(broker.bounds("t").await, (4, 20), "{round}");
        // Batches come whole: the client drops what is below its offset.
        for offset in [4, 9, 10, 15] {
            let fetched = broker.fetch("t", offset).await;
            assert_eq!((fetched.error_code, fetched.log_start_offset, fetched.high_watermark), (NONE, 4, 20));
            assert_eq!(base_offset(&fetched.records), Some(offset / 10 * 10));
        }
        for outside in [0, 3, 21, i64::MAX, -1] {
            assert_eq!(broker.fetch("t", outside).await.error_code, code(OffsetOutOfRange), "{outside}");
        }
        let at_end = broker.fetch("t", 20).await;
        assert_eq!((at_end.error_code, base_offset(&at_end.records)), (NONE, None));
        // By time, nothing below the start is found.
        let by_time = broker.list_offsets("t", now).await;
        assert_eq!((by_time.offset, by_time.timestamp), (4, now + 96));
        let highest = broker.list_offsets("t", -3).await;
        assert_eq!((highest.offset, highest.timestamp), (10, now + 100));
        let later = broker.list_offsets("t", now + 98).await;
        assert_eq!((later.offset, later.timestamp), (10, now + 100));
        assert_eq!(broker.list_offsets("t", now + 101).await.offset, -1);
        for outside in [21, -2] {
            assert_eq!(broker.delete_records("t", outside).await, (code(OffsetOutOfRange), -1));
        }
        if round == 0 {
            // The same after a kill -9 at this moment: the answer to DeleteRecords is on disk.
            let killed = files.crash_image(files.operation_count(), Survival::SyncedOnly, 0);
            broker.stop().await;
            broker = Running::start(&killed).await;
        }
    }
    // The highest timestamp of the log's batches is not among the records that are left.
    assert_eq!(broker.delete_records("t", 13).await, (NONE, 13));
    let highest = broker.list_offsets("t", -3).await;
    assert_eq!((highest.offset, highest.timestamp), (13, now + 97));
    assert_eq!(broker.delete_records("t", -1).await, (NONE, 20), "all that is visible");
    assert_eq!(broker.list_offsets("t", -3).await.offset, -1);
    assert_eq!(broker.bounds("t").await, (20, 20));
    assert_eq!(broker.produce("t", batch(1), -1).await, (NONE, 20));
    assert_eq!(broker.delete_records("nothing", 0).await.0, code(UnknownTopicOrPartition));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_above_what_was_on_disk_survives_a_power_loss() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    assert_eq!(broker.create("t", 1, &[("ottla.durability", "replicated")]).await, NONE);
    for _ in 0..3 {
        assert_eq!(broker.produce("t", batch(10), -1).await.0, NONE);
    }
    assert_eq!(broker.delete_records("t", 25).await, (NONE, 25));
    let lost = files.crash_image(files.operation_count(), Survival::SyncedOnly, 0);
    broker.stop().await;
    let broker = Running::start(&lost).await;
    let (start, end) = broker.bounds("t").await;
    assert!(start == 25 && end >= 25, "{start}..{end}: offsets that were deleted are not given again");
    assert_eq!(broker.produce("t", batch(1), -1).await, (NONE, end));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_disk_yet_is_not_visible() {
    use ottla_storage::files::faulty::{Fault, Operation};
    let files = FaultyFiles::new();
    let broker = Running::start_with(&files, &["log.dirs=/data,/more", "metadata.log.dir=/meta"]).await;
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(10), -1).await, (NONE, 0));
    // acks=1 is answered from memory; the sync then fails, and nobody has seen the records.
    files.fail(Fault {
        operation: Operation::Sync,
        path_suffix: "t-0/00000000000000000000.log".to_owned(),
        after: 0,
        error: std::io::ErrorKind::Other,
        written_bytes: 0,
    });
    assert_eq!(broker.produce("t", batch(5), 1).await, (NONE, 10));
    let fetched = broker.fetch_waiting("t", 10, 10_000).await;
    assert_ne!(fetched.error_code, NONE, "the waiting fetch learns that the log is offline: {fetched:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_in_replies_are_counted() {
    let files = FaultyFiles::new();
    let broker = Running::start(&files).await;
    let counted = |key: i16| broker.shell.metrics.api(key).errors().collect::<Vec<_>>();
    assert_eq!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(broker.produce("t", batch(1), -1).await.0, NONE);
    assert_eq!((counted(0), counted(19)), (vec![], vec![]));
    for _ in 0..3 {
        assert_ne!(broker.produce("nothing", batch(1), -1).await.0, NONE);
    }
    assert_ne!(broker.fetch("t", 7).await.error_code, NONE);
    assert_ne!(broker.create("t", 1, &[]).await, NONE);
    assert_eq!(counted(0), vec![(3, 3)], "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(counted(1), vec![(1, 1)], "OFFSET_OUT_OF_RANGE");
    assert_eq!(counted(19), vec![(36, 1)], "TOPIC_ALREADY_EXISTS");
    broker.stop().await;
}
