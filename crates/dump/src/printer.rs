//! Where everything that is shown goes out.

use std::io::{self, Write};

use crate::batch::Batch;
use crate::file::RecordRow;
use crate::frame::{Direction, Frame};
use crate::json;
use crate::text::{Lines, Source};
use crate::tree::Node;

/// How things are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; with the bytes in hex beside each field or not.
    Text {
        /// With the bytes?
        hex: bool,
    },
    /// One JSON object a line.
    Json,
}

/// Writes frames and the parts of files.
pub struct Printer {
    format: Format,
    out: Box<dyn Write + Send>,
}

impl Printer {
    /// Writes to `out`, which should have a buffer.
    #[must_use]
    pub fn new(format: Format, out: Box<dyn Write + Send>) -> Self {
        Self { format, out }
    }

    fn lines(&mut self) -> Option<Lines<'_>> {
        match self.format {
            Format::Json => None,
            Format::Text { hex } => Some(Lines { out: &mut self.out, hex }),
        }
    }

    /// A frame.
    ///
    /// # Errors
    /// Those of the output.
    pub fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        match self.lines() {
            Some(mut lines) => lines.frame(frame),
            None => json::frame(&mut self.out, frame),
        }
    }

    /// A line for people.
    ///
    /// # Errors
    /// Those of the output.
    pub fn title(&mut self, title: &str) -> io::Result<()> {
        match self.lines() {
            Some(lines) => writeln!(lines.out, "{title}"),
            None => Ok(()),
        }
    }

    /// A connection whose bytes are no frames from here on.
    ///
    /// # Errors
    /// Those of the output.
    pub fn unreadable(&mut self, connection: u64, direction: Direction, why: &str) -> io::Result<()> {
        let direction = direction.name();
        match self.lines() {
            Some(lines) => {
                writeln!(lines.out, "c{connection} {direction}s are not read any further: {why}\n")
            }
            None => json::unreadable(&mut self.out, connection, direction, why),
        }
    }

    pub(crate) fn entry(&mut self, node: &Node, source: Source<'_>) -> io::Result<()> {
        match self.lines() {
            Some(mut lines) => lines.entry(node, source),
            None => json::entry(&mut self.out, node),
        }
    }

    pub(crate) fn batch(&mut self, batch: &Batch, source: Source<'_>) -> io::Result<()> {
        match self.lines() {
            Some(mut lines) => lines.batch(batch, source),
            None => Ok(()),
        }
    }

    pub(crate) fn record(&mut self, row: &RecordRow<'_>) -> io::Result<()> {
        match self.lines() {
            Some(mut lines) => lines.record(row),
            None => json::record(&mut self.out, row),
        }
    }

    /// What does not decode, and the bytes from there on.
    ///
    /// # Errors
    /// Those of the output.
    pub fn failure(&mut self, at: usize, why: &str, rest: &[u8]) -> io::Result<()> {
        match self.lines() {
            Some(mut lines) => lines.failure(at, why, rest),
            None => json::failure(&mut self.out, at, why, rest),
        }
    }

    /// Hands on what is in the buffer.
    ///
    /// # Errors
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
