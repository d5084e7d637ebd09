//! How offsets and groups go: by age (KIP-211), by OffsetDelete and DeleteGroups, and with their topics.

use std::collections::BTreeSet;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::wire::Str;

use super::context::Context;
use super::group::{Group, State};
use super::limits::REMOVALS_PER_STORE_MAX;
use super::offsets::{CommittedOffset, OffsetKey};
use super::record::{group_tombstone, offset_tombstone};
use super::stores::{Removal, Write};
use super::{Reply, StoreError, Ticket};

/// From when on an offset's age counts.
#[derive(Clone, Copy)]
enum AgeSince {
    /// Its commit.
    Commit,
    /// The moment the group became empty; its commit when the record does not say.
    Empty(Option<i64>),
}

impl Group {
    /// Tombstones for offsets that outlived their retention, and for the group when nothing is left of it.
    pub(super) fn expire_offsets(&mut self, cx: &mut Context<'_>) {
        if self.state == State::Dead {
            return;
        }
        let expired = self.expired_offsets(cx);
        let all = expired.len() == self.offsets.len() && !self.offsets.has_unstable();
        let in_use = self.state != State::Empty || !self.pending.is_empty() || self.stores_count > 0;
        if all && !in_use {
            self.delete(cx, expired, None);
        } else if !expired.is_empty() {
            self.store_removals(cx, expired, Removal::Part);
        }
    }

    fn expired_offsets(&self, cx: &Context<'_>) -> Vec<OffsetKey> {
        let since = match (&self.protocol_type, self.state) {
            // Offsets that a client keeps here without being a member.
            (None, _) => AgeSince::Commit,
            (Some(_), State::Empty) => AgeSince::Empty(self.state_since_ms),
            (Some(_), State::Stable) if self.is_consumer() && self.subscribed.is_some() => AgeSince::Commit,
            (Some(_), _) => return Vec::new(),
        };
        let is_expired = |offset: &CommittedOffset| match (offset.expire_timestamp_ms, since) {
            (Some(at_ms), _) => cx.now.wall_ms >= at_ms,
            (None, AgeSince::Empty(Some(since_ms))) => {
                cx.now.wall_ms - since_ms >= cx.config.offsets_retention_ms
            }
            (None, _) => cx.now.wall_ms - offset.commit_timestamp_ms >= cx.config.offsets_retention_ms,
        };
        self.offsets
            .iter()
            .filter(|(topic, _, offset)| !self.is_subscribed(topic) && is_expired(offset))
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .filter(|key| !self.offsets.is_writing(key) && !self.offsets.is_unstable(key))
            .collect()
    }

    pub(super) fn delete_offsets(
        &mut self,
        cx: &mut Context<'_>,
        ticket: Ticket,
        request: &OffsetDeleteRequest,
    ) {
        let refused = match self.state {
            State::Dead => Some(ErrorCode::GroupIdNotFound),
            State::Empty => None,
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                (!self.is_consumer()).then_some(ErrorCode::NonEmptyGroup)
            }
        };
        if let Some(code) = refused {
            return cx.reply(ticket, Reply::DeleteOffsets(offsets_not_deleted(code)));
        }
        let mut keys = Vec::new();
        let mut topics = Vec::new();
        for topic in &request.topics {
            let subscribed = self.is_subscribed(&topic.name);
            let code = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            let partitions = topic.partitions.iter().map(|partition| {
                let key = (topic.name.detached(), partition.partition_index);
                if !subscribed && self.offsets.has_or_writes(&key) {
                    keys.push(key);
                }
                OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                }
            });
            let partitions = partitions.collect();
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        let response = OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() };
        if keys.is_empty() {
            return cx.reply(ticket, Reply::DeleteOffsets(response));
        }
        self.store_removals(cx, keys, Removal::Offsets { ticket, response });
    }

    pub(super) fn delete_group(&mut self, cx: &mut Context<'_>, ticket: Ticket) {
        let code = match self.state {
            State::Dead => ErrorCode::GroupIdNotFound,
            State::Empty => return self.delete(cx, self.offsets.keys(), Some(ticket)),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                ErrorCode::NonEmptyGroup
            }
        };
        cx.reply(ticket, Reply::DeleteGroup(code));
    }

    /// The group is dead from here on: what comes while the tombstones are written is told to come again.
    fn delete(&mut self, cx: &mut Context<'_>, keys: Vec<OffsetKey>, ticket: Option<Ticket>) {
        for id in self.pending.keys().cloned().collect::<Vec<_>>() {
            self.remove_pending(cx, &id);
        }
        self.state = State::Dead;
        self.store_removals(cx, keys, Removal::Group { ticket });
    }

    /// The offsets of topics that are gone.
    pub(super) fn delete_topics(&mut self, cx: &mut Context<'_>, names: &BTreeSet<Str>) {
        let keys: Vec<_> =
            self.offsets.keys().into_iter().filter(|(topic, _)| names.contains(topic)).collect();
        if !keys.is_empty() {
            self.store_removals(cx, keys, Removal::Part);
        }
    }

    /// Several writes where one would be too large; the last one ends the request.
    fn store_removals(&mut self, cx: &mut Context<'_>, mut keys: Vec<OffsetKey>, then: Removal) {
        while keys.len() > REMOVALS_PER_STORE_MAX {
            let rest = keys.split_off(REMOVALS_PER_STORE_MAX);
            self.store_removal(cx, std::mem::replace(&mut keys, rest), Removal::Part);
        }
        self.store_removal(cx, keys, then);
    }

    fn store_removal(&mut self, cx: &mut Context<'_>, keys: Vec<OffsetKey>, then: Removal) {
        let mut records: Vec<_> = keys.iter().map(|key| offset_tombstone(&self.id, key)).collect();
        if matches!(then, Removal::Group { .. }) {
            records.push(group_tombstone(&self.id));
        }
        self.store(cx, records, Write::Remove { keys, then });
    }

    /// Tombstones are in the log, or not.
    pub(super) fn removal_stored(
        &mut self,
        cx: &mut Context<'_>,
        keys: &[OffsetKey],
        then: Removal,
        outcome: Result<(), StoreError>,
    ) {
        if outcome.is_ok() {
            for key in keys {
                self.offsets.remove(key);
            }
        }
        match then {
            Removal::Part => {}
            Removal::Offsets { ticket, mut response } => {
                if let Err(error) = outcome {
                    response = offsets_not_deleted(error.code());
                }
                cx.reply(ticket, Reply::DeleteOffsets(response));
            }
            Removal::Group { ticket } => {
                // From here on the group is as if it had never been; offsets may still be there if their tombstones failed.
                let code = match outcome {
                    Ok(()) => {
                        *self = Self {
                            stores_count: self.stores_count,
                            offsets: std::mem::take(&mut self.offsets),
                            ..Self::new(&self.id)
                        };
                        ErrorCode::None
                    }
                    Err(error) => {
                        self.state = State::Empty;
                        error.code()
                    }
                };
                if let Some(ticket) = ticket {
                    cx.reply(ticket, Reply::DeleteGroup(code));
                }
            }
        }
    }
}

/// A refusal of the whole request.
pub(super) fn offsets_not_deleted(code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: code.code(), ..OffsetDeleteResponse::default() }
}
