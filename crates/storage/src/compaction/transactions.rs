//! Which transactional batches of a log were aborted, by the markers that follow them. Only what was aborted is kept in memory.

use std::collections::HashMap;

use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::{Batch, BatchHeader, DecompressLimit, HEADER_BYTES};

use crate::log::Source;
use crate::producers::EndMarker;
use crate::segment::{SegmentError, Walk, read_exact_at};

/// What became of a batch's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was committed, or the batch belongs to none.
    Settled,
    /// Its records are nobody's: a reader of committed records does not get them.
    Aborted,
    /// No marker says so yet.
    Undecided,
}

/// The transactions that were not committed: of each producer the first offset and the marker's, rising.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    failed: HashMap<ProducerId, Vec<(Offset, Option<Offset>)>>,
    /// Where the open ones began, while the walk is on.
    open: HashMap<ProducerId, Offset>,
}

impl Transactions {
    /// Walks over a segment's headers, in the order of the log; `each` sees them too. Of control batches the record is read.
    pub(super) fn walk(
        &mut self,
        source: &Source,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(), SegmentError> {
        let file = source.log.get()?;
        let mut walk = Walk::new(&*file, 0, source.size_bytes);
        let mut position = 0;
        while let Some(header) = walk.next_header()? {
            each(&header);
            if header.attributes.is_control() {
                let mut payload = vec![0; header.size_bytes() - HEADER_BYTES];
                read_exact_at(&*file, &mut payload, position + HEADER_BYTES as u64)?;
                let marker = marker_of(&header, &payload);
                self.end(&header, marker.map_err(|why| SegmentError::Bad { position, why })?);
            } else if header.attributes.is_transactional() {
                self.open.entry(header.producer_id).or_insert(header.base_offset);
            }
            position = walk.position;
        }
        Ok(())
    }

    fn end(&mut self, header: &BatchHeader, marker: Option<EndMarker>) {
        let Some(first) = self.open.remove(&header.producer_id) else { return };
        if marker.is_some_and(|marker| marker.is_abort) {
            let failed = self.failed.entry(header.producer_id).or_default();
            failed.push((first, Some(header.base_offset)));
        }
    }

    /// Whether a transaction is open where the walk stands.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The walk is over: what is open has no marker.
    pub(super) fn close(&mut self) {
        for (producer_id, first) in self.open.drain() {
            self.failed.entry(producer_id).or_default().push((first, None));
        }
    }

    pub(super) fn fate(&self, header: &BatchHeader) -> Fate {
        if !header.attributes.is_transactional() {
            return Fate::Settled;
        }
        let failed = self.failed.get(&header.producer_id).map_or(&[][..], Vec::as_slice);
        let after = failed.partition_point(|(first, _)| *first <= header.base_offset);
        match after.checked_sub(1).map(|index| failed[index].1) {
            Some(None) => Fate::Undecided,
            Some(Some(marker)) if header.base_offset < marker => Fate::Aborted,
            Some(Some(_)) | None => Fate::Settled,
        }
    }
}

fn marker_of(
    header: &BatchHeader,
    payload: &[u8],
) -> Result<Option<EndMarker>, ottla_protocol::records::BatchError> {
    let batch = Batch::from_parts(header.clone(), payload);
    let mut records = batch.records(DecompressLimit::default())?;
    let record = records.next_record()?;
    Ok(record.and_then(|record| EndMarker::parse(record.key?, record.value?)))
}
