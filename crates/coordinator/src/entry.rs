//! One entry of the metadata log, as a record batch with exactly one record: the batch's offset is the index, its leader epoch the
//! term, the record's value is a `RaftLogEntry` of `protocol-spec`, and its key that structure's version, 16 bits.

use bytes::Bytes;
use ottla_cluster::image::{MetadataRecord, RecordError};
use ottla_protocol::generated::records::RaftLogEntry;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{
    Batch, BatchError, BatchHeader, BuildError, Builder, Compression, DecompressLimit, HEADER_BYTES,
};
use ottla_protocol::wire::{DecodeError, EncodeError, Message};

/// Version in which entries are written.
const ENTRY_VERSION: i16 = 0;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Nothing: a leader's first.
    Blank,
    /// Metadata records, each in its frame.
    Records(Vec<Bytes>),
    /// Who belongs to the quorum: encoded `VotersRecord`s, the voters, then those who only listen, then the voters of every further
    /// configuration of a joint change. The first alone where nobody listens.
    Membership(Vec<Bytes>),
}

/// One entry of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log, from 0.
    pub index: i64,
    /// Term of the leader that proposed it.
    pub term: i32,
    /// Node that proposed it; -1 when whoever wrote it down did not know.
    pub node_id: i32,
    /// What it is about.
    pub kind: EntryKind,
}

/// Why bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The batch is damaged.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// The batch does not hold exactly one record with a version and a value.
    #[error("the batch does not hold exactly one record with a version and a value")]
    NotOneRecord,
    /// The record's value is malformed.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    /// Term and batch do not agree.
    #[error("term {term} in a batch of term {batch}")]
    Term {
        /// What the entry says.
        term: i64,
        /// What its batch says.
        batch: i32,
    },
    /// A newer node wrote it.
    #[error("version {0} of entries is not known: this node is too old for this cluster")]
    UnknownVersion(i16),
    /// A newer node wrote it.
    #[error("kind {0} is not known: this node is too old for this cluster")]
    UnknownKind(i8),
    /// It cannot be written.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// It does not fit a batch.
    #[error("{0}")]
    Build(#[from] BuildError),
}

const BLANK: i8 = 0;
const RECORDS: i8 = 1;
const MEMBERSHIP: i8 = 2;

impl LogEntry {
    /// The header and what follows it.
    ///
    /// # Errors
    /// When it is too large for a batch.
    pub fn encode(&self, now_ms: i64) -> Result<(BatchHeader, Bytes), EntryError> {
        let value = self.encode_value()?;
        let mut builder = Builder::new(Compression::None)
            .base_offset(Offset(self.index))
            .leader_epoch(LeaderEpoch(self.term));
        builder.append(now_ms, Some(&ENTRY_VERSION.to_be_bytes()), Some(&value), &[])?;
        let batch = Bytes::from(builder.finish()?);
        Ok((BatchHeader::parse(&batch)?, batch.slice(HEADER_BYTES..)))
    }

    /// The entry without its place: a `RaftLogEntry` in the one version.
    ///
    /// # Errors
    /// When it is too large.
    pub fn encode_value(&self) -> Result<Bytes, EntryError> {
        let (kind, payload) = match &self.kind {
            EntryKind::Blank => (BLANK, Vec::new()),
            EntryKind::Records(records) => (RECORDS, records.clone()),
            EntryKind::Membership(voters) => (MEMBERSHIP, voters.clone()),
        };
        let (term, node_id) = (i64::from(self.term), self.node_id);
        let entry = RaftLogEntry { term, node_id, kind, payload, ..RaftLogEntry::default() };
        Ok(entry.encode(ENTRY_VERSION)?)
    }

    /// Back from [`LogEntry::encode_value`], for an entry at `index` of `term`.
    ///
    /// # Errors
    /// When it is malformed, of another term, or a newer node wrote it.
    pub fn decode_value(index: i64, term: i32, value: Bytes) -> Result<Self, EntryError> {
        let entry = RaftLogEntry::decode(value, ENTRY_VERSION)?;
        if entry.term != i64::from(term) {
            return Err(EntryError::Term { term: entry.term, batch: term });
        }
        let kind = match entry.kind {
            BLANK => EntryKind::Blank,
            RECORDS => EntryKind::Records(entry.payload),
            MEMBERSHIP => EntryKind::Membership(entry.payload),
            other => return Err(EntryError::UnknownKind(other)),
        };
        Ok(Self { index, term, node_id: entry.node_id, kind })
    }

    /// Reads a whole batch.
    ///
    /// # Errors
    /// When it is damaged, or a newer node wrote it.
    pub fn decode(batch: &[u8]) -> Result<Self, EntryError> {
        let batch = Batch::parse(batch)?;
        batch.verify_crc()?;
        let header = batch.header();
        if header.records_count != 1 {
            return Err(EntryError::NotOneRecord);
        }
        let mut records = batch.records(DecompressLimit::default())?;
        let record = records.next_record()?.ok_or(EntryError::NotOneRecord)?;
        let version = record.key.and_then(|key| key.try_into().ok()).map(i16::from_be_bytes);
        let (Some(version), Some(value)) = (version, record.value) else {
            return Err(EntryError::NotOneRecord);
        };
        if version != ENTRY_VERSION {
            return Err(EntryError::UnknownVersion(version));
        }
        let (index, term) = (header.base_offset.0, header.partition_leader_epoch.0);
        Self::decode_value(index, term, Bytes::copy_from_slice(value))
    }

    /// The metadata records in it; none for the other kinds.
    ///
    /// # Errors
    /// When one is malformed, or a newer node wrote it.
    pub fn records(&self) -> Result<Vec<MetadataRecord>, RecordError> {
        match &self.kind {
            EntryKind::Records(frames) => frames.iter().cloned().map(MetadataRecord::decode).collect(),
            EntryKind::Blank | EntryKind::Membership(_) => Ok(Vec::new()),
        }
    }
}
