//! Writes that are on their way to the log, and what each of them means once it is there.

use std::collections::BTreeMap;

use ottla_protocol::generated::offset_commit::OffsetCommitResponse;
use ottla_protocol::generated::offset_delete::OffsetDeleteResponse;
use ottla_protocol::wire::Str;

use super::context::Assignments;
use super::members::Member;
use super::offsets::{CommittedOffset, OffsetKey};
use super::{StoreId, Ticket};

/// What happens when a write is committed or failed.
#[derive(Debug)]
pub(super) enum Write {
    /// The leader's assignment of a generation.
    Assignment { generation: i32, assignments: Assignments },
    /// A generation without members.
    Empty,
    /// A static member came back under a new id; `old` is who it was.
    StaticMember { ticket: Ticket, generation: i32, new_id: Str, old: Box<Member>, old_leader: Option<Str> },
    /// Offsets, and what the client hears then.
    Commit { ticket: Ticket, response: OffsetCommitResponse, offsets: Vec<(OffsetKey, CommittedOffset)> },
    /// Tombstones of offsets; `then` when these were the last of a request.
    Remove { keys: Vec<OffsetKey>, then: Removal },
}

/// What the last tombstones of a removal end.
#[derive(Debug)]
pub(super) enum Removal {
    /// Nothing: more follow, or nobody asked.
    Part,
    /// An OffsetDelete.
    Offsets { ticket: Ticket, response: OffsetDeleteResponse },
    /// The group itself, which a client asked for or not.
    Group { ticket: Option<Ticket> },
}

/// Writes in flight, by the number that was given to the driver.
#[derive(Debug, Default)]
pub(super) struct Stores {
    next: u64,
    in_flight: BTreeMap<StoreId, (Str, Write)>,
}

impl Stores {
    pub fn add(&mut self, group_id: &Str, write: Write) -> StoreId {
        self.next += 1;
        let id = StoreId(self.next);
        self.in_flight.insert(id, (group_id.clone(), write));
        id
    }

    pub fn take(&mut self, id: StoreId) -> Option<(Str, Write)> {
        self.in_flight.remove(&id)
    }

    pub fn drain(&mut self) -> impl Iterator<Item = (Str, Write)> {
        std::mem::take(&mut self.in_flight).into_values()
    }

    /// For each write of a group.
    pub fn of_group(&mut self, group_id: &Str) -> impl Iterator<Item = &mut Write> {
        let wanted = group_id.clone();
        self.in_flight.values_mut().filter(move |(id, _)| *id == wanted).map(|(_, write)| write)
    }
}
