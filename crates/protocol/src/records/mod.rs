//! The record batch v2, on the wire and on disk: header, records, compression, the check of what a producer sends, and
//! the rewriting that a topic may ask for. Owns the layout; must not know who leads, which offset comes next, or where
//! the bytes are kept.
//!
//! Layout (big endian): base offset i64, length i32 (of what follows it), partition leader epoch i32, magic i8 (2),
//! CRC32C u32, attributes i16, last offset delta i32, base timestamp i64, max timestamp i64, producer id i64, producer
//! epoch i16, base sequence i32, records count i32, then the records, compressed as one stream if at all. The CRC covers
//! from the attributes to the end. Records are iterated, never collected.

mod batch;
mod builder;
mod compression;
mod header;
mod record;
mod retain;
pub mod rewrite;
mod source;
pub mod validate;

pub use batch::{Batch, Batches, Records, TimestampedOffset};
pub use builder::{BuildError, Builder};
pub use compression::{Compression, DecompressLimit, decompress};
pub use header::{
    Attributes, BatchError, BatchHeader, CompressionType, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC,
    NO_TIMESTAMP, TimestampType, compute_crc, verify_crc,
};
pub use record::{Headers, Record, RecordHeader};
pub use retain::{Retained, emptied};
pub use validate::{ValidateError, ValidateErrorKind, ValidateOptions, Validated, validate};
