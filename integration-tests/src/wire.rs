//! A blocking connection for what no well-behaved client sends: frames are whatever the caller says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::generated::{ApiKey, ResponseHeader};
use ottla_protocol::wire::{Message, Reader};

const REPLY_MAX: Duration = Duration::from_secs(30);

/// One TCP connection to a broker.
pub struct Connection {
    stream: TcpStream,
    next_correlation: i32,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// A frame, without its length.
    Frame(Vec<u8>),
    /// The broker closed the connection.
    Closed,
}

impl Reply {
    /// The frame; panics if the connection was closed instead.
    pub fn frame(self) -> Vec<u8> {
        match self {
            Reply::Frame(frame) => frame,
            Reply::Closed => panic!("a reply was expected, the broker closed the connection"),
        }
    }
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(REPLY_MAX)).expect("a socket option");
        stream.set_write_timeout(Some(REPLY_MAX)).expect("a socket option");
        Connection { stream, next_correlation: 1 }
    }

    /// Sends bytes as they are. A broker that has closed already is no error here: what it did is seen by `receive`.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Sends a frame behind its length.
    pub fn send_frame(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("a frame fits its length");
        self.send_bytes(&[&length.to_be_bytes(), frame].concat());
    }

    /// Sends a request with header version 1 (no tags) and returns its correlation id.
    pub fn send_request(&mut self, api_key: i16, version: i16, body: &[u8]) -> i32 {
        self.send_with_header(api_key, version, &[], body)
    }

    /// Sends a request with header version 2 (no tags) and returns its correlation id.
    pub fn send_flexible_request(&mut self, api_key: i16, version: i16, body: &[u8]) -> i32 {
        self.send_with_header(api_key, version, &[0], body)
    }

    fn send_with_header(&mut self, api_key: i16, version: i16, tags: &[u8], body: &[u8]) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let mut frame = Vec::new();
        frame.extend(api_key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(correlation.to_be_bytes());
        string(&mut frame, "wire");
        frame.extend(tags);
        frame.extend(body);
        self.send_frame(&frame);
        correlation
    }

    /// Waits for one frame or the end of the connection.
    pub fn receive(&mut self) -> Reply {
        let mut length = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut length) {
            return closed(&error);
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        match self.stream.read_exact(&mut frame) {
            Ok(()) => Reply::Frame(frame),
            Err(error) => closed(&error),
        }
    }

    /// A frame if one comes within `limit`; `None` if none does or the connection is closed.
    pub fn receive_within(&mut self, limit: Duration) -> Option<Vec<u8>> {
        self.stream.set_read_timeout(Some(limit)).expect("a socket option");
        let mut length = [0; 4];
        let frame = self.stream.read_exact(&mut length).is_ok().then(|| {
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut frame).expect("the rest of a frame that has begun");
            frame
        });
        self.stream.set_read_timeout(Some(REPLY_MAX)).expect("a socket option");
        frame
    }

    /// Sends a request and returns the body of its reply behind the correlation id.
    pub fn call(&mut self, api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
        let correlation = self.send_request(api_key, version, body);
        let frame = self.receive().frame();
        assert_eq!(frame[..4], correlation.to_be_bytes(), "the reply's correlation id");
        frame[4..].to_vec()
    }

    /// Tells the broker that nothing more comes.
    pub fn finish_sending(&mut self) {
        // A broker that has closed already needs no telling.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

fn closed(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Reply::Closed,
        kind => panic!("neither a reply nor a closed connection within {REPLY_MAX:?}: {kind}"),
    }
}

/// A string as requests had it before the flexible versions: length in two bytes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(i16::try_from(text.len()).expect("a short string").to_be_bytes());
    out.extend(text.as_bytes());
}

impl Connection {
    /// Sends a typed request and decodes its reply to the last byte.
    pub fn ask<Q: Message, R: Message>(&mut self, request: &Q, version: i16) -> R {
        let correlation = self.send_typed(request, version);
        self.reply_to(correlation, version)
    }

    /// Sends a typed request and returns its correlation id.
    pub fn send_typed<Q: Message>(&mut self, request: &Q, version: i16) -> i32 {
        let api = api_of::<Q>();
        let body = request.encode(version).unwrap_or_else(|error| panic!("{} {version}: {error}", Q::NAME));
        match api.request_header_version(version) {
            1 => self.send_request(api.code(), version, &body),
            _ => self.send_flexible_request(api.code(), version, &body),
        }
    }

    /// Receives the reply with this correlation id and decodes it to the last byte.
    pub fn reply_to<R: Message>(&mut self, correlation: i32, version: i16) -> R {
        let mut reader = Reader::new(Bytes::from(self.receive().frame()));
        let header = ResponseHeader::read(&mut reader, api_of::<R>().response_header_version(version));
        assert_eq!(header.correlation_id, correlation, "{} {version}", R::NAME);
        let reply = R::read(&mut reader, version);
        reader.finish().unwrap_or_else(|error| panic!("{} {version}: {error}", R::NAME));
        reply
    }
}

fn api_of<M: Message>() -> ApiKey {
    M::KEY.and_then(ApiKey::from_i16).expect("a request or response has an API")
}
