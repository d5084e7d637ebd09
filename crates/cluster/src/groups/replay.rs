//! A shard from its log: the last record of each key counts, those of a transaction once it is committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::generated::records::group::{GroupMetadataValue, OffsetCommitValue};
use ottla_protocol::ids::ProducerId;
use ottla_protocol::wire::Str;

use super::context::Context;
use super::explain::Cause;
use super::group::{Group, State};
use super::members::{Member, Members};
use super::offsets::{CommittedOffset, OffsetKey};
use super::record::{Key, read_key, read_value};
use super::{Client, ReplayError, Replayed};

/// An offset, or its tombstone, that a transaction wrote.
#[derive(Debug)]
struct Unstable {
    group_id: Str,
    key: OffsetKey,
    offset: Option<CommittedOffset>,
}

/// What open transactions wrote into the log.
#[derive(Debug, Default)]
pub(super) struct Transactions(BTreeMap<ProducerId, Vec<Unstable>>);

/// Applies one record.
pub(super) fn replay(
    groups: &mut BTreeMap<Str, Group>,
    transactions: &mut Transactions,
    (key, value): (&[u8], Option<&[u8]>),
    transaction: Option<ProducerId>,
    order: u64,
) -> Result<Replayed, ReplayError> {
    match read_key(key)? {
        Key::Offset { group_id, key } => {
            let offset = value.map(read_value).transpose()?.map(|value| committed(&value, order));
            match transaction {
                Some(producer) => {
                    group_of(groups, &group_id).offsets.begin_unstable(&key);
                    let unstable = Unstable { group_id: group_id.detached(), key, offset };
                    transactions.0.entry(producer).or_default().push(unstable);
                }
                None => apply_offset(groups, &group_id, key, offset),
            }
        }
        Key::Group(group_id) => match value {
            Some(value) => apply_group(group_of(groups, &group_id), &read_value(value)?),
            None => forget_group(groups, &group_id),
        },
        Key::Other => return Ok(Replayed::Skipped),
    }
    Ok(Replayed::Applied)
}

/// A transaction ended.
pub(super) fn replay_marker(
    groups: &mut BTreeMap<Str, Group>,
    transactions: &mut Transactions,
    producer: ProducerId,
    committed: bool,
) {
    for Unstable { group_id, key, offset } in transactions.0.remove(&producer).unwrap_or_default() {
        let group = group_of(groups, &group_id);
        group.offsets.end_unstable(&key);
        let order = offset.as_ref().map_or(0, |offset| offset.order);
        let is_newer = group.offsets.get(&key.0, key.1).is_none_or(|committed| committed.order < order);
        if committed && is_newer && offset.is_some() {
            apply_offset(groups, &group_id, key, offset);
        } else if groups.get(&group_id).is_some_and(Group::is_forgettable) {
            groups.remove(&group_id);
        }
    }
}

fn group_of<'a>(groups: &'a mut BTreeMap<Str, Group>, group_id: &Str) -> &'a mut Group {
    if !groups.contains_key(group_id) {
        groups.insert(group_id.detached(), Group::new(group_id));
    }
    groups.get_mut(group_id).expect("it has just been put there")
}

fn apply_offset(
    groups: &mut BTreeMap<Str, Group>,
    group_id: &Str,
    (topic, partition): OffsetKey,
    offset: Option<CommittedOffset>,
) {
    let group = group_of(groups, group_id);
    match offset {
        Some(offset) => group.offsets.insert((topic.detached(), partition), offset),
        None => group.offsets.remove(&(topic, partition)),
    }
    if group.is_forgettable() {
        groups.remove(group_id);
    }
}

fn committed(value: &OffsetCommitValue, order: u64) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
        topic_id: value.topic_id,
        order,
    }
}

fn apply_group(group: &mut Group, value: &GroupMetadataValue) {
    group.members = Members::default();
    for record in &value.members {
        let client = Client { id: record.client_id.clone(), host: record.client_host.clone() };
        let mut member = Member::new(record.member_id.clone(), record.group_instance_id.clone(), client);
        member.session_timeout_ms = record.session_timeout;
        member.rebalance_timeout_ms =
            if record.rebalance_timeout < 0 { record.session_timeout } else { record.rebalance_timeout };
        // What else it supports was not written down.
        let protocol = value.protocol.clone().unwrap_or_default();
        member.protocols = vec![(protocol, Bytes::copy_from_slice(&record.subscription))];
        member.assignment = Bytes::copy_from_slice(&record.assignment);
        group.members.insert(member);
    }
    group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
    group.state_since_ms = (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp);
    group.generation = value.generation;
    group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
    group.protocol = value.protocol.clone();
    group.leader = value.leader.clone();
    group.subscribed = group.computed_subscription();
    group.recorded = true;
}

fn forget_group(groups: &mut BTreeMap<Str, Group>, group_id: &Str) {
    let Some(group) = groups.get_mut(group_id) else { return };
    let offsets = std::mem::take(&mut group.offsets);
    *group = Group { offsets, ..Group::new(group_id) };
    if group.is_forgettable() {
        groups.remove(group_id);
    }
}

impl Group {
    /// Its members have a whole session to show themselves.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        for id in self.members.ids_in_order() {
            self.touch_session(cx, &id);
        }
        if !self.members.is_empty() {
            self.note_loaded(cx);
        }
        if self.members.len() > cx.config.size_max {
            self.note_group(cx, &Cause::LoadedTooMany);
            self.prepare_rebalance(cx);
        }
    }
}
