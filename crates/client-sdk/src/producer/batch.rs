//! A batch on its way from `send` to its fate.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::{BatchHeader, BuildError, Builder, HEADER_BYTES};
use tokio::time::Instant;

use super::delivery::Fate;
use crate::error::Error;

/// Who an idempotent producer is for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// Who sends a batch and which number its first record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub identity: Identity,
    pub sequence: i32,
}

/// A batch that takes no more records, or still does while it is the partition's open one.
#[derive(Debug)]
pub(super) struct Batch {
    /// The place in the queue's list of partitions.
    pub slot: usize,
    pub fate: Arc<Fate>,
    pub created: Instant,
    /// Bytes of the producer's memory.
    pub charged_bytes: usize,
    pub records_count: i32,
    /// Given when it is sent for the first time.
    pub stamp: Option<Stamp>,
    /// Grows by one with each batch of the partition, so that batches which come back find their place.
    pub number: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Records(Box<Builder>),
    Encoded { bytes: Bytes, stamp: Option<Stamp> },
    Failed,
}

impl Batch {
    pub fn new(slot: usize, number: u64, fate: Arc<Fate>, builder: Builder) -> Batch {
        Batch {
            slot,
            fate,
            created: Instant::now(),
            charged_bytes: 0,
            records_count: 0,
            stamp: None,
            number,
            content: Content::Records(Box::new(builder)),
        }
    }

    /// The records, while it is open.
    pub fn builder(&mut self) -> &mut Builder {
        match &mut self.content {
            Content::Records(builder) => builder,
            Content::Encoded { .. } | Content::Failed => panic!("an open batch is not encoded yet"),
        }
    }

    /// Bytes before compression, while it is open.
    pub fn uncompressed_bytes(&self) -> usize {
        match &self.content {
            Content::Records(builder) => builder.uncompressed_bytes(),
            Content::Encoded { bytes, .. } => bytes.len(),
            Content::Failed => 0,
        }
    }

    /// Its bytes for the wire, made once, and again only in the header when the stamp has changed.
    pub fn encode(&mut self) -> Result<Bytes, Error> {
        let bytes = match std::mem::replace(&mut self.content, Content::Failed) {
            Content::Records(builder) => {
                let builder = match self.stamp {
                    Some(Stamp { identity, sequence }) => {
                        builder.producer(ProducerId(identity.id), identity.epoch, sequence)
                    }
                    None => *builder,
                };
                builder.finish().map_err(|source| self.refused(source))?.into()
            }
            Content::Encoded { bytes, stamp } if stamp == self.stamp => bytes,
            Content::Encoded { bytes, .. } => restamped(&bytes, self.stamp),
            Content::Failed => return Err(Error::Closed("batch")),
        };
        self.content = Content::Encoded { bytes: bytes.clone(), stamp: self.stamp };
        Ok(bytes)
    }

    fn refused(&self, source: BuildError) -> Error {
        Error::Encode {
            topic: self.fate.topic.to_string(),
            partition: self.fate.partition,
            source: Arc::new(source),
        }
    }
}

/// The same records under another producer id or sequence.
fn restamped(batch: &[u8], stamp: Option<Stamp>) -> Bytes {
    let mut header = BatchHeader::parse(batch).expect("a batch of our own making");
    let payload = &batch[HEADER_BYTES..];
    if let Some(Stamp { identity, sequence }) = stamp {
        header.producer_id = ProducerId(identity.id);
        header.producer_epoch = identity.epoch;
        header.base_sequence = sequence;
    }
    header.crc = header.crc_with(payload);
    let mut bytes = Vec::with_capacity(batch.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::records::{Batch as Parsed, Compression};
    use ottla_protocol::wire::Str;

    #[test]
    fn a_new_stamp_changes_the_header_and_keeps_the_records() {
        let mut builder = Builder::new(Compression::Lz4);
        builder.append(7, Some(b"k"), Some(b"v"), &[]).unwrap();
        let mut batch = Batch::new(0, 0, Fate::new(Str::from_static("t"), 0), builder);
        batch.stamp = Some(Stamp { identity: Identity { id: 5, epoch: 0 }, sequence: 9 });
        let first = batch.encode().unwrap();
        assert_eq!(batch.encode().unwrap(), first);
        batch.stamp = Some(Stamp { identity: Identity { id: 6, epoch: 1 }, sequence: 0 });
        let second = batch.encode().unwrap();
        let (first, second) = (Parsed::parse(&first).unwrap(), Parsed::parse(&second).unwrap());
        first.verify_crc().unwrap();
        second.verify_crc().unwrap();
        assert_eq!((first.header().producer_id.0, first.header().base_sequence), (5, 9));
        assert_eq!((second.header().producer_id.0, second.header().base_sequence), (6, 0));
        assert_eq!(first.payload(), second.payload());
    }
}
