//! The members of one group: by id, by instance id, in the order in which they joined, and how many support each protocol.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::generated::join_group::JoinGroupRequestProtocol;
use ottla_protocol::wire::Str;

use super::{Client, Ticket};

/// A JoinGroup that waits for the rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joining {
    pub ticket: Ticket,
    pub version: i16,
}

/// One member of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub client: Client,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Name and metadata, most wanted first; names are distinct.
    pub protocols: Vec<(Str, Bytes)>,
    pub assignment: Bytes,
    pub joining: Option<Joining>,
    pub syncing: Option<Ticket>,
    /// Its first JoinGroup is not answered yet.
    pub is_new: bool,
    /// When its session ends, if that is watched.
    pub deadline_ms: Option<i64>,
    /// Its place in the order of joining.
    order: u64,
}

impl Member {
    pub fn new(id: Str, instance_id: Option<Str>, client: Client) -> Self {
        Self {
            id,
            instance_id,
            client,
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: false,
            deadline_ms: None,
            order: 0,
        }
    }

    /// What it sent for `protocol`; empty when it does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }

    /// True when it offers the same protocols in the same order with the same metadata.
    pub fn matches(&self, protocols: &[(Str, Bytes)]) -> bool {
        self.protocols == protocols
    }
}

/// Copies of a request's protocols that do not keep its frame; of two with the same name the first counts.
pub(super) fn protocols_of(offered: &[JoinGroupRequestProtocol]) -> Vec<(Str, Bytes)> {
    let mut seen = BTreeSet::new();
    offered
        .iter()
        .filter(|protocol| seen.insert(&protocol.name))
        .map(|protocol| (protocol.name.detached(), Bytes::copy_from_slice(&protocol.metadata)))
        .collect()
}

/// All members of a group.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<Str, Member>,
    by_order: BTreeMap<u64, Str>,
    by_instance: BTreeMap<Str, Str>,
    /// How many members offer a protocol.
    supporters: BTreeMap<Str, usize>,
    joining_count: usize,
    /// Those of them that are static.
    joining_static_count: usize,
    next_order: u64,
}

impl Members {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    /// For everything but `protocols` and `joining`, which are counted.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// The member that holds an instance id.
    pub fn instance(&self, instance_id: &str) -> Option<&Str> {
        self.by_instance.get(instance_id)
    }

    /// In the order of joining.
    pub fn in_order(&self) -> impl Iterator<Item = &Member> {
        self.by_order.values().filter_map(|id| self.by_id.get(id))
    }

    pub fn ids_in_order(&self) -> Vec<Str> {
        self.by_order.values().cloned().collect()
    }

    pub fn joining_count(&self) -> usize {
        self.joining_count
    }

    /// True when each member supports `protocol`.
    pub fn all_support(&self, protocol: &str) -> bool {
        self.supporters.get(protocol).copied().unwrap_or(0) == self.len()
    }

    pub fn insert(&mut self, mut member: Member) {
        member.order = self.next_order;
        self.next_order += 1;
        self.place(member);
    }

    fn place(&mut self, member: Member) {
        self.by_order.insert(member.order, member.id.clone());
        if let Some(instance_id) = &member.instance_id {
            self.by_instance.insert(instance_id.clone(), member.id.clone());
        }
        for (name, _) in &member.protocols {
            *self.supporters.entry(name.clone()).or_default() += 1;
        }
        if member.joining.is_some() {
            self.count_joining(member.instance_id.is_some());
        }
        self.by_id.insert(member.id.clone(), member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.by_order.remove(&member.order);
        if let Some(instance_id) = &member.instance_id {
            self.by_instance.remove(instance_id);
        }
        for (name, _) in &member.protocols {
            self.drop_supporter(name);
        }
        if member.joining.is_some() {
            self.count_joined(member.instance_id.is_some());
        }
        Some(member)
    }

    /// Gives a member another id; it keeps its place in the order.
    pub fn rename(&mut self, id: &str, new_id: &Str) {
        if let Some(mut member) = self.remove(id) {
            member.id = new_id.clone();
            self.place(member);
        }
    }

    fn drop_supporter(&mut self, name: &str) {
        if let Some(count) = self.supporters.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.supporters.remove(name);
            }
        }
    }

    pub fn set_protocols(&mut self, id: &str, protocols: Vec<(Str, Bytes)>) {
        let Some(member) = self.by_id.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        for (name, _) in &old {
            self.drop_supporter(name);
        }
        for (name, _) in protocols {
            *self.supporters.entry(name).or_default() += 1;
        }
    }

    /// Makes a member wait for the rebalance; gives the JoinGroup that it gave up by sending another.
    pub fn set_joining(&mut self, id: &str, joining: Joining) -> Option<Joining> {
        let member = self.by_id.get_mut(id)?;
        let old = member.joining.replace(joining);
        let is_static = member.instance_id.is_some();
        if old.is_none() {
            self.count_joining(is_static);
        }
        old
    }

    pub fn take_joining(&mut self, id: &str) -> Option<Joining> {
        let member = self.by_id.get_mut(id)?;
        let joining = member.joining.take()?;
        let is_static = member.instance_id.is_some();
        self.count_joined(is_static);
        Some(joining)
    }

    fn count_joining(&mut self, is_static: bool) {
        self.joining_count += 1;
        self.joining_static_count += usize::from(is_static);
    }

    fn count_joined(&mut self, is_static: bool) {
        self.joining_count -= 1;
        self.joining_static_count -= usize::from(is_static);
    }

    /// Members that the next generation has even if nobody else joins: those who wait, and static ones that are away.
    pub fn staying_count(&self) -> usize {
        self.joining_count + self.by_instance.len() - self.joining_static_count
    }

    /// The protocol that all support and most members want most; the oldest member's wish decides between equals.
    pub fn vote(&self) -> Option<Str> {
        let mut votes: Vec<(Str, usize)> = Vec::new();
        for member in self.in_order() {
            let Some((wanted, _)) = member.protocols.iter().find(|(name, _)| self.all_support(name)) else {
                continue;
            };
            match votes.iter_mut().find(|(name, _)| name == wanted) {
                Some((_, count)) => *count += 1,
                None => votes.push((wanted.clone(), 1)),
            }
        }
        // `max_by_key` would take the last of equals.
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name)
    }

    /// How long a rebalance waits: as long as the most patient member.
    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.by_id.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }
}
