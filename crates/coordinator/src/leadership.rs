//! Who leads the metadata quorum, and where its nodes are reached, as this node knows it.

use crate::raft::seat::Seat;
use crate::raft::{VoterId, VoterNode};

/// What a node knows of its quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The term that it knows.
    pub(crate) term: i32,
    /// Its own id.
    pub(crate) own_id: i32,
    /// Who leads in that term; `None` while nobody does.
    pub(crate) leader: Option<NodeAddress>,
    /// All nodes that have an address, those included that only listen.
    pub(crate) nodes: Vec<NodeAddress>,
}

/// Where a node of the quorum is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    /// Its id.
    pub(crate) id: i32,
    /// Host of its first controller listener; empty when it has none.
    pub(crate) host: String,
    /// Port of that listener.
    pub(crate) port: u16,
}

impl NodeAddress {
    /// As a client connects to it.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl Leadership {
    /// As it is now.
    pub(crate) fn of(seat: &Seat) -> Self {
        let view = seat.view();
        let address = |id: &VoterId, logged: &VoterNode| {
            let endpoint = if *id == seat.me {
                seat.node.endpoints.first().cloned()
            } else {
                seat.endpoint(*id, logged)
            };
            let (host, port) = endpoint.map_or_else(Default::default, |found| (found.host, found.port));
            NodeAddress { id: id.id, host, port }
        };
        let mut leader = None;
        let mut nodes = Vec::new();
        for (id, node) in view.members.nodes() {
            let node = address(id, node);
            if view.leader == Some(*id) {
                leader = Some(node.clone());
            }
            if !node.host.is_empty() {
                nodes.push(node);
            }
        }
        Self { term: view.term, own_id: seat.me.id, leader, nodes }
    }

    /// Whether another node can be asked.
    pub(crate) fn has_others(&self) -> bool {
        self.nodes.iter().any(|node| node.id != self.own_id)
    }
}
