//! A few bytes kept on disk, so that a deletion can still be committed when the disk is full: it is what makes room again.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_storage::files::{Files, Open};

use crate::limits::RESERVE_BYTES;

const FILE_NAME: &str = ".ottla-reserve";

/// The reserve of one directory.
pub(crate) struct Reserve {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl Reserve {
    pub(crate) fn new(files: Arc<dyn Files>, dir: &Path) -> Self {
        Self { files, dir: dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Takes the space again if it is not held and there is much more than that. Without sync: it holds nothing to keep.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let plenty = 64 * RESERVE_BYTES as u64;
        if self.files.exists(&self.path())? || self.files.available_bytes(&self.dir)? < plenty {
            return Ok(());
        }
        let file = self.files.open(&self.path(), Open::Create)?;
        file.write_all_at(&mut [IoSlice::new(&vec![0; RESERVE_BYTES])], 0)
    }

    /// Gives the space back; false when it was not held.
    pub(crate) fn release(&self) -> bool {
        self.files.remove_file(&self.path()).is_ok()
    }
}
