//! Room on the disk: how much there is, whether it ran out, and a small reserve that is given free so that deletions can
//! be written down on a full disk.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use super::LogDirectory;
use crate::files::Open;

/// The file that occupies the reserve.
pub const RESERVE_FILE: &str = ".ottla-reserve";
/// Size of the reserve.
pub const RESERVE_BYTES: u64 = 1 << 20;

const CHUNK_BYTES: usize = 64 << 10;

impl LogDirectory {
    /// Bytes that can still be written to this directory's file system.
    pub fn available_bytes(&self) -> io::Result<u64> {
        self.files.available_bytes(&self.path)
    }

    /// A write found no room: produce is refused here until [`LogDirectory::has_room_again`]. True when it was not full
    /// before.
    pub fn mark_full(&self) -> bool {
        !self.is_full.swap(true, Ordering::Relaxed)
    }

    /// Whether a write found no room and none has been seen since.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Looks whether there is room for `bytes_min` beside the reserve; if so the reserve is taken again and the directory
    /// counts as full no more. True when it is not full (any more).
    pub fn has_room_again(&self, bytes_min: u64) -> io::Result<bool> {
        if !self.is_full() {
            return Ok(true);
        }
        if self.available_bytes()? < bytes_min.saturating_add(RESERVE_BYTES)
            || self.restore_reserve().is_err()
        {
            return Ok(false);
        }
        self.is_full.store(false, Ordering::Relaxed);
        Ok(true)
    }

    /// Gives the reserve free, for what must be written although the disk is full. False when it was not there.
    pub fn release_reserve(&self) -> io::Result<bool> {
        match self.files.remove_file(&self.path.join(RESERVE_FILE)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the reserve, unless it is there. Without room there is none, and nothing is left of the attempt.
    pub fn restore_reserve(&self) -> io::Result<()> {
        let path = self.path.join(RESERVE_FILE);
        let file = self.files.open(&path, Open::Create)?;
        let mut position = file.size_bytes()?;
        // Bytes are written, because a file that is merely extended occupies nothing.
        let chunk = [0; CHUNK_BYTES];
        while position < RESERVE_BYTES {
            let len = CHUNK_BYTES.min(usize::try_from(RESERVE_BYTES - position).unwrap_or(CHUNK_BYTES));
            if let Err(error) = file.write_all_at(&mut [IoSlice::new(&chunk[..len])], position) {
                drop(file);
                self.release_reserve()?;
                return Err(error);
            }
            position += len as u64;
        }
        Ok(())
    }
}
