//! Committed offsets of a group: what is seen, what is being written, what a transaction may still change.

use std::collections::BTreeMap;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::generated::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;

use super::context::Context;
use super::group::{Group, State};
use super::limits::ID_BYTES_MAX;
use super::record::offset_record;
use super::stores::Write;
use super::{GroupRecord, Reply, StoreError, Ticket};

/// Topic and partition.
pub(super) type OffsetKey = (Str, i32);

/// What is committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedOffset {
    pub offset: i64,
    /// -1 where the client did not know it.
    pub leader_epoch: i32,
    pub metadata: Str,
    pub commit_timestamp_ms: i64,
    /// Set by old clients alone, who chose their own retention.
    pub expire_timestamp_ms: Option<i64>,
    pub topic_id: Uuid,
    /// Its place among all records of the shard: a transaction that is older does not overwrite it.
    pub order: u64,
}

/// All offsets of a group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
    count: usize,
    /// How many commits of a partition are on their way to the log.
    writing: BTreeMap<OffsetKey, usize>,
    /// How many open transactions have an offset for a partition.
    unstable: BTreeMap<OffsetKey, usize>,
}

fn count_down(counts: &mut BTreeMap<OffsetKey, usize>, key: &OffsetKey) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Offsets {
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when nothing is committed, nor is going to be.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.writing.is_empty() && self.unstable.is_empty()
    }

    pub fn has_unstable(&self) -> bool {
        !self.unstable.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Str, i32, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, all)| all.iter().map(move |(p, offset)| (topic, *p, offset)))
    }

    pub fn insert(&mut self, (topic, partition): OffsetKey, offset: CommittedOffset) {
        let old = self.topics.entry(topic).or_default().insert(partition, offset);
        self.count += usize::from(old.is_none());
    }

    pub fn remove(&mut self, (topic, partition): &OffsetKey) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        self.count -= usize::from(partitions.remove(partition).is_some());
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Whether a tombstone has something to end: a commit that is on its way comes before it in the log.
    pub fn has_or_writes(&self, key: &OffsetKey) -> bool {
        self.get(&key.0, key.1).is_some() || self.writing.contains_key(key)
    }

    pub fn is_writing(&self, key: &OffsetKey) -> bool {
        self.writing.contains_key(key)
    }

    /// Every partition that has an offset or is going to.
    pub fn keys(&self) -> Vec<OffsetKey> {
        let committed = self.iter().map(|(topic, partition, _)| (topic.clone(), partition));
        let mut keys: Vec<OffsetKey> = committed.chain(self.writing.keys().cloned()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub fn begin_unstable(&mut self, key: &OffsetKey) {
        *self.unstable.entry(key.clone()).or_default() += 1;
    }

    pub fn end_unstable(&mut self, key: &OffsetKey) {
        count_down(&mut self.unstable, key);
    }

    pub fn is_unstable(&self, key: &OffsetKey) -> bool {
        self.unstable.contains_key(key)
    }
}

/// The same answer for each partition of a commit.
pub(super) fn commit_refused(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..OffsetCommitResponsePartition::default()
            })
            .collect(),
        ..OffsetCommitResponseTopic::default()
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

impl Group {
    pub(super) fn commit(&mut self, cx: &mut Context<'_>, ticket: Ticket, request: &OffsetCommitRequest) {
        if let Err(code) = self.check_commit(request) {
            return cx.reply(ticket, Reply::Commit(commit_refused(request, code)));
        }
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.touch_session(cx, &request.member_id);
        }
        let mut response = commit_refused(request, ErrorCode::None);
        let mut offsets = Vec::new();
        for (topic, answers) in request.topics.iter().zip(&mut response.topics) {
            let name = topic.name.detached();
            for (partition, answer) in topic.partitions.iter().zip(&mut answers.partitions) {
                let metadata = partition.committed_metadata.clone().unwrap_or_default();
                if is_too_large(&metadata, cx.config.offset_metadata_bytes_max) {
                    answer.error_code = ErrorCode::OffsetMetadataTooLarge.code();
                    continue;
                }
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.detached(),
                    commit_timestamp_ms: cx.now.wall_ms,
                    expire_timestamp_ms: (request.retention_time_ms >= 0)
                        .then(|| cx.now.wall_ms.saturating_add(request.retention_time_ms)),
                    topic_id: topic.topic_id,
                    order: 0,
                };
                offsets.push(((name.clone(), partition.partition_index), offset));
            }
        }
        if offsets.is_empty() {
            return cx.reply(ticket, Reply::Commit(response));
        }
        self.store_offsets(cx, ticket, response, offsets);
    }

    fn store_offsets(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        response: OffsetCommitResponse,
        offsets: Vec<(OffsetKey, CommittedOffset)>,
    ) {
        let mut records: Vec<GroupRecord> = Vec::with_capacity(offsets.len());
        for (key, offset) in &offsets {
            records.push(offset_record(&self.id, key, offset));
            *self.offsets.writing.entry(key.clone()).or_default() += 1;
        }
        self.store(cx, records, Write::Commit { ticket, response, offsets });
    }

    /// Members commit in their generation; who is no member may commit as long as the group has none.
    fn check_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some() {
            self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Offsets are in the log, or not: now they are seen and answered. `order` counts the records of the shard.
    pub(super) fn offsets_stored(
        &mut self,
        cx: &mut Context<'_>,
        (ticket, mut response): (Ticket, OffsetCommitResponse),
        offsets: Vec<(OffsetKey, CommittedOffset)>,
        outcome: Result<(), StoreError>,
        order: u64,
    ) {
        for (key, mut offset) in offsets {
            count_down(&mut self.offsets.writing, &key);
            if outcome.is_ok() {
                offset.order = order;
                self.offsets.insert(key, offset);
            }
        }
        if let Err(error) = outcome {
            let answers = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            for answer in answers.filter(|answer| answer.error_code == ErrorCode::None.code()) {
                answer.error_code = error.code().code();
            }
        }
        cx.reply(ticket, Reply::Commit(response));
    }

    pub(super) fn fetch_offsets(
        &self,
        asked: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> Vec<OffsetFetchResponseTopics> {
        if let Some(topics) = &asked.topics {
            return topics
                .iter()
                .map(|topic| {
                    let partitions = topic.partition_indexes.iter();
                    OffsetFetchResponseTopics {
                        name: topic.name.clone(),
                        topic_id: topic.topic_id,
                        partitions: partitions
                            .map(|p| self.fetched(&topic.name, *p, require_stable))
                            .collect(),
                        ..OffsetFetchResponseTopics::default()
                    }
                })
                .collect();
        }
        let topics = self.offsets.topics.iter().map(|(name, partitions)| OffsetFetchResponseTopics {
            name: name.clone(),
            partitions: partitions.keys().map(|p| self.fetched(name, *p, require_stable)).collect(),
            ..OffsetFetchResponseTopics::default()
        });
        topics.collect()
    }

    fn fetched(&self, topic: &Str, partition: i32, require_stable: bool) -> OffsetFetchResponsePartitions {
        if require_stable && self.offsets.is_unstable(&(topic.clone(), partition)) {
            return nothing_committed(partition, ErrorCode::UnstableOffsetCommit);
        }
        match self.offsets.get(topic, partition) {
            None => nothing_committed(partition, ErrorCode::None),
            Some(offset) => OffsetFetchResponsePartitions {
                partition_index: partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch,
                metadata: Some(offset.metadata.clone()),
                ..OffsetFetchResponsePartitions::default()
            },
        }
    }
}

/// Kafka counts characters as Java does; what is longer than a record's string can be is too large anyway.
fn is_too_large(metadata: &Str, max: usize) -> bool {
    metadata.len() > ID_BYTES_MAX || (metadata.len() > max && metadata.as_str().encode_utf16().count() > max)
}

fn nothing_committed(partition: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::default()),
        error_code: code.code(),
        ..OffsetFetchResponsePartitions::default()
    }
}

/// The answer of a group that does not exist: nothing is committed.
pub(super) fn nothing_fetched(asked: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topics = asked.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(|p| nothing_committed(*p, ErrorCode::None)).collect(),
        ..OffsetFetchResponseTopics::default()
    });
    OffsetFetchResponseGroup {
        group_id: asked.group_id.clone(),
        topics: topics.collect(),
        ..OffsetFetchResponseGroup::default()
    }
}
