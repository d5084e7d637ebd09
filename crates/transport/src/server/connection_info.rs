//! What is known about one connection.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// One connection, as a service sees it.
#[derive(Debug)]
pub struct ConnectionInfo {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    listener: Arc<str>,
    connected_at: SystemTime,
    client_software: OnceLock<ClientSoftware>,
    principal: OnceLock<String>,
}

/// What a client called itself in ApiVersions (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// Such as `apache-kafka-java`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl ConnectionInfo {
    /// A connection's description; also of use to a service's tests.
    pub fn new(id: u64, peer: SocketAddr, local: SocketAddr, listener: Arc<str>) -> ConnectionInfo {
        ConnectionInfo {
            id,
            peer,
            local,
            listener,
            connected_at: SystemTime::now(),
            client_software: OnceLock::new(),
            principal: OnceLock::new(),
        }
    }

    /// Unique among the connections of a server since its start, ascending from 1.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address the client reached.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Name of the listener that accepted it.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// When it was accepted.
    pub fn connected_at(&self) -> SystemTime {
        self.connected_at
    }

    /// What the client called itself, once it did.
    pub fn client_software(&self) -> Option<&ClientSoftware> {
        self.client_software.get()
    }

    /// Remembers what the client called itself; the first time counts. Says whether this was it.
    pub fn set_client_software(&self, software: ClientSoftware) -> bool {
        self.client_software.set(software).is_ok()
    }

    /// Who the client has proven to be, once it did.
    pub fn principal(&self) -> Option<&str> {
        self.principal.get().map(String::as_str)
    }

    /// Remembers who the client has proven to be; the first time counts. Says whether this was it.
    pub fn set_principal(&self, principal: String) -> bool {
        self.principal.set(principal).is_ok()
    }
}
