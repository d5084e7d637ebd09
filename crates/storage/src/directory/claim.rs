//! A log directory whose cluster is not known yet: a node that founds or joins one has to have a place, and an id for that place,
//! before anybody can tell it which cluster that is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::ids::Uuid;

use super::{DirectoryError, Found, Identity, LogDirectory, create_durably, failed, take_lock};
use crate::checkpoint;
use crate::files::Files;
use crate::meta::{MetaError, MetaProperties};

/// Keeps the directory's id until `meta.properties` has it.
pub const DIRECTORY_ID_FILE: &str = ".ottla-directory-id";

/// A log directory that this process has locked, whoever it belongs to.
#[derive(Debug)]
pub struct Claim {
    files: Arc<dyn Files>,
    path: PathBuf,
    lock: Box<dyn Send + Sync + std::fmt::Debug>,
}

impl Claim {
    /// Locks the directory at `path`; makes it when it is absent.
    ///
    /// # Errors
    /// Another process has it, or the file system refuses.
    pub fn take(files: Arc<dyn Files>, path: PathBuf) -> Result<Self, DirectoryError> {
        create_durably(&*files, &path).map_err(|source| failed("create", &path, source))?;
        let lock = take_lock(&*files, &path)?;
        Ok(Self { files, path, lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `meta.properties` says; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn meta(&self) -> Result<Option<MetaProperties>, MetaError> {
        MetaProperties::read(&*self.files, &self.path)
    }

    /// The directory's id: the one it has, else `new`, which is durably its own from then on although nothing says yet to which
    /// cluster it belongs.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn directory_id(&self, new: Uuid) -> Result<Uuid, DirectoryError> {
        if let Some(meta) = self.meta()? {
            return Ok(meta.directory_id);
        }
        if let Some(id) = promised_id(&*self.files, &self.path)? {
            return Ok(id);
        }
        let path = self.path.join(DIRECTORY_ID_FILE);
        checkpoint::write_atomically(&*self.files, &path, new.to_string().as_bytes())
            .map_err(|source| failed("write", &path, source))?;
        Ok(new)
    }

    /// Opens it for `identity`, whose new id counts only where [`Claim::directory_id`] was not asked.
    ///
    /// # Errors
    /// As [`LogDirectory::open`].
    pub fn open(self, identity: &Identity) -> Result<(LogDirectory, Found), DirectoryError> {
        LogDirectory::open_locked(self.files, self.path, self.lock, identity)
    }
}

/// The id that was given to a directory before its cluster was known.
pub(super) fn promised_id(files: &dyn Files, dir: &Path) -> Result<Option<Uuid>, DirectoryError> {
    let path = dir.join(DIRECTORY_ID_FILE);
    let read = checkpoint::read_whole(files, &path).map_err(|source| failed("read", &path, source))?;
    let Some(text) = read else { return Ok(None) };
    let id = Uuid::parse(String::from_utf8_lossy(&text).trim()).filter(|id| !id.is_zero());
    let damaged =
        || std::io::Error::other("this is not an id; remove the file if the directory is empty otherwise");
    id.map(Some).ok_or_else(|| failed("read", &path, damaged()))
}

/// `meta.properties` has the id now. Without a sync: what comes back after a crash is removed by the next start.
pub(super) fn forget_promised_id(files: &dyn Files, dir: &Path) -> Result<(), DirectoryError> {
    let path = dir.join(DIRECTORY_ID_FILE);
    match files.remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| failed("remove", &path, source)),
    }
}
