//! Fetch: plan by session and limits, read each partition, answer at once or park until there is enough.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ottla_cluster::image::MetadataImage;
use ottla_partition::Partition;
use ottla_partition::read::{Read, ReadLimits};
use ottla_partition::wait::Waiter;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::wire::{Records, Str};
use ottla_storage::log::LogSlice;

use crate::errors::code_of;
use crate::fetch_sessions::{Asked, Plan, Session, TopicRef, Wanted};
use crate::state::State;
use crate::topics::ServedTopic;

/// First Fetch version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// `IsolationLevel` of a consumer that reads committed transactions only.
const READ_COMMITTED: i8 = 1;

/// A reply and the stored bytes that belong into it, in the order of its partitions.
pub struct Fetched {
    /// The message; a partition's records are a length.
    pub response: FetchResponse,
    /// The batches, one slice per partition with records.
    pub slices: Vec<LogSlice>,
}

/// A fetch in progress: read, and where there is not enough yet, parked.
pub struct FetchWait {
    state: Arc<State>,
    session: Option<Arc<Session>>,
    full: bool,
    wanted: Vec<Wanted>,
    /// The partition of each of `wanted`, as `resolved_by` knew it. One that is taken away meanwhile says so itself.
    found: Vec<Result<Arc<Partition>, ErrorCode>>,
    resolved_by: Option<Arc<MetadataImage>>,
    limits: Limits,
    waiter: Arc<Waiter>,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    max_wait: Duration,
    /// Whether the waiter is left with the partitions.
    parked: bool,
}

#[derive(Clone, Copy)]
struct Limits {
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
}

/// What one round of reading found.
struct Round {
    parts: Vec<Part>,
    bytes: usize,
    /// An error is answered at once.
    failed: bool,
}

enum Part {
    Read(Read),
    Failed(ErrorCode),
}

/// Starts a fetch.
///
/// # Errors
/// A request-level error code: the session is unknown or at another round, or the request is a follower's of a version that
/// does not tell the broker's epoch (the others are for [`crate::replication::leading`]).
pub fn handle(state: &Arc<State>, request: &FetchRequest, version: i16) -> Result<FetchWait, ErrorCode> {
    if request.replica_id >= 0 {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    if request.max_wait_ms < 0 || request.min_bytes < 0 || request.max_bytes < 0 {
        return Err(ErrorCode::InvalidRequest);
    }
    let plan = state.sessions.plan(asked(request, version), Instant::now())?;
    let (session, wanted, full) = match plan {
        Plan::Sessionless(wanted) => (None, wanted, true),
        Plan::Round { session, wanted, full } => (Some(session), wanted, full),
    };
    let max_bytes = as_bytes(request.max_bytes).min(state.config.fetch_max_bytes as usize);
    Ok(FetchWait {
        state: state.clone(),
        session,
        full,
        wanted,
        found: Vec::new(),
        resolved_by: None,
        limits: Limits {
            min_bytes: as_bytes(request.min_bytes).min(max_bytes),
            max_bytes,
            read_committed: request.isolation_level == READ_COMMITTED,
        },
        waiter: Waiter::new(),
        deadline: None,
        max_wait: Duration::from_millis(request.max_wait_ms.unsigned_abs().into()),
        parked: false,
    })
}

fn as_bytes(wire: i32) -> usize {
    usize::try_from(wire).unwrap_or(0)
}

fn asked(request: &FetchRequest, version: i16) -> Asked {
    let by_id = version >= TOPIC_IDS_SINCE;
    let mut wanted = Vec::with_capacity(request.topics.iter().map(|t| t.partitions.len()).sum());
    // A session outlives the frame: its names must not hold the frame's buffer.
    let own = |name: &Str| if request.session_epoch < 0 { name.clone() } else { name.detached() };
    for topic in &request.topics {
        let name = if by_id { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(own(&topic.topic)) };
        wanted.extend(topic.partitions.iter().map(|partition| want(name.clone(), partition)));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name = if by_id { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.topic.clone()) };
        forgotten.extend(topic.partitions.iter().map(|&index| (name.clone(), index)));
    }
    let (session_id, session_epoch) = (request.session_id, request.session_epoch);
    Asked { session_id, session_epoch, by_id, wanted, forgotten }
}

fn want(topic: TopicRef, partition: &FetchPartition) -> Wanted {
    Wanted {
        topic,
        index: partition.partition,
        offset: Offset(partition.fetch_offset),
        max_bytes: as_bytes(partition.partition_max_bytes),
        epoch: LeaderEpoch(partition.current_leader_epoch),
        told: None,
    }
}

impl FetchWait {
    /// Looks the partitions up, unless that was done with the same metadata.
    fn resolve(&mut self) {
        let image = self.state.image();
        let is_known = self.resolved_by.as_ref().is_some_and(|known| Arc::ptr_eq(known, &image));
        // What was not there may only not have been made yet.
        if is_known && self.found.iter().all(Result::is_ok) {
            return;
        }
        self.found.clear();
        self.found.reserve_exact(self.wanted.len());
        let mut last: Option<(&TopicRef, Result<Arc<ServedTopic>, ErrorCode>)> = None;
        for wanted in &self.wanted {
            // The partitions of a topic mostly stand together.
            let topic = match &last {
                Some((name, topic)) if **name == wanted.topic => topic,
                Some(_) | None => {
                    &last.insert((&wanted.topic, find_topic(&self.state, &image, &wanted.topic))).1
                }
            };
            let found = topic.as_ref().map_err(|code| *code);
            self.found.push(found.and_then(|topic| topic.partition(wanted.index).cloned()));
        }
        self.resolved_by = Some(image);
    }

    /// Reads every partition in order until the limits are reached.
    fn read(&mut self) -> Round {
        self.resolve();
        let now_ms = self.state.now_ms();
        let mut round = Round { parts: Vec::with_capacity(self.wanted.len()), bytes: 0, failed: false };
        for (wanted, found) in self.wanted.iter().zip(&self.found) {
            let left = self.limits.max_bytes.saturating_sub(round.bytes);
            let limits =
                ReadLimits { max_bytes: wanted.max_bytes.min(left), at_least_one_batch: round.bytes == 0 };
            let part = match found {
                Ok(partition) => match partition.read(wanted.offset, limits, wanted.epoch, now_ms) {
                    Ok(read) => Part::Read(read),
                    Err(error) => Part::Failed(code_of(&error)),
                },
                Err(code) => Part::Failed(*code),
            };
            match &part {
                Part::Read(read) => round.bytes += read.slice.as_ref().map_or(0, LogSlice::len_bytes),
                Part::Failed(_) => round.failed = true,
            }
            round.parts.push(part);
        }
        round
    }

    /// Leaves the waiter with every partition that has nothing more to give.
    fn park(&mut self, round: &Round) {
        for ((wanted, found), part) in self.wanted.iter().zip(&self.found).zip(&round.parts) {
            if let (Part::Read(read), Ok(partition)) = (part, found) {
                partition.watch(read.high_watermark.max(wanted.offset), &self.waiter);
            }
        }
        self.parked = true;
    }

    fn finish(&mut self, round: Round) -> Fetched {
        self.state.metrics.fetched_bytes.add(round.bytes as u64);
        let mut slices = Vec::new();
        let session_id = self.session.as_ref().map_or(0, |session| session.id());
        let mut response = FetchResponse { session_id, ..FetchResponse::default() };
        let mut answered = Vec::new();
        let mut last_topic: Option<&TopicRef> = None;
        for (wanted, part) in self.wanted.iter().zip(round.parts) {
            let (data, slice, bounds) = answer(wanted, part, self.limits.read_committed);
            let has_news = data.error_code != 0 || slice.is_some() || wanted.told != Some(bounds);
            if !self.full && !has_news {
                continue;
            }
            if self.session.is_some() {
                answered.push((wanted.topic.clone(), wanted.index, bounds, slice.is_some()));
            }
            // Partitions of a topic may be apart in the order of a session: consecutive ones share an entry.
            if last_topic != Some(&wanted.topic) {
                response.responses.push(topic_entry(&wanted.topic));
                last_topic = Some(&wanted.topic);
            }
            let entry = response.responses.last_mut().expect("the first partition makes one");
            entry.partitions.push(data);
            slices.extend(slice);
        }
        if let Some(session) = &self.session {
            session.after_reply(&answered);
        }
        Fetched { response, slices }
    }
}

fn topic_entry(topic: &TopicRef) -> FetchableTopicResponse {
    match topic {
        TopicRef::Name(name) => FetchableTopicResponse { topic: name.clone(), ..Default::default() },
        TopicRef::Id(id) => FetchableTopicResponse { topic_id: *id, ..Default::default() },
    }
}

fn answer(
    wanted: &Wanted,
    part: Part,
    read_committed: bool,
) -> (PartitionData, Option<LogSlice>, (Offset, Offset)) {
    let mut data = PartitionData { partition_index: wanted.index, ..Default::default() };
    data.records = Records::Spliced(0);
    match part {
        Part::Failed(code) => {
            data.error_code = code.code();
            data.high_watermark = -1;
            (data, None, (Offset(-1), Offset(-1)))
        }
        Part::Read(read) => {
            data.high_watermark = read.high_watermark.0;
            data.last_stable_offset = read.high_watermark.0;
            data.log_start_offset = read.log_start_offset.0;
            data.aborted_transactions = read_committed.then(Vec::new);
            let bounds = (read.log_start_offset, read.high_watermark);
            let len = read.slice.as_ref().map_or(0, LogSlice::len_bytes);
            data.records = Records::Spliced(u32::try_from(len).expect("a reply is below 2 GiB"));
            (data, read.slice, bounds)
        }
    }
}

fn find_topic(state: &State, image: &MetadataImage, topic: &TopicRef) -> Result<Arc<ServedTopic>, ErrorCode> {
    let known = match topic {
        TopicRef::Name(name) => image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId),
    };
    state.served(known?)
}

impl Future for FetchWait {
    type Output = Fetched;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fetched> {
        loop {
            if self.parked && !self.waiter.poll_woken(context.waker()) {
                let expired = match &mut self.deadline {
                    Some(deadline) => deadline.as_mut().poll(context).is_ready(),
                    None => false,
                };
                if !expired {
                    return Poll::Pending;
                }
                self.max_wait = Duration::ZERO;
            }
            let round = self.read();
            let enough = round.bytes >= self.limits.min_bytes || round.failed || self.wanted.is_empty();
            if enough || self.max_wait.is_zero() {
                return Poll::Ready(self.finish(round));
            }
            if self.deadline.is_none() {
                let max_wait = self.max_wait;
                self.deadline = Some(Box::pin(tokio::time::sleep(max_wait)));
            }
            self.park(&round);
        }
    }
}
