//! The coordinator as a whole, on files in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ottla_cluster::image::{MetadataDelta, MetadataImage, MetadataRecord};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, Feature};
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::generated::delete_topics::DeleteTopicsRequest;
use ottla_protocol::generated::records::FeatureLevelRecord;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::files::faulty::{Fault, FaultyFiles, Operation};

use super::*;

mod crashes;
mod older;
mod quorum;
mod snapshots;
mod sockets;
mod support;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn options(files: &FaultyFiles) -> CoordinatorOptions {
    let (time, draws) = (AtomicI64::new(1000), AtomicU64::new(1));
    let entropy = move || draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (dir, cluster) = (PathBuf::from("/data"), "c".to_owned());
    CoordinatorOptions {
        clock: Arc::new(move || time.fetch_add(1, Ordering::Relaxed)),
        entropy: Box::new(entropy),
        ..CoordinatorOptions::new(files.shared(), dir, cluster, 1, Uuid([5; 16]))
    }
}

/// The data directory, on disk: it is its owner's business, and without it a loss of power leaves nothing at all.
fn make_data_dir(files: &FaultyFiles) {
    files.shared().create_dir_all(Path::new("/data")).unwrap();
    files.shared().sync_dir(Path::new("/")).unwrap();
}

fn start(files: &FaultyFiles) -> (Coordinator, CoordinatorHandle) {
    make_data_dir(files);
    Coordinator::start(options(files)).unwrap()
}

fn registration() -> BrokerRegistrationRequest {
    let feature = Feature {
        name: OTTLA_FEATURE.into(),
        min_supported_version: 1,
        max_supported_version: 1,
        ..Feature::default()
    };
    BrokerRegistrationRequest {
        broker_id: 1,
        cluster_id: "c".into(),
        features: vec![feature],
        ..BrokerRegistrationRequest::default()
    }
}

fn creation(name: &str, num_partitions: i32) -> CreateTopicsRequest {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }
}

fn deletion(name: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest { topic_names: vec![name.into()], ..DeleteTopicsRequest::default() }
}

async fn create(handle: &CoordinatorHandle, name: &str) -> i64 {
    let committed = handle.create_topics(creation(name, 1)).await.unwrap();
    assert_eq!(committed.response.topics[0].error_code, 0, "{:?}", committed.response);
    committed.index
}

#[tokio::test]
async fn what_was_decided_is_there_after_a_restart() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start(&files);
    assert_eq!(handle.image().index(), 1, "who votes, and the features");
    assert_eq!(handle.image().feature(OTTLA_FEATURE), OTTLA_FEATURE_LEVEL);
    let registered = handle.register_broker(registration()).await.unwrap();
    assert_eq!((registered.index, registered.response.broker_epoch), (2, 2));
    for name in ["a", "b", "c"] {
        create(&handle, name).await;
    }
    handle.delete_topics(deletion("b")).await.unwrap();
    let image = handle.image();
    coordinator.stop().unwrap();
    assert_eq!(handle.create_topics(creation("d", 1)).await, Err(RequestError::Stopped));

    let (coordinator, handle) = start(&files);
    assert_eq!(handle.image(), image);
    create(&handle, "b").await;
    coordinator.stop().unwrap();
}

#[tokio::test]
async fn a_refused_request_writes_nothing() {
    let files = FaultyFiles::new();
    let (_coordinator, handle) = start(&files);
    let refused = handle.create_topics(creation("a", 1)).await.unwrap();
    assert_eq!(refused.response.topics[0].error_code, ErrorCode::InvalidReplicationFactor.code());
    assert_eq!((refused.index, handle.image().index()), (1, 1));
}

#[tokio::test]
async fn what_waits_is_decided_together() {
    let files = FaultyFiles::new();
    let (_coordinator, handle) = start(&files);
    handle.register_broker(registration()).await.unwrap();
    let asked: Vec<_> = (0..1000)
        .map(|n| {
            let handle = handle.clone();
            // Half of the names are asked for twice.
            tokio::spawn(
                async move { handle.create_topics(creation(&format!("t{}", n % 750), 1)).await.unwrap() },
            )
        })
        .collect();
    let mut existed = 0;
    for task in asked {
        let committed = task.await.unwrap();
        existed +=
            usize::from(committed.response.topics[0].error_code == ErrorCode::TopicAlreadyExists.code());
    }
    assert_eq!((handle.image().topic_count(), existed), (750, 250));
    assert!(handle.image().index() < 500, "1000 requests took {} entries", handle.image().index());
}

#[tokio::test]
async fn every_registration_has_an_epoch_of_its_own() {
    let files = FaultyFiles::new();
    let (_coordinator, handle) = start(&files);
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.register_broker(registration()).await.unwrap() })
        })
        .collect();
    let mut epochs = Vec::new();
    for task in asked {
        let committed = task.await.unwrap();
        assert_eq!(committed.response.broker_epoch, committed.index);
        epochs.push(committed.index);
    }
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 20);
}

async fn follow(feed: &mut MetadataFeed, replica: &mut ImageReplica, to: i64) {
    while replica.next_index() <= to {
        let entries = tokio::time::timeout(DEADLINE, feed.next()).await.unwrap().unwrap();
        assert_eq!(entries[0].index, replica.next_index(), "without gaps");
        replica.apply(&entries).unwrap();
    }
}

#[tokio::test]
async fn a_feed_gives_everything_in_order_from_memory_or_from_the_log() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start(&files);
    let (mut feed, mut replica) = (handle.feed(0), ImageReplica::default());
    handle.register_broker(registration()).await.unwrap();
    for n in 0..limits::FEED_ENTRIES_MAX + 50 {
        create(&handle, &format!("t{n}")).await;
    }
    // So many records that those before are in the log alone.
    handle.create_topics(creation("large", 9000)).await.unwrap();
    let image = handle.image();
    follow(&mut feed, &mut replica, image.index()).await;
    assert_eq!(replica.image(), &image);

    // One that starts from an image sees what comes after it.
    let mut replica = ImageReplica::new(image.clone());
    let mut feed = handle.feed(replica.next_index());
    let waiting = tokio::spawn(async move {
        let entries = feed.next().await.unwrap();
        (replica.apply(&entries).unwrap(), feed)
    });
    let index = create(&handle, "last").await;
    let ((after, delta), mut feed) = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!((after.index(), &after), (index, &handle.image()));
    let id = after.topic_by_name("last").unwrap().id;
    let expected = MetadataDelta {
        topics_created: [id].into(),
        partitions_changed: [(id, 0)].into(),
        ..MetadataDelta::default()
    };
    assert_eq!(delta, expected);

    coordinator.stop().unwrap();
    let ended = tokio::time::timeout(DEADLINE, feed.next()).await.unwrap();
    assert_eq!(ended, Err(FeedError::Stopped));
}

#[tokio::test]
async fn a_failed_sync_fences_and_is_not_tried_again() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start(&files);
    handle.register_broker(registration()).await.unwrap();
    create(&handle, "a").await;
    let before = handle.image();
    files.fail(Fault {
        operation: Operation::Sync,
        path_suffix: ".log".to_owned(),
        after: 0,
        error: std::io::ErrorKind::Other,
        written_bytes: 0,
    });
    let error = handle.create_topics(creation("b", 1)).await.unwrap_err();
    assert!(matches!(error, RequestError::Fenced(_)), "{error}");
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    files.heal();
    let operations = files.operation_count();
    let error = handle.create_topics(creation("c", 1)).await.unwrap_err();
    assert!(matches!(error, RequestError::Fenced(_)), "{error}");
    assert_eq!(files.operation_count(), operations, "nothing is written any more");
    assert_eq!(handle.image(), before);
    assert!(coordinator.stop().is_err());

    let (_coordinator, handle) = start(&files);
    assert!(handle.image().topic_by_name("a").is_some());
    assert!(handle.image().topic_by_name("c").is_none());
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start(&files);
    handle.register_broker(registration()).await.unwrap();
    create(&handle, "a").await;
    let reserve = Path::new("/data/.ottla-metadata-reserve");
    assert!(files.shared().exists(reserve).unwrap());
    files.fail(Fault {
        operation: Operation::Write,
        path_suffix: ".log".to_owned(),
        after: 0,
        error: std::io::ErrorKind::StorageFull,
        written_bytes: 17,
    });
    assert_eq!(handle.create_topics(creation("b", 1)).await, Err(RequestError::NoSpace));
    assert!(files.shared().exists(reserve).unwrap());
    assert_eq!(handle.delete_topics(deletion("a")).await, Err(RequestError::NoSpace));
    assert!(!files.shared().exists(reserve).unwrap(), "a deletion is tried with the reserve");
    files.heal();
    handle.delete_topics(deletion("a")).await.unwrap();
    create(&handle, "b").await;
    assert!(files.shared().exists(reserve).unwrap(), "the reserve is held again");
    let image = handle.image();
    coordinator.stop().unwrap();
    let (_coordinator, handle) = start(&files);
    assert_eq!(handle.image(), image);
}

#[tokio::test]
async fn another_nodes_directory_is_refused() {
    let files = FaultyFiles::new();
    let (coordinator, _) = start(&files);
    coordinator.stop().unwrap();
    let mut other = options(&files);
    other.directory_id = Uuid([6; 16]);
    let error = Coordinator::start(other).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::OtherNode { .. }), "{error}");
}

#[tokio::test]
async fn lost_or_damaged_state_is_noticed() {
    let files = FaultyFiles::new();
    let (coordinator, handle) = start(&files);
    handle.register_broker(registration()).await.unwrap();
    coordinator.stop().unwrap();
    let dir = Path::new("/data").join(LOG_DIRECTORY);
    let open = |files: &FaultyFiles| Coordinator::start(options(files)).map(|_| ()).unwrap_err();
    let copy = || files.crash_image(files.operation_count(), ottla_storage::files::faulty::Survival::All, 0);

    let damaged = copy();
    damaged.flip(&dir.join("quorum-state"), 20, 1).unwrap();
    assert!(matches!(open(&damaged), OpenError::HardState(HardStateError::Damaged { .. })));

    let without = copy();
    without.shared().remove_file(&dir.join("quorum-state")).unwrap();
    assert!(matches!(open(&without), OpenError::StateMissing(_)));

    let flipped = copy();
    flipped.flip(&dir.join("00000000000000000000.log"), 70, 1).unwrap();
    let error = open(&flipped);
    assert!(matches!(error, OpenError::Log(_) | OpenError::Entry { .. }), "{error}");

    let short = copy();
    short.shared().remove_file(&dir.join("00000000000000000000.log")).unwrap();
    let error = open(&short);
    assert!(matches!(error, OpenError::LogTooShort { .. } | OpenError::Log(_)), "{error}");
}

/// Appends an entry behind the coordinator's back.
fn append(files: &FaultyFiles, record: bytes::Bytes) {
    let dir = Path::new("/data").join(LOG_DIRECTORY);
    let state = hard_state::HardState::read(&files.shared(), &dir).unwrap().unwrap();
    let mut log = metadata_log::MetadataLog::open(&files.shared(), dir, &state, 0).unwrap();
    let kind = EntryKind::Records(vec![record]);
    let (header, payload) = LogEntry { index: log.end(), term: 1, node_id: 1, kind }.encode(0).unwrap();
    log.append(&header, &payload, 0).unwrap();
    log.sync().unwrap();
    log.close(0).unwrap();
}

#[tokio::test]
async fn what_a_newer_node_wrote_stops_the_start() {
    let level = FeatureLevelRecord { name: OTTLA_FEATURE.into(), feature_level: 2, ..Default::default() };
    let finalized = MetadataRecord::from(level).encode().unwrap();
    for (record, expected) in [
        (finalized, "finalized ottla.version at level 2"),
        (bytes::Bytes::from_static(&[1, 99, 0, 0]), "a record of type 99"),
    ] {
        let files = FaultyFiles::new();
        let (coordinator, _) = start(&files);
        coordinator.stop().unwrap();
        append(&files, record);
        let error = Coordinator::start(options(&files)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("too old"), "{error}");
    }
}

#[test]
fn entries_round_trip() {
    for kind in [
        EntryKind::Blank,
        EntryKind::Records(vec![bytes::Bytes::from_static(b"a"), bytes::Bytes::new()]),
        EntryKind::Membership(vec![bytes::Bytes::from_static(b"m"), bytes::Bytes::from_static(b"l")]),
    ] {
        let entry = LogEntry { index: 7, term: 3, node_id: 1, kind };
        let (header, payload) = entry.encode(9).unwrap();
        assert_eq!((header.base_offset.0, header.partition_leader_epoch.0, header.records_count), (7, 3, 1));
        let batch = [&header.encode()[..], &payload].concat();
        assert_eq!(LogEntry::decode(&batch).unwrap(), entry);
    }
}

/// Names of all topics.
fn names(image: &MetadataImage) -> Vec<String> {
    image.topics().map(|topic| topic.name.to_string()).collect()
}

/// Brokers by id.
fn is_registered(image: &MetadataImage) -> bool {
    image.broker(BrokerId(1)).is_some()
}
