//! The groups of one partition of `__consumer_offsets`.

use std::collections::BTreeSet;

use ottla_protocol::generated::describe_groups::DescribedGroup;
use ottla_protocol::generated::list_groups::ListedGroup;
use ottla_protocol::generated::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use ottla_protocol::ids::ProducerId;
use ottla_protocol::wire::Str;

use super::{
    Action, Client, Explanation, GroupConfig, Now, ReplayError, Replayed, Request, StoreError, StoreId,
    Ticket,
};

/// The groups of one partition of `__consumer_offsets`, as long as this broker leads it.
#[derive(Debug)]
pub struct GroupShard {
    config: GroupConfig,
}

impl GroupShard {
    /// A shard without groups.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self { config }
    }

    /// Applies one record of the log. `transaction` is the producer of a transactional batch: what it wrote waits for
    /// [`Self::replay_marker`].
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn replay(
        &mut self,
        _key: &[u8],
        _value: Option<&[u8]>,
        _transaction: Option<ProducerId>,
    ) -> Result<Replayed, ReplayError> {
        Ok(Replayed::Skipped)
    }

    /// Applies a control record of the log: the transaction of `producer` is committed or aborted.
    pub fn replay_marker(&mut self, _producer: ProducerId, _committed: bool) {}

    /// The log has been replayed: sessions of loaded members begin now.
    pub fn loaded(&mut self, _now: Now) -> Vec<Action> {
        Vec::new()
    }

    /// A request came.
    pub fn handle(&mut self, _now: Now, _ticket: Ticket, _client: &Client, _request: Request) -> Vec<Action> {
        Vec::new()
    }

    /// A write is committed or failed; to be called in the order of the log.
    pub fn handle_stored(
        &mut self,
        _now: Now,
        _id: StoreId,
        _outcome: Result<(), StoreError>,
    ) -> Vec<Action> {
        Vec::new()
    }

    /// Does what is due.
    pub fn tick(&mut self, _now: Now) -> Vec<Action> {
        Vec::new()
    }

    /// When [`Self::tick`] has something to do, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<i64> {
        None
    }

    /// Removes offsets that outlived their retention and groups without members and offsets.
    pub fn expire_offsets(&mut self, _now: Now) -> Vec<Action> {
        Vec::new()
    }

    /// Removes the offsets of topics that were deleted.
    pub fn delete_topics(&mut self, _now: Now, _names: &BTreeSet<Str>) -> Vec<Action> {
        Vec::new()
    }

    /// This broker does not lead any more: NOT_COORDINATOR to all who wait. The shard is to be dropped after it.
    pub fn resign(&mut self) -> Vec<Action> {
        Vec::new()
    }

    /// The settings changed; running timers stay as they are.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// Committed offsets of a group: the partitions that are asked for (-1 where none is committed), or all when `topics` is
    /// `None`. `require_stable`: UNSTABLE_OFFSET_COMMIT where a transaction may still change it.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        _group: &OffsetFetchRequestGroup,
        _require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        OffsetFetchResponseGroup::default()
    }

    /// A group as DescribeGroups shows it in `version` (GROUP_ID_NOT_FOUND from 6, state `Dead` below).
    #[must_use]
    pub fn describe(&self, _group_id: &str, _version: i16) -> DescribedGroup {
        DescribedGroup::default()
    }

    /// All groups, sorted; filters are the caller's.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        std::iter::empty()
    }

    /// Why things happened in a group; `None` when there is no such group.
    #[must_use]
    pub fn explain(&self, _group_id: &str) -> Option<Explanation> {
        None
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups_count(&self) -> usize {
        0
    }

    /// How many members all groups have.
    #[must_use]
    pub fn members_count(&self) -> usize {
        0
    }

    /// How many offsets are committed.
    #[must_use]
    pub fn offsets_count(&self) -> usize {
        0
    }
}
