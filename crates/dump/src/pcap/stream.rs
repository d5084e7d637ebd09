//! One direction of a TCP connection, put together again: what comes twice, too early or never.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use ottla_protocol::frame::{FrameCodec, LENGTH_BYTES};
use tokio_util::codec::Decoder;

use super::Segment;
use crate::limits::{EARLY_BYTES_MAX, EARLY_SEGMENTS_MAX, FRAME_BYTES_MAX};

/// What comes out.
pub(super) enum Piece {
    /// A frame, and when its last byte was seen.
    Frame(Bytes, i64),
    /// Bytes are missing, or are no frames.
    Unreadable(String),
}

/// One direction.
pub(super) struct Half {
    /// Sequence number of the byte that comes next; `None` before the first segment.
    next: Option<u32>,
    /// Segments that came too early, by how far: sequence numbers begin again after 4 GiB, distances from the first do not.
    early: BTreeMap<u64, (Bytes, i64)>,
    early_bytes: usize,
    /// Bytes that came in order, since the first.
    position: u64,
    /// In order, and not yet cut into frames.
    buffer: BytesMut,
    time_us: i64,
    /// Does a frame begin where the buffer begins? Otherwise one is looked for.
    is_in_step: bool,
    /// Where in the buffer segments begin: a frame that is looked for begins there.
    starts: Vec<usize>,
    /// Bytes that are missing and not told yet.
    missing: u64,
    is_over: bool,
    is_unreadable: bool,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            next: None,
            early: BTreeMap::new(),
            early_bytes: 0,
            position: 0,
            buffer: BytesMut::new(),
            time_us: 0,
            is_in_step: false,
            starts: Vec::new(),
            missing: 0,
            is_over: false,
            is_unreadable: false,
        }
    }
}

impl Half {
    /// Was everything there up to the last segment?
    pub fn is_over(&self) -> bool {
        self.is_over && self.early.is_empty()
    }

    /// Takes in a segment.
    pub fn take(&mut self, segment: &Segment, time_us: i64) {
        self.is_over |= segment.is_fin;
        let syn = u32::from(segment.is_syn);
        let sequence = segment.sequence.wrapping_add(syn);
        let next = *self.next.get_or_insert(sequence);
        if segment.payload.is_empty() || self.is_unreadable {
            return;
        }
        // Half of all distances are behind, half before: segments are never 2 GiB early or late.
        let distance = i64::from(sequence.wrapping_sub(next) as i32);
        let mut payload = segment.payload.clone();
        if distance < 0 {
            let known = usize::try_from(-distance).unwrap_or(usize::MAX);
            if known >= payload.len() {
                return;
            }
            payload.advance(known);
        }
        if distance <= 0 {
            self.append(&payload, time_us);
            self.append_early();
            return;
        }
        let place = self.position + distance as u64;
        self.early_bytes += payload.len();
        if let Some((before, _)) = self.early.insert(place, (payload, time_us)) {
            self.early_bytes -= before.len();
        }
        if self.early_bytes > EARLY_BYTES_MAX || self.early.len() > EARLY_SEGMENTS_MAX {
            self.give_up();
        }
    }

    fn append(&mut self, payload: &[u8], time_us: i64) {
        if !self.is_in_step {
            self.starts.push(self.buffer.len());
        }
        self.buffer.extend_from_slice(payload);
        self.time_us = time_us;
        self.position += payload.len() as u64;
        self.next = self.next.map(|next| next.wrapping_add(payload.len() as u32));
    }

    fn append_early(&mut self) {
        while let Some(entry) = self.early.first_entry() {
            let place = *entry.key();
            if place > self.position {
                return;
            }
            let (payload, time_us) = entry.remove();
            self.early_bytes -= payload.len();
            let known = usize::try_from(self.position - place).unwrap_or(usize::MAX);
            if let Some(rest) = payload.get(known..).filter(|rest| !rest.is_empty()) {
                self.append(rest, time_us);
            }
        }
    }

    /// Does without what is missing before the first early segment; false when there is none.
    pub fn give_up(&mut self) -> bool {
        let Some((place, _)) = self.early.first_key_value() else { return false };
        let missing = place - self.position;
        self.missing += missing + self.buffer.len() as u64;
        self.position += missing;
        self.next = self.next.map(|next| next.wrapping_add(missing as u32));
        self.buffer.clear();
        self.starts.clear();
        self.is_in_step = false;
        self.append_early();
        true
    }

    /// The next thing that can be told. `is_plausible` says whether bytes may be the begin of a frame, without its length.
    pub fn next_piece(&mut self, is_plausible: impl Fn(&[u8]) -> bool) -> Option<Piece> {
        if self.missing > 0 {
            let missing = std::mem::take(&mut self.missing);
            return Some(Piece::Unreadable(format!(
                "{missing} bytes are missing in the capture; going on at the next frame"
            )));
        }
        if self.is_unreadable || !self.is_in_step && !self.find_step(is_plausible) {
            return None;
        }
        match FrameCodec::new(FRAME_BYTES_MAX).decode(&mut self.buffer) {
            Ok(Some(frame)) => Some(Piece::Frame(frame, self.time_us)),
            Ok(None) => None,
            Err(error) => {
                self.is_unreadable = true;
                self.buffer = BytesMut::new();
                Some(Piece::Unreadable(error.to_string()))
            }
        }
    }

    /// Looks for a frame that begins where a segment does; drops what cannot be one.
    fn find_step(&mut self, is_plausible: impl Fn(&[u8]) -> bool) -> bool {
        let starts = std::mem::take(&mut self.starts);
        let mut kept = self.buffer.len();
        for start in starts {
            let rest = &self.buffer[start..];
            // Less than length and correlation id, or key and version, says nothing yet.
            let Some((length, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
                kept = kept.min(start);
                continue;
            };
            let fits =
                i32::from_be_bytes(*length) >= 4 && u32::from_be_bytes(*length) as usize <= FRAME_BYTES_MAX;
            if fits && body.len() >= 4 && is_plausible(body) {
                self.buffer.advance(start);
                self.is_in_step = true;
                return true;
            }
            if fits && body.len() < 4 {
                kept = kept.min(start);
            }
        }
        self.buffer.advance(kept);
        if !self.buffer.is_empty() {
            self.starts.push(0);
        }
        false
    }
}
