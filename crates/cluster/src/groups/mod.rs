//! Consumer groups of the classic protocol and committed offsets: events in, actions out. One [`GroupShard`] holds the groups
//! of one partition of `__consumer_offsets`. Knows no clock, no log and no network; offsets are seen only once they are stored.

mod api;
mod event;
mod explain;
pub mod limits;
mod shard;

pub use api::{
    Action, Client, Event, GroupConfig, GroupRecord, Now, ReplayError, Replayed, Reply, Request, StoreError,
    StoreId, Ticket,
};
pub use explain::{Explanation, GroupEvent, Movement};
pub use shard::GroupShard;
