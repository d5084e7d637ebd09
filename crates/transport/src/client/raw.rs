//! A connection that sends whatever it is told, for tests of bad input.

use super::connection::read_frame;
use crate::limits::RESPONSE_BYTES_MAX;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, ToSocketAddrs};

/// Sends bytes and frames as they are, right or wrong.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    /// How long `receive` waits.
    wait_max: Duration,
}

impl RawConnection {
    /// Connects; `receive` will wait for 10 seconds at most.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<RawConnection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(RawConnection { stream, wait_max: Duration::from_secs(10) })
    }

    /// Sends bytes, without a length before them.
    ///
    /// # Errors
    /// The system's.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a frame: the payload's length, then the payload.
    ///
    /// # Errors
    /// The system's.
    pub async fn send_frame(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = i32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut frame = Vec::with_capacity(4 + payload.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(payload);
        self.send_bytes(&frame).await
    }

    /// The next frame, or None when the server has closed the connection, in order or by a reset.
    ///
    /// # Errors
    /// `TimedOut` when neither came; the system's.
    pub async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let received =
            tokio::time::timeout(self.wait_max, read_frame(&mut self.stream, RESPONSE_BYTES_MAX)).await;
        match received.map_err(|_| io::ErrorKind::TimedOut)? {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other,
        }
    }

    /// Closes this side for writing; the server sees the end of the stream.
    ///
    /// # Errors
    /// The system's.
    pub async fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The stream itself.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
