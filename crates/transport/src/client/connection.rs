//! A client connection.

use super::ClientError;
use crate::limits::{LENGTH_PREFIX_BYTES, RESPONSE_BYTES_MAX};
use bytes::Bytes;
use ottla_protocol::generated::{ApiKey, RequestHeader, ResponseHeader};
use ottla_protocol::wire::{Message, Reader, Str, Writer};
use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// How a client connects and waits.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What the client calls itself in each request.
    pub client_id: Option<String>,
    /// How long to wait for the connection.
    pub connect_max: Duration,
    /// How long to wait for an answer.
    pub request_max: Duration,
    /// A longer response closes the connection.
    pub response_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            client_id: Some("ottla".to_owned()),
            connect_max: Duration::from_secs(10),
            request_max: Duration::from_secs(30),
            response_bytes_max: RESPONSE_BYTES_MAX,
        }
    }
}

/// One connection to a broker. Requests may be sent from many tasks at once; they leave in the order of the calls, and
/// none waits for another's answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    peer: SocketAddr,
    local: SocketAddr,
    /// Held while a frame is written.
    writer: tokio::sync::Mutex<FrameWriter>,
    pending: Arc<Mutex<Pending>>,
    reader: JoinHandle<()>,
}

#[derive(Debug)]
struct FrameWriter {
    stream: OwnedWriteHalf,
    next_correlation_id: i32,
    /// A frame was begun and not completed: nothing that follows could be understood.
    torn: bool,
}

/// The requests that wait for an answer, and how the connection ended if it has.
#[derive(Debug, Default)]
struct Pending {
    by_correlation_id: HashMap<i32, oneshot::Sender<Bytes>>,
    closed: Option<Arc<str>>,
}

impl Client {
    /// Connects with the default options.
    ///
    /// # Errors
    /// `Connect`.
    pub async fn connect(address: impl ToSocketAddrs + Display) -> Result<Client, ClientError> {
        Client::connect_with(address, ClientOptions::default()).await
    }

    /// Connects.
    ///
    /// # Errors
    /// `Connect`, also when it takes too long.
    pub async fn connect_with(
        address: impl ToSocketAddrs + Display,
        options: ClientOptions,
    ) -> Result<Client, ClientError> {
        let name = address.to_string();
        let failed = |source: io::Error| ClientError::Connect { address: name, source: Arc::new(source) };
        let connected = tokio::time::timeout(options.connect_max, TcpStream::connect(address)).await;
        let stream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => return Err(failed(error)),
        };
        Client::over(stream, options).map_err(failed)
    }

    fn over(stream: TcpStream, options: ClientOptions) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        let (read_half, stream) = stream.into_split();
        let pending = Arc::new(Mutex::new(Pending::default()));
        let reader = tokio::spawn(read_responses(read_half, options.response_bytes_max, pending.clone()));
        let writer = tokio::sync::Mutex::new(FrameWriter { stream, next_correlation_id: 0, torn: false });
        Ok(Client { options, peer, local, writer, pending, reader })
    }

    /// The broker's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a request and waits for its answer; `R` is the request's response type.
    ///
    /// # Errors
    /// Any of [`ClientError`] but `Connect`.
    pub async fn call<Q: Message, R: Message>(&self, request: &Q, version: i16) -> Result<R, ClientError> {
        let api_key = api_key_of::<Q>(version)?;
        let mut writer = Writer::new();
        request.write(&mut writer, version);
        let body = writer.finish_bytes().map_err(|source| ClientError::Encode {
            message: Q::NAME,
            version,
            source,
        })?;
        let response = self.send(api_key, version, &body).await?.await?;
        let mut reader = Reader::new(response);
        let _header = ResponseHeader::read(&mut reader, api_key.response_header_version(version));
        let message = R::read(&mut reader, version);
        reader.finish().map_err(|source| ClientError::Decode { message: R::NAME, version, source })?;
        Ok(message)
    }

    /// Sends a request's encoded body behind its header. Returns when it has been written; the answer, from the response
    /// header on, comes by the future, however many requests follow meanwhile.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn send(
        &self,
        api_key: ApiKey,
        version: i16,
        body: &[u8],
    ) -> Result<PendingResponse, ClientError> {
        let header_version = api_key.request_header_version(version);
        self.send_numbered(api_key.code(), version, header_version, body, true)
            .await
            .map(|response| response.expect("an answer was asked for"))
    }

    /// As `send`, for any number as API key and any header version (1 or 2).
    ///
    /// # Errors
    /// `Closed`.
    pub async fn send_unchecked(
        &self,
        api_key: i16,
        version: i16,
        header_version: i16,
        body: &[u8],
    ) -> Result<PendingResponse, ClientError> {
        self.send_numbered(api_key, version, header_version, body, true)
            .await
            .map(|response| response.expect("an answer was asked for"))
    }

    /// Sends a request that has no answer (a produce with acks=0).
    ///
    /// # Errors
    /// `Closed`.
    pub async fn send_one_way(&self, api_key: ApiKey, version: i16, body: &[u8]) -> Result<(), ClientError> {
        let header_version = api_key.request_header_version(version);
        self.send_numbered(api_key.code(), version, header_version, body, false).await.map(|_none| ())
    }

    async fn send_numbered(
        &self,
        request_api_key: i16,
        request_api_version: i16,
        header_version: i16,
        body: &[u8],
        answered: bool,
    ) -> Result<Option<PendingResponse>, ClientError> {
        let mut writer = self.writer.lock().await;
        if writer.torn {
            return Err(ClientError::Closed("a request before this one was cut off".into()));
        }
        let correlation_id = writer.next_correlation_id;
        writer.next_correlation_id = correlation_id.wrapping_add(1);
        let header = RequestHeader {
            request_api_key,
            request_api_version,
            correlation_id,
            client_id: self.options.client_id.as_deref().map(Str::from),
            ..RequestHeader::default()
        };
        let mut frame = Writer::frame(64 + body.len());
        header.write(&mut frame, header_version);
        frame.raw(body);
        let frame = frame.finish_frame().map_err(|source| ClientError::Encode {
            message: "RequestHeader",
            version: header_version,
            source,
        })?;
        let response = if answered { Some(self.expect_response(correlation_id)?) } else { None };
        // If this future is dropped in the middle of the write, the connection is of no more use.
        writer.torn = true;
        if let Err(error) = writer.stream.write_all(&frame.head).await {
            let reason = close(&self.pending, error.to_string());
            return Err(ClientError::Closed(reason));
        }
        writer.torn = false;
        Ok(response)
    }

    fn expect_response(&self, correlation_id: i32) -> Result<PendingResponse, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock().expect("no panic under this lock");
        if let Some(reason) = &pending.closed {
            return Err(ClientError::Closed(reason.clone()));
        }
        pending.by_correlation_id.insert(correlation_id, sender);
        Ok(PendingResponse {
            correlation_id,
            receiver,
            wait_max: self.options.request_max,
            deadline: Box::pin(tokio::time::sleep(self.options.request_max)),
            pending: self.pending.clone(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
        close(&self.pending, "by this side".to_owned());
    }
}

fn api_key_of<Q: Message>(version: i16) -> Result<ApiKey, ClientError> {
    let known = Q::KEY.filter(|_| Q::VERSIONS.0 <= version && version <= Q::VERSIONS.1);
    known.and_then(ApiKey::from_i16).ok_or(ClientError::NotARequest { message: Q::NAME, version })
}

/// The answer to a request that was sent: a future of the response frame (header and message). Dropping it forgets the
/// answer and disturbs no other.
#[derive(Debug)]
pub struct PendingResponse {
    correlation_id: i32,
    receiver: oneshot::Receiver<Bytes>,
    wait_max: Duration,
    deadline: Pin<Box<Sleep>>,
    pending: Arc<Mutex<Pending>>,
}

impl PendingResponse {
    /// The number that the response will carry.
    #[must_use]
    pub fn correlation_id(&self) -> i32 {
        self.correlation_id
    }
}

impl Future for PendingResponse {
    type Output = Result<Bytes, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.receiver).poll(context) {
            Poll::Ready(Ok(frame)) => Poll::Ready(Ok(frame)),
            Poll::Ready(Err(_dropped)) => {
                let pending = self.pending.lock().expect("no panic under this lock");
                let reason = pending.closed.clone().unwrap_or_else(|| "number used again".into());
                Poll::Ready(Err(ClientError::Closed(reason)))
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(context));
                Poll::Ready(Err(ClientError::Timeout(self.wait_max)))
            }
        }
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        let mut pending = self.pending.lock().expect("no panic under this lock");
        pending.by_correlation_id.remove(&self.correlation_id);
    }
}

/// Ends all waits; the first reason counts and is given back.
fn close(pending: &Mutex<Pending>, reason: String) -> Arc<str> {
    let mut pending = pending.lock().expect("no panic under this lock");
    pending.by_correlation_id.clear();
    pending.closed.get_or_insert_with(|| reason.into()).clone()
}

async fn read_responses(stream: OwnedReadHalf, bytes_max: usize, pending: Arc<Mutex<Pending>>) {
    let mut stream = BufReader::new(stream);
    let reason = loop {
        match read_frame(&mut stream, bytes_max).await {
            Ok(Some(frame)) => {
                let Some(id) = frame.first_chunk::<4>() else { break "response without a header".to_owned() };
                let id = i32::from_be_bytes(*id);
                let waits = pending.lock().expect("no panic under this lock").by_correlation_id.remove(&id);
                // Nobody waits any more for an answer that timed out.
                if let Some(sender) = waits {
                    let _forgotten = sender.send(frame);
                }
            }
            Ok(None) => break "by the peer".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    close(&pending, reason);
}

/// The next frame, or None at the end of the stream.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
    bytes_max: usize,
) -> io::Result<Option<Bytes>> {
    let mut prefix = [0; LENGTH_PREFIX_BYTES];
    match stream.read_exact(&mut prefix).await {
        Ok(_all) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = i32::from_be_bytes(prefix);
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= bytes_max).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("response of {length} bytes, at most {bytes_max} allowed"),
        )
    })?;
    // Grows as the bytes arrive: a length is a claim.
    let mut frame = Vec::with_capacity(bytes.min(1024 * 1024));
    let read = stream.take(bytes as u64).read_to_end(&mut frame).await?;
    if read < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(frame.into())) }
}
