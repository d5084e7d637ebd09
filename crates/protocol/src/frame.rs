//! Frames: every request and response stands behind its length, a signed big-endian int32.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// Kafka's default of `socket.request.max.bytes`.
pub const MAX_BYTES_DEFAULT: usize = 100 * 1024 * 1024;

/// At most this much is reserved for a frame whose bytes have not come yet: a length alone must not cost memory.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// Why a stream of frames cannot go on. The connection has to be closed: there is no way to find the next frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("frame of negative length {length}")]
    Negative {
        /// What it says.
        length: i32,
    },
    /// The length is more than the receiver takes.
    #[error("frame of {length} bytes, at most {max_bytes} are taken")]
    TooLarge {
        /// What it says.
        length: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// The stream broke, or ended inside a frame.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Checks the length before a frame.
///
/// # Errors
/// `Negative`, or `TooLarge` when it is above `max_bytes`.
pub fn check_length(prefix: [u8; LENGTH_BYTES], max_bytes: usize) -> Result<usize, FrameError> {
    let said = i32::from_be_bytes(prefix);
    let length = usize::try_from(said).map_err(|_| FrameError::Negative { length: said })?;
    if length > max_bytes { Err(FrameError::TooLarge { length, max_bytes }) } else { Ok(length) }
}

/// Cuts a stream into frames (without their lengths), and puts lengths before frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    max_bytes: usize,
}

impl FrameCodec {
    /// Takes frames of up to `max_bytes`.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new(MAX_BYTES_DEFAULT)
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = from.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = check_length(*prefix, self.max_bytes)?;
        let whole = LENGTH_BYTES + length;
        if from.len() < whole {
            from.reserve((whole - from.len()).min(RESERVE_BYTES_MAX));
            return Ok(None);
        }
        from.advance(LENGTH_BYTES);
        Ok(Some(from.split_to(length).freeze()))
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Bytes, to: &mut BytesMut) -> Result<(), FrameError> {
        let length = frame.len();
        let too_large = || FrameError::TooLarge { length, max_bytes: i32::MAX as usize };
        let said = i32::try_from(length).map_err(|_| too_large())?;
        to.reserve(LENGTH_BYTES + length);
        to.put_i32(said);
        to.extend_from_slice(&frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut() {
        let frames = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let mut codec = FrameCodec::default();
        let mut sent = BytesMut::new();
        for frame in &frames {
            codec.encode(frame.clone(), &mut sent).unwrap();
        }
        for piece in 1..sent.len() {
            let mut received = BytesMut::new();
            let mut out = Vec::new();
            for chunk in sent.chunks(piece) {
                received.extend_from_slice(chunk);
                while let Some(frame) = codec.decode(&mut received).unwrap() {
                    out.push(frame);
                }
            }
            assert_eq!(out, frames);
            assert!(codec.decode_eof(&mut received).unwrap().is_none());
        }
    }

    #[test]
    fn bad_lengths_are_refused() {
        let mut codec = FrameCodec::new(10);
        let negative = codec.decode(&mut stream(&[0xff, 0xff, 0xff, 0xff, 1]));
        assert!(matches!(negative, Err(FrameError::Negative { length: -1 })));
        let large = codec.decode(&mut stream(&[0, 0, 0, 11]));
        assert!(matches!(large, Err(FrameError::TooLarge { length: 11, max_bytes: 10 })));
        assert!(codec.decode(&mut stream(&[0, 0, 0, 10])).unwrap().is_none());
    }

    #[test]
    fn a_length_alone_reserves_little() {
        let mut received = stream(&[0x06, 0, 0, 0]);
        assert!(FrameCodec::default().decode(&mut received).unwrap().is_none());
        assert!(received.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn the_end_inside_a_frame_is_an_error() {
        let ended = FrameCodec::default().decode_eof(&mut stream(&[0, 0, 0, 2, 1]));
        assert!(matches!(ended, Err(FrameError::Io(_))));
    }
}
