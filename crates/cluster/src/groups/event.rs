//! What a shard tells the log: one line per rebalance.

use std::fmt;

use ottla_protocol::wire::Str;

/// Something that an operator reads; its text is lowercase, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A generation has its assignment.
    Rebalanced {
        /// The group.
        group_id: Str,
        /// The generation that is stable now.
        generation: i32,
        /// How many members it has.
        members: usize,
        /// The protocol that was voted for.
        protocol: Str,
        /// How many partitions changed their member; 0 when the assignment is opaque.
        moved: usize,
        /// How many members have no partition; 0 when the assignment is opaque.
        idle: usize,
        /// Why it happened.
        reasons: String,
    },
    /// The last member is gone.
    Emptied {
        /// The group.
        group_id: Str,
        /// The generation without members.
        generation: i32,
        /// Why.
        reasons: String,
    },
    /// An assignment could not be written; the members join again.
    NotStored {
        /// The group.
        group_id: Str,
        /// The generation that has no assignment.
        generation: i32,
        /// What the write said.
        error: super::StoreError,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebalanced { group_id, generation, members, protocol, moved, idle, reasons } => write!(
                f,
                "group {group_id} is stable at generation {generation} with {members} members by {protocol}: \
                 {moved} partitions moved, {idle} members without partitions, because {reasons}"
            ),
            Self::Emptied { group_id, generation, reasons } => {
                write!(f, "group {group_id} is empty at generation {generation}, because {reasons}")
            }
            Self::NotStored { group_id, generation, error } => {
                write!(
                    f,
                    "the assignment of group {group_id} generation {generation} was not stored: {error}"
                )
            }
        }
    }
}
