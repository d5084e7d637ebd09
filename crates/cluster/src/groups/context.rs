//! What a group may use while it handles an event: the time, the settings, the shard's timers and writes, and a list of actions.

use std::collections::BTreeMap;

use ottla_protocol::wire::Str;

use super::stores::{Stores, Write};
use super::timers::Timers;
use super::{Action, Event, GroupConfig, GroupRecord, Now, Reply, StoreId, Ticket};

pub(super) struct Context<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub timers: &'a mut Timers,
    pub stores: &'a mut Stores,
    pub actions: &'a mut Vec<Action>,
}

impl Context<'_> {
    pub fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.actions.push(Action::Reply { ticket, reply });
    }

    pub fn tell(&mut self, event: Event) {
        self.actions.push(Action::Tell(event));
    }

    pub fn store(&mut self, group_id: &Str, records: Vec<GroupRecord>, write: Write) -> StoreId {
        let id = self.stores.add(group_id, write);
        self.actions.push(Action::Store { id, records });
        id
    }
}

/// A map from the parts of an assignment to the members that have them.
pub(super) type Assignments = BTreeMap<Str, bytes::Bytes>;
