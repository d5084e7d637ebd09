//! Two replicas of one partition, and between them only what a test hands over: what is copied, counted, cut and refused when.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::future::Future as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_cluster::replica::{
    Durability, DurableReport, Fetched, FollowerFetch, Following, Leadership, Proposal, ProposalAnswer,
};
use ottla_partition::append::{Acks, Appended};
use ottla_partition::error::Fault;
use ottla_partition::follow::{FetchedData, Followed};
use ottla_partition::partition::{Observer, OpenLog, OpenedLog, SyncWish};
use ottla_partition::read::ReadLimits;
use ottla_partition::replicate::Now;
use ottla_partition::{Partition, PartitionError, PartitionKey, TopicSettings};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, ProducerId, Uuid};
use ottla_protocol::records::{BatchHeader, Builder, Compression, HEADER_BYTES};
use ottla_storage::descriptors::Descriptors;
use ottla_storage::directory::{Identity, LogDirectory, Progress};
use ottla_storage::files::faulty::{FaultyFiles, Survival};
use ottla_storage::log::{Log, LogConfig, LogError, RecoveryReport};
use ottla_storage::names::TopicPartition;

const NOW: i64 = 1_700_000_000_000;
/// The steady clock tells another time.
const TIME: Now = Now { wall_ms: NOW, steady_ms: 0 };
const LIMITS: ReadLimits = ReadLimits { max_bytes: 1 << 20, at_least_one_batch: true };

struct Node {
    id: i32,
    life: i64,
    files: FaultyFiles,
    owner: Arc<Owner>,
    partition: Arc<Partition>,
}

struct Owner {
    descriptors: Arc<Descriptors>,
    directory: Arc<LogDirectory>,
    reports: Mutex<Vec<(Following, Offset)>>,
    proposals: Mutex<Vec<Proposal>>,
    failed: Mutex<Vec<String>>,
}

impl OpenLog for Owner {
    fn stamp(&self, _: &PartitionKey) -> Result<(), LogError> {
        Ok(())
    }

    fn open_log(&self, _: &PartitionKey, config: &LogConfig, now_ms: i64) -> Result<OpenedLog, LogError> {
        let name = TopicPartition::new("t", 0);
        let (dir, from) = (self.directory.partition_dir(&name), self.directory.open_from(&name));
        let (log, report) = Log::open(&self.descriptors, dir, config.clone(), from, now_ms)?;
        Ok(OpenedLog {
            log,
            report,
            directory: self.directory.clone(),
            high_watermark: self.directory.high_watermark(&name),
        })
    }
}

impl Observer for Owner {
    fn wants_flush(&self, _: &Arc<Partition>, _: SyncWish) {}
    fn synced(&self, _: Duration) {}
    fn opened(&self, _: &PartitionKey, _: &RecoveryReport) {}

    fn failed(&self, _: &PartitionKey, _: Fault, reason: &str) {
        self.failed.lock().unwrap().push(reason.to_owned());
    }

    fn no_room(&self, _: &Arc<LogDirectory>, _: usize) {}

    fn propose(&self, _: &Arc<Partition>, proposal: Proposal) {
        self.proposals.lock().unwrap().push(proposal);
    }

    fn wants_ticks(&self, _: &Arc<Partition>) {}

    fn report_due(&self, _: &PartitionKey, following: Following, durable: Offset) {
        self.reports.lock().unwrap().push((following, durable));
    }
}

fn serving(id: BrokerId) -> Option<i64> {
    Some(i64::from(id.0))
}

impl Node {
    fn new(id: i32) -> Self {
        Self::on(id, FaultyFiles::new(), LogConfig::default())
    }

    fn on(id: i32, files: FaultyFiles, log: LogConfig) -> Self {
        let node_id = BrokerId(id);
        let identity = Identity { cluster_id: "c".into(), node_id, new_directory_id: Uuid([7; 16]) };
        let (directory, _) = LogDirectory::open(files.shared(), PathBuf::from("/data"), &identity).unwrap();
        let owner = Arc::new(Owner {
            descriptors: Descriptors::new(files.shared(), 16),
            directory: Arc::new(directory),
            reports: Mutex::default(),
            proposals: Mutex::default(),
            failed: Mutex::default(),
        });
        let durability = Durability::Durable;
        let settings =
            Arc::new(TopicSettings { log, durability, flush_messages: i64::MAX, flush_ms: i64::MAX });
        let key = PartitionKey { topic: "t".into(), topic_id: Uuid([1; 16]), index: 0 };
        let partition = Partition::new(key, BrokerId(id), settings, owner.clone(), owner.clone());
        Self { id, life: i64::from(id), files, owner, partition }
    }

    /// A crash that loses what was not synced, and the next start.
    fn crashed(&self) -> Self {
        let files = self.files.crash_image(self.files.operation_count(), Survival::SyncedOnly, 1);
        Self::on(self.id, files, LogConfig::default())
    }

    fn lead(&self, epoch: i32, partition_epoch: i32, isr: &[i32], min_insync_replicas: usize) {
        let leadership = Leadership {
            epoch: LeaderEpoch(epoch),
            partition_epoch,
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: isr.iter().map(|id| BrokerId(*id)).collect(),
            min_insync_replicas,
        };
        self.partition.lead(leadership, NOW);
    }

    fn follow(&self, leader: i32, epoch: i32) {
        self.partition.follow(Following { leader: BrokerId(leader), epoch: LeaderEpoch(epoch) });
    }

    fn append(&self, records: usize) -> Appended {
        self.try_append(records, ProducerId::NONE, -1, -1).unwrap()
    }

    fn try_append(
        &self,
        records: usize,
        id: ProducerId,
        epoch: i16,
        sequence: i32,
    ) -> Result<Appended, PartitionError> {
        let mut builder = Builder::new(Compression::None).producer(id, epoch, sequence);
        for _ in 0..records {
            builder.append(NOW, None, Some(b"v"), &[]).unwrap();
        }
        let batch = builder.finish().unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        self.partition.append_as_leader(&header, &batch[HEADER_BYTES..], Acks::All, NOW)
    }

    fn question(&self) -> FollowerFetch {
        let position = self.partition.fetch_position(NOW).unwrap().unwrap();
        FollowerFetch {
            id: BrokerId(self.id),
            broker_epoch: self.life,
            leader_epoch: position.leader_epoch,
            offset: position.offset,
            last_epoch: position.last_epoch,
        }
    }

    /// One fetch of `follower` here, and what becomes of the answer.
    fn serve(&self, follower: &Node) -> Result<Followed, PartitionError> {
        self.serve_with(follower, |_| {})
    }

    fn serve_with(&self, follower: &Node, spoil: impl Fn(&mut [u8])) -> Result<Followed, PartitionError> {
        let question = follower.question();
        let (leader_epoch, offset) = (question.leader_epoch, question.offset);
        match self.partition.read_for_follower(&question, LIMITS, &serving, TIME) {
            Ok(read) => {
                let mut records = vec![0; read.slice.as_ref().map_or(0, |slice| slice.len_bytes())];
                if let Some(slice) = &read.slice {
                    assert_eq!(slice.read_at(&mut records, 0).unwrap(), records.len());
                }
                spoil(&mut records);
                let data = FetchedData {
                    fetched: Fetched { leader_epoch, offset, diverging: read.diverging },
                    high_watermark: read.high_watermark,
                    log_start_offset: read.log_start_offset,
                    records: &records,
                };
                follower.partition.handle_fetched(&data, NOW)
            }
            Err(PartitionError::OffsetOutOfRange { start, end, .. }) => {
                let asked = Fetched { leader_epoch, offset, diverging: None };
                follower.partition.handle_out_of_range(&asked, start, end, NOW)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Fetches until nothing comes.
    fn catch_up(&self, follower: &Node) {
        for _ in 0..20 {
            if matches!(self.serve(follower).unwrap(), Followed::Appended { batches: 0, .. }) {
                return;
            }
        }
        panic!("it never ends");
    }

    /// Hands the follower's reports over.
    fn hear(&self, follower: &Node) -> usize {
        let reports = std::mem::take(&mut *follower.owner.reports.lock().unwrap());
        for (following, durable) in &reports {
            let report = DurableReport {
                id: BrokerId(follower.id),
                broker_epoch: follower.life,
                leader_epoch: following.epoch,
                durable: *durable,
            };
            self.partition.handle_durable_report(&report, &serving, TIME).unwrap();
        }
        reports.len()
    }

    fn bounds(&self) -> (i64, i64) {
        let bounds = |log: &mut Log| (log.start_offset().0, log.end_offset().0);
        self.partition.with_open_log(bounds).unwrap()
    }

    fn high_watermark(&self) -> i64 {
        self.partition.high_watermark().0
    }

    fn file(&self) -> Vec<u8> {
        let path = Path::new("/data/t-0/00000000000000000000.log");
        ottla_storage::checkpoint::read_whole(&*self.files.shared(), path).unwrap().unwrap()
    }
}

fn pair() -> (Node, Node) {
    let (leader, follower) = (Node::new(1), Node::new(2));
    leader.lead(0, 0, &[1, 2], 2);
    follower.follow(1, 0);
    (leader, follower)
}

#[test]
fn records_are_committed_when_they_are_on_both_disks_and_the_logs_are_equal() {
    let (leader, follower) = pair();
    leader.append(5);
    leader.append(3);
    leader.partition.flush_now();
    assert_eq!(
        leader.serve(&follower).unwrap(),
        Followed::Appended { batches: 2, bytes: leader.file().len() }
    );
    assert_eq!(follower.bounds(), (0, 8));
    assert_eq!(follower.file(), leader.file());
    assert_eq!(leader.hear(&follower), 1, "the first answer of a leadership is followed by a report");
    leader.catch_up(&follower);
    assert_eq!((leader.high_watermark(), follower.high_watermark()), (0, 0), "only in its memory yet");
    follower.partition.flush_now();
    assert_eq!(leader.hear(&follower), 1);
    assert_eq!((leader.high_watermark(), follower.high_watermark()), (8, 0));
    leader.catch_up(&follower);
    assert_eq!(follower.high_watermark(), 8);
}

#[test]
fn acks_all_waits_for_the_followers_disk_and_ends_when_the_isr_is_too_small() {
    let (leader, follower) = pair();
    let appended = leader.append(5);
    leader.partition.flush_now();
    let mut context = Context::from_waker(Waker::noop());
    let mut committed = pin!(leader.partition.committed(&appended));
    assert!(committed.as_mut().poll(&mut context).is_pending());
    leader.catch_up(&follower);
    follower.partition.flush_now();
    assert!(committed.as_mut().poll(&mut context).is_pending());
    leader.hear(&follower);
    assert!(matches!(committed.as_mut().poll(&mut context), Poll::Ready(Ok(()))));

    let appended = leader.append(1);
    leader.partition.flush_now();
    let mut committed = pin!(leader.partition.committed(&appended).or_too_few_replicas());
    let mut patient = pin!(leader.partition.committed(&appended));
    assert!(committed.as_mut().poll(&mut context).is_pending());
    leader.lead(0, 1, &[1], 2);
    assert!(patient.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(Err(error)) = committed.as_mut().poll(&mut context) else { panic!("it waits on") };
    assert!(matches!(error, PartitionError::NotEnoughReplicasAfterAppend { isr: 1, needed: 2 }), "{error}");
    let refused = leader.try_append(1, ProducerId::NONE, -1, -1).unwrap_err();
    assert!(matches!(refused, PartitionError::NotEnoughReplicas { isr: 1, needed: 2 }), "{refused}");
    assert_eq!(leader.high_watermark(), 5, "nothing is committed by too few");
}

#[test]
fn a_smaller_isr_that_is_enough_commits_what_waits() {
    let (leader, _) = pair();
    leader.lead(0, 0, &[1, 2], 1);
    let appended = leader.append(5);
    leader.partition.flush_now();
    let mut context = Context::from_waker(Waker::noop());
    let mut committed = pin!(leader.partition.committed(&appended));
    assert!(committed.as_mut().poll(&mut context).is_pending());
    leader.lead(0, 1, &[1], 1);
    assert!(matches!(committed.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[test]
fn who_is_late_is_proposed_to_leave_and_who_has_all_to_come_back() {
    let (leader, follower) = pair();
    leader.lead(0, 0, &[1, 2], 1);
    leader.partition.set_lag_limit(1000);
    leader.append(5);
    leader.partition.flush_now();
    assert!(leader.partition.tick(&serving, 0), "somebody is behind");
    let deadline = leader.partition.next_deadline().unwrap();
    leader.partition.tick(&serving, deadline);
    let proposal = leader.owner.proposals.lock().unwrap().pop().unwrap();
    assert_eq!(proposal.isr, [(BrokerId(1), 1)]);
    let shrunk = ProposalAnswer { leader_epoch: LeaderEpoch(0), partition_epoch: 1, isr: vec![BrokerId(1)] };
    leader.partition.handle_proposal_answer(&proposal, Ok(shrunk), &serving, deadline);
    assert_eq!(leader.high_watermark(), 5);
    assert!(!leader.partition.tick(&serving, deadline), "whom nobody waits for is not watched");
    leader.catch_up(&follower);
    follower.partition.flush_now();
    leader.hear(&follower);
    let proposal = leader.owner.proposals.lock().unwrap().pop().unwrap();
    assert_eq!(proposal.isr, [(BrokerId(1), 1), (BrokerId(2), 2)]);
}

#[test]
fn a_leader_whose_log_failed_lets_nobody_leave() {
    let (leader, _) = pair();
    leader.lead(0, 0, &[1, 2], 1);
    leader.partition.set_lag_limit(1000);
    leader.append(5);
    assert!(leader.partition.tick(&serving, 0), "somebody is behind");
    let deadline = leader.partition.next_deadline().unwrap();
    leader.partition.take_offline("damaged");
    assert!(!leader.partition.tick(&serving, deadline), "nobody is watched any more");
    leader.lead(0, 1, &[1, 2], 2);
    assert!(!leader.partition.tick(&serving, deadline + 1000));
    assert_eq!(*leader.owner.proposals.lock().unwrap(), [], "the other one has the records");
}

#[test]
fn what_another_leader_has_not_is_cut_and_what_it_has_is_taken() {
    let (one, two) = pair();
    one.append(5);
    one.catch_up(&two);
    one.append(7);
    one.partition.flush_now();
    two.partition.flush_now();
    // The second leads from 5 on, and writes something else.
    two.lead(1, 1, &[1, 2], 1);
    one.follow(2, 1);
    assert!(one.try_append(1, ProducerId::NONE, -1, -1).is_err(), "deposed");
    two.append(2);
    assert!(matches!(two.serve(&one).unwrap(), Followed::Truncated { end: Offset(5), lost: None }));
    two.catch_up(&one);
    assert_eq!((one.bounds(), two.bounds()), ((0, 7), (0, 7)));
    assert_eq!(one.file(), two.file());
}

#[test]
fn an_epoch_without_records_is_cut_too() {
    let (one, two) = pair();
    one.append(5);
    one.catch_up(&two);
    two.partition.flush_now();
    // The first led on in epoch 2, which the second never heard of, and wrote nothing.
    one.lead(2, 2, &[1, 2], 1);
    two.lead(3, 3, &[1, 2], 1);
    one.follow(2, 3);
    assert!(matches!(two.serve(&one).unwrap(), Followed::Truncated { end: Offset(5), lost: None }));
    assert!(matches!(two.serve(&one).unwrap(), Followed::Appended { batches: 0, .. }));
}

#[test]
fn an_older_leadership_changes_nothing() {
    let (one, two) = pair();
    one.append(5);
    one.catch_up(&two);
    two.partition.flush_now();
    two.lead(3, 1, &[1, 2], 1);
    two.append(2);
    let epochs = || two.partition.with_open_log(|log| log.epochs().clone()).unwrap();
    let before = epochs();
    two.lead(1, 1, &[1, 2], 1);
    assert_eq!(epochs(), before);
    assert_eq!(two.append(1).epoch, LeaderEpoch(3));
}

#[test]
fn a_crash_after_a_cut_below_the_recovery_point_is_no_loss() {
    let (one, two) = pair();
    one.append(5);
    one.catch_up(&two);
    one.append(7);
    one.partition.flush_now();
    let name = TopicPartition::new("t", 0);
    let progress = Progress {
        recovery_point: Offset(12),
        log_start_offset: None,
        cleaned_to: None,
        high_watermark: Some(Offset(12)),
    };
    let gathered = one.owner.directory.begin_gathering();
    one.owner.directory.write_checkpoints([(name.clone(), progress)]).unwrap();
    two.lead(1, 1, &[1, 2], 1);
    one.follow(2, 1);
    two.catch_up(&one);
    // What was gathered before the cut must not come back after it.
    one.owner.directory.write_gathered(gathered, [(name, progress)]).unwrap();
    let again = one.crashed();
    again.follow(2, 1);
    again.partition.open_now(NOW).unwrap();
    assert_eq!(again.high_watermark(), 5, "what was cut is not committed");
    two.catch_up(&again);
    assert_eq!(again.bounds(), (0, 5));
}

#[test]
fn a_follower_without_what_the_leader_still_has_begins_anew_also_inside_a_batch() {
    let (leader, _) = pair();
    leader.lead(0, 0, &[1], 1);
    for _ in 0..3 {
        leader.append(10);
    }
    leader.partition.flush_now();
    leader.partition.delete_records(Offset(15), NOW).unwrap();
    let follower = Node::new(2);
    follower.follow(1, 0);
    assert!(matches!(leader.serve(&follower).unwrap(), Followed::Truncated { end: Offset(15), .. }));
    leader.catch_up(&follower);
    assert_eq!(follower.bounds(), (15, 30));
    // And what is deleted later goes there, too.
    leader.partition.delete_records(Offset(22), NOW).unwrap();
    leader.catch_up(&follower);
    assert_eq!(follower.bounds(), (22, 30));
}

#[test]
fn a_damaged_batch_is_not_taken_and_those_before_it_are() {
    let (leader, follower) = pair();
    leader.append(5);
    let first = leader.file().len();
    leader.append(3);
    let spoiled = leader.serve_with(&follower, |bytes| bytes[first + HEADER_BYTES + 2] ^= 1);
    assert!(matches!(spoiled, Err(PartitionError::Corrupt(_))), "{spoiled:?}");
    assert_eq!(follower.bounds(), (0, 5));
    leader.catch_up(&follower);
    assert_eq!(follower.file(), leader.file());
}

#[test]
fn answers_to_old_questions_change_nothing() {
    let (leader, follower) = pair();
    leader.append(5);
    let late = FetchedData {
        fetched: Fetched { leader_epoch: LeaderEpoch(0), offset: Offset(0), diverging: None },
        high_watermark: Offset(5),
        log_start_offset: Offset(0),
        records: &leader.file(),
    };
    leader.catch_up(&follower);
    assert_eq!(follower.partition.handle_fetched(&late, NOW).unwrap(), Followed::Dropped);
    follower.follow(1, 4);
    assert_eq!(follower.partition.handle_fetched(&late, NOW).unwrap(), Followed::Dropped);
    assert!(follower.partition.durable_report().is_none(), "the logs were not compared in this leadership");
}

#[test]
fn producers_go_on_where_they_were_when_the_leader_changes() {
    let (one, two) = pair();
    let id = ProducerId(9);
    let first = one.try_append(5, id, 0, 0).unwrap();
    one.catch_up(&two);
    two.partition.flush_now();
    two.lead(1, 1, &[1, 2], 1);
    one.follow(2, 1);
    let again = two.try_append(5, id, 0, 0).unwrap();
    assert!(again.duplicate_of.is_some());
    assert_eq!(again.base_offset, first.base_offset);
    assert!(matches!(two.try_append(5, id, 0, 7), Err(PartitionError::OutOfOrderSequence(_))));
    assert_eq!(two.try_append(5, id, 0, 5).unwrap().base_offset, Offset(5));
}

#[test]
fn a_follower_of_an_earlier_life_or_another_leadership_is_refused() {
    let (leader, follower) = pair();
    let mut question = FollowerFetch { broker_epoch: 8, ..follower.question() };
    let ask = |question: &FollowerFetch| leader.partition.read_for_follower(question, LIMITS, &serving, TIME);
    assert!(ask(&question).is_ok());
    question.broker_epoch = 7;
    assert!(matches!(ask(&question), Err(PartitionError::StaleBrokerEpoch)));
    question = FollowerFetch { id: BrokerId(3), ..question };
    assert!(matches!(ask(&question), Err(PartitionError::NotLeader)), "no replica");
    question = FollowerFetch { leader_epoch: LeaderEpoch(1), ..follower.question() };
    assert!(matches!(ask(&question), Err(PartitionError::UnknownEpoch { .. })));
    leader.lead(2, 2, &[1, 2], 1);
    assert!(matches!(ask(&question), Err(PartitionError::FencedEpoch { .. })));
}

#[test]
fn a_parked_follower_is_woken_by_an_append_and_by_the_end_of_the_leadership() {
    let (leader, _) = pair();
    leader.append(1);
    let inbox = Arc::new(ottla_partition::wait::Inbox::default());
    let woken = || inbox.poll_take(Waker::noop()) == Some(vec![7]);
    leader.partition.watch_end(Offset(1), LeaderEpoch(0), &inbox, 7);
    assert!(!woken());
    leader.append(1);
    assert!(woken());
    leader.partition.watch_end(Offset(2), LeaderEpoch(0), &inbox, 7);
    assert!(!woken());
    leader.follow(2, 1);
    assert!(woken());
    leader.partition.watch_end(Offset(2), LeaderEpoch(0), &inbox, 7);
    assert!(woken(), "at once");
}
