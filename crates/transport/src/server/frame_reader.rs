//! Cuts a connection's bytes into frames, with few system calls and no copy of large payloads.
//!
//! Small frames are read many at a time into a look-ahead buffer and copied out. A frame that does not fit there gets a
//! buffer of its own; the read for its last bytes reaches a little further, so that the next length needs no call.

use super::memory::{FrameBuffer, Memory, Overdraft};
use crate::limits::{FRAME_BYTES_AT_ONCE_MAX, FRAME_TAIL_BYTES, LENGTH_PREFIX_BYTES, LOOK_AHEAD_BYTES};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {bytes} bytes exceeds socket.request.max.bytes = {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("frame length {0} is negative")]
    Negative(i32),
    #[error("connection ended in the middle of a frame")]
    Truncated,
    #[error("{0}")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct FrameReader {
    memory: Arc<Memory>,
    bytes_max: usize,
    /// Bytes `start..end` have been read and belong to no frame yet. Empty until the first read.
    ahead: Vec<u8>,
    start: usize,
    end: usize,
    /// The large frame that is being read; the look-ahead is empty meanwhile.
    partial: Option<Partial>,
    /// The last frame was large: the next one probably is, and what the look-ahead catches of it is copied.
    expects_large: bool,
    /// Bytes taken from the stream.
    bytes_read: u64,
}

struct Partial {
    buffer: FrameBuffer,
    length: usize,
    overdraft: Option<Overdraft>,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.buffer.filled(), self.length)
    }
}

impl FrameReader {
    pub(crate) fn new(memory: Arc<Memory>, bytes_max: usize) -> FrameReader {
        FrameReader {
            memory,
            bytes_max,
            ahead: Vec::new(),
            start: 0,
            end: 0,
            partial: None,
            expects_large: false,
            bytes_read: 0,
        }
    }

    /// Bytes taken from the stream so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether this connection holds the right to exceed the memory for requests.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.overdraft.is_some())
    }

    /// The next frame, or None when the peer has ended the stream between two frames.
    pub(crate) fn poll_frame<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<Option<Bytes>, FrameError>> {
        loop {
            if self.partial.is_some() {
                return self.poll_partial(context, stream).map_ok(Some);
            }
            if !self.memory.admits(context.waker()) {
                return Poll::Pending;
            }
            match self.next_length()? {
                Some(length) if self.end - self.start >= LENGTH_PREFIX_BYTES + length => {
                    return Poll::Ready(Ok(Some(self.take_small(length))));
                }
                Some(length) if LENGTH_PREFIX_BYTES + length > LOOK_AHEAD_BYTES => self.begin_partial(length),
                _ => {
                    if ready!(self.poll_ahead(context, stream))? == 0 {
                        let clean = self.start == self.end;
                        return Poll::Ready(if clean { Ok(None) } else { Err(FrameError::Truncated) });
                    }
                }
            }
        }
    }

    /// Length of the next frame, if its prefix has been read.
    fn next_length(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.ahead[self.start..self.end].first_chunk::<LENGTH_PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        let bytes = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
        if bytes > self.bytes_max {
            return Err(FrameError::TooLarge { bytes, bytes_max: self.bytes_max });
        }
        Ok(Some(bytes))
    }

    /// A frame that lies in the look-ahead whole.
    fn take_small(&mut self, length: usize) -> Bytes {
        let from = self.start + LENGTH_PREFIX_BYTES;
        let frame = FrameBuffer::copied(&self.memory, &self.ahead[from..from + length]);
        self.start = from + length;
        self.expects_large = false;
        frame.into_bytes()
    }

    /// Starts a frame larger than the look-ahead, with what of it is there.
    fn begin_partial(&mut self, length: usize) {
        let at_once = length.min(FRAME_BYTES_AT_ONCE_MAX) + FRAME_TAIL_BYTES;
        let mut buffer = FrameBuffer::pooled(&self.memory, at_once);
        let from = self.start + LENGTH_PREFIX_BYTES;
        buffer.room()[..self.end - from].copy_from_slice(&self.ahead[from..self.end]);
        buffer.charge(self.end - from);
        (self.start, self.end) = (0, 0);
        self.expects_large = true;
        self.partial = Some(Partial { buffer, length, overdraft: None });
    }

    fn poll_ahead<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.ahead.is_empty() {
            self.ahead = vec![0; LOOK_AHEAD_BYTES];
        }
        if self.start > 0 {
            self.ahead.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let until = if self.expects_large && self.end < FRAME_TAIL_BYTES {
            FRAME_TAIL_BYTES
        } else {
            LOOK_AHEAD_BYTES
        };
        let read = ready!(poll_read(stream, context, &mut self.ahead[self.end..until]))?;
        self.end += read;
        self.bytes_read += read as u64;
        Poll::Ready(Ok(read))
    }

    fn poll_partial<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<Bytes, FrameError>> {
        loop {
            let partial = self.partial.as_mut().expect("called while a frame is being read");
            let Partial { buffer, length, overdraft } = partial;
            if !self.memory.admits_rest(overdraft, context.waker()) {
                return Poll::Pending;
            }
            if buffer.filled() == buffer.size() {
                buffer.grow((buffer.size() * 2).min(*length + FRAME_TAIL_BYTES));
            }
            let missing = *length - buffer.filled();
            let room = buffer.room();
            let reach = room.len().min(missing + FRAME_TAIL_BYTES);
            let read = ready!(poll_read(stream, context, &mut room[..reach]))?;
            self.bytes_read += read as u64;
            if read == 0 {
                return Poll::Ready(Err(FrameError::Truncated));
            }
            buffer.charge(read.min(missing));
            if read >= missing {
                let tail = buffer.behind(read - missing);
                self.ahead[..tail.len()].copy_from_slice(tail);
                self.end = tail.len();
                let partial = self.partial.take().expect("a frame is being read");
                return Poll::Ready(Ok(partial.buffer.into_bytes()));
            }
        }
    }
}

/// Reads once into `buffer`, which is not empty; 0 bytes mean the end of the stream.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
