//! A file system in memory that records what is done to it, fails on demand, and can say what a power loss at any moment
//! of its history would have left on disk.
//!
//! The model of a disk: data reaches it at the file's sync; names reach it at their directory's sync; anything else may have
//! reached it, in order or not ([`Survival`]). Changes of names survive in their order, as on a journalling file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crash::{self, Change, is_root, rename, write};
pub use super::crash::{PAGE_BYTES, Survival};
use super::{Entry, File, Files, Open};

/// The kinds of operations that change something or make it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Data was written.
    Write,
    /// A file was cut or extended.
    SetLen,
    /// A file's data was synced.
    Sync,
    /// A file was made.
    Create,
    /// A directory was made.
    CreateDir,
    /// A name was changed.
    Rename,
    /// A file or directory was removed.
    Remove,
    /// A directory was synced.
    SyncDir,
    /// Data was read; only for [`Fault`]s, it leaves no trace in the history.
    Read,
}

/// An operation that is to fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which kind of operation.
    pub operation: Operation,
    /// Only on paths that end so.
    pub path_suffix: String,
    /// How many of them succeed first.
    pub after: usize,
    /// The error.
    pub error: io::ErrorKind,
    /// A failing write leaves this many of its bytes in the file.
    pub written_bytes: usize,
}

/// The file system. Clones share it.
#[derive(Clone, Default)]
pub struct FaultyFiles {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Directories have no inode.
    tree: BTreeMap<PathBuf, Option<usize>>,
    inodes: Vec<Vec<u8>>,
    modified_ms: BTreeMap<usize, i64>,
    history: Vec<Change>,
    faults: Vec<Fault>,
    locks: BTreeSet<PathBuf>,
    cold: bool,
    reads: usize,
    available_bytes: Option<u64>,
}

impl fmt::Debug for FaultyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("FaultyFiles")
            .field("names", &state.tree.len())
            .field("operations", &state.history.len())
            .finish_non_exhaustive()
    }
}

impl FaultyFiles {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As a shared file system.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an operation fail, again and again, until [`FaultyFiles::heal`].
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Whether [`File::read_at_nowait`] finds nothing in the cache.
    pub fn set_cold(&self, cold: bool) {
        self.lock().cold = cold;
    }

    /// What [`Files::available_bytes`] answers; it limits nothing.
    pub fn set_available_bytes(&self, available_bytes: u64) {
        self.lock().available_bytes = Some(available_bytes);
    }

    /// What [`File::modified_ms`] answers for a file from now on; before, it is as young as can be.
    pub fn set_modified_ms(&self, path: &Path, modified_ms: i64) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode(path)?;
        state.modified_ms.insert(inode, modified_ms);
        Ok(())
    }

    /// How many reads there were so far.
    #[must_use]
    pub fn read_count(&self) -> usize {
        self.lock().reads
    }

    /// Inverts the bits of `mask` in one byte of a file, behind everybody's back.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode(path)?;
        let at = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        *state.inodes[inode].get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        Ok(())
    }

    /// The operations so far, in order.
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.lock().history.iter().map(Change::operation).collect()
    }

    /// How many operations there were so far.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.lock().history.len()
    }

    /// A hash of all names and contents: equal for equal file systems.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let state = self.lock();
        let mut hasher = DefaultHasher::new();
        for (path, inode) in &state.tree {
            path.hash(&mut hasher);
            inode.map(|inode| &state.inodes[inode]).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What is there after a power loss right before operation `at` (or at the end). Equal arguments give equal images.
    /// With [`Survival::All`] and a `seed` other than 0 the operation at `at`, if a write, has happened in part.
    #[must_use]
    pub fn crash_image(&self, at: usize, survival: Survival, seed: u64) -> Self {
        let state = self.lock();
        let (past, future) = state.history.split_at(at.min(state.history.len()));
        let image = crash::image(past, future.first(), state.inodes.len(), survival, seed);
        let reached = State { tree: image.tree, inodes: image.inodes, ..State::default() };
        Self { state: Arc::new(Mutex::new(reached)) }
    }
}

impl State {
    fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.tree.get(path) {
            Some(Some(inode)) => Ok(*inode),
            Some(None) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The fault that meets this operation, if one does.
    fn fault(&mut self, operation: Operation, path: &Path) -> Option<(io::ErrorKind, usize)> {
        let name = path.to_string_lossy();
        for fault in &mut self.faults {
            if fault.operation == operation && name.ends_with(&fault.path_suffix) {
                if fault.after == 0 {
                    return Some((fault.error, fault.written_bytes));
                }
                fault.after -= 1;
            }
        }
        None
    }

    fn check(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        self.fault(operation, path).map_or(Ok(()), |(error, _)| Err(error.into()))
    }

    fn has_dir(&self, dir: &Path) -> bool {
        is_root(dir) || self.tree.get(dir) == Some(&None)
    }
}

#[derive(Clone)]
struct FaultyFile {
    files: FaultyFiles,
    inode: usize,
    path: PathBuf,
    writable: bool,
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyFile({})", self.path.display())
    }
}

impl FaultyFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.files.lock();
        state.check(Operation::Read, &self.path)?;
        state.reads += 1;
        let contents = &state.inodes[self.inode];
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(contents.len());
        let len = buf.len().min(contents.len() - from);
        buf[..len].copy_from_slice(&contents[from..from + len]);
        Ok(len)
    }

    fn read_at_nowait(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        if self.files.lock().cold {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buf, position)
    }

    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut state = self.files.lock();
        let fault = state.fault(Operation::Write, &self.path);
        if let Some((_, written_bytes)) = fault {
            data.truncate(written_bytes);
        }
        write(&mut state.inodes[self.inode], position, &data);
        if !data.is_empty() {
            state.history.push(Change::Write { inode: self.inode, position, data });
        }
        fault.map_or(Ok(()), |(error, _)| Err(error.into()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.files.lock();
        state.check(Operation::Sync, &self.path)?;
        state.history.push(Change::Sync { inode: self.inode });
        Ok(())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.files.lock();
        state.check(Operation::SetLen, &self.path)?;
        if state.inodes[self.inode].len() as u64 != size_bytes {
            state.inodes[self.inode].resize(size_bytes as usize, 0);
            state.history.push(Change::SetLen { inode: self.inode, size_bytes });
        }
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.files.lock().inodes[self.inode].len() as u64)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(self.files.lock().modified_ms.get(&self.inode).copied().unwrap_or(i64::MAX))
    }
}

impl Files for FaultyFiles {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        let inode = match (state.inode(path), open) {
            (Err(error), Open::Create) if error.kind() == io::ErrorKind::NotFound => {
                if !path.parent().is_some_and(|dir| state.has_dir(dir)) {
                    return Err(error);
                }
                state.check(Operation::Create, path)?;
                let inode = state.inodes.len();
                state.inodes.push(Vec::new());
                state.tree.insert(path.to_owned(), Some(inode));
                state.history.push(Change::Create { path: path.to_owned(), inode });
                inode
            }
            (found, _) => found?,
        };
        let writable = open != Open::Read;
        Ok(Arc::new(FaultyFile { files: self.clone(), inode, path: path.to_owned(), writable }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        if !state.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = state.tree.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entries = in_dir.filter_map(|(path, inode)| {
            let name = path.file_name()?.to_str()?.to_owned();
            let size_bytes = inode.map_or(0, |inode| state.inodes[inode].len() as u64);
            Some(Entry { name, is_dir: inode.is_none(), size_bytes })
        });
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let mut missing: Vec<&Path> =
            dir.ancestors().filter(|dir| !is_root(dir) && !state.tree.contains_key(*dir)).collect();
        while let Some(path) = missing.pop() {
            state.check(Operation::CreateDir, path)?;
            state.tree.insert(path.to_owned(), None);
            state.history.push(Change::CreateDir { path: path.to_owned() });
        }
        if state.has_dir(dir) { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check(Operation::Rename, from)?;
        if !state.tree.contains_key(from) || !to.parent().is_some_and(|dir| state.has_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        rename(&mut state.tree, from, to);
        state.history.push(Change::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check(Operation::Remove, path)?;
        state.inode(path)?;
        state.tree.remove(path);
        state.history.push(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check(Operation::Remove, dir)?;
        if state.tree.get(dir) != Some(&None) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.tree.retain(|path, _| !path.starts_with(dir));
        state.history.push(Change::Remove { path: dir.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check(Operation::SyncDir, dir)?;
        if !state.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.history.push(Change::SyncDir { path: dir.to_owned() });
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(is_root(path) || self.lock().tree.contains_key(path))
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.lock().available_bytes.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync + fmt::Debug>> {
        self.open(path, Open::Create)?;
        if !FaultyFiles::lock(self).locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held { files: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct Held {
    files: FaultyFiles,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        FaultyFiles::lock(&self.files).locks.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(files: &FaultyFiles, survival: Survival) -> Vec<String> {
        let image = files.crash_image(files.operation_count(), survival, 1);
        let state = image.lock();
        let with_contents = |(path, inode): (&PathBuf, &Option<usize>)| {
            let contents =
                inode.map_or(String::new(), |i| String::from_utf8(state.inodes[i].clone()).unwrap());
            format!("{}={contents}", path.display())
        };
        state.tree.iter().map(with_contents).collect()
    }

    #[test]
    fn only_what_was_synced_is_sure_to_survive() {
        let files = FaultyFiles::new();
        files.create_dir_all(Path::new("/d")).unwrap();
        let file = files.open(Path::new("/d/f"), Open::Create).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
        file.sync_data().unwrap();
        assert!(image_of(&files, Survival::SyncedOnly).is_empty());
        files.sync_dir(Path::new("/")).unwrap();
        files.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"def")], 3).unwrap();
        files.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        assert_eq!(image_of(&files, Survival::SyncedOnly), ["/d=", "/d/f=abc"]);
        assert_eq!(image_of(&files, Survival::All), ["/d=", "/d/g=abcdef"]);
    }

    #[test]
    fn faults_hit_the_operation_they_name() {
        let files = FaultyFiles::new();
        let file = files.open(Path::new("/f.log"), Open::Create).unwrap();
        files.fail(Fault {
            operation: Operation::Write,
            path_suffix: ".log".into(),
            after: 1,
            error: io::ErrorKind::StorageFull,
            written_bytes: 2,
        });
        file.write_all_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
        let error = file.write_all_at(&mut [IoSlice::new(b"de"), IoSlice::new(b"f")], 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size_bytes().unwrap(), 5);
        files.heal();
        file.write_all_at(&mut [IoSlice::new(b"xyz")], 3).unwrap();
        assert_eq!(file.size_bytes().unwrap(), 6);
    }
}
