//! The assigned partitions: positions, what was fetched and not shown yet, who leads. Owns the rules of what may be
//! fetched and shown; must not know connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Waker;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch::PartitionData;
use ottla_protocol::wire::Str;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::decode::Chunk;
use super::options::{ConsumerOptions, StartAt};
use crate::error::{Error, code_of};
use crate::metadata::Topic;
use crate::offsets::{Position, TopicPartition};

/// How long a partition rests after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Offset errors that a consumer shows; more are dropped, since they say the same.
const ERRORS_MAX: usize = 64;

/// How far a partition has been read: shared with the one who shows its records.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The offset of the next record to show; -1 while unknown.
    pub position: AtomicI64,
    /// The offset behind the last record that the program is done with: it has asked for the next one.
    pub done: AtomicI64,
}

impl Progress {
    fn at(offset: i64) -> Arc<Progress> {
        Arc::new(Progress { position: AtomicI64::new(offset), done: AtomicI64::new(offset) })
    }
}

pub(super) struct Assignment {
    places: BTreeMap<TopicPartition, Place>,
    ready: VecDeque<Chunk>,
    ready_bytes: usize,
    errors: VecDeque<Error>,
    /// Wakes the fetcher of a broker.
    fetchers: HashMap<i32, Arc<Notify>>,
    next_version: u64,
    waker: Option<Waker>,
}

struct Place {
    leader: Option<i32>,
    leader_epoch: i32,
    start: Position,
    /// What to ask for next; `None` until `start` has been looked up.
    fetch_offset: Option<i64>,
    progress: Arc<Progress>,
    /// Changes whenever what was fetched before does not count any more.
    version: u64,
    paused: bool,
    /// An error that no retry cures was shown: nothing happens before a seek.
    failed: bool,
    ready_bytes: usize,
    rests_until: Option<Instant>,
    /// The end of what can be read, as of the last fetch.
    end: Option<i64>,
}

/// What a fetcher asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub place: TopicPartition,
    pub fetch_offset: i64,
    pub leader_epoch: i32,
    pub version: u64,
}

/// What a fetcher can do now.
#[derive(Default)]
pub(super) struct Plan {
    pub wanted: Vec<Wanted>,
    /// Some partition was left out because enough of it is here already.
    pub partial: bool,
    pub look_again: Option<Instant>,
}

/// What the supervisor has to see to.
#[derive(Default)]
pub(super) struct Needs {
    pub leaders: Vec<Str>,
    pub positions: Vec<(TopicPartition, Position, u64)>,
    pub look_again: Option<Instant>,
}

/// What is to be shown next.
pub(super) enum Next {
    Chunk(Chunk, Arc<Progress>),
    Error(Error),
    Nothing,
}

impl Assignment {
    pub fn new() -> Assignment {
        Assignment {
            places: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            errors: VecDeque::new(),
            fetchers: HashMap::new(),
            next_version: 0,
            waker: None,
        }
    }

    fn version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version
    }

    /// Adds partitions; those that are there already are sought.
    pub fn add(&mut self, partitions: &[(TopicPartition, Position)]) {
        for (place, start) in partitions {
            let version = self.version();
            let paused = self.places.get(place).is_some_and(|known| known.paused);
            self.drop_ready(place);
            self.places.insert(place.clone(), Place { paused, ..Place::new(*start, version) });
        }
    }

    /// Takes partitions away.
    pub fn remove(&mut self, gone: impl Fn(&TopicPartition) -> bool) {
        let places: Vec<TopicPartition> = self.places.keys().filter(|place| gone(place)).cloned().collect();
        for place in places {
            self.drop_ready(&place);
            self.places.remove(&place);
        }
    }

    /// Moves a position.
    pub fn seek(&mut self, place: &TopicPartition, start: Position) -> Result<(), Error> {
        if !self.places.contains_key(place) {
            return Err(not_assigned(place));
        }
        self.add(&[(place.clone(), start)]);
        Ok(())
    }

    /// Stops or goes on showing and fetching. What was fetched and not shown is dropped, and fetched again later.
    pub fn pause(&mut self, place: &TopicPartition, paused: bool) -> Result<(), Error> {
        let version = self.version();
        self.drop_ready(place);
        let known = self.places.get_mut(place).ok_or_else(|| not_assigned(place))?;
        known.paused = paused;
        known.version = version;
        let position = known.progress.position.load(Ordering::Relaxed);
        if position >= 0 {
            known.fetch_offset = Some(position);
        }
        self.wake_fetchers();
        Ok(())
    }

    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.places.keys().cloned().collect()
    }

    /// The offset of the next record to show.
    pub fn position(&self, place: &TopicPartition) -> Option<i64> {
        let position = self.places.get(place)?.progress.position.load(Ordering::Relaxed);
        (position >= 0).then_some(position)
    }

    /// The end of what can be read, as of the last fetch.
    pub fn end(&self, place: &TopicPartition) -> Option<i64> {
        self.places.get(place)?.end
    }

    /// What the program is done with, per partition.
    pub fn done(&self) -> Vec<(TopicPartition, i64)> {
        let done = self
            .places
            .iter()
            .map(|(place, known)| (place.clone(), known.progress.done.load(Ordering::Relaxed)));
        done.filter(|(_, offset)| *offset >= 0).collect()
    }

    fn drop_ready(&mut self, place: &TopicPartition) {
        let is_of = |chunk: &Chunk| chunk.topic == place.topic && chunk.partition == place.partition;
        let bytes: usize =
            self.ready.iter().filter(|chunk| is_of(chunk)).map(|chunk| chunk.charged_bytes).sum();
        self.ready.retain(|chunk| !is_of(chunk));
        self.ready_bytes -= bytes;
        if let Some(known) = self.places.get_mut(place) {
            known.ready_bytes = 0;
        }
    }

    /// What is to be shown next; wakes `waker` later when there is nothing yet.
    pub fn next(&mut self, waker: &Waker) -> Next {
        if let Some(error) = self.errors.pop_front() {
            return Next::Error(error);
        }
        while let Some(chunk) = self.ready.pop_front() {
            self.ready_bytes -= chunk.charged_bytes;
            let place = TopicPartition { topic: chunk.topic.clone(), partition: chunk.partition };
            let Some(known) = self.places.get_mut(&place) else { continue };
            if known.version != chunk.version {
                continue;
            }
            known.ready_bytes -= chunk.charged_bytes;
            let progress = known.progress.clone();
            self.wake_fetchers();
            return Next::Chunk(chunk, progress);
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        Next::Nothing
    }

    /// Does what was fetched in this version still count?
    pub fn is_current(&self, chunk: &Chunk) -> bool {
        let place = TopicPartition { topic: chunk.topic.clone(), partition: chunk.partition };
        self.places.get(&place).is_some_and(|known| known.version == chunk.version)
    }

    /// Nothing more of a partition until a seek.
    pub fn fail(&mut self, place: &TopicPartition) {
        let version = self.version();
        self.drop_ready(place);
        if let Some(known) = self.places.get_mut(place) {
            known.failed = true;
            known.version = version;
        }
    }

    fn show(&mut self, error: Error) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
    }

    /// Shows an error and wakes the one who waits.
    pub fn raise(&mut self, error: Error) {
        self.show(error);
        self.wake();
    }

    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn wake_fetchers(&self) {
        self.fetchers.values().for_each(|fetcher| fetcher.notify_one());
    }

    /// What can be fetched from a broker now.
    pub fn plan(&self, broker: i32, options: &ConsumerOptions) -> Plan {
        let mut plan = Plan::default();
        if self.ready_bytes >= options.prefetch_bytes {
            return plan;
        }
        let now = Instant::now();
        for (place, known) in &self.places {
            if known.leader != Some(broker) || known.paused || known.failed {
                continue;
            }
            let Some(fetch_offset) = known.fetch_offset else { continue };
            if let Some(until) = known.rests_until.filter(|until| *until > now) {
                plan.look_again = Some(plan.look_again.map_or(until, |at| at.min(until)));
                continue;
            }
            if known.ready_bytes > options.partition_bytes {
                plan.partial = true;
                continue;
            }
            plan.wanted.push(Wanted {
                place: place.clone(),
                fetch_offset,
                leader_epoch: known.leader_epoch,
                version: known.version,
            });
        }
        plan
    }

    /// Takes in what a broker said of a partition.
    pub fn accept(&mut self, wanted: &Wanted, data: PartitionData, options: &ConsumerOptions) {
        let Some(known) = self.places.get_mut(&wanted.place) else { return };
        if known.version != wanted.version {
            return;
        }
        match code_of(data.error_code) {
            ErrorCode::None => {
                let end = match options.isolation {
                    super::options::Isolation::Committed => data.last_stable_offset,
                    super::options::Isolation::Uncommitted => data.high_watermark,
                };
                known.end = Some(if end >= 0 { end } else { data.high_watermark });
                let Some(bytes) = data.records.as_bytes().filter(|bytes| !bytes.is_empty()) else { return };
                let place = (wanted.place.topic.clone(), wanted.place.partition);
                let rules = (options.isolation, options.check_crcs);
                let chunk =
                    Chunk::new(place, wanted.version, bytes.clone(), data.aborted_transactions, rules);
                let next = chunk.next_offset();
                known.fetch_offset = next.or(known.fetch_offset);
                known.ready_bytes += chunk.charged_bytes;
                self.ready_bytes += chunk.charged_bytes;
                self.ready.push_back(chunk);
            }
            ErrorCode::OffsetOutOfRange => self.reset(wanted, options.start_at),
            code => self.stumble(wanted, Error::partition(&wanted.place.topic, wanted.place.partition, code)),
        }
    }

    /// The position is not in the log.
    fn reset(&mut self, wanted: &Wanted, start_at: StartAt) {
        let start = match start_at {
            StartAt::Beginning => Position::Beginning,
            StartAt::End => Position::End,
            StartAt::Nowhere => {
                self.fail(&wanted.place);
                self.show(Error::OffsetOutOfRange {
                    topic: wanted.place.topic.to_string(),
                    partition: wanted.place.partition,
                    offset: wanted.fetch_offset,
                });
                return;
            }
        };
        tracing::warn!(place = %wanted.place, offset = wanted.fetch_offset, ?start, "offset out of range");
        self.add(&[(wanted.place.clone(), start)]);
    }

    /// A partition that could not be fetched: rests, is asked for elsewhere, or has failed.
    pub fn stumble(&mut self, wanted: &Wanted, error: Error) {
        let Some(known) = self.places.get_mut(&wanted.place) else { return };
        if known.version != wanted.version {
            return;
        }
        let moved = error.is_connection()
            || matches!(
                error.code(),
                Some(
                    ErrorCode::NotLeaderOrFollower
                        | ErrorCode::LeaderNotAvailable
                        | ErrorCode::ReplicaNotAvailable
                        | ErrorCode::FencedLeaderEpoch
                        | ErrorCode::UnknownLeaderEpoch
                        | ErrorCode::UnknownTopicOrPartition
                        | ErrorCode::UnknownTopicId
                        | ErrorCode::KafkaStorageError
                )
            );
        if moved {
            known.leader = None;
        }
        if moved || error.is_retriable() {
            known.rests_until = Some(Instant::now() + RETRY_PAUSE);
        } else {
            self.fail(&wanted.place);
            self.show(error);
        }
    }

    /// What is missing before all can be fetched.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        let now = Instant::now();
        for (place, known) in self.places.iter().filter(|(_, known)| !known.failed) {
            if let Some(until) = known.rests_until.filter(|until| *until > now) {
                needs.look_again = Some(needs.look_again.map_or(until, |at| at.min(until)));
                continue;
            }
            if known.leader.is_none() {
                if needs.leaders.last() != Some(&place.topic) {
                    needs.leaders.push(place.topic.clone());
                }
            } else if known.fetch_offset.is_none() {
                needs.positions.push((place.clone(), known.start, known.version));
            }
        }
        needs
    }

    /// Adds what is known of a topic, and gives the brokers that have no fetcher yet.
    pub fn learn(&mut self, topic: &Topic) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut lacking = Vec::new();
        for (place, known) in self.places.iter_mut().filter(|(place, _)| place.topic == topic.name) {
            let Some(partition) = topic.partition(place.partition) else {
                lacking.push(place.clone());
                continue;
            };
            known.leader = partition.leader;
            known.leader_epoch = partition.leader_epoch;
            if let Some(leader) = partition.leader
                && !self.fetchers.contains_key(&leader)
                && !missing.contains(&leader)
            {
                missing.push(leader);
            }
        }
        for place in lacking {
            let count = topic.partitions_count();
            self.fail(&place);
            self.raise(Error::NoSuchPartition {
                topic: place.topic.to_string(),
                partition: place.partition,
                count,
            });
        }
        self.wake_fetchers();
        missing
    }

    /// Names the fetcher of a broker.
    pub fn add_fetcher(&mut self, broker: i32) -> Arc<Notify> {
        let work = Arc::new(Notify::new());
        self.fetchers.insert(broker, work.clone());
        work
    }

    /// A position that was looked up.
    pub fn locate(&mut self, place: &TopicPartition, version: u64, found: Result<i64, Error>) {
        let Some(known) = self.places.get_mut(place).filter(|known| known.version == version) else { return };
        match found {
            Ok(offset) => {
                known.fetch_offset = Some(offset);
                known.progress = Progress::at(offset);
                self.wake_fetchers();
            }
            Err(error) => {
                let wanted = Wanted { place: place.clone(), fetch_offset: -1, leader_epoch: -1, version };
                self.stumble(&wanted, error);
                self.wake();
            }
        }
    }
}

impl Place {
    fn new(start: Position, version: u64) -> Place {
        let offset = match start {
            Position::Offset(offset) => Some(offset),
            Position::Beginning | Position::End | Position::Timestamp(_) => None,
        };
        Place {
            leader: None,
            leader_epoch: -1,
            start,
            fetch_offset: offset,
            progress: Progress::at(offset.unwrap_or(-1)),
            version,
            paused: false,
            failed: false,
            ready_bytes: 0,
            rests_until: None,
            end: None,
        }
    }
}

fn not_assigned(place: &TopicPartition) -> Error {
    Error::NotAssigned { topic: place.topic.to_string(), partition: place.partition }
}
