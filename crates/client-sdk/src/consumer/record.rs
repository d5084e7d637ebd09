//! A record that was read.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::TimestampType;
use ottla_protocol::wire::Str;

/// Where a piece of a record is in its batch's bytes; none for null.
pub(super) type Piece = Option<(u32, u32)>;

/// What all records of a batch share.
#[derive(Debug)]
pub(super) struct Origin {
    pub topic: Str,
    pub partition: i32,
    pub leader_epoch: i32,
    pub timestamp_type: TimestampType,
    /// Keys, values and headers, decompressed.
    pub bytes: Bytes,
}

/// A record that was read. Cloning it is cheap: it shares the bytes of its batch.
#[derive(Clone, Debug)]
pub struct ConsumerRecord {
    pub(super) origin: Arc<Origin>,
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Piece,
    pub(super) value: Piece,
    pub(super) headers: Option<Arc<[(Piece, Piece)]>>,
}

impl ConsumerRecord {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.origin.topic
    }

    /// The topic's name as a counted string, for maps.
    #[must_use]
    pub fn topic_name(&self) -> &Str {
        &self.origin.topic
    }

    /// The partition's index.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.origin.partition
    }

    /// The record's offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The epoch of the leader that wrote it; -1 where unknown.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.origin.leader_epoch
    }

    /// Milliseconds since 1970; -1 where there is none.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Who gave the timestamp: the producer or the broker.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.origin.timestamp_type
    }

    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.slice(self.key)
    }

    /// The value; none is a tombstone on a compacted topic.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.slice(self.value)
    }

    /// The key as a buffer of its own, which keeps the whole batch alive and copies nothing.
    #[must_use]
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.map(|(from, to)| self.origin.bytes.slice(from as usize..to as usize))
    }

    /// The value as a buffer of its own, which keeps the whole batch alive and copies nothing.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.map(|(from, to)| self.origin.bytes.slice(from as usize..to as usize))
    }

    /// Names (UTF-8 by convention) and values of the headers, in order; a name may occur more than once.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        let headers = self.headers.as_deref().unwrap_or_default();
        headers.iter().map(|(name, value)| (self.slice(*name).unwrap_or_default(), self.slice(*value)))
    }

    fn slice(&self, piece: Piece) -> Option<&[u8]> {
        piece.map(|(from, to)| &self.origin.bytes[from as usize..to as usize])
    }
}
