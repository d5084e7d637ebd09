//! What the groups look like at a scrape of the metrics.

use std::collections::BTreeMap;

use super::Groups;

/// Counts over all shards that are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsView {
    /// Groups by state.
    pub groups: BTreeMap<String, u64>,
    /// Members of all groups.
    pub members: u64,
    /// Committed offsets, one for each group and partition.
    pub offsets: u64,
    /// Shards that are being loaded.
    pub shards_loading: u64,
    /// Shards that could not be loaded.
    pub shards_failed: u64,
}

impl Groups {
    /// Counts what there is.
    #[must_use]
    pub fn view(&self) -> GroupsView {
        let mut view = GroupsView::default();
        for shard in self.all() {
            shard.count(&mut view);
        }
        view
    }
}
