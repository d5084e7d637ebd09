//! Files: segments, indexes, snapshots, checkpoints, recordings; Ottla's and Kafka's, which are the same but for the entries of
//! the metadata log.

mod contents;
mod indexes;
mod producers;
mod recording;
mod segment;
mod small;

use std::io;
use std::path::{Path, PathBuf};

use crate::filter::Filter;
use crate::printer::Printer;

pub use contents::Contents;
pub use recording::{FrameWriter, Recording};
pub use segment::RecordRow;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Record batches.
    Segment(Contents),
    /// Offsets and positions.
    OffsetIndex,
    /// Timestamps and offsets.
    TimeIndex,
    /// Aborted transactions.
    TransactionIndex,
    /// Producers and what they wrote last.
    ProducerSnapshot,
    /// Offsets by partition, or epochs; lines of text.
    Checkpoint,
    /// Keys and values; lines of text.
    Properties,
    /// JSON.
    Json,
    /// Frames of whole sessions.
    Recording,
}

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system or the output refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// Its name says nothing.
    #[error(
        "{}: cannot tell what it is from its name; say so with --as (segment, offsets, transactions, metadata, metadata-snapshot, index, \
         timeindex, txnindex, snapshot, checkpoint, properties, frames)",
        path.display()
    )]
    UnknownKind {
        /// The file.
        path: PathBuf,
    },
}

/// How files are shown.
#[derive(Clone, Debug, Default)]
pub struct FileOptions {
    /// What the file is, where its name does not say.
    pub kind: Option<Kind>,
    /// Show what is a secret?
    pub show_secrets: bool,
    /// Which frames of a recording.
    pub filter: Filter,
}

impl Kind {
    /// What the file at `path` is, by its name and that of its directory.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        // Files that are about to go, or are not yet in their place, are what they were or will be.
        let name = [".deleted", ".cleaned", ".swap", ".tmp"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        match name {
            "meta.properties" | "partition.metadata" => return Some(Self::Properties),
            "quorum-state" | ".kafka_cleanshutdown" => return Some(Self::Json),
            name if name.ends_with("-checkpoint") => return Some(Self::Checkpoint),
            _ => {}
        }
        Some(match name.rsplit_once('.')?.1 {
            "log" => Self::Segment(Contents::of(path)),
            "checkpoint" => Self::Segment(Contents::Snapshot),
            "index" => Self::OffsetIndex,
            "timeindex" => Self::TimeIndex,
            "txnindex" => Self::TransactionIndex,
            "snapshot" => Self::ProducerSnapshot,
            "frames" => Self::Recording,
            _ => return None,
        })
    }

    /// The kind of a name that people use.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "segment" => Self::Segment(Contents::Data),
            "offsets" => Self::Segment(Contents::Offsets),
            "transactions" => Self::Segment(Contents::Transactions),
            "metadata" => Self::Segment(Contents::Metadata),
            "metadata-snapshot" => Self::Segment(Contents::Snapshot),
            "index" => Self::OffsetIndex,
            "timeindex" => Self::TimeIndex,
            "txnindex" => Self::TransactionIndex,
            "snapshot" => Self::ProducerSnapshot,
            "checkpoint" => Self::Checkpoint,
            "properties" => Self::Properties,
            "frames" => Self::Recording,
            _ => return None,
        })
    }
}

/// The offset that the digits of a segment's name say; 0 without.
fn base_offset(path: &Path) -> i64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split(['.', '-']).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Shows the file at `path`; gives whether all of it decoded.
///
/// # Errors
/// When it cannot be read, or nobody knows what it is. Damage is shown, not an error.
pub fn show(path: &Path, options: &FileOptions, printer: &mut Printer) -> Result<bool, FileError> {
    let kind = options.kind.or_else(|| Kind::of(path));
    let kind = kind.ok_or_else(|| FileError::UnknownKind { path: path.to_owned() })?;
    let shown = printer.title(&format!("# {}", path.display())).and_then(|()| match kind {
        Kind::Segment(contents) => segment::show(path, contents, options.show_secrets, printer),
        Kind::OffsetIndex => indexes::offsets(path, printer),
        Kind::TimeIndex => indexes::times(path, printer),
        Kind::TransactionIndex => indexes::transactions(path, printer),
        Kind::ProducerSnapshot => producers::show(path, printer),
        Kind::Checkpoint => small::checkpoint(path, printer),
        Kind::Properties => small::properties(path, printer),
        Kind::Json => small::json(path, printer),
        Kind::Recording => recording::show(path, options, printer),
    });
    shown.map_err(|source| FileError::Io { path: path.to_owned(), source })
}

/// Reads a small file whole.
fn read_small(path: &Path) -> io::Result<bytes::Bytes> {
    let size = std::fs::metadata(path)?.len();
    if size > crate::limits::SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{size} bytes")));
    }
    std::fs::read(path).map(bytes::Bytes::from)
}
