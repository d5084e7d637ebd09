//! What the controller knows beside the metadata while it leads: when each broker was last heard of, how far it has read, and when
//! the next round of housekeeping is due. Soft state: a new leader begins anew and gives every broker a whole session.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::ids::BrokerId;

use super::Settings;
use crate::image::MetadataImage;
use crate::limits::BROKER_CONNECTIONS_MAX;

/// How long a broker whose control connection was reset has to open another.
pub const RECONNECT_MS: i64 = 500;
/// A round that comes later than this after its time means that the controller itself stood still; and what brokers then have left
/// to be heard of.
const STALL_MS: i64 = 1000;
/// How often topics with too few replicas are looked at.
const RAISE_INTERVAL_MS: i64 = 10_000;

/// The soft state of one term as controller. Times are monotonic milliseconds.
#[derive(Clone, Debug)]
pub struct Tenure {
    session_ms: i64,
    rebalance_ms: Option<i64>,
    contacts: BTreeMap<BrokerId, Contact>,
    pub(super) rebalance_due_ms: Option<i64>,
    pub(super) raise_due_ms: i64,
    /// When the driver is expected next at the latest.
    promised_ms: Option<i64>,
}

/// What is known of one life of a broker.
#[derive(Clone, Debug)]
struct Contact {
    epoch: i64,
    heard_ms: i64,
    /// Index of the last metadata entry it said it has.
    metadata_index: i64,
    connections: BTreeSet<u64>,
    reset_ms: Option<i64>,
    /// Index of the entry that last moved leadership away from it because it wants to stop.
    shutdown_index: Option<i64>,
}

impl Contact {
    fn new(epoch: i64, heard_ms: i64) -> Self {
        Self {
            epoch,
            heard_ms,
            metadata_index: -1,
            connections: BTreeSet::new(),
            reset_ms: None,
            shutdown_index: None,
        }
    }

    fn deadline_ms(&self, session_ms: i64) -> i64 {
        let session = self.heard_ms + session_ms;
        self.reset_ms.map_or(session, |reset| session.min(reset + RECONNECT_MS))
    }
}

impl Tenure {
    /// Begins to lead at `now_ms`: no broker has missed anything yet.
    #[must_use]
    pub fn new(image: &MetadataImage, settings: &Settings, now_ms: i64) -> Self {
        let rebalance_ms = settings.leader_rebalance_ms;
        let mut tenure = Self {
            session_ms: settings.broker_session_ms,
            rebalance_ms,
            contacts: BTreeMap::new(),
            rebalance_due_ms: rebalance_ms.map(|every| now_ms + every),
            raise_due_ms: now_ms,
            promised_ms: None,
        };
        tenure.meet(image, now_ms);
        tenure
    }

    /// A control connection of a broker was opened, and the broker has named itself on it. `connection` tells connections apart.
    pub fn handle_connected(&mut self, id: BrokerId, epoch: i64, connection: u64) {
        let Some(contact) = self.contacts.get_mut(&id).filter(|contact| contact.epoch == epoch) else {
            return;
        };
        if contact.connections.len() < BROKER_CONNECTIONS_MAX {
            contact.connections.insert(connection);
            contact.reset_ms = None;
        }
    }

    /// A control connection was reset or closed. A broker without another has [`RECONNECT_MS`] left.
    pub fn handle_disconnected(&mut self, id: BrokerId, connection: u64, now_ms: i64) {
        let Some(contact) = self.contacts.get_mut(&id) else { return };
        if contact.connections.remove(&connection) && contact.connections.is_empty() {
            contact.reset_ms = Some(now_ms);
        }
    }

    /// When [`super::Controller::tick`] has to be called next.
    #[must_use]
    pub fn next_deadline_ms(&self) -> i64 {
        let sessions = self.contacts.values().map(|contact| contact.deadline_ms(self.session_ms));
        sessions.chain(self.rebalance_due_ms).fold(self.raise_due_ms, i64::min)
    }

    /// Whether that life of a broker is one that the controller counts with.
    pub(super) fn is_alive(&self, id: BrokerId, epoch: i64, now_ms: i64) -> bool {
        let contact = self.contacts.get(&id).filter(|contact| contact.epoch == epoch);
        contact.is_some_and(|contact| now_ms < contact.deadline_ms(self.session_ms))
    }

    /// A broker was heard of, with its metadata up to an index.
    pub(super) fn heard(&mut self, id: BrokerId, epoch: i64, metadata_index: i64, now_ms: i64) {
        let contact = self.contacts.entry(id).or_insert_with(|| Contact::new(epoch, now_ms));
        if contact.epoch != epoch {
            *contact = Contact::new(epoch, now_ms);
        }
        contact.heard_ms = contact.heard_ms.max(now_ms);
        contact.metadata_index = contact.metadata_index.max(metadata_index);
        self.promise();
    }

    /// Nothing of a broker counts any more.
    pub(super) fn forget(&mut self, id: BrokerId) {
        self.contacts.remove(&id);
    }

    /// Leadership moved away from a broker that wants to stop, in the entry at `index`.
    pub(super) fn moved_away(&mut self, id: BrokerId, index: i64) {
        if let Some(contact) = self.contacts.get_mut(&id) {
            contact.shutdown_index = Some(index);
        }
    }

    /// Whether all brokers that serve have read that leadership moved away from `id`.
    pub(super) fn has_spread(&self, image: &MetadataImage, id: BrokerId) -> bool {
        let moved = self.contacts.get(&id).and_then(|contact| contact.shutdown_index);
        let Some(moved) = moved else { return true };
        let serving = image.brokers().filter(|broker| !broker.fenced && broker.id != id);
        let mut contacts = serving.filter_map(|broker| self.contacts.get(&broker.id));
        contacts.all(|contact| contact.metadata_index >= moved)
    }

    /// Brokers that are not fenced and have not been heard of for too long. When the controller itself stood still, what the
    /// brokers sent meanwhile still waits to be read: they get a little longer.
    pub(super) fn expired(&mut self, image: &MetadataImage, now_ms: i64) -> Vec<BrokerId> {
        let late_ms = self.promised_ms.map_or(0, |promised| now_ms - promised);
        if late_ms > STALL_MS {
            let least_ms = now_ms - self.session_ms + STALL_MS.min(self.session_ms);
            for contact in self.contacts.values_mut() {
                contact.heard_ms = contact.heard_ms.max(least_ms);
                contact.reset_ms = contact.reset_ms.map(|_| now_ms);
            }
        }
        self.meet(image, now_ms);
        let session_ms = self.session_ms;
        self.contacts.retain(|id, contact| {
            let registered = image.broker(*id).filter(|broker| broker.epoch == contact.epoch);
            // A fenced broker that keeps silent is of no more interest: another may take its id.
            registered.is_some_and(|broker| !broker.fenced || now_ms < contact.deadline_ms(session_ms))
        });
        let expired = self.contacts.iter().filter(|(_, contact)| contact.deadline_ms(session_ms) <= now_ms);
        expired.map(|(id, _)| *id).collect()
    }

    /// When housekeeping is done: the next times.
    pub(super) fn schedule(&mut self, now_ms: i64, rebalance_again: bool) {
        if self.raise_due_ms <= now_ms {
            self.raise_due_ms = now_ms + RAISE_INTERVAL_MS;
        }
        if self.rebalance_due_ms.is_some_and(|due| due <= now_ms) {
            let every = self.rebalance_ms.map(|every| if rebalance_again { 1 } else { every });
            self.rebalance_due_ms = every.map(|every| now_ms + every);
        }
        self.promise();
    }

    /// A broker has begun to serve: there may be room for more replicas.
    pub(super) fn raise_soon(&mut self, now_ms: i64) {
        self.raise_due_ms = now_ms;
        self.promise();
    }

    /// Brokers that serve and were never heard of begin their session.
    fn meet(&mut self, image: &MetadataImage, now_ms: i64) {
        for broker in image.brokers().filter(|broker| !broker.fenced) {
            let contact =
                self.contacts.entry(broker.id).or_insert_with(|| Contact::new(broker.epoch, now_ms));
            if contact.epoch != broker.epoch {
                *contact = Contact::new(broker.epoch, now_ms);
            }
        }
        self.promise();
    }

    fn promise(&mut self) {
        self.promised_ms = Some(self.next_deadline_ms());
    }
}
