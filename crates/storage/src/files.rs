//! Every file that storage touches goes through [`Files`] and [`File`]: one real implementation, one in memory that tears,
//! drops, flips and refuses, because recovery is the product.

mod crash;
pub mod faulty;
pub mod real;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; an absent file is `NotFound`.
    Read,
    /// For reading and writing; an absent file is `NotFound`.
    ReadWrite,
    /// For reading and writing; an absent file is made empty.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub size_bytes: u64,
}

/// An open file. All positions are bytes from the start; nothing here has a cursor.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at `position`; 0 at the end of the file. May be short.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Like [`File::read_at`], but only what needs no disk access: `WouldBlock` when nothing of it is cached.
    fn read_at_nowait(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `parts`, one after the other, at `position`. After an error any prefix may have been written.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    /// fdatasync: returns when the contents and the length are on disk.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `size_bytes`.
    fn set_len(&self, size_bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// When the contents were last changed, in ms since 1970.
    fn modified_ms(&self) -> io::Result<i64>;
}

/// A file system.
pub trait Files: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>>;
    /// What is in a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Makes a directory and its parents; no error when it exists.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all that is in it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes that can still be written to the file system that holds `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on the file `path` (made when absent), held until the returned guard is dropped or the
    /// process ends; `WouldBlock` when another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync + Debug>>;
}
