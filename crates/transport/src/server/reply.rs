//! What a service answers.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// The answer to one request. Replies leave in the order of their requests, whatever became ready first.
pub enum Reply {
    /// The reply, complete.
    Ready(ReplyFrame),
    /// The reply comes later; meanwhile further requests of the connection are read and handled. The future is polled on
    /// the connection's task, at once and then whenever it was woken, and is dropped when the connection ends.
    Later(LaterReply),
    /// As `Later`, but no further request of this connection is handled before the future is done: for work that had to
    /// leave the connection's thread and must keep its place in the order (a produce that is decompressed elsewhere).
    Hold(LaterReply),
    /// The request has no reply (a produce with acks=0).
    None,
    /// No more requests are read; replies before this one leave, then the connection is closed and the reason logged.
    Close(Cow<'static, str>),
}

/// A reply that is not ready yet.
pub type LaterReply = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What became of a reply that came later; the meaning is that of the variants of [`Reply`].
pub enum Answer {
    /// The reply, complete.
    Frame(ReplyFrame),
    /// No reply.
    None,
    /// Close the connection for this reason.
    Close(Cow<'static, str>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        match answer {
            Answer::Frame(frame) => Reply::Ready(frame),
            Answer::None => Reply::None,
            Answer::Close(reason) => Reply::Close(reason),
        }
    }
}

impl Reply {
    /// A reply of these bytes (response header and message, without the length prefix).
    pub fn bytes(head: impl Into<Bytes>) -> Reply {
        Reply::Ready(ReplyFrame::new(head))
    }

    /// A reply that comes later.
    pub fn later(future: impl Future<Output = Answer> + Send + 'static) -> Reply {
        Reply::Later(Box::pin(future))
    }

    /// A reply that comes later and holds back the connection's next requests.
    pub fn hold(future: impl Future<Output = Answer> + Send + 'static) -> Reply {
        Reply::Hold(Box::pin(future))
    }
}

/// One reply frame: encoded bytes, and bodies spliced in between them that are read while they are sent.
///
/// On the wire: the length prefix, which the transport writes, then `head` with each splice's body inserted before the
/// byte of `head` at its `position`.
#[derive(Default)]
pub struct ReplyFrame {
    pub(crate) head: Bytes,
    pub(crate) splices: Vec<Splice>,
}

/// A body and where in the head it belongs.
pub struct Splice {
    /// Index of the byte of the head before which the body goes; the head's length for a body at the end.
    pub position: usize,
    /// The bytes to insert.
    pub body: Box<dyn Body>,
}

impl ReplyFrame {
    /// A frame without splices. `head` holds response header and message, without the length prefix.
    pub fn new(head: impl Into<Bytes>) -> ReplyFrame {
        ReplyFrame { head: head.into(), splices: Vec::new() }
    }

    /// A frame with splices, whose positions ascend and lie within `head`. Panics otherwise: that frame is a bug of the
    /// caller's, and a client could not read it.
    pub fn spliced(head: impl Into<Bytes>, splices: Vec<Splice>) -> ReplyFrame {
        let head = head.into();
        let mut floor = 0;
        for splice in &splices {
            assert!(
                floor <= splice.position && splice.position <= head.len(),
                "splice at {} of a head of {} bytes, after one at {floor}",
                splice.position,
                head.len(),
            );
            floor = splice.position;
        }
        ReplyFrame { head, splices }
    }

    /// Bytes on the wire after the length prefix.
    pub fn len_bytes(&self) -> u64 {
        self.head.len() as u64 + self.splices.iter().map(|splice| splice.body.len_bytes()).sum::<u64>()
    }
}

impl fmt::Debug for ReplyFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyFrame")
            .field("head_bytes", &self.head.len())
            .field("splices", &self.splices.len())
            .field("len_bytes", &self.len_bytes())
            .finish()
    }
}

/// Bytes that are read while they are sent, such as a range of a log segment. An error ends the connection: the client
/// was already promised the length.
pub trait Body: Send + Sync + 'static {
    /// How many bytes there are; never changes.
    fn len_bytes(&self) -> u64;

    /// Reads from position `at` into `buf` and says how many bytes, at least one; `buf` is not empty and `at` plus its
    /// length is at most `len_bytes`. Fails with `WouldBlock` instead of waiting for a disk; bytes that are there may be
    /// given first.
    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// As `read_at_nowait`, but may wait; called on a thread for blocking work.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
}
