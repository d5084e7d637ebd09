//! Recordings of sessions: one frame after the other, each behind its connection (u16), direction (u8, 0 request, 1 response)
//! and length (u32), big endian. They hold no times.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bytes::Bytes;
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::{IResult, Parser};

use super::FileOptions;
use crate::frame::Direction;
use crate::limits::FRAME_BYTES_MAX;
use crate::printer::Printer;
use crate::session::{Seen, Sessions};

const HEAD_BYTES: usize = 7;

/// Reads a recording.
pub struct Recording<R> {
    from: R,
    at: usize,
}

impl<R: Read> Recording<R> {
    /// Reads from its start.
    pub const fn new(from: R) -> Self {
        Self { from, at: 0 }
    }

    /// Position of the next frame's head.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// When it ends inside of a frame, or a head is none.
    pub fn next_frame(&mut self) -> io::Result<Option<Seen>> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        (&mut self.from).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        let parsed: IResult<&[u8], (u16, u8, u32)> = (be_u16, be_u8, be_u32).parse(&head);
        let (_, (connection, direction, length)) =
            parsed.map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let length = length as usize;
        if direction > 1 || length > FRAME_BYTES_MAX {
            let why = format!("no frame of direction {direction} and {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut bytes = Vec::new();
        // Grows with the bytes that are there, not with what the length says.
        (&mut self.from).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += HEAD_BYTES + length;
        let direction = if direction == 0 { Direction::Request } else { Direction::Response };
        Ok(Some(Seen { direction, connection: connection.into(), time_us: None, bytes: Bytes::from(bytes) }))
    }
}

/// Writes a recording.
pub struct FrameWriter<W> {
    to: W,
}

impl<W: Write> FrameWriter<W> {
    /// Writes to `to`, which should have a buffer.
    pub const fn new(to: W) -> Self {
        Self { to }
    }

    /// Appends a frame. The number of a connection is kept to 16 bits.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, seen: &Seen) -> io::Result<()> {
        let length = u32::try_from(seen.bytes.len()).map_err(io::Error::other)?;
        self.to.write_all(&(seen.connection as u16).to_be_bytes())?;
        self.to.write_all(&[u8::from(seen.direction == Direction::Response)])?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&seen.bytes)
    }

    /// Hands on what is in the buffer.
    ///
    /// # Errors
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Shows a recording.
pub(super) fn show(path: &Path, options: &FileOptions, printer: &mut Printer) -> io::Result<bool> {
    let mut recording = Recording::new(BufReader::new(std::fs::File::open(path)?));
    let mut sessions = Sessions::new(options.filter.clone(), options.show_secrets);
    let mut is_whole = true;
    loop {
        match recording.next_frame() {
            Ok(None) => return Ok(is_whole),
            Ok(Some(seen)) => {
                if let Some(frame) = sessions.see(seen) {
                    is_whole &= frame.failure.is_none();
                    printer.frame(&frame)?;
                }
            }
            Err(error) => {
                printer.failure(recording.position(), &error.to_string(), &[])?;
                return Ok(false);
            }
        }
    }
}
