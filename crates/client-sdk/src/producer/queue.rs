//! What waits to be sent: batches per partition, in order. Owns partitioning, batching, sequences and the order of what
//! comes back; must not know connections.
//!
//! Order and exactly once: a partition's batches are sent in the order of their numbers. When one comes back to be sent
//! again, the partition is recovering: nothing of it is sent before all that is on its way has come back. The first
//! sequence that a broker refuses as out of order, while nothing before it is outstanding, was never written; only then
//! is the producer's identity for that partition replaced, so that no record is written twice.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::records::Builder;
use ottla_protocol::wire::Str;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{Batch, Identity, Stamp};
use super::delivery::{Delivery, Fate};
use super::options::{ProducerOptions, Spread};
use crate::error::Error;
use crate::metadata::Topic;
use crate::partitioner::partition_of_key;
use crate::record::Record;

/// Bytes of batches in one request, unless one batch alone is larger.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// How long a partition rests after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// All partitions that this producer has sent to.
pub(super) struct Queue {
    topics: HashMap<Str, TopicSlots>,
    slots: Vec<Slot>,
    /// Wakes the sender of a broker.
    senders: HashMap<i32, Arc<Notify>>,
    /// Who the producer is for partitions that have had no trouble; `None` without idempotence.
    identity: Option<Identity>,
    closed: bool,
}

#[derive(Default)]
struct TopicSlots {
    by_index: Vec<usize>,
    /// The partition that keyless records go to now.
    turn: usize,
}

struct Slot {
    topic: Str,
    index: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    /// Takes records.
    open: Option<Batch>,
    /// Full or returned, by number.
    sealed: VecDeque<Batch>,
    /// On their way: number, stamp and fate.
    in_flight: Vec<(u64, Arc<Fate>)>,
    identity: Option<Identity>,
    next_sequence: i32,
    next_number: u64,
    recovering: bool,
    rests_until: Option<Instant>,
    last_error: Option<Error>,
}

/// What a sender takes.
#[derive(Default)]
pub(super) struct Taken {
    pub batches: Vec<Batch>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Instant>,
}

/// What a broker said of a batch.
pub(super) enum Verdict {
    Written(super::delivery::Written),
    /// Not written as far as is known; to be sent again.
    Again(Error),
    /// Refused for good.
    Refused(Error),
}

/// What the supervisor has to see to.
#[derive(Default)]
pub(super) struct Needs {
    /// Topics with partitions without a leader.
    pub leaders: Vec<Str>,
    /// A new identity for these places.
    pub identities: Vec<usize>,
}

/// Where a record went, or why not yet.
pub(super) enum Enqueued {
    Done(Delivery),
    /// The topic's partitions are not known here.
    UnknownTopic,
}

impl Queue {
    pub fn new(identity: Option<Identity>) -> Queue {
        Queue { topics: HashMap::new(), slots: Vec::new(), senders: HashMap::new(), identity, closed: false }
    }

    /// Adds what is known of a topic, and gives the brokers that have no sender yet.
    pub fn learn(&mut self, topic: &Topic) -> Vec<i32> {
        let known = self.topics.entry(topic.name.clone()).or_default();
        for partition in &topic.partitions {
            let place = usize::try_from(partition.index).expect("an index");
            if place == known.by_index.len() {
                known.by_index.push(self.slots.len());
                self.slots.push(Slot::new(topic.name.clone(), partition.index, self.identity));
            }
            let Some(slot) = known.by_index.get(place) else { break };
            self.slots[*slot].lead(partition.leader, partition.leader_epoch);
        }
        let mut missing = Vec::new();
        for slot in &self.slots {
            let Some(leader) = slot.leader else { continue };
            match self.senders.get(&leader) {
                Some(sender) => sender.notify_one(),
                None if !missing.contains(&leader) => missing.push(leader),
                None => {}
            }
        }
        missing
    }

    /// What wakes the sender of a broker; `None` when it has one already.
    pub fn add_sender(&mut self, broker: i32) -> Option<Arc<Notify>> {
        let work = Arc::new(Notify::new());
        match self.senders.entry(broker) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => Some(place.insert(work).clone()),
        }
    }

    /// Topics that were sent to.
    pub fn topics(&self) -> Vec<Str> {
        self.topics.keys().cloned().collect()
    }

    /// Puts a record into its partition's open batch.
    ///
    /// # Errors
    /// `Closed`, `NoSuchPartition`, `Encode`.
    pub fn enqueue(
        &mut self,
        record: &Record<'_>,
        timestamp_ms: i64,
        charge: usize,
        options: &ProducerOptions,
    ) -> Result<Enqueued, Error> {
        if self.closed {
            return Err(Error::Closed("producer"));
        }
        let Some(topic) = self.topics.get_mut(record.topic) else { return Ok(Enqueued::UnknownTopic) };
        let slot = topic.choose(record, options.spread)?;
        let place = &mut self.slots[slot];
        let bytes = record.bytes_max();
        let full = place.open.as_ref().is_some_and(|open| {
            open.records_count > 0 && open.uncompressed_bytes() + bytes > options.batch_bytes
        });
        if full {
            place.seal();
            if options.spread == Spread::BatchByBatch && record.partition.is_none() && record.key.is_none() {
                topic.turn += 1;
            }
        }
        let fresh = place.open.is_none();
        let delivery = place.append(slot, record, timestamp_ms, charge, options)?;
        if (fresh || full)
            && let Some(sender) = place.leader.and_then(|leader| self.senders.get(&leader))
        {
            sender.notify_one();
        }
        Ok(Enqueued::Done(delivery))
    }

    /// Takes what can be sent to `broker` now: at most one batch a partition. Those too old are given up.
    pub fn take(&mut self, broker: i32, starved: bool, options: &ProducerOptions) -> (Taken, Vec<Batch>) {
        let now = Instant::now();
        let mut taken = Taken::default();
        let mut expired = Vec::new();
        let mut bytes = 0;
        for slot in &mut self.slots {
            if slot.leader != Some(broker) {
                continue;
            }
            expired.extend(slot.expire(now, options.delivery_max));
            match slot.due(now, starved, options) {
                Due::Now if bytes < REQUEST_BYTES_MAX => {
                    let batch = slot.take(options.idempotence);
                    bytes += batch.uncompressed_bytes();
                    taken.batches.push(batch);
                }
                Due::Now => taken.look_again = Some(now),
                Due::At(when) => {
                    taken.look_again = Some(taken.look_again.map_or(when, |at| at.min(when)));
                }
                Due::Never => {}
            }
        }
        (taken, expired)
    }

    /// Ends a batch's journey, or queues it again in its place. A batch that is given back has met its fate.
    pub fn settle(
        &mut self,
        batch: Batch,
        verdict: Verdict,
    ) -> Option<(Batch, Result<super::delivery::Written, Error>)> {
        let slot = &mut self.slots[batch.slot];
        slot.in_flight.retain(|(number, _)| *number != batch.number);
        if slot.in_flight.is_empty() {
            slot.recovering = false;
        }
        match verdict {
            Verdict::Written(written) => Some((batch, Ok(written))),
            Verdict::Again(error) => {
                slot.take_back(batch, error);
                None
            }
            Verdict::Refused(error) => match slot.out_of_sequence(&batch, &error) {
                true => {
                    slot.take_back(batch, error);
                    None
                }
                false => Some((batch, Err(error))),
            },
        }
    }

    /// What is missing before something can be sent, and the batches that waited too long for it.
    pub fn needs(&mut self, idempotence: bool, delivery_max: Duration) -> (Needs, Vec<Batch>) {
        let mut needs = Needs::default();
        let mut expired = Vec::new();
        let now = Instant::now();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if slot.leader.is_none() {
                expired.extend(slot.expire(now, delivery_max));
                if !slot.is_idle() && !needs.leaders.contains(&slot.topic) {
                    needs.leaders.push(slot.topic.clone());
                }
            }
            if idempotence && slot.identity.is_none() && !slot.is_idle() && slot.in_flight.is_empty() {
                needs.identities.push(place);
            }
        }
        (needs, expired)
    }

    /// Gives places their identity; their batches are numbered afresh.
    pub fn identify(&mut self, places: &[usize], identity: Identity) {
        for place in places {
            let slot = &mut self.slots[*place];
            slot.identity = Some(identity);
            slot.next_sequence = 0;
            slot.sealed.iter_mut().for_each(|batch| batch.stamp = None);
            if let Some(sender) = slot.leader.and_then(|leader| self.senders.get(&leader)) {
                sender.notify_one();
            }
        }
    }

    /// Seals all open batches and gives the fates of all that is not settled.
    pub fn flush(&mut self) -> Vec<Arc<Fate>> {
        let mut fates = Vec::new();
        for slot in &mut self.slots {
            slot.seal();
            fates.extend(slot.sealed.iter().map(|batch| batch.fate.clone()));
            fates.extend(slot.in_flight.iter().map(|(_, fate)| fate.clone()));
        }
        self.wake_all();
        fates
    }

    /// Takes no more records.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Wakes all senders.
    pub fn wake_all(&self) {
        self.senders.values().for_each(|sender| sender.notify_one());
    }
}

impl TopicSlots {
    fn choose(&mut self, record: &Record<'_>, spread: Spread) -> Result<usize, Error> {
        let count = self.by_index.len();
        let wire_count = i32::try_from(count).expect("a count of the wire");
        let index = match (record.partition, record.key) {
            (Some(index), _) => index,
            (None, Some(key)) => partition_of_key(key, wire_count),
            (None, None) => {
                if spread == Spread::RecordByRecord {
                    self.turn += 1;
                }
                i32::try_from(self.turn % count).expect("below a count of the wire")
            }
        };
        let slot = usize::try_from(index).ok().and_then(|index| self.by_index.get(index));
        slot.copied().ok_or_else(|| Error::NoSuchPartition {
            topic: record.topic.to_owned(),
            partition: index,
            count: wire_count,
        })
    }
}

/// When something of a partition can be sent.
enum Due {
    Now,
    At(Instant),
    /// Not before something happens.
    Never,
}

impl Slot {
    fn new(topic: Str, index: i32, identity: Option<Identity>) -> Slot {
        Slot {
            topic,
            index,
            leader: None,
            leader_epoch: -1,
            open: None,
            sealed: VecDeque::new(),
            in_flight: Vec::new(),
            identity,
            next_sequence: 0,
            next_number: 0,
            recovering: false,
            rests_until: None,
            last_error: None,
        }
    }

    /// Another leader gets nothing before the old one has answered.
    fn lead(&mut self, leader: Option<i32>, epoch: i32) {
        if leader != self.leader && !self.in_flight.is_empty() {
            self.recovering = true;
        }
        self.leader = leader;
        self.leader_epoch = epoch;
    }

    fn is_idle(&self) -> bool {
        self.open.is_none() && self.sealed.is_empty()
    }

    fn seal(&mut self) {
        self.sealed.extend(self.open.take());
    }

    fn append(
        &mut self,
        slot: usize,
        record: &Record<'_>,
        timestamp_ms: i64,
        charge: usize,
        options: &ProducerOptions,
    ) -> Result<Delivery, Error> {
        let open = self.open.get_or_insert_with(|| {
            let number = self.next_number;
            self.next_number += 1;
            let fate = Fate::new(self.topic.clone(), self.index);
            Batch::new(slot, number, fate, Builder::new(options.compression))
        });
        let appended = open.builder().append(timestamp_ms, record.key, record.value, &record.headers);
        appended.map_err(|source| Error::Encode {
            topic: self.topic.to_string(),
            partition: self.index,
            source: Arc::new(source),
        })?;
        let index = open.records_count;
        open.records_count += 1;
        open.charged_bytes += charge;
        let delivery = Delivery { fate: open.fate.clone(), index };
        if open.uncompressed_bytes() >= options.batch_bytes {
            self.seal();
        }
        Ok(delivery)
    }

    fn due(&self, now: Instant, starved: bool, options: &ProducerOptions) -> Due {
        let may = self.in_flight.len() < options.per_partition_max()
            && (!self.recovering || self.in_flight.is_empty())
            && (!options.idempotence || self.identity.is_some());
        if !may || self.is_idle() {
            return Due::Never;
        }
        if let Some(until) = self.rests_until.filter(|until| *until > now) {
            return Due::At(until);
        }
        if !self.sealed.is_empty() || starved {
            return Due::Now;
        }
        let ripe = self.open.as_ref().map_or(now, |open| open.created + options.linger);
        if ripe <= now { Due::Now } else { Due::At(ripe) }
    }

    fn take(&mut self, idempotence: bool) -> Batch {
        if self.sealed.is_empty() {
            self.seal();
        }
        let mut batch = self.sealed.pop_front().expect("something is due");
        if let Some(identity) = self.identity.filter(|_| idempotence && batch.stamp.is_none()) {
            batch.stamp = Some(Stamp { identity, sequence: self.next_sequence });
            self.next_sequence = after(self.next_sequence, batch.records_count);
        }
        self.in_flight.push((batch.number, batch.fate.clone()));
        batch
    }

    fn take_back(&mut self, batch: Batch, error: Error) {
        let stale = matches!(
            error.code(),
            Some(
                ErrorCode::NotLeaderOrFollower
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
            )
        );
        if stale || error.is_connection() {
            self.leader = None;
        }
        self.recovering = !self.in_flight.is_empty();
        self.rests_until = Some(Instant::now() + RETRY_PAUSE);
        self.last_error = Some(error);
        let place = self.sealed.iter().position(|other| other.number > batch.number);
        self.sealed.insert(place.unwrap_or(self.sealed.len()), batch);
    }

    /// Is the refusal only about the order of what is on its way, or about an identity that the broker has forgotten?
    fn out_of_sequence(&mut self, batch: &Batch, error: &Error) -> bool {
        let forgotten = match error.code() {
            Some(ErrorCode::OutOfOrderSequenceNumber) => false,
            Some(ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch) => true,
            _ => return false,
        };
        let Some(stamp) = batch.stamp else { return false };
        let outstanding = self.in_flight.iter().map(|(number, _)| *number);
        let waiting = self.sealed.iter().filter(|other| other.stamp.is_some()).map(|other| other.number);
        let is_first = outstanding.chain(waiting).all(|number| number > batch.number);
        // The first one out of order at sequence 0 of a fresh identity would be refused for ever.
        if is_first && stamp.sequence == 0 && !forgotten {
            return false;
        }
        if is_first && self.identity == Some(stamp.identity) {
            self.identity = None;
        }
        true
    }

    /// Those that waited too long, from the front; what is on its way is not among them.
    fn expire(&mut self, now: Instant, delivery_max: Duration) -> Vec<Batch> {
        let mut expired = Vec::new();
        let old = |batch: &Batch| now.saturating_duration_since(batch.created) > delivery_max;
        while self.sealed.front().is_some_and(old) {
            expired.extend(self.sealed.pop_front());
        }
        if self.sealed.is_empty() && self.open.as_ref().is_some_and(old) {
            expired.extend(self.open.take());
        }
        for batch in &expired {
            batch.fate.settle(Err(Error::TimedOut {
                what: format!("sending to {}-{}", self.topic, self.index),
                after: delivery_max,
                last: Box::new(self.last_error.clone().unwrap_or_else(|| {
                    Error::partition(&self.topic, self.index, ErrorCode::LeaderNotAvailable)
                })),
            }));
        }
        expired
    }
}

/// Sequences go from 0 to the largest and begin again.
fn after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(after(0, 5), 5);
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 4), 2);
    }
}
