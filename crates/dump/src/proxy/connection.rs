//! One connection: a client's socket, a broker's socket, and what passes between them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::frame::{FrameCodec, LENGTH_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::Decoder;

use super::addresses::{may_name_addresses, rewrite};
use super::routes::{Advertised, Routes};
use super::{Event, Shared, now_us};
use crate::frame::{Api, Direction, request_api};
use crate::limits::{FRAME_BYTES_MAX, OPEN_REQUESTS_MAX};
use crate::session::Seen;

/// Room made for what comes next.
const READ_BYTES: usize = 64 << 10;

/// Requests whose responses have to be looked at, in order. Guards the queue; never held across an await.
type Watched = Arc<Mutex<VecDeque<(i32, Api)>>>;

/// One direction of a connection.
struct Half {
    id: u64,
    direction: Direction,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    shared: Arc<Shared>,
    watched: Watched,
    /// Where the client reached the proxy.
    local: SocketAddr,
}

/// Passes on until both sides have ended.
pub(super) async fn run(id: u64, client: TcpStream, upstream: &str, shared: &Arc<Shared>) -> io::Result<()> {
    let broker = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let local = client.local_addr()?;
    let watched = Watched::default();
    let (client_from, client_to) = client.into_split();
    let (broker_from, broker_to) = broker.into_split();
    let half = |direction, from, to| {
        let (shared, watched) = (shared.clone(), watched.clone());
        Half { id, direction, from, to, shared, watched, local }
    };
    let requests = half(Direction::Request, client_from, broker_to);
    let responses = half(Direction::Response, broker_from, client_to);
    let (up, down) = tokio::join!(requests.run(), responses.run());
    up.and(down)
}

impl Half {
    /// Passes on until the sender ends, and then ends the receiver's side.
    async fn run(mut self) -> io::Result<()> {
        let passed = self.frames().await;
        // The other side may be gone already.
        drop(self.to.shutdown().await);
        passed
    }

    async fn frames(&mut self) -> io::Result<()> {
        let mut codec = FrameCodec::new(FRAME_BYTES_MAX);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut passed = 0;
        loop {
            let next = match codec.decode(&mut buffer) {
                Ok(next) => next,
                Err(error) => {
                    let (direction, why) = (self.direction, error.to_string());
                    self.shared.tell(Event::Unreadable { connection: self.id, direction, why }).await;
                    return self.raw(&buffer[passed..]).await;
                }
            };
            match next {
                Some(frame) => {
                    self.pass(frame, passed).await?;
                    passed = 0;
                }
                None => {
                    // A request goes on as it comes: nothing of it is rewritten.
                    if self.direction == Direction::Request {
                        self.to.write_all(&buffer[passed..]).await?;
                        passed = buffer.len();
                    }
                    buffer.reserve(READ_BYTES);
                    if self.from.read_buf(&mut buffer).await? == 0 {
                        return self.to.write_all(&buffer[passed..]).await;
                    }
                }
            }
        }
    }

    /// Shows a frame and passes on what was not yet, of its `passed` bytes with the length.
    async fn pass(&mut self, frame: Bytes, passed: usize) -> io::Result<()> {
        let seen = Seen {
            direction: self.direction,
            connection: self.id,
            time_us: Some(now_us()),
            bytes: frame.clone(),
        };
        match self.direction {
            Direction::Request => {
                self.watch(&frame);
                // Shown before it is passed on: the response must not be shown first.
                self.shared.show(seen).await;
                self.send(&frame, passed).await
            }
            Direction::Response => {
                let rewritten = self.watched_api(&frame).and_then(|api| self.rewritten(api, &frame));
                self.send(rewritten.as_ref().unwrap_or(&frame), passed).await?;
                self.shared.show(seen).await;
                Ok(())
            }
        }
    }

    /// Writes a frame with its length, but for the first `passed` bytes.
    async fn send(&mut self, frame: &Bytes, passed: usize) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        if frame.len() <= READ_BYTES {
            // One write, so that a small frame is one packet.
            let mut whole = BytesMut::with_capacity(LENGTH_BYTES + frame.len());
            whole.put_u32(length);
            whole.extend_from_slice(frame);
            return self.to.write_all(&whole[passed..]).await;
        }
        if passed < LENGTH_BYTES {
            self.to.write_all(&length.to_be_bytes()[passed..]).await?;
        }
        self.to.write_all(&frame[passed.saturating_sub(LENGTH_BYTES)..]).await
    }

    /// Keeps in mind a request whose response may name addresses.
    fn watch(&self, frame: &[u8]) {
        let Some(api) = request_api(frame).filter(|api| may_name_addresses(*api)) else { return };
        let Some(id) = frame.get(4..).and_then(<[u8]>::first_chunk) else { return };
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.len() >= OPEN_REQUESTS_MAX {
            watched.pop_front();
        }
        watched.push_back((i32::from_be_bytes(*id), api));
    }

    /// What a response answers, if its request was kept in mind. Responses come in the order of requests.
    fn watched_api(&self, frame: &[u8]) -> Option<Api> {
        let id = i32::from_be_bytes(*frame.first_chunk()?);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let index = watched.iter().position(|(watched, _)| *watched == id)?;
        watched.drain(..index);
        watched.pop_front().map(|(_, api)| api)
    }

    fn rewritten(&self, api: Api, frame: &Bytes) -> Option<Bytes> {
        let host = self.shared.routes.host(self.local);
        rewrite(api, frame, |address: &Advertised| match Routes::port(&self.shared, address) {
            Ok(port) => Some((host.clone(), port)),
            Err(error) => {
                let (name, port) = address;
                tracing::warn!(host = name, port, %error, "cannot listen for a broker: clients will go around the proxy");
                None
            }
        })
    }

    /// Passes on bytes that are no frames.
    async fn raw(&mut self, first: &[u8]) -> io::Result<()> {
        self.to.write_all(first).await?;
        tokio::io::copy(&mut self.from, &mut self.to).await.map(drop)
    }
}
