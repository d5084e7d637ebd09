//! The body of the fuzz target `frame_decoder`; the tests of `ottla-protocol` replay its corpus through the same function.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::frame::{FrameCodec, LENGTH_BYTES};
use tokio_util::codec::{Decoder, Encoder};

/// Cuts a stream into frames twice: at once, and in pieces as the first byte says; both give the same. The second byte
/// bounds the frames.
pub fn frame_decoder(data: &[u8]) {
    let Some((&piece, rest)) = data.split_first() else { return };
    let Some((&bound, stream)) = rest.split_first() else { return };
    let max_bytes = usize::from(bound) * 16;
    let (whole, whole_failed) = frames(stream, stream.len().max(1), max_bytes);
    let (pieces, pieces_failed) = frames(stream, usize::from(piece).max(1), max_bytes);
    assert_eq!(whole, pieces, "frames do not depend on how the stream is cut");
    assert_eq!(whole_failed, pieces_failed, "nor does the end");
    let mut again = BytesMut::new();
    for frame in whole {
        assert!(frame.len() <= max_bytes, "no frame is above the bound");
        FrameCodec::new(max_bytes).encode(frame, &mut again).expect("a frame that was read can be written");
    }
    assert!(stream.starts_with(&again), "frames stand in the stream one behind the other");
}

fn frames(stream: &[u8], piece: usize, max_bytes: usize) -> (Vec<Bytes>, bool) {
    let mut codec = FrameCodec::new(max_bytes);
    let mut received = BytesMut::new();
    let mut out = Vec::new();
    for chunk in stream.chunks(piece) {
        received.put_slice(chunk);
        loop {
            match codec.decode(&mut received) {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
        assert!(received.len() < LENGTH_BYTES + max_bytes, "what waits is less than a frame");
    }
    (out, false)
}
