//! Who leads the metadata quorum, and where its nodes are reached, as this node knows it.

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
    /// Whether another node can be asked.
    pub(crate) fn has_others(&self) -> bool {
        self.nodes.iter().any(|node| node.id != self.own_id)
    }
}
