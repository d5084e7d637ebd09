//! A few bytes kept on disk, so that a deletion can still be committed when the disk is full: it is what makes room again.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_storage::files::{Files, Open};

use crate::limits::RESERVE_BYTES;

/// Not the reserve of the log directory, which may be another one and is given free for other writes.
const FILE_NAME: &str = ".ottla-metadata-reserve";

/// The reserve of one directory.
pub(crate) struct Reserve {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// Whether the space is held, as far as is known.
    held: bool,
}

impl Reserve {
    pub(crate) fn new(files: Arc<dyn Files>, dir: &Path) -> Self {
        Self { files, dir: dir.to_owned(), held: false }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Takes the space if it is not held and there is much more than that. Without sync: it holds nothing to keep.
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let plenty = 64 * RESERVE_BYTES as u64;
        let file = match self.files.exists(&self.path())? {
            true => self.files.open(&self.path(), Open::ReadWrite)?,
            false if self.files.available_bytes(&self.dir)? < plenty => return Ok(()),
            false => self.files.open(&self.path(), Open::Create)?,
        };
        if file.size_bytes()? < RESERVE_BYTES as u64 {
            file.write_all_at(&mut [IoSlice::new(&vec![0; RESERVE_BYTES])], 0)?;
        }
        self.held = true;
        Ok(())
    }

    /// Gives the space back; false when it was not held.
    pub(crate) fn release(&mut self) -> bool {
        self.held = false;
        self.files.remove_file(&self.path()).is_ok()
    }
}
