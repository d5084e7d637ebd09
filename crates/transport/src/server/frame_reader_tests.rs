//! However a stream is cut into reads, the same frames come out, and all memory is given back.

use super::ServerStats;
use super::frame_reader::{FrameError, FrameReader};
use super::memory::Memory;
use crate::pool::BufferPool;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// A stream that gives one of its pieces a read, and nothing in between.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    pause: bool,
    reads: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pause = !self.pause;
        if self.pause {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.reads += 1;
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// All frames, how the stream ended, and how many reads that took.
fn read_all(pieces: Vec<Vec<u8>>, bytes_max: usize) -> (Vec<Bytes>, Result<(), FrameError>, usize) {
    let stats = Arc::new(ServerStats::default());
    let memory = Memory::new(BufferPool::new(1 << 20), stats.clone(), None);
    let mut reader = FrameReader::new(memory, bytes_max);
    let mut stream = Pieces { pieces: pieces.into(), pause: false, reads: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut frames: Vec<Bytes> = Vec::new();
    let end = loop {
        match runtime.block_on(poll_fn(|context| reader.poll_frame(context, &mut stream))) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(reader);
    let held: usize = frames.iter().map(Bytes::len).sum();
    assert_eq!(stats.request_bytes_now(), held as u64, "charged is what the frames hold");
    let copies = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
    drop(frames);
    assert_eq!(stats.request_bytes_now(), 0);
    (copies, end, stream.reads)
}

fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
    let prefixed = |frame: &Vec<u8>| [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
    frames.iter().flat_map(prefixed).collect()
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let size =
        prop_oneof![0..40_usize, 8_100..8_300_usize, 0..100_000_usize, Just(1_100_000), Just(2_300_000)];
    let frame = (size, any::<u8>()).prop_map(|(size, seed)| (0..size).map(|i| (i as u8) ^ seed).collect());
    proptest::collection::vec(frame, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_cut_gives_the_same_frames(frames in frames(), cuts in proptest::collection::vec(1..20_000_usize, 1..20), end in 0..3_usize) {
        let mut stream = encoded(&frames);
        // Perhaps the stream ends in the middle of one more frame.
        stream.extend(&[0, 1, 0, 0, 9][..[0, 2, 5][end]]);
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            if piece.is_empty() {
                break;
            }
            pieces.push(piece.to_vec());
            rest = behind;
        }
        let (read, ended, _reads) = read_all(pieces, 3_000_000);
        prop_assert!(read == frames);
        prop_assert_eq!(matches!(ended, Err(FrameError::Truncated)), end > 0);
        prop_assert_eq!(ended.is_ok(), end == 0);
    }
}

#[test]
fn a_large_frame_in_a_row_of_such_costs_little_more_than_one_read() {
    let (read, _end, reads) = read_all(vec![encoded(&vec![vec![1; 131_072]; 50])], usize::MAX);
    assert_eq!(read.len(), 50);
    // The first is found by the look-ahead, and one read finds the end.
    assert_eq!(reads, 52);
}

#[test]
fn small_frames_are_read_many_at_a_time() {
    let (read, _end, reads) = read_all(vec![encoded(&vec![vec![1; 100]; 780])], usize::MAX);
    assert_eq!(read.len(), 780);
    assert!(reads <= 12, "{reads} reads of 8 KiB for 81 KB");
}

#[test]
fn a_length_is_refused_before_anything_is_allocated() {
    for (prefix, text) in [
        (-5_i32, "frame length -5 is negative"),
        (1001, "frame of 1001 bytes exceeds socket.request.max.bytes = 1000"),
    ] {
        let (read, end, _reads) = read_all(vec![prefix.to_be_bytes().to_vec()], 1000);
        assert!(read.is_empty());
        assert_eq!(end.unwrap_err().to_string(), text);
    }
}
