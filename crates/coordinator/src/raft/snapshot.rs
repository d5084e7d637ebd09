//! Snapshots of the metadata on disk: `<index>-<term>.checkpoint` beside the log, record batches whose first record says what the
//! snapshot stands for, and whose others are the metadata records that make the image. Written beside, synced, renamed; the one before
//! goes once the new one is durable.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::SnapshotMeta;
use ottla_cluster::image::{ApplyError, MetadataDelta, MetadataImage, MetadataRecord, RecordError};
use ottla_protocol::generated::records::ottla::MetadataSnapshotHeader;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{
    Batch, BatchError, BatchHeader, BuildError, Builder, Compression, DecompressLimit,
};
use ottla_protocol::wire::{DecodeError, EncodeError, Message};
use ottla_storage::files::{Files, Open};

use super::membership::{self, MembershipError};
use super::{EntryId, StoredMembership, entry_id, to_i64};
use crate::limits::SNAPSHOT_BATCH_BYTES;

/// Version in which the header is written.
const HEADER_VERSION: i16 = 0;
const SUFFIX: &str = ".checkpoint";

/// An image and what it stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) image: MetadataImage,
    pub(crate) last: EntryId,
    pub(crate) membership: StoredMembership,
}

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A batch is damaged.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// A batch cannot be written.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// It does not begin with its header, or ends early.
    #[error("it is not whole: {0}")]
    NotWhole(String),
    /// A newer node wrote it.
    #[error("version {0} of snapshots is not known: this node is too old for this cluster")]
    UnknownVersion(i16),
    /// Its header is malformed.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    /// Its header cannot be written.
    #[error("{0}")]
    Unwritable(#[from] EncodeError),
    /// The quorum in it cannot be used.
    #[error("{0}")]
    Membership(#[from] MembershipError),
    /// A record in it is malformed, or a newer node wrote it.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// A record in it does not fit those before.
    #[error("{0}")]
    Apply(#[from] ApplyError),
}

impl Snapshot {
    /// What the library wants to know of it.
    pub(crate) fn meta(
        &self,
    ) -> SnapshotMeta<super::alias::CommittedLeaderIdOf<super::Types>, super::VoterId, super::VoterNode> {
        SnapshotMeta { last_log_id: Some(self.last), last_membership: self.membership.clone() }
    }

    /// Batches of records.
    pub(crate) fn encode(&self) -> Result<Bytes, SnapshotError> {
        let last_membership = self.membership.log_id().unwrap_or(self.last);
        let header = MetadataSnapshotHeader {
            index: to_i64(self.last.index),
            term: i64::from(self.last.committed_leader_id().term),
            membership_index: to_i64(last_membership.index),
            membership_term: i64::from(last_membership.committed_leader_id().term),
            membership: membership::encode(self.membership.membership())?,
            records_count: i64::try_from(self.image.to_records().count()).unwrap_or(i64::MAX),
            ..MetadataSnapshotHeader::default()
        };
        let mut batches = Batches::new(self.last.committed_leader_id().term);
        batches.push(Some(&HEADER_VERSION.to_be_bytes()), &header.encode(HEADER_VERSION)?)?;
        for record in self.image.to_records() {
            batches.push(None, &record.encode()?)?;
        }
        batches.finish()
    }

    /// Reads batches of records, which must be whole.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let not_whole = |why: &str| SnapshotError::NotWhole(why.to_owned());
        let (mut image, mut delta) = (MetadataImage::default(), MetadataDelta::default());
        let mut header: Option<MetadataSnapshotHeader> = None;
        let mut count = 0;
        each_record(bytes, |key, value| {
            if header.is_some() {
                count += 1;
                return Ok(image.apply(&MetadataRecord::decode(value)?, &mut delta)?);
            }
            let version = key.and_then(|key| key.try_into().ok()).map(i16::from_be_bytes);
            match version {
                Some(HEADER_VERSION) => {
                    header = Some(MetadataSnapshotHeader::decode(value, HEADER_VERSION)?);
                    Ok(())
                }
                Some(other) => Err(SnapshotError::UnknownVersion(other)),
                None => Err(not_whole("it has no header")),
            }
        })?;
        let header = header.ok_or_else(|| not_whole("it is empty"))?;
        if count != header.records_count {
            return Err(SnapshotError::NotWhole(format!("{count} records of {}", header.records_count)));
        }
        image.set_index(header.index);
        let place = |term: i64, index: i64| match i32::try_from(term) {
            Ok(term) if index >= 0 => Ok(entry_id(term, index)),
            _ => Err(SnapshotError::NotWhole(format!("it stands for entry {index} of term {term}"))),
        };
        let membership_place = place(header.membership_term, header.membership_index)?;
        let membership =
            StoredMembership::new(Some(membership_place), membership::decode(header.membership)?);
        Ok(Self { image, last: place(header.term, header.index)?, membership })
    }

    /// Makes it the snapshot of `dir`, durably. Blocks.
    pub(crate) fn write(&self, files: &Arc<dyn Files>, dir: &Path) -> Result<(), SnapshotError> {
        let bytes = self.encode()?;
        let path = dir.join(file_name(self.last));
        let beside = dir.join(format!("{}.tmp", file_name(self.last)));
        let written = write_new(files, &beside, &bytes);
        if let Err(error) = written {
            // What is left of it only takes space away; the next start removes it too.
            files.remove_file(&beside).ok();
            return Err(error.into());
        }
        files.rename(&beside, &path)?;
        files.sync_dir(dir)?;
        for older in list(files, dir)?.into_iter().filter(|older| *older < path) {
            files.remove_file(&older)?;
        }
        Ok(())
    }

    /// The snapshot of `dir`, if there is one; with its path, for whoever has to say what is wrong with it.
    pub(crate) fn read(files: &Arc<dyn Files>, dir: &Path) -> Result<Option<Self>, (PathBuf, SnapshotError)> {
        let found = list(files, dir).map_err(|error| (dir.to_owned(), error.into()))?;
        let Some(path) = found.into_iter().next_back() else { return Ok(None) };
        let read = || Self::decode(&read_whole(files, &path)?);
        match read() {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error) => Err((path, error)),
        }
    }
}

/// Whether a directory has a snapshot.
pub(crate) fn exists(files: &Arc<dyn Files>, dir: &Path) -> io::Result<bool> {
    Ok(!list(files, dir)?.is_empty())
}

fn file_name(last: EntryId) -> String {
    format!("{:020}-{:010}{SUFFIX}", last.index, last.committed_leader_id().term)
}

/// Paths of all snapshots, the newest last.
fn list(files: &Arc<dyn Files>, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match files.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let found = entries.into_iter().filter(|entry| !entry.is_dir && entry.name.ends_with(SUFFIX));
    Ok(found.map(|entry| dir.join(entry.name)).collect())
}

fn write_new(files: &Arc<dyn Files>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = files.open(path, Open::Create)?;
    file.set_len(0)?;
    file.write_all_at(&mut [IoSlice::new(bytes)], 0)?;
    file.sync_data()
}

fn read_whole(files: &Arc<dyn Files>, path: &Path) -> Result<Vec<u8>, SnapshotError> {
    let file = files.open(path, Open::Read)?;
    let size_bytes = usize::try_from(file.size_bytes()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size_bytes];
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], at as u64)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => at += count,
        }
    }
    Ok(bytes)
}

/// Builds batches of about [`SNAPSHOT_BATCH_BYTES`]; the offset of a record is its number.
struct Batches {
    term: i32,
    written: Vec<u8>,
    count: i64,
    batch: Builder,
}

impl Batches {
    fn new(term: i32) -> Self {
        Self { term, written: Vec::new(), count: 0, batch: Self::batch(term, 0) }
    }

    fn batch(term: i32, from: i64) -> Builder {
        Builder::new(Compression::None).base_offset(Offset(from)).leader_epoch(LeaderEpoch(term))
    }

    fn push(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<(), BuildError> {
        self.batch.append(0, key, Some(value), &[])?;
        self.count += 1;
        if self.batch.uncompressed_bytes() >= SNAPSHOT_BATCH_BYTES {
            let full = std::mem::replace(&mut self.batch, Self::batch(self.term, self.count));
            self.written.extend(full.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Bytes, SnapshotError> {
        if self.batch.records_count() > 0 {
            self.written.extend(self.batch.finish()?);
        }
        Ok(self.written.into())
    }
}

fn each_record(
    mut bytes: &[u8],
    mut take: impl FnMut(Option<&[u8]>, Bytes) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    while !bytes.is_empty() {
        let size = BatchHeader::parse(bytes)?.size_bytes();
        let whole = bytes.get(..size).ok_or_else(|| SnapshotError::NotWhole("a batch is cut".to_owned()))?;
        let batch = Batch::parse(whole)?;
        batch.verify_crc()?;
        let mut records = batch.records(DecompressLimit::default())?;
        while let Some(record) = records.next_record()? {
            let value =
                record.value.ok_or_else(|| SnapshotError::NotWhole("a record is empty".to_owned()))?;
            take(record.key, Bytes::copy_from_slice(value))?;
        }
        bytes = &bytes[size..];
    }
    Ok(())
}
