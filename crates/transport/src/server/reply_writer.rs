//! Writes replies: heads and bodies go through one chunk, which is written whole and then filled again.
//!
//! Small replies that are ready together thus leave by one system call, a large one never exists whole, and a chunk is
//! read only after the one before it was written, so that a slow client costs no more than one chunk.

use super::memory::Memory;
use super::{Body, ReplyFrame, Splice};
use crate::limits::{LENGTH_PREFIX_BYTES, REPLY_CHUNK_BYTES_MAX, REPLY_CHUNK_ROOM_BYTES_MIN};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::task::JoinHandle;

/// Why a reply could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("cannot read a reply's body: {0}")]
    Body(io::Error),
    #[error("reply of {0} bytes exceeds what a frame can hold")]
    TooLarge(u64),
    #[error("{0}")]
    Socket(io::Error),
}

pub(crate) struct ReplyWriter {
    memory: Arc<Memory>,
    queue: VecDeque<ReplyFrame>,
    current: Option<Progress>,
    /// Bytes `start..end` wait to be written. Empty, without memory, when nothing does.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
    /// A read that waits for the disk; it has the chunk and the body.
    blocked: Option<JoinHandle<BlockedRead>>,
    bytes_written: u64,
}

/// A frame of which a part has been put into a chunk.
struct Progress {
    head: Bytes,
    /// Index of the head's next byte as the frame counts it; `head` has been cut up to here.
    head_at: usize,
    splices: std::vec::IntoIter<Splice>,
    body: Option<(Box<dyn Body>, u64)>,
}

struct BlockedRead {
    chunk: Vec<u8>,
    body: Box<dyn Body>,
    at: u64,
    read: io::Result<usize>,
}

/// What filling a chunk came to.
enum Filled {
    /// There is something to write, or nothing left.
    Done,
    /// The next body is not in memory.
    MustWait,
}

impl ReplyWriter {
    pub(crate) fn new(memory: Arc<Memory>) -> ReplyWriter {
        ReplyWriter {
            memory,
            queue: VecDeque::new(),
            current: None,
            chunk: Vec::new(),
            start: 0,
            end: 0,
            blocked: None,
            bytes_written: 0,
        }
    }

    /// Bytes given to the stream so far.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Replies of which not all has been put into a chunk.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() + usize::from(self.current.is_some())
    }

    /// Whether everything has been written.
    pub(crate) fn is_idle(&self) -> bool {
        self.chunk.is_empty() && self.queued() == 0
    }

    pub(crate) fn push(&mut self, frame: ReplyFrame) -> Result<(), WriteError> {
        let bytes = frame.len_bytes();
        if i32::try_from(bytes).is_err() {
            return Err(WriteError::TooLarge(bytes));
        }
        self.queue.push_back(frame);
        Ok(())
    }

    /// Writes all replies in the queue.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), WriteError>> {
        loop {
            if let Some(blocked) = &mut self.blocked {
                let read =
                    ready!(Pin::new(blocked).poll(context)).map_err(|error| WriteError::Body(error.into()));
                self.blocked = None;
                self.take_blocked(read?)?;
            }
            while self.start < self.end {
                let written =
                    ready!(Pin::new(&mut *stream).poll_write(context, &self.chunk[self.start..self.end]));
                match written.map_err(WriteError::Socket)? {
                    0 => return Poll::Ready(Err(WriteError::Socket(io::ErrorKind::WriteZero.into()))),
                    written => {
                        self.start += written;
                        self.bytes_written += written as u64;
                    }
                }
            }
            if self.queued() == 0 {
                self.memory.pool.give(std::mem::take(&mut self.chunk));
                (self.start, self.end) = (0, 0);
                return Poll::Ready(Ok(()));
            }
            self.renew_chunk();
            if let Filled::MustWait = self.fill().map_err(WriteError::Body)?
                && self.end == 0
            {
                self.begin_blocked();
            }
        }
    }

    /// Makes the written chunk empty, and as large as what is left needs.
    fn renew_chunk(&mut self) {
        (self.start, self.end) = (0, 0);
        let queued: u64 = self.queue.iter().map(|frame| frame.len_bytes() + LENGTH_PREFIX_BYTES as u64).sum();
        let left = queued + self.current.as_ref().map_or(0, Progress::bytes_left);
        let bytes = left.min(REPLY_CHUNK_BYTES_MAX as u64) as usize;
        if self.chunk.len() < bytes {
            self.memory.pool.give(std::mem::take(&mut self.chunk));
            self.chunk = self.memory.pool.take(bytes);
        }
    }

    /// Puts as much as there is and fits into the chunk.
    fn fill(&mut self) -> io::Result<Filled> {
        loop {
            let room = self.chunk.len() - self.end;
            if self.current.is_none() {
                if room < LENGTH_PREFIX_BYTES {
                    return Ok(Filled::Done);
                }
                let Some(frame) = self.queue.pop_front() else { return Ok(Filled::Done) };
                let length = i32::try_from(frame.len_bytes()).expect("checked when it was pushed");
                self.put(&length.to_be_bytes());
                self.current = Some(Progress::new(frame));
            } else if room == 0 {
                return Ok(Filled::Done);
            }
            match self.fill_from_current()? {
                Some(filled) => return Ok(filled),
                None => self.current = None,
            }
        }
    }

    /// None when all of the current frame is in the chunk.
    fn fill_from_current(&mut self) -> io::Result<Option<Filled>> {
        let progress = self.current.as_mut().expect("called with a current frame");
        loop {
            let room = self.chunk.len() - self.end;
            if let Some((body, at)) = &mut progress.body {
                let left = body.len_bytes() - *at;
                if left == 0 {
                    progress.body = None;
                    continue;
                }
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                if want == 0 || (room < REPLY_CHUNK_ROOM_BYTES_MIN && (want as u64) < left && self.end > 0) {
                    return Ok(Some(Filled::Done));
                }
                match body.read_at_nowait(&mut self.chunk[self.end..self.end + want], *at) {
                    Ok(read) => {
                        check_read(read, want)?;
                        *at += read as u64;
                        self.end += read;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Some(Filled::MustWait));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let piece = progress.bytes_to_next_splice().min(room);
            self.chunk[self.end..self.end + piece].copy_from_slice(&progress.head[..piece]);
            self.end += piece;
            progress.head.advance(piece);
            progress.head_at += piece;
            if progress.bytes_to_next_splice() > 0 {
                return Ok(Some(Filled::Done));
            }
            match progress.splices.next() {
                Some(splice) => progress.body = Some((splice.body, 0)),
                None => return Ok(None),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.chunk[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Sends the current body's next chunk to be read on a thread for blocking work.
    fn begin_blocked(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        let progress = self.current.as_mut().expect("a body was not in memory");
        let (body, at) = progress.body.take().expect("a body was not in memory");
        let want = usize::try_from(body.len_bytes() - at).unwrap_or(usize::MAX).min(chunk.len());
        self.blocked = Some(tokio::task::spawn_blocking(move || {
            let read = read_whole(&*body, &mut chunk[..want], at);
            BlockedRead { chunk, body, at, read }
        }));
    }

    fn take_blocked(&mut self, done: BlockedRead) -> Result<(), WriteError> {
        self.chunk = done.chunk;
        let read = done.read.map_err(WriteError::Body)?;
        self.end = read;
        let progress = self.current.as_mut().expect("a body is being read");
        progress.body = Some((done.body, done.at + read as u64));
        Ok(())
    }
}

impl Progress {
    fn new(frame: ReplyFrame) -> Progress {
        Progress { head: frame.head, head_at: 0, splices: frame.splices.into_iter(), body: None }
    }

    fn bytes_to_next_splice(&self) -> usize {
        let until = self.splices.as_slice().first().map(|splice| splice.position);
        until.map_or(self.head.len(), |position| position - self.head_at)
    }

    fn bytes_left(&self) -> u64 {
        let body = self.body.as_ref().map_or(0, |(body, at)| body.len_bytes() - at);
        let splices: u64 = self.splices.as_slice().iter().map(|splice| splice.body.len_bytes()).sum();
        self.head.len() as u64 + body + splices
    }
}

fn read_whole(body: &dyn Body, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let room = &mut buffer[filled..];
        let want = room.len();
        match body.read_at(room, at + filled as u64) {
            Ok(read) => {
                check_read(read, want)?;
                filled += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A body that ends early cannot be completed; one that claims more than it was asked for is a bug.
fn check_read(read: usize, want: usize) -> io::Result<()> {
    assert!(read <= want, "a body gave {read} bytes where {want} fit");
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
