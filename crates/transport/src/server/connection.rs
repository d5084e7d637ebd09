//! One connection: a task that reads frames, hands them to the service and writes the replies in their order.
//!
//! No second task and no queue between tasks: a produce request is read, appended and answered without a hop.

use super::frame_reader::{FrameError, FrameReader};
use super::memory::Memory;
use super::registry::{Order, Registration};
use super::reply_writer::{ReplyWriter, WriteError};
use super::waiting::WaitingReplies;
use super::{Answer, Reply, ServerOptions, Service};
use crate::limits::{REPLIES_COMBINED_MAX, REQUEST_BYTES_PER_REPLY_WRITE, REQUEST_BYTES_PER_TURN};
use bytes::Bytes;
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error, info, warn};

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client closed it.
    ByPeer,
    /// The server stops, or nothing moved for long.
    ByOrder(Order),
    /// The service wanted it closed.
    ByService(Cow<'static, str>),
    Frame(FrameError),
    Write(WriteError),
}

/// The task of one connection, over any stream of bytes.
pub(crate) struct Connection<S> {
    stream: S,
    service: Arc<dyn Service>,
    reader: FrameReader,
    waiting: WaitingReplies,
    writer: ReplyWriter,
    in_flight_max: usize,
    /// Set when no more requests are read: the connection ends with this as soon as the replies have left.
    ending: Option<End>,
    /// The stream's write half is being shut down, then the connection is over.
    shutting_down: Option<End>,
    /// Last, so that the futures of waiting replies are gone when the service hears of the end.
    registration: Registration,
}

/// Why reading stopped for now.
enum Stop {
    /// The stream has nothing more; the task is woken when it has.
    Drained,
    /// Requests must wait for replies, or no more are read.
    Held,
    /// Replies should leave before more is read.
    TurnOver,
}

/// What one poll of the task has done.
#[derive(Default)]
struct Done {
    requests: u64,
    request_bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        stream: S,
        service: Arc<dyn Service>,
        memory: Arc<Memory>,
        options: &ServerOptions,
        registration: Registration,
    ) -> Connection<S> {
        Connection {
            stream,
            service,
            reader: FrameReader::new(memory.clone(), options.request_bytes_max),
            waiting: WaitingReplies::new(registration.control().task.clone()),
            writer: ReplyWriter::new(memory),
            in_flight_max: options.in_flight_requests_max.max(1),
            ending: None,
            shutting_down: None,
            registration,
        }
    }

    fn poll_run(&mut self, context: &mut Context<'_>, done: &mut Done) -> Poll<End> {
        if self.shutting_down.is_some() {
            return self.poll_shut_down(context);
        }
        if let Some(end) = self.obey() {
            return Poll::Ready(end);
        }
        loop {
            self.waiting.poll_woken();
            if let Err(error) = self.queue_ready_replies() {
                return Poll::Ready(End::Write(error));
            }
            let stop = match self.read_requests(context, done) {
                Ok(stop) => stop,
                Err(end) => return Poll::Ready(end),
            };
            if let Err(error) = self.queue_ready_replies() {
                return Poll::Ready(End::Write(error));
            }
            if let Err(error) = ready!(self.writer.poll_write(context, &mut self.stream)) {
                return Poll::Ready(End::Write(error));
            }
            if self.ending.is_some() && self.waiting.len() == 0 {
                self.shutting_down = self.ending.take();
                return self.poll_shut_down(context);
            }
            match stop {
                Stop::Drained => return Poll::Pending,
                Stop::Held if !self.may_read() => return Poll::Pending,
                Stop::TurnOver if done.request_bytes >= REQUEST_BYTES_PER_TURN => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stop::Held | Stop::TurnOver => {}
            }
        }
    }

    /// Does what the server demands of this connection.
    fn obey(&mut self) -> Option<End> {
        match self.registration.control().order() {
            Order::Run => None,
            Order::Drain => {
                self.ending.get_or_insert(End::ByOrder(Order::Drain));
                None
            }
            order @ (Order::CloseIdle | Order::CloseStalled | Order::Stop) => Some(End::ByOrder(order)),
        }
    }

    fn may_read(&self) -> bool {
        self.ending.is_none()
            && !self.waiting.is_holding()
            && self.waiting.len() + self.writer.queued() < self.in_flight_max
    }

    /// Reads and hands over requests until the stream has no more or replies should leave first.
    fn read_requests(&mut self, context: &mut Context<'_>, done: &mut Done) -> Result<Stop, End> {
        let mut bytes = 0;
        while self.may_read() {
            if bytes >= REQUEST_BYTES_PER_REPLY_WRITE || self.writer.queued() >= REPLIES_COMBINED_MAX {
                return Ok(Stop::TurnOver);
            }
            match self.reader.poll_frame(context, &mut self.stream) {
                Poll::Pending => return Ok(Stop::Drained),
                Poll::Ready(Ok(Some(frame))) => {
                    done.requests += 1;
                    done.request_bytes += frame.len();
                    bytes += frame.len();
                    self.handle(frame).map_err(End::Write)?;
                }
                Poll::Ready(Ok(None)) => self.end_early(End::ByPeer),
                Poll::Ready(Err(error @ FrameError::Io(_))) => return Err(End::Frame(error)),
                Poll::Ready(Err(error)) => self.end_early(End::Frame(error)),
            }
        }
        Ok(Stop::Held)
    }

    /// No more requests, and nobody waits for replies that are not ready.
    fn end_early(&mut self, end: End) {
        self.waiting.abandon();
        self.ending = Some(end);
    }

    fn handle(&mut self, frame: Bytes) -> Result<(), WriteError> {
        match self.service.call(self.registration.info(), frame) {
            Reply::Ready(reply) if self.waiting.len() == 0 => self.writer.push(reply)?,
            Reply::Ready(reply) => self.waiting.push_ready(Answer::Frame(reply)),
            Reply::Later(future) => self.waiting.push_later(future, false),
            Reply::Hold(future) => self.waiting.push_later(future, true),
            Reply::None => {}
            Reply::Close(reason) => self.waiting.push_close(reason),
        }
        Ok(())
    }

    /// Hands the replies to the writer that no earlier one holds back.
    fn queue_ready_replies(&mut self) -> Result<(), WriteError> {
        while let Some(answer) = self.waiting.pop_ready() {
            match answer {
                Answer::Frame(reply) => self.writer.push(reply)?,
                Answer::None => {}
                Answer::Close(reason) => {
                    self.waiting.clear();
                    self.ending = Some(End::ByService(reason));
                }
            }
        }
        Ok(())
    }

    fn poll_shut_down(&mut self, context: &mut Context<'_>) -> Poll<End> {
        // The peer may be gone already, and the connection ends either way.
        let _gone = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        Poll::Ready(self.shutting_down.take().expect("set before the first call"))
    }

    /// Tells the server what this poll has moved.
    fn account(&mut self, read: u64, written: u64, done: &Done) {
        let moved = (self.reader.bytes_read() - read, self.writer.bytes_written() - written);
        let waits = self.waiting.len() > 0 && self.writer.is_idle();
        self.registration.account(moved, done.requests, waits, self.reader.is_overdrawn());
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.registration.control().task.register(context.waker());
        let (read, written) = (this.reader.bytes_read(), this.writer.bytes_written());
        let mut done = Done::default();
        let end = this.poll_run(context, &mut done);
        this.account(read, written, &done);
        end.map(|end| log_end(&this.registration, &end))
    }
}

/// One line per connection that ended; a warning where the client or the disk did what it should not, few where there are
/// many of them.
fn log_end(registration: &Registration, end: &End) {
    let connection = registration.info();
    let (peer, listener) = (connection.peer(), connection.listener());
    let why: &dyn std::fmt::Display = match end {
        End::ByPeer | End::ByOrder(Order::Run | Order::Drain) => {
            return debug!(%peer, listener, "connection ended");
        }
        End::ByOrder(Order::CloseIdle) => return debug!(%peer, listener, "idle connection closed"),
        End::ByOrder(Order::Stop) => {
            return info!(%peer, listener, "connection closed before its replies had left");
        }
        End::Frame(FrameError::Io(error)) | End::Write(WriteError::Socket(error)) => {
            return debug!(%peer, listener, %error, "connection lost");
        }
        End::Write(reason) => return error!(%peer, listener, %reason, "connection closed"),
        End::ByOrder(Order::CloseStalled) => &"it stalled in a frame while no memory was left for requests",
        End::ByService(reason) => reason,
        End::Frame(reason) => reason,
    };
    match registration.may_complain() {
        Some(0) => warn!(%peer, listener, reason = %why, "connection closed"),
        Some(held_back) => warn!(%peer, listener, reason = %why, held_back, "connection closed"),
        None => debug!(%peer, listener, reason = %why, "connection closed"),
    }
}
