//! The leader's side of followers' fetches. A follower keeps a session; of its partitions only those are looked at that have got
//! something, or that the request names: ten thousand idle ones cost nothing.
//!
//! Fetch as Kafka speaks it (sessions of KIP-227, topics by id), with two additions: a request that comes while the one before it
//! is still parked ends that one's wait at once; and an answer tells the bounds of a log only when they are news to the follower.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_cluster::image::MetadataImage;
use ottla_cluster::replica::FollowerFetch;
use ottla_partition::read::ReadLimits;
use ottla_partition::replicate::{FollowerRead, Now};
use ottla_partition::wait::Inbox;
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};
use ottla_protocol::wire::Records;
use ottla_storage::log::LogSlice;

use crate::errors::code_of;
use crate::fetch_sessions::epoch_after;
use crate::handlers::fetch::Fetched;
use crate::limits::FOLLOWER_SESSIONS_MAX;
use crate::replication::{clock, serving_epoch};
use crate::state::State;

/// The sessions of all followers, those of each bounded.
#[derive(Debug, Default)]
pub struct FollowerSessions {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<i32, Arc<Session>>,
    of_broker: BTreeMap<BrokerId, VecDeque<i32>>,
    last_id: i32,
}

/// One follower's session.
#[derive(Debug)]
pub struct Session {
    id: i32,
    broker: BrokerId,
    inbox: Arc<Inbox>,
    /// Taken before any partition's lock.
    state: Mutex<SessionState>,
}

#[derive(Debug, Default)]
struct SessionState {
    /// Epoch of the request that is served.
    epoch: i32,
    slots: Vec<Slot>,
    by_key: HashMap<(Uuid, i32), u32>,
    /// Slots of partitions that were forgotten.
    free: Vec<u32>,
    /// Slots to be read, in the order in which they are.
    queue: VecDeque<u32>,
    /// Slots whose high watermark has not reached what the follower has: looked at with each answer.
    behind: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    topic_id: Uuid,
    index: i32,
    /// `None` once the follower has forgotten it.
    partition: Option<Result<Arc<Partition>, ErrorCode>>,
    fetch: FollowerFetch,
    max_bytes: usize,
    /// Start of the log and high watermark as they were told; `None` before the first answer in a leadership.
    told: Option<(Offset, Offset)>,
    is_queued: bool,
    is_behind: bool,
}

impl FollowerSessions {
    fn start(&self, broker: BrokerId) -> Arc<Session> {
        let mut table = self.table.lock().expect("no code panics while it holds the sessions");
        let mut id = table.last_id;
        loop {
            id = if id == i32::MAX { 1 } else { id + 1 };
            if !table.by_id.contains_key(&id) {
                break;
            }
        }
        table.last_id = id;
        let session = Arc::new(Session { id, broker, inbox: Arc::default(), state: Mutex::default() });
        table.by_id.insert(id, session.clone());
        let ids = table.of_broker.entry(broker).or_default();
        ids.push_back(id);
        let oldest = if ids.len() > FOLLOWER_SESSIONS_MAX { ids.pop_front() } else { None };
        if let Some(oldest) = oldest {
            table.by_id.remove(&oldest);
        }
        session
    }

    fn get(&self, id: i32) -> Option<Arc<Session>> {
        self.table.lock().expect("no code panics while it holds the sessions").by_id.get(&id).cloned()
    }
}

/// A follower's fetch in progress.
pub struct FollowerWait {
    state: Arc<State>,
    session: Arc<Session>,
    epoch: i32,
    bytes_max: usize,
    max_wait: Duration,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// Starts a follower's fetch.
///
/// # Errors
/// A request-level error code: the broker is unknown, the session is unknown or at another round.
pub fn handle(state: &Arc<State>, request: &FetchRequest) -> Result<FollowerWait, ErrorCode> {
    let broker = BrokerId(request.replica_state.replica_id);
    let image = state.image();
    if image.broker(broker).is_none() {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    let session = match request.session_epoch {
        0 => state.followers.start(broker),
        1.. => state.followers.get(request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?,
        _ => return Err(ErrorCode::InvalidFetchSessionEpoch),
    };
    if session.broker != broker {
        return Err(ErrorCode::FetchSessionIdNotFound);
    }
    session.take(state, &image, request)?;
    // Whatever waited for the request before this one goes out now.
    session.inbox.wake();
    Ok(FollowerWait {
        state: state.clone(),
        session,
        epoch: request.session_epoch,
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        deadline: None,
    })
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().expect("no code panics while it holds a follower's session")
    }

    /// Takes in what a request changes.
    fn take(&self, state: &State, image: &MetadataImage, request: &FetchRequest) -> Result<(), ErrorCode> {
        let mut inner = self.lock();
        if request.session_epoch > 0 && request.session_epoch != epoch_after(inner.epoch) {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        inner.epoch = request.session_epoch;
        for topic in &request.forgotten_topics_data {
            for &index in &topic.partitions {
                inner.forget((topic.topic_id, index));
            }
        }
        for topic in &request.topics {
            let found = image.topic_by_id(&topic.topic_id).ok_or(ErrorCode::UnknownTopicId);
            let served = found.and_then(|topic| state.served(topic));
            for asked in &topic.partitions {
                let partition = match &served {
                    Ok(served) => served.partition(asked.partition).cloned(),
                    Err(code) => Err(*code),
                };
                let fetch = follower_fetch(self.broker, request, asked);
                inner.ask(topic.topic_id, asked, partition, fetch);
            }
        }
        Ok(())
    }
}

fn follower_fetch(broker: BrokerId, request: &FetchRequest, asked: &FetchPartition) -> FollowerFetch {
    FollowerFetch {
        id: broker,
        broker_epoch: request.replica_state.replica_epoch,
        leader_epoch: LeaderEpoch(asked.current_leader_epoch),
        offset: Offset(asked.fetch_offset),
        last_epoch: LeaderEpoch(asked.last_fetched_epoch),
    }
}

impl SessionState {
    fn ask(
        &mut self,
        topic_id: Uuid,
        asked: &FetchPartition,
        partition: Result<Arc<Partition>, ErrorCode>,
        fetch: FollowerFetch,
    ) {
        let number = self.number_of((topic_id, asked.partition), fetch);
        let slot = &mut self.slots[number as usize];
        if slot.fetch.leader_epoch != fetch.leader_epoch {
            slot.told = None;
        }
        slot.fetch = fetch;
        slot.partition = Some(partition);
        slot.max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
        self.enqueue(number);
    }

    /// The slot of a partition, a new one if it has none.
    fn number_of(&mut self, key: (Uuid, i32), fetch: FollowerFetch) -> u32 {
        if let Some(number) = self.by_key.get(&key) {
            return *number;
        }
        let (topic_id, index) = key;
        let number = match self.free.pop() {
            // It may still stand in one of the lists.
            Some(number) => {
                let slot = &mut self.slots[number as usize];
                (slot.topic_id, slot.index) = key;
                number
            }
            None => {
                let (is_queued, is_behind) = (false, false);
                let (partition, told, max_bytes) = (None, None, 0);
                self.slots.push(Slot {
                    topic_id,
                    index,
                    partition,
                    fetch,
                    max_bytes,
                    told,
                    is_queued,
                    is_behind,
                });
                u32::try_from(self.slots.len() - 1).expect("fewer partitions than 2^32")
            }
        };
        self.by_key.insert(key, number);
        number
    }

    fn forget(&mut self, key: (Uuid, i32)) {
        if let Some(number) = self.by_key.remove(&key) {
            let slot = &mut self.slots[number as usize];
            (slot.partition, slot.told) = (None, None);
            self.free.push(number);
        }
    }

    fn enqueue(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        if !slot.is_queued {
            slot.is_queued = true;
            self.queue.push_back(number);
        }
    }

    /// Reads what is queued, up to the limit.
    fn read(&mut self, inbox: &Arc<Inbox>, image: &MetadataImage, now: Now, bytes_max: usize) -> Answers {
        let serving = |id| serving_epoch(image, id);
        let mut answers = Answers::default();
        while answers.bytes < bytes_max
            && let Some(number) = self.queue.pop_front()
        {
            let slot = &mut self.slots[number as usize];
            slot.is_queued = false;
            let Some(partition) = &slot.partition else { continue };
            let max_bytes = slot.max_bytes.min(bytes_max - answers.bytes);
            let limits = ReadLimits { max_bytes, at_least_one_batch: answers.bytes == 0 };
            let read = match partition {
                Ok(partition) => partition.read_for_follower(&slot.fetch, limits, &serving, now),
                Err(code) => {
                    answers.failed(slot, *code);
                    continue;
                }
            };
            match read {
                Ok(read) => {
                    // A follower whose log parts, or that got records, asks anew.
                    let asks_again = read.diverging.is_some() || read.slice.is_some();
                    answers.read(slot, read);
                    if !asks_again && let Some(Ok(partition)) = &slot.partition {
                        partition.watch_end(slot.fetch.offset, slot.fetch.leader_epoch, inbox, number);
                    }
                    if !slot.is_behind {
                        slot.is_behind = true;
                        self.behind.push(number);
                    }
                }
                Err(PartitionError::OffsetOutOfRange { start, end, .. }) => {
                    answers.out_of_range(slot, start, end);
                }
                Err(error) => answers.failed(slot, code_of(&error)),
            }
        }
        answers
    }

    /// Adds the bounds that have changed since they were told.
    fn add_news(&mut self, answers: &mut Answers) {
        let slots = &mut self.slots;
        self.behind.retain(|number| {
            let slot = &mut slots[*number as usize];
            let Some(Ok(partition)) = &slot.partition else {
                slot.is_behind = false;
                return false;
            };
            let bounds = partition.told_bounds();
            if let Some((start, high_watermark)) = bounds
                && bounds != slot.told
                && slot.told.is_some()
            {
                slot.told = bounds;
                answers.push(slot, |data| {
                    data.high_watermark = high_watermark.0;
                    data.log_start_offset = start.0;
                });
            }
            slot.is_behind = bounds.is_some_and(|(_, high_watermark)| high_watermark < slot.fetch.offset);
            slot.is_behind
        });
    }
}

/// What an answer is made of.
#[derive(Default)]
struct Answers {
    topics: Vec<FetchableTopicResponse>,
    slices: Vec<LogSlice>,
    bytes: usize,
    /// Something is in it that must not wait.
    is_urgent: bool,
}

impl Answers {
    fn push(&mut self, slot: &Slot, fill: impl FnOnce(&mut PartitionData)) {
        let mut data = PartitionData { partition_index: slot.index, ..PartitionData::default() };
        data.records = Records::Spliced(0);
        fill(&mut data);
        match self.topics.last_mut().filter(|last| last.topic_id == slot.topic_id) {
            Some(topic) => topic.partitions.push(data),
            None => self.topics.push(FetchableTopicResponse {
                topic_id: slot.topic_id,
                partitions: vec![data],
                ..FetchableTopicResponse::default()
            }),
        }
    }

    /// Takes in what is worth an answer of its own.
    fn read(&mut self, slot: &mut Slot, read: FollowerRead) {
        let bounds = (read.log_start_offset, read.high_watermark);
        let starts_elsewhere = slot.told.is_none_or(|(start, _)| start != read.log_start_offset);
        if read.slice.is_none() && read.diverging.is_none() && !starts_elsewhere {
            return;
        }
        let len = read.slice.as_ref().map_or(0, LogSlice::len_bytes);
        slot.told = Some(bounds);
        self.push(slot, |data| {
            data.high_watermark = read.high_watermark.0;
            data.log_start_offset = read.log_start_offset.0;
            data.records = Records::Spliced(u32::try_from(len).expect("a reply is below 2 GiB"));
            if let Some(at) = read.diverging {
                data.diverging_epoch =
                    EpochEndOffset { epoch: at.epoch.0, end_offset: at.end.0, ..EpochEndOffset::default() };
            }
        });
        self.slices.extend(read.slice);
        self.bytes += len;
        self.is_urgent = true;
    }

    fn failed(&mut self, slot: &mut Slot, code: ErrorCode) {
        slot.told = None;
        self.is_urgent = true;
        self.push(slot, |data| {
            data.error_code = code.code();
            data.high_watermark = -1;
        });
    }

    fn out_of_range(&mut self, slot: &mut Slot, start: Offset, end: Offset) {
        slot.told = None;
        self.is_urgent = true;
        self.push(slot, |data| {
            data.error_code = ErrorCode::OffsetOutOfRange.code();
            data.high_watermark = -1;
            data.log_start_offset = start.0;
            data.leader_end_offset = end.0;
        });
    }
}

impl FollowerWait {
    /// An answer, when there is one to be given now.
    fn answer(&mut self, is_over: bool) -> Option<Fetched> {
        let mut inner = self.session.lock();
        let mut answers = Answers::default();
        let is_superseded = inner.epoch != self.epoch;
        if !is_superseded {
            let image = self.state.image();
            answers = inner.read(&self.session.inbox, &image, clock::now(), self.bytes_max);
            if !answers.is_urgent && !is_over {
                return None;
            }
            inner.add_news(&mut answers);
        }
        self.state.metrics.replication.replicated_bytes.add(answers.bytes as u64);
        let response =
            FetchResponse { session_id: self.session.id, responses: answers.topics, ..Default::default() };
        Some(Fetched { response, slices: answers.slices })
    }
}

impl Future for FollowerWait {
    type Output = Fetched;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fetched> {
        let mut is_over = self.max_wait.is_zero();
        loop {
            if let Some(fetched) = self.answer(is_over) {
                return Poll::Ready(fetched);
            }
            match self.session.inbox.poll_take(context.waker()) {
                Some(ready) => {
                    let mut inner = self.session.lock();
                    ready.into_iter().for_each(|number| inner.enqueue(number));
                }
                None => {
                    let max_wait = self.max_wait;
                    let deadline =
                        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(max_wait)));
                    if deadline.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    is_over = true;
                }
            }
        }
    }
}
