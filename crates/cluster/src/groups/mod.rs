//! Consumer groups of the classic protocol and committed offsets: events in, actions out. One [`GroupShard`] holds the groups
//! of one partition of `__consumer_offsets`. Knows no clock, no log and no network; offsets are seen only once they are stored.

mod api;
mod context;
mod event;
mod explain;
mod group;
mod heartbeat;
mod join;
mod leave;
pub mod limits;
mod members;
mod offsets;
mod reads;
mod rebalance;
mod record;
mod replay;
mod retention;
mod shard;
mod static_members;
mod stores;
mod sync;
mod timers;

pub use api::{
    Action, Client, Event, GroupConfig, GroupRecord, Now, ReplayError, Replayed, Reply, Request, StoreError,
    StoreId, Ticket,
};
pub use explain::{Explanation, GroupEvent, Movement};
pub use shard::GroupShard;

#[cfg(test)]
mod tests;
