//! Segments: batch after batch, each checked and taken apart, with what the file tells of the fate of transactions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use ottla_protocol::records::HEADER_BYTES;

use super::contents::Contents;
use crate::batch::{Batch, Header, Record, header};
use crate::failure::Failure;
use crate::limits::{BATCH_BYTES_MAX, DECOMPRESSED_BYTES_MAX, REST_BYTES_MAX};
use crate::printer::Printer;
use crate::text::Source;
use crate::tree::Message;

/// A record of a segment with all that is known of it.
pub struct RecordRow<'a> {
    /// The record.
    pub record: &'a Record,
    /// Header of its batch.
    pub header: &'a Header,
    /// The records of its batch.
    pub records: &'a [u8],
    /// Where they begin in the file; 0 where they were compressed.
    pub records_at: usize,
    /// Does a reader of committed records see it? `None` when that is decided in a later segment.
    pub committed: Option<bool>,
    /// Kind of control record.
    pub control: Option<&'static str>,
    /// What `key` and `value` hold.
    pub inside: Vec<(&'static str, Message)>,
    /// Must key and value not be shown as they are?
    pub is_raw_secret: bool,
    /// What of it does not decode.
    pub failure: Option<Failure>,
}

impl RecordRow<'_> {
    /// Its sequence number, which begins again behind the largest int32.
    #[must_use]
    pub fn sequence(&self) -> i64 {
        (i64::from(self.header.base_sequence) + self.record.offset_delta) & i64::from(i32::MAX)
    }
}

/// A file that is read a batch at a time.
struct Segment {
    file: File,
    size: usize,
    at: usize,
}

enum Next {
    Batch(Bytes),
    /// Zeros to the end of the file, as preallocation leaves them.
    Blank(usize),
    End,
}

impl Segment {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Self { file, size, at: 0 })
    }

    fn read(&self, at: usize, size: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; size.min(self.size.saturating_sub(at))];
        self.file.read_exact_at(&mut bytes, at as u64)?;
        Ok(Bytes::from(bytes))
    }

    /// The header of the batch at the current position, and bytes of it that are there.
    fn next_header(&self) -> io::Result<Option<Header>> {
        Ok(header(&self.read(self.at, HEADER_BYTES)?).ok().map(|(_, header)| header))
    }

    /// The bytes of the next batch, fewer where it is cut off. Does not move on.
    fn next(&self) -> io::Result<Next> {
        if self.at >= self.size {
            return Ok(Next::End);
        }
        let head = self.read(self.at, HEADER_BYTES)?;
        if head.iter().all(|byte| *byte == 0) && self.is_blank_from(self.at)? {
            return Ok(Next::Blank(self.size - self.at));
        }
        let size = header(&head).ok().and_then(|(_, header)| header.size_bytes());
        let size = size.filter(|size| *size <= BATCH_BYTES_MAX).unwrap_or(HEADER_BYTES);
        self.read(self.at, size).map(Next::Batch)
    }

    fn is_blank_from(&self, mut at: usize) -> io::Result<bool> {
        while at < self.size {
            let chunk = self.read(at, 1 << 20)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += chunk.len();
        }
        Ok(true)
    }
}

/// How transactions ended, as far as the file tells: per producer, the offsets of markers and whether they commit.
#[derive(Default)]
struct Fates(BTreeMap<i64, Vec<(i64, bool)>>);

impl Fates {
    fn read(path: &Path) -> io::Result<Self> {
        let mut segment = Segment::open(path)?;
        let mut fates = Self::default();
        while let Some(header) = segment.next_header()? {
            let Some(size) = header.size_bytes() else { break };
            if header.attributes.is_control() && header.attributes.is_transactional() {
                let bytes = segment.read(segment.at, size.min(BATCH_BYTES_MAX))?;
                fates.learn(&bytes, segment.at);
            }
            segment.at += size;
        }
        Ok(fates)
    }

    fn learn(&mut self, bytes: &Bytes, at: usize) {
        let Ok(batch) = Batch::parse(bytes, at, &mut DECOMPRESSED_BYTES_MAX.clone()) else { return };
        for record in batch.records().map_while(Result::ok) {
            let Some([_, _, 0, number @ (0 | 1)]) = record.key.as_deref() else { continue };
            let markers = self.0.entry(batch.header.producer_id).or_default();
            markers.push((record.offset, *number == 1));
        }
    }

    fn committed(&self, header: &Header, offset: i64) -> Option<bool> {
        if !header.attributes.is_transactional() {
            return Some(true);
        }
        let markers = self.0.get(&header.producer_id)?;
        let next = markers.partition_point(|(marker, _)| *marker < offset);
        markers.get(next).map(|(_, commits)| *commits)
    }
}

/// Shows a segment.
pub(super) fn show(
    path: &Path,
    contents: Contents,
    show_secrets: bool,
    printer: &mut Printer,
) -> io::Result<bool> {
    let fates = Fates::read(path)?;
    let mut segment = Segment::open(path)?;
    let mut is_whole = true;
    loop {
        let at = segment.at;
        let bytes = match segment.next()? {
            Next::End => return Ok(is_whole),
            Next::Blank(size) => {
                printer.title(&format!("{size} bytes of zeros from {at} on"))?;
                return Ok(is_whole);
            }
            Next::Batch(bytes) => bytes,
        };
        let mut budget_bytes = DECOMPRESSED_BYTES_MAX;
        let batch = match Batch::parse(&bytes, at, &mut budget_bytes) {
            Ok(batch) => batch,
            Err(failure) => {
                let rest = segment.read(at, REST_BYTES_MAX + 1)?;
                printer.failure(at, &failure.to_string(), &rest)?;
                return Ok(false);
            }
        };
        is_whole &= show_batch(&batch, &bytes, contents, &fates, show_secrets, printer)?;
        segment.at = batch.span.end;
    }
}

fn show_batch(
    batch: &Batch,
    bytes: &Bytes,
    contents: Contents,
    fates: &Fates,
    show_secrets: bool,
    printer: &mut Printer,
) -> io::Result<bool> {
    let at = batch.span.start;
    printer.batch(batch, Source { bytes, at })?;
    let mut is_whole = batch.failure.is_none();
    let mut end = 0;
    for record in batch.records().map_while(Result::ok) {
        end = record.span.end;
        let inside = contents.inside(&batch.header, &record, show_secrets);
        is_whole &= inside.failure.is_none();
        let committed = fates.committed(&batch.header, record.offset);
        printer.record(&RecordRow {
            record: &record,
            header: &batch.header,
            records: &batch.records,
            records_at: batch.records_at.unwrap_or(0),
            committed: committed.filter(|_| inside.control.is_none()),
            control: inside.control,
            inside: inside.messages,
            is_raw_secret: contents.may_hold_secrets() && !show_secrets,
            failure: inside.failure,
        })?;
    }
    if let Some(failure) = &batch.failure {
        let is_secret = contents.may_hold_secrets() && !show_secrets;
        let rest = batch.records.get(end..).filter(|_| !is_secret).unwrap_or_default();
        printer.failure(at, &failure.to_string(), rest)?;
    }
    Ok(is_whole)
}
