//! What the records of a segment mean: data, or the records of an internal topic, which have schemas of their own.

use std::path::Path;

use bytes::Bytes;
use ottla_protocol::schema::{self, Kind, Schema};

use crate::batch::{Header, Record};
use crate::failure::{Failure, Reason};
use crate::inner::{Budget, decode_known, metadata_record};
use crate::mask::mask;
use crate::tree::{Decoded, Message, Node, Value, find};

/// What the records of a segment mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Whatever the producers mean.
    Data,
    /// `__consumer_offsets`.
    Offsets,
    /// `__transaction_state`.
    Transactions,
    /// The metadata log.
    Metadata,
    /// A snapshot of the metadata.
    Snapshot,
}

/// What was found inside of a record, by what it is called there.
pub(super) struct Inside {
    pub messages: Vec<(&'static str, Message)>,
    pub control: Option<&'static str>,
    pub failure: Option<Failure>,
}

impl Contents {
    /// By the name of the partition's directory.
    #[must_use]
    pub fn of(segment: &Path) -> Self {
        // A relative name may leave the directory out.
        let whole = std::path::absolute(segment).unwrap_or_else(|_| segment.to_owned());
        let directory = whole.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        match directory.and_then(|name| name.rsplit_once('-')).map(|(topic, _)| topic) {
            Some("__consumer_offsets") => Self::Offsets,
            Some("__transaction_state") => Self::Transactions,
            Some("__cluster_metadata") => Self::Metadata,
            _ => Self::Data,
        }
    }

    /// May its records hold secrets?
    pub(super) const fn may_hold_secrets(self) -> bool {
        matches!(self, Self::Metadata | Self::Snapshot)
    }

    /// Looks into a record.
    pub(super) fn inside(self, header: &Header, record: &Record, show_secrets: bool) -> Inside {
        let mut budget = Budget::new();
        let mut inside = Inside { messages: Vec::new(), control: None, failure: None };
        if header.attributes.is_control() {
            inside.control(record, &mut budget);
        } else {
            match self {
                Self::Data => {}
                Self::Offsets | Self::Transactions => inside.coordinator(self, record, &mut budget),
                Self::Metadata => inside.metadata("RaftLogEntry", record, &mut budget),
                Self::Snapshot => inside.metadata("MetadataSnapshotHeader", record, &mut budget),
            }
        }
        if !show_secrets {
            inside.messages.iter_mut().for_each(|(_, message)| mask(&mut message.nodes));
        }
        inside
    }
}

fn int16(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn table(name: &str) -> &'static Schema {
    schema::find(name).expect("the records are in the tables")
}

impl Inside {
    fn push(&mut self, name: &'static str, (message, decoded): (Option<Message>, Decoded)) {
        self.messages.extend(message.map(|message| (name, message)));
        self.failure = self.failure.take().or(decoded.failure.map(|failure| failure.inside(name)));
    }

    fn fail(&mut self, name: &str, reason: Reason) {
        self.failure = self.failure.take().or(Some(Failure::new(0, reason).inside(name)));
    }

    /// A marker: its key is a version and a type, each an int16. The value of an end marker stands behind its version; those of
    /// the quorum begin with it.
    fn control(&mut self, record: &Record, budget: &mut Budget) {
        let number = record.key.as_ref().and_then(|key| int16(key, 2));
        let Some(number) = number else {
            self.control = Some("unknown");
            return self.fail("key", Reason::Truncated { needed: 4 });
        };
        let (control, name, at) = match number {
            0 => ("abort", "EndTxnMarker", 2),
            1 => ("commit", "EndTxnMarker", 2),
            2 => ("leader_change", "LeaderChangeMessage", 0),
            3 => ("snapshot_header", "SnapshotHeaderRecord", 0),
            4 => ("snapshot_footer", "SnapshotFooterRecord", 0),
            5 => ("kraft_version", "KRaftVersionRecord", 0),
            6 => ("kraft_voters", "VotersRecord", 0),
            _ => {
                self.control = Some("unknown");
                let number = number.into();
                return self.fail("key", Reason::UnknownType { what: "control record", number });
            }
        };
        self.control = Some(control);
        let Some((value, version)) = record.value.as_ref().and_then(|value| Some((value, int16(value, 0)?)))
        else {
            return self.fail("value", Reason::Truncated { needed: 2 });
        };
        self.push("value", decode_known(table(name), version.into(), value, at, budget));
    }

    /// Key and value, each behind an int16: the type in the key, the version in the value.
    fn coordinator(&mut self, contents: Contents, record: &Record, budget: &mut Budget) {
        let Some((key, number)) = record.key.as_ref().and_then(|key| Some((key, int16(key, 0)?))) else {
            return self.fail("key", Reason::Truncated { needed: 2 });
        };
        // Of groups, 0 is an older number of the same key.
        let number = if contents == Contents::Offsets { number.max(1) } else { number };
        let of = |kind| schema::ALL.iter().find(|s| s.kind == kind && s.key == Some(number));
        let (Some(key_schema), Some(value_schema)) = (of(Kind::CoordinatorKey), of(Kind::CoordinatorValue))
        else {
            return self.fail("key", Reason::UnknownType { what: "record", number: number.into() });
        };
        self.push("key", decode_known(key_schema, 0, key, 2, budget));
        let Some(value) = &record.value else { return };
        match int16(value, 0) {
            Some(version) => {
                self.push("value", decode_known(value_schema, version.into(), value, 2, budget));
            }
            None => self.fail("value", Reason::Truncated { needed: 2 - value.len() }),
        }
    }

    /// A record of Kafka's log or of any snapshot has no key and one metadata record as its value; what has a version as its key is
    /// ours: an entry of the log, which holds many, or the head of a snapshot.
    fn metadata(&mut self, ours: &str, record: &Record, budget: &mut Budget) {
        let Some(value) = &record.value else {
            return self.fail("value", Reason::UnexpectedNull);
        };
        let Some(key) = &record.key else {
            return self.push("value", metadata_record(value, 0, budget));
        };
        let Some(version) = int16(key, 0).filter(|_| key.len() == 2) else {
            return self.fail("key", Reason::Other("the key of an entry is its version"));
        };
        let mut found = decode_known(table(ours), version.into(), value, 0, budget);
        if let Some(message) = &mut found.0 {
            let damaged = open_payload(&mut message.nodes, value, budget);
            found.1.failure = found.1.failure.or(damaged);
        }
        self.push("value", found);
    }
}

const RECORDS: i64 = 1;
const MEMBERSHIP: i64 = 2;

/// Takes apart what an entry of our metadata log carries, or the head of a snapshot.
fn open_payload(nodes: &mut [Node], frame: &Bytes, budget: &mut Budget) -> Option<Failure> {
    let kind = find(nodes, "Kind").map_or(Some(MEMBERSHIP), Node::int);
    let is_payload = |node: &&mut Node| matches!(node.label.name(), Some("Payload" | "Membership"));
    let payload = nodes.iter_mut().find(is_payload)?;
    let Value::Array(parts) = &mut payload.value else { return None };
    let mut first = None;
    for node in parts {
        let Value::Bytes(bytes) = &node.value else { continue };
        let (at, frame) = (node.span.end - bytes.len(), frame.slice(..node.span.end));
        let (message, decoded) = match kind {
            Some(RECORDS) => metadata_record(&frame, at, budget),
            // Opaque, so that it stays bytes where it is none.
            Some(MEMBERSHIP) => match decode_known(table("VotersRecord"), 0, &frame, at, budget) {
                (message, decoded) if decoded.failure.is_none() => (message, decoded),
                _ => continue,
            },
            _ => continue,
        };
        first = first.or(decoded.failure);
        if let Some(message) = message {
            node.value = Value::Message(Box::new(message));
        }
    }
    first
}
