//! A record to send.

use ottla_protocol::records::RecordHeader;

/// A record to send; it borrows what it carries, which is copied once, into its batch.
///
/// Without a partition, the key decides (the same key meets the same partition from any client); without both, records
/// go round robin over the partitions.
#[derive(Clone, Debug)]
#[must_use]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<RecordHeader<'a>>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record without key and value for a topic.
    pub fn to(topic: &'a str) -> Record<'a> {
        Record { topic, partition: None, key: None, value: None, headers: Vec::new(), timestamp_ms: None }
    }

    /// Chooses the partition.
    pub fn partition(mut self, index: i32) -> Self {
        self.partition = Some(index);
        self
    }

    /// The key; an empty one is a key too.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The value; a record without one deletes its key on a compacted topic.
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header; a name may occur more than once.
    pub fn header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push(RecordHeader { key: name.as_bytes(), value });
        self
    }

    /// Milliseconds since 1970; the time of `send` by default.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// An upper bound of the bytes that the record takes in a batch: lengths, deltas and attributes included.
    pub(crate) fn bytes_max(&self) -> usize {
        const NUMBERS: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        let headers: usize = self
            .headers
            .iter()
            .map(|header| 10 + header.key.len() + header.value.map_or(0, <[u8]>::len))
            .sum();
        NUMBERS + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}
