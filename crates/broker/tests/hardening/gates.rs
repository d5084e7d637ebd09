//! Files that can be made to wait: a sync or a read of some files hangs until the gate is opened, as on a disk that stalls.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use ottla_storage::files::faulty::FaultyFiles;
use ottla_storage::files::{Entry, File, Files, Open};

/// What waits at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Sync,
    Read,
}

#[derive(Debug, Default)]
struct Closed {
    /// Which operation, on paths that contain this.
    what: Mutex<Option<(Gate, String)>>,
    opened: Condvar,
}

/// A file system with a gate. Clones share it.
#[derive(Clone, Debug)]
pub struct GatedFiles {
    files: FaultyFiles,
    closed: Arc<Closed>,
}

#[derive(Debug)]
struct GatedFile {
    path: PathBuf,
    file: Arc<dyn File>,
    closed: Arc<Closed>,
}

impl GatedFiles {
    pub fn new(files: FaultyFiles) -> Self {
        Self { files, closed: Arc::default() }
    }

    /// From now on `gate` waits on paths that contain `part`.
    pub fn close(&self, gate: Gate, part: &str) {
        *self.closed.what.lock().unwrap() = Some((gate, part.to_owned()));
    }

    pub fn open(&self) {
        *self.closed.what.lock().unwrap() = None;
        self.closed.opened.notify_all();
    }
}

impl GatedFile {
    fn pass(&self, gate: Gate) {
        let is_closed = |what: &mut Option<(Gate, String)>| {
            what.as_ref().is_some_and(|(closed, part)| {
                *closed == gate && self.path.to_string_lossy().contains(part.as_str())
            })
        };
        drop(self.closed.opened.wait_while(self.closed.what.lock().unwrap(), is_closed).unwrap());
    }
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.pass(Gate::Read);
        self.file.read_at(buf, position)
    }

    fn read_at_nowait(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at_nowait(buf, position)
    }

    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_all_at(parts, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.pass(Gate::Sync);
        self.file.sync_data()
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }
}

impl Files for GatedFiles {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let file = Files::open(&self.files, path, open)?;
        Ok(Arc::new(GatedFile { path: path.to_owned(), file, closed: self.closed.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.files.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.files.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.files.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.files.exists(path)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.files.available_bytes(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync + std::fmt::Debug>> {
        self.files.lock(path)
    }
}
