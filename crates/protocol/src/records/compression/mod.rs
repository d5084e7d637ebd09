//! The four codecs behind one reader and one writer. A record batch's records are one compressed stream.
//!
//! Reading takes what Kafka's clients write: gzip of one or more members, snappy in xerial's framing (Java) or as one
//! raw block (librdkafka), LZ4 frames with independent or linked blocks, zstd frames. It streams, and stops with an error
//! where its limit is passed. Writing makes what every client reads: one gzip member, xerial-framed snappy, one LZ4
//! frame of independent 64 KiB blocks, one zstd frame.

mod snappy;

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::header::{BatchError, CompressionType};
use snappy::{SnappyReader, SnappyWriter};

/// Magic number of an LZ4 frame, as it stands in the stream. Legacy and skippable frames are refused as Kafka does.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Frames that ask for a larger window (log 2 of bytes) are refused; zstd's own default, which its highest level needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A codec to write with, and its level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None,
    /// Level 1 to 9, or -1 for zlib's default of 6 (`compression.gzip.level`).
    Gzip(i32),
    /// Snappy has no levels.
    Snappy,
    /// LZ4's fast compressor, which has no levels: `compression.lz4.level` is taken and not used.
    Lz4,
    /// Level -131072 to 22, 0 for zstd's default of 3 (`compression.zstd.level`).
    Zstd(i32),
}

impl Compression {
    /// The codec without its level.
    #[must_use]
    pub const fn codec(self) -> CompressionType {
        match self {
            Self::None => CompressionType::None,
            Self::Gzip(_) => CompressionType::Gzip,
            Self::Snappy => CompressionType::Snappy,
            Self::Lz4 => CompressionType::Lz4,
            Self::Zstd(_) => CompressionType::Zstd,
        }
    }
}

impl From<CompressionType> for Compression {
    /// The codec at Kafka's default level.
    fn from(codec: CompressionType) -> Self {
        match codec {
            CompressionType::None => Self::None,
            CompressionType::Gzip => Self::Gzip(-1),
            CompressionType::Snappy => Self::Snappy,
            CompressionType::Lz4 => Self::Lz4,
            CompressionType::Zstd => Self::Zstd(3),
        }
    }
}

/// How many bytes a batch's records may decompress to: at most `bytes_max`, and at most `ratio_max` times the
/// compressed bytes, though always `ratio_free_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressLimit {
    /// Absolute limit in bytes.
    pub bytes_max: u64,
    /// Limit as a multiple of the compressed bytes.
    pub ratio_max: u64,
    /// Bytes to which the ratio does not apply.
    pub ratio_free_bytes: u64,
}

impl DecompressLimit {
    /// No limit, for bytes of our own making.
    pub const NONE: Self = Self { bytes_max: u64::MAX, ratio_max: u64::MAX, ratio_free_bytes: u64::MAX };

    /// The limit for `compressed_bytes` of input.
    #[must_use]
    pub fn allowed_bytes(&self, compressed_bytes: usize) -> u64 {
        let by_ratio = (compressed_bytes as u64).saturating_mul(self.ratio_max);
        self.bytes_max.min(by_ratio.max(self.ratio_free_bytes))
    }
}

impl Default for DecompressLimit {
    /// 128 MiB, which is more than the largest request; a ratio of 16384, which repeated records reach with zstd, from
    /// 8 MiB on.
    fn default() -> Self {
        Self { bytes_max: 128 << 20, ratio_max: 16384, ratio_free_bytes: 8 << 20 }
    }
}

/// Decompresses records from a slice, up to a limit.
pub(super) struct Decoder<'a> {
    inner: DecoderInner<'a>,
    limit_bytes: u64,
    left_bytes: u64,
}

enum DecoderInner<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decoder<'a> {
    /// A decoder of `input`. The limit does not apply to bytes that are not compressed.
    pub fn new(codec: CompressionType, input: &'a [u8], limit: DecompressLimit) -> Result<Self, BatchError> {
        let mut limit_bytes = limit.allowed_bytes(input.len());
        let inner = match codec {
            CompressionType::None => {
                limit_bytes = u64::MAX;
                DecoderInner::Plain(input)
            }
            CompressionType::Gzip => DecoderInner::Gzip(Box::new(MultiGzDecoder::new(input))),
            CompressionType::Snappy => DecoderInner::Snappy(SnappyReader::new(input)),
            CompressionType::Lz4 => {
                if !input.starts_with(&LZ4_MAGIC) {
                    return Err(BatchError::Decompress("no LZ4 frame".into()));
                }
                DecoderInner::Lz4(Box::new(FrameDecoder::new(input)))
            }
            CompressionType::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(decompress_error)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(decompress_error)?;
                DecoderInner::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { inner, limit_bytes, left_bytes: limit_bytes })
    }

    /// Bytes that may still come out.
    pub fn left_bytes(&self) -> u64 {
        self.left_bytes
    }

    /// The error of one who wanted more than `left_bytes`.
    pub fn limit_error(&self) -> BatchError {
        BatchError::DecompressLimit { limit_bytes: self.limit_bytes }
    }

    /// Decompresses into `out`, which is not empty; 0 at the end of the stream.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, BatchError> {
        let count = match &mut self.inner {
            DecoderInner::Plain(reader) => reader.read(out),
            DecoderInner::Gzip(reader) => reader.read(out),
            DecoderInner::Snappy(reader) => {
                return match reader.read(out, self.left_bytes)? {
                    Some(count) => self.charge(count),
                    None => Err(self.limit_error()),
                };
            }
            DecoderInner::Lz4(reader) => reader.read(out),
            DecoderInner::Zstd(reader) => reader.read(out),
        };
        self.charge(count.map_err(decompress_error)?)
    }

    fn charge(&mut self, count: usize) -> Result<usize, BatchError> {
        match self.left_bytes.checked_sub(count as u64) {
            Some(left) => {
                self.left_bytes = left;
                Ok(count)
            }
            None => Err(self.limit_error()),
        }
    }
}

/// Decompresses `input` as far as it goes: what came out, and why it ended early if it did. For tools that show damaged
/// batches; everything else streams ([`super::Batch::records`]).
pub fn decompress(
    codec: CompressionType,
    input: &[u8],
    limit: DecompressLimit,
) -> (Vec<u8>, Result<(), BatchError>) {
    const CHUNK_BYTES: usize = 32 << 10;
    let mut out = Vec::new();
    let ended = Decoder::new(codec, input, limit).and_then(|mut decoder| {
        loop {
            let from = out.len();
            out.resize(from + CHUNK_BYTES, 0);
            let read = decoder.read(&mut out[from..]);
            out.truncate(from + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                return Ok(());
            }
        }
    });
    (out, ended)
}

fn decompress_error(error: io::Error) -> BatchError {
    BatchError::Decompress(error.to_string())
}

/// True when blocks of the LZ4 frame refer to earlier ones. Kafka's own reader refuses that.
pub(super) fn has_linked_lz4_blocks(input: &[u8]) -> bool {
    const BLOCK_INDEPENDENCE: u8 = 0x20;
    input
        .strip_prefix(&LZ4_MAGIC)
        .and_then(<[u8]>::first)
        .is_some_and(|flags| flags & BLOCK_INDEPENDENCE == 0)
}

/// Compresses records into memory of at most a given size.
pub(super) struct Encoder {
    inner: EncoderInner,
}

enum EncoderInner {
    Plain(Bounded),
    Gzip(Box<GzEncoder<Bounded>>),
    Snappy(SnappyWriter<Bounded>),
    Lz4(Box<FrameEncoder<Bounded>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Bounded>>),
}

impl Encoder {
    /// An encoder that gives an error of kind `FileTooLarge` when more than `bytes_max` come out.
    pub fn new(compression: Compression, bytes_max: usize) -> io::Result<Self> {
        let out = Bounded { bytes: Vec::new(), bytes_max };
        let inner = match compression {
            Compression::None => EncoderInner::Plain(out),
            Compression::Gzip(level) => {
                let level = u32::try_from(level).ok().filter(|level| *level <= 9);
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                EncoderInner::Gzip(Box::new(GzEncoder::new(out, level)))
            }
            Compression::Snappy => EncoderInner::Snappy(SnappyWriter::new(out)?),
            Compression::Lz4 => {
                let frame =
                    FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                EncoderInner::Lz4(Box::new(FrameEncoder::with_frame_info(frame, out)))
            }
            Compression::Zstd(level) => {
                EncoderInner::Zstd(Box::new(zstd::stream::write::Encoder::new(out, level)?))
            }
        };
        Ok(Self { inner })
    }

    /// Compresses all of `bytes`, and so can size its tables by them: zstd's are large.
    pub fn compress(compression: Compression, bytes_max: usize, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = Self::new(compression, bytes_max)?;
        if let EncoderInner::Zstd(writer) = &mut encoder.inner {
            writer.set_pledged_src_size(Some(bytes.len() as u64))?;
        }
        encoder.write(bytes)?;
        encoder.finish()
    }

    /// Compresses `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.inner {
            EncoderInner::Plain(writer) => writer.write_all(bytes),
            EncoderInner::Gzip(writer) => writer.write_all(bytes),
            EncoderInner::Snappy(writer) => writer.write_all(bytes),
            EncoderInner::Lz4(writer) => writer.write_all(bytes),
            EncoderInner::Zstd(writer) => writer.write_all(bytes),
        }
    }

    /// Ends the stream and gives what came out.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        let out = match self.inner {
            EncoderInner::Plain(out) => out,
            EncoderInner::Gzip(writer) => writer.finish()?,
            EncoderInner::Snappy(writer) => writer.finish()?,
            EncoderInner::Lz4(writer) => writer.finish().map_err(io::Error::from)?,
            EncoderInner::Zstd(writer) => writer.finish()?,
        };
        Ok(out.bytes)
    }
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
