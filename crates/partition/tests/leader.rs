//! One partition that is led here, with a flusher that does nothing by itself: what is visible, refused and released when.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::future::Future as _;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ottla_cluster::replica::{Durability, Following, Leadership, Proposal};
use ottla_partition::append::{Acks, Appended};
use ottla_partition::error::Fault;
use ottla_partition::partition::{Observer, OpenLog, OpenedLog, SyncWish};
use ottla_partition::read::ReadLimits;
use ottla_partition::{Partition, PartitionError, PartitionKey, TopicSettings};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{Identity, LogDirectory};
use ottla_storage::files::faulty::{self, FaultyFiles, Operation};
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::names::TopicPartition;

const NOW: i64 = 1_700_000_000_000;
const EPOCH: LeaderEpoch = LeaderEpoch(3);
const LOG: &str = "t-0/00000000000000000000.log";

/// Opens logs in one directory and writes down what it is told.
struct Owner {
    descriptors: Arc<Descriptors>,
    directory: Arc<LogDirectory>,
    told: Mutex<Vec<String>>,
    /// When there are some: a flush tells that it has begun, and goes on when it is told to.
    gates: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl OpenLog for Owner {
    fn stamp(&self, _: &PartitionKey) -> Result<(), LogError> {
        if let Some((begun, go_on)) = self.gates.lock().unwrap().take() {
            begun.send(()).unwrap();
            go_on.recv().unwrap();
            self.note("flushed".to_owned());
        }
        Ok(())
    }

    fn open_log(&self, _: &PartitionKey, config: &LogConfig, now_ms: i64) -> Result<OpenedLog, LogError> {
        let name = TopicPartition::new("t", 0);
        let (dir, from) = (self.directory.partition_dir(&name), self.directory.open_from(&name));
        let (log, report) = Log::open(&self.descriptors, dir, config.clone(), from, now_ms)?;
        Ok(OpenedLog { log, report, directory: self.directory.clone(), high_watermark: Offset(0) })
    }
}

impl Owner {
    fn note(&self, text: String) {
        self.told.lock().unwrap().push(text);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Observer for Owner {
    fn propose(&self, _: &Arc<Partition>, proposal: Proposal) {
        self.note(format!("propose {:?}", proposal.isr));
    }

    fn wants_ticks(&self, _: &Arc<Partition>) {
        self.note("ticks".to_owned());
    }

    fn report_due(&self, _: &PartitionKey, following: Following, durable: Offset) {
        self.note(format!("report {durable} to {}", following.leader));
    }

    fn wants_flush(&self, _: &Arc<Partition>, wish: SyncWish) {
        self.note(format!("flush {wish:?}"));
    }

    fn synced(&self, _: Duration) {}
    fn opened(&self, _: &PartitionKey, _: &RecoveryReport) {}

    fn failed(&self, _: &PartitionKey, fault: Fault, _: &str) {
        self.note(format!("failed {fault:?}"));
    }

    fn no_room(&self, directory: &Arc<LogDirectory>, _: usize) {
        directory.mark_full();
        self.note("no room".to_owned());
    }
}

fn led() -> (FaultyFiles, Arc<Owner>, Arc<Partition>) {
    let files = FaultyFiles::new();
    let identity = Identity { cluster_id: "c".into(), node_id: BrokerId(1), new_directory_id: Uuid([7; 16]) };
    let (directory, _) = LogDirectory::open(files.shared(), PathBuf::from("/data"), &identity).unwrap();
    let owner = Arc::new(Owner {
        descriptors: Descriptors::new(files.shared(), 16),
        directory: Arc::new(directory),
        told: Mutex::default(),
        gates: Mutex::default(),
    });
    let settings = Arc::new(TopicSettings {
        log: LogConfig::default(),
        durability: Durability::Durable,
        flush_messages: i64::MAX,
        flush_ms: i64::MAX,
    });
    let key = PartitionKey { topic: "t".into(), topic_id: Uuid([1; 16]), index: 0 };
    let partition = Partition::new(key, BrokerId(1), settings, owner.clone(), owner.clone());
    let me = vec![BrokerId(1)];
    partition.lead(
        Leadership {
            epoch: EPOCH,
            replicas: me.clone(),
            isr: me,
            min_insync_replicas: 1,
            ..Leadership::default()
        },
        NOW,
    );
    (files, owner, partition)
}

fn append(partition: &Arc<Partition>, acks: Acks) -> Result<Appended, PartitionError> {
    let mut builder = Builder::new(Compression::None);
    for _ in 0..5 {
        builder.append(NOW, None, Some(b"v"), &[]).unwrap();
    }
    let batch = builder.finish().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    partition.append_as_leader(&header, &batch[HEADER_BYTES..], acks, NOW)
}

/// Bytes that a consumer gets at `offset`.
fn read(partition: &Arc<Partition>, offset: i64) -> Result<usize, PartitionError> {
    let limits = ReadLimits { max_bytes: 1 << 20, at_least_one_batch: true };
    let read = partition.read(Offset(offset), limits, EPOCH, NOW)?;
    Ok(read.slice.map_or(0, |slice| slice.len_bytes()))
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_not_on_disk_is_in_the_log_but_not_visible() {
    let (_, owner, partition) = led();
    let appended = append(&partition, Acks::All).unwrap();
    assert_eq!((appended.base_offset, appended.next_offset), (Offset(0), Offset(5)));
    assert!(owner.take().contains(&"flush Now".to_owned()));
    // Between the high watermark and the end there is nothing to give, and it is no error; beyond the end it is.
    for offset in 0..=5 {
        assert_eq!(read(&partition, offset).unwrap(), 0, "{offset}");
    }
    for offset in [-1, 6] {
        assert!(matches!(read(&partition, offset), Err(PartitionError::OffsetOutOfRange { .. })), "{offset}");
    }
    assert!(partition.delete_records(Offset(1), NOW).is_err(), "not what nobody has seen");
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut committed = pin!(partition.committed(&appended));
    assert!(committed.as_mut().poll(&mut context).is_pending());
    partition.flush_now();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(matches!(committed.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    let whole = read(&partition, 0).unwrap();
    assert!(whole > HEADER_BYTES);
    assert_eq!((read(&partition, 4).unwrap(), read(&partition, 5).unwrap()), (whole, 0));
}

#[test]
fn leader_epochs_of_others_are_refused() {
    let (_, _, partition) = led();
    let limits = ReadLimits { max_bytes: 1, at_least_one_batch: true };
    let read = |epoch| partition.read(Offset(0), limits, LeaderEpoch(epoch), NOW);
    assert!(matches!(read(2), Err(PartitionError::FencedEpoch { .. })));
    assert!(matches!(read(4), Err(PartitionError::UnknownEpoch { .. })));
    assert!(read(3).is_ok() && read(-1).is_ok());
    partition.unlead();
    assert!(matches!(read(3), Err(PartitionError::NotLeader)));
}

#[test]
fn who_waits_learns_that_the_partition_is_gone_or_offline() {
    let failed = |partition: &Arc<Partition>, files: &FaultyFiles| {
        files.fail(fault(Operation::Sync, std::io::ErrorKind::Other));
        partition.flush_now();
    };
    type Ending = Box<dyn Fn(&Arc<Partition>, &FaultyFiles)>;
    let endings: [(&str, Ending); 4] = [
        ("NotLeader", Box::new(|partition, _| drop(partition.retire()))),
        ("NotLeader", Box::new(|partition, _| partition.unlead())),
        ("Failed", Box::new(|partition, _| partition.take_offline("why"))),
        ("Failed", Box::new(failed)),
    ];
    for (expected, end) in endings {
        let (files, _, partition) = led();
        let appended = append(&partition, Acks::All).unwrap();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);
        let mut committed = pin!(partition.committed(&appended));
        assert!(committed.as_mut().poll(&mut context).is_pending());
        end(&partition, &files);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "{expected}");
        let Poll::Ready(Err(error)) = committed.as_mut().poll(&mut context) else { panic!("{expected}") };
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        let again = append(&partition, Acks::Leader).unwrap_err();
        assert!(format!("{again:?}").starts_with(expected), "{again:?}");
        // Whatever the flusher still had to do is over.
        files.heal();
        partition.flush_now();
        assert!(append(&partition, Acks::Leader).is_err());
    }
}

fn fault(operation: Operation, error: std::io::ErrorKind) -> faulty::Fault {
    faulty::Fault { operation, path_suffix: LOG.to_owned(), after: 0, error, written_bytes: 9 }
}

#[test]
fn a_failed_write_is_a_fault_of_the_disk_and_a_full_one_is_not() {
    let (files, owner, partition) = led();
    append(&partition, Acks::Leader).unwrap();
    owner.take();
    files.fail(fault(Operation::Write, std::io::ErrorKind::StorageFull));
    assert!(matches!(append(&partition, Acks::Leader), Err(PartitionError::NoSpace)));
    assert_eq!(owner.take(), ["no room"]);
    files.heal();
    assert!(matches!(append(&partition, Acks::Leader), Err(PartitionError::NoSpace)), "refused unseen");
    assert_eq!(owner.take(), Vec::<String>::new());
    partition.flush_now();
    assert!(read(&partition, 0).unwrap() > 0, "reads go on");
    files.set_available_bytes(1 << 30);
    assert!(owner.directory.has_room_again(1).unwrap());
    assert_eq!(append(&partition, Acks::Leader).unwrap().base_offset, Offset(5), "nothing of the torn write");
    owner.take();
    files.fail(fault(Operation::Write, std::io::ErrorKind::Other));
    assert!(matches!(append(&partition, Acks::Leader), Err(PartitionError::Failed(_))));
    assert_eq!(owner.take(), ["failed Write"]);
    files.heal();
    assert!(matches!(append(&partition, Acks::Leader), Err(PartitionError::Failed(_))), "never retried");
    assert!(matches!(read(&partition, 0), Err(PartitionError::Failed(_))));
}

#[test]
fn a_sync_that_fails_for_want_of_space_is_a_fault_of_the_disk_too() {
    let (files, owner, partition) = led();
    append(&partition, Acks::Leader).unwrap();
    owner.take();
    files.fail(fault(Operation::Sync, std::io::ErrorKind::StorageFull));
    partition.flush_now();
    assert_eq!(owner.take(), ["failed Write"]);
}

#[test]
fn nothing_is_written_in_a_directory_that_another_log_has_made_suspect() {
    let (files, owner, partition) = led();
    append(&partition, Acks::Leader).unwrap();
    owner.directory.fence("another log failed");
    assert!(matches!(append(&partition, Acks::Leader), Err(PartitionError::Failed(_))));
    let before = files.operation_count();
    partition.flush_now();
    assert_eq!(files.operation_count(), before);
    assert!(partition.failure().unwrap().contains("another log failed"));
}

#[test]
fn a_partition_retires_after_the_sync_that_is_under_way() {
    let (_, owner, partition) = led();
    append(&partition, Acks::Leader).unwrap();
    owner.take();
    let ((begun, has_begun), (go, go_on)) = (channel(), channel());
    *owner.gates.lock().unwrap() = Some((begun, go_on));
    std::thread::scope(|scope| {
        scope.spawn(|| partition.flush_now());
        has_begun.recv().unwrap();
        let (retired, is_retired) = channel();
        let (partition, owner) = (&partition, &owner);
        scope.spawn(move || {
            drop(partition.retire());
            owner.note("retired".to_owned());
            // Nobody listens any more when it waited, as it should.
            retired.send(()).ok();
        });
        // One that does not wait comes through here, and is seen by the order.
        is_retired.recv_timeout(Duration::from_millis(50)).ok();
        go.send(()).unwrap();
    });
    assert_eq!(owner.take(), ["flushed", "retired"]);
}

#[test]
fn settling_waits_for_a_sync_that_is_under_way() {
    let (_, owner, partition) = led();
    append(&partition, Acks::Leader).unwrap();
    let ((begun, has_begun), (go, go_on)) = (channel(), channel());
    *owner.gates.lock().unwrap() = Some((begun, go_on));
    let mut context = Context::from_waker(Waker::noop());
    std::thread::scope(|scope| {
        scope.spawn(|| partition.flush_now());
        has_begun.recv().unwrap();
        // All that was appended is in the sync that is under way: nothing more is dirty, and nothing is visible yet.
        let mut settled = pin!(partition.settle().expect("not visible yet"));
        assert!(settled.as_mut().poll(&mut context).is_pending());
        go.send(()).unwrap();
    });
    assert!(partition.settle().is_none(), "all is visible");
    assert_eq!(partition.delete_records(Offset(5), NOW).unwrap(), Offset(5));
}
