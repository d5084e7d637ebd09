//! Bodies that are read while they are sent.

use crate::support::{serve, until};
use bytes::Bytes;
use ottla_transport::server::{Body, Reply, ReplyFrame, ServerOptions, Splice};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncReadExt;

/// Counts how a body was read.
#[derive(Default)]
struct Reads {
    nowait: AtomicU64,
    waited: AtomicU64,
    bytes: AtomicU64,
}

/// A body whose byte at `i` is `i % 251`.
struct Pattern {
    len_bytes: u64,
    /// From here on, what is not read on a blocking thread fails with `WouldBlock`.
    cold_from: u64,
    /// From here on, reads fail.
    broken_from: u64,
    /// At most so many bytes a read.
    step_bytes: usize,
    reads: Arc<Reads>,
}

impl Pattern {
    fn new(len_bytes: u64, reads: &Arc<Reads>) -> Pattern {
        let reads = reads.clone();
        Pattern { len_bytes, cold_from: u64::MAX, broken_from: u64::MAX, step_bytes: usize::MAX, reads }
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        assert!(!buffer.is_empty() && at + buffer.len() as u64 <= self.len_bytes);
        if at + buffer.len() as u64 > self.broken_from {
            return Err(io::Error::other("segment is gone"));
        }
        let bytes = buffer.len().min(self.step_bytes);
        for (index, byte) in buffer[..bytes].iter_mut().enumerate() {
            *byte = ((at + index as u64) % 251) as u8;
        }
        self.reads.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        Ok(bytes)
    }
}

impl Body for Pattern {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at_nowait(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if at >= self.cold_from {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.reads.nowait.fetch_add(1, Ordering::SeqCst);
        let warm = usize::try_from(self.cold_from - at).unwrap_or(usize::MAX).min(buffer.len());
        self.read(&mut buffer[..warm], at)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.reads.waited.fetch_add(1, Ordering::SeqCst);
        self.read(buffer, at)
    }
}

/// Serves the same frame, made anew, to every request.
fn serve_frame(make: impl Fn() -> ReplyFrame + Send + Sync + 'static) -> crate::support::TestServer {
    serve(ServerOptions::default(), move |_connection, _frame| Reply::Ready(make()))
}

fn pattern(bytes: u64) -> impl Iterator<Item = u8> {
    (0..bytes).map(|at| (at % 251) as u8)
}

#[tokio::test]
async fn bodies_are_spliced_where_they_belong() {
    let reads = Arc::new(Reads::default());
    let server = serve_frame({
        let reads = reads.clone();
        move || {
            let splice = |position, body| Splice { position, body: Box::new(body) };
            let cold = Pattern { cold_from: 5, ..Pattern::new(70_000, &reads) };
            let slow = Pattern { step_bytes: 1_000, ..Pattern::new(3_000_000, &reads) };
            let splices = vec![
                splice(0, Pattern::new(3, &reads)),
                splice(4, Pattern::new(0, &reads)),
                splice(4, slow),
                splice(8, cold),
                splice(8, Pattern { cold_from: 0, ..Pattern::new(300, &reads) }),
            ];
            ReplyFrame::spliced(Bytes::from_static(b"headtail"), splices)
        }
    });
    let mut expected: Vec<u8> = pattern(3).collect();
    expected.extend(b"head");
    expected.extend(pattern(3_000_000));
    expected.extend(b"tail");
    expected.extend(pattern(70_000).chain(pattern(300)));
    let mut connection = server.connect().await;
    for _ in 0..3 {
        connection.send_frame(b"x").await.unwrap();
    }
    for _ in 0..3 {
        assert!(connection.receive().await.unwrap().unwrap() == expected);
    }
    assert!(reads.waited.load(Ordering::SeqCst) >= 6, "cold bodies were read on blocking threads");
}

#[tokio::test]
async fn a_slow_client_makes_the_server_read_no_further_than_the_socket_and_a_chunk() {
    let reads = Arc::new(Reads::default());
    let total = 200_000_000;
    let server = serve_frame({
        let reads = reads.clone();
        move || {
            let body = Box::new(Pattern::new(total, &reads));
            ReplyFrame::spliced(Bytes::new(), vec![Splice { position: 0, body }])
        }
    });
    let mut connection = server.connect().await;
    connection.send_frame(b"x").await.unwrap();
    until("the socket is full", || {
        let written = server.stats.bytes_out();
        written > 0 && reads.bytes.load(Ordering::SeqCst) > written
    })
    .await;
    assert!(reads.bytes.load(Ordering::SeqCst) < total / 4, "the rest waits on disk");
    let mut stream = connection.into_stream();
    let mut chunk = vec![0; 1 << 20];
    let mut left = total + 4;
    while left > 0 {
        left -= stream.read(&mut chunk).await.unwrap() as u64;
    }
    assert_eq!(reads.bytes.load(Ordering::SeqCst), total, "each byte was read once");
}

#[tokio::test]
async fn small_bodies_share_a_write_with_their_heads() {
    let reads = Arc::new(Reads::default());
    let server = serve_frame({
        let reads = reads.clone();
        move || {
            let splice =
                |_| Splice { position: 2, body: Box::new(Pattern::new(100, &reads)) as Box<dyn Body> };
            ReplyFrame::spliced(Bytes::from_static(b"ab"), (0..50).map(splice).collect())
        }
    });
    let mut connection = server.connect().await;
    connection.send_frame(b"x").await.unwrap();
    assert_eq!(connection.receive().await.unwrap().unwrap().len(), 5_002);
    assert_eq!(reads.nowait.load(Ordering::SeqCst), 50, "each body was read once");
    assert_eq!(reads.waited.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_or_ends_early_closes_the_connection() {
    for (cold_from, step_bytes) in [(u64::MAX, usize::MAX), (0, usize::MAX), (u64::MAX, 0), (0, 0)] {
        let server = serve_frame(move || {
            let reads = Arc::default();
            let broken_from = if step_bytes == 0 { u64::MAX } else { 2_500_000 };
            let body = Pattern { cold_from, broken_from, step_bytes, ..Pattern::new(4_000_000, &reads) };
            ReplyFrame::spliced(
                Bytes::from_static(b"head"),
                vec![Splice { position: 4, body: Box::new(body) }],
            )
        });
        let mut connection = server.connect().await;
        connection.send_frame(b"x").await.unwrap();
        let mut received = Vec::new();
        let read = connection.into_stream().read_to_end(&mut received).await;
        assert!(read.is_err() || received.len() < 4_000_008, "cold from {cold_from}, step {step_bytes}");
        until("it is closed", || server.stats.connections_now() == 0).await;
    }
}

#[test]
#[should_panic(expected = "splice at 3 of a head of 4 bytes, after one at 4")]
fn splices_must_ascend() {
    let body = || Box::new(Pattern::new(1, &Arc::default())) as Box<dyn Body>;
    let splices = vec![Splice { position: 4, body: body() }, Splice { position: 3, body: body() }];
    ReplyFrame::spliced(Bytes::from_static(b"head"), splices);
}
