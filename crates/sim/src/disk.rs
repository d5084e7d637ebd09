//! A disk in memory. Data reaches it at its file's sync, names at their directory's sync, the rest perhaps, in order or not, when
//! the power fails. It can be full, and it can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_storage::files::faulty::{PAGE_BYTES, Survival};
use ottla_storage::files::{Entry, File, Files, Open};

use crate::random::Random;

/// Names with what they name; directories name nothing.
type Tree = BTreeMap<PathBuf, Option<usize>>;

/// What goes wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// Nothing more can be written.
    Full,
    /// Writes and syncs fail.
    Broken,
}

/// A disk. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tree: Tree,
    disk_tree: Tree,
    inodes: Vec<Inode>,
    /// Changes of names, in their order, with whether they are on disk; from the first on that is not.
    names: VecDeque<(Name, bool)>,
    writes: u64,
    locks: BTreeSet<PathBuf>,
    trouble: Trouble,
}

/// A file as programs see it, as it is on disk, and what lies between.
#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    disk: Vec<u8>,
    loose: Vec<Loose>,
}

struct Loose {
    order: u64,
    change: Data,
}

enum Data {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone)]
enum Name {
    Create(PathBuf, usize),
    CreateDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Name {
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Create(path, _) | Self::CreateDir(path) | Self::Remove(path) => path.parent() == Some(dir),
            Self::Rename(_, to) => to.parent() == Some(dir),
        }
    }

    fn apply(&self, tree: &mut Tree) {
        let is_rooted = |tree: &Tree, path: &Path| {
            path.parent().is_none_or(|dir| dir.parent().is_none() || tree.contains_key(dir))
        };
        match self {
            Self::Create(path, inode) if is_rooted(tree, path) => {
                tree.insert(path.clone(), Some(*inode));
            }
            Self::CreateDir(path) if is_rooted(tree, path) => {
                tree.insert(path.clone(), None);
            }
            Self::Create(..) | Self::CreateDir(_) => {}
            Self::Rename(from, to) => rename(tree, from, to),
            Self::Remove(path) => remove(tree, path),
        }
    }
}

fn below(tree: &Tree, path: &Path) -> Vec<PathBuf> {
    let from = tree.range::<Path, _>((std::ops::Bound::Included(path), std::ops::Bound::Unbounded));
    from.map(|(name, _)| name).take_while(|name| name.starts_with(path)).cloned().collect()
}

fn remove(tree: &mut Tree, path: &Path) {
    for name in below(tree, path) {
        tree.remove(&name);
    }
}

fn rename(tree: &mut Tree, from: &Path, to: &Path) {
    for name in below(tree, from) {
        let inode = tree.remove(&name).flatten();
        let rest = name.strip_prefix(from).unwrap_or(Path::new(""));
        let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        tree.insert(new, inode);
    }
}

impl Data {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write(position, data) => write(contents, *position, data),
            Self::SetLen(size) => contents.resize(*size as usize, 0),
        }
    }

    fn apply_part(&self, contents: &mut Vec<u8>, random: &mut Random) {
        if let Self::Write(position, data) = self {
            let kept = random.below(data.len() as u64) as usize;
            write(contents, *position, &data[..kept]);
        }
    }

    fn apply_any_pages(&self, contents: &mut Vec<u8>, random: &mut Random) {
        let Self::Write(position, data) = self else {
            if random.one_in(2) {
                self.apply(contents);
            }
            return;
        };
        let end = position + data.len() as u64;
        let mut from = *position;
        while from < end {
            let until = ((from / PAGE_BYTES + 1) * PAGE_BYTES).min(end);
            if random.one_in(2) {
                write(contents, from, &data[(from - position) as usize..(until - position) as usize]);
            }
            from = until;
        }
    }
}

fn write(contents: &mut Vec<u8>, position: u64, data: &[u8]) {
    let from = position as usize;
    let until = from + data.len();
    if contents.len() < until && !data.is_empty() {
        contents.resize(until, 0);
    }
    if !data.is_empty() {
        contents[from..until].copy_from_slice(data);
    }
}

impl Disk {
    pub(crate) fn shared(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    pub(crate) fn trouble(&self) -> Trouble {
        self.lock().trouble
    }

    /// The process that used it is gone; with [`Survival::All`] the machine lives on.
    pub(crate) fn crash(&self, survival: Survival, random: &mut Random) {
        let state = &mut *self.lock();
        state.locks.clear();
        if survival == Survival::All {
            return;
        }
        let kept = match survival {
            Survival::SyncedOnly | Survival::All => 0,
            Survival::Prefix | Survival::TornPrefix | Survival::AnyPages => {
                random.below(state.names.len() as u64 + 1) as usize
            }
        };
        for (i, (name, is_durable)) in std::mem::take(&mut state.names).iter().enumerate() {
            if *is_durable || i < kept {
                name.apply(&mut state.disk_tree);
            }
        }
        state.lose_data(survival, random);
        state.tree = state.disk_tree.clone();
    }

    /// Inverts bits of one byte of a file, if there is one that ends so. Gives the file.
    pub(crate) fn flip(&self, suffix: &str, random: &mut Random) -> Option<PathBuf> {
        let state = &mut *self.lock();
        let is_meant = |path: &Path, inode: usize| {
            path.to_string_lossy().ends_with(suffix) && !state.inodes[inode].disk.is_empty()
        };
        let files: Vec<_> = state
            .tree
            .iter()
            .filter_map(|(path, inode)| inode.filter(|inode| is_meant(path, *inode)).map(|i| (path, i)))
            .collect();
        let (path, inode) = random.pick(&files)?;
        let (path, inode) = ((*path).clone(), *inode);
        let file = &mut state.inodes[inode];
        let at = random.below(file.disk.len() as u64) as usize;
        let mask = 1 << random.below(8);
        file.disk[at] ^= mask;
        if let Some(byte) = file.now.get_mut(at) {
            *byte ^= mask;
        }
        Some(path)
    }
}

impl State {
    fn lose_data(&mut self, survival: Survival, random: &mut Random) {
        let mut loose: Vec<(usize, Loose)> = Vec::new();
        for (at, inode) in self.inodes.iter_mut().enumerate() {
            loose.extend(std::mem::take(&mut inode.loose).into_iter().map(|loose| (at, loose)));
        }
        loose.sort_unstable_by_key(|(_, loose)| loose.order);
        let kept = random.below(loose.len() as u64 + 1) as usize;
        for (i, (at, Loose { change, .. })) in loose.iter().enumerate() {
            let contents = &mut self.inodes[*at].disk;
            match survival {
                Survival::AnyPages => change.apply_any_pages(contents, random),
                Survival::Prefix | Survival::TornPrefix if i < kept => change.apply(contents),
                Survival::TornPrefix if i == kept => change.apply_part(contents, random),
                Survival::All | Survival::SyncedOnly | Survival::Prefix | Survival::TornPrefix => {}
            }
        }
        for inode in &mut self.inodes {
            inode.now.clone_from(&inode.disk);
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        match self.tree.get(path) {
            Some(Some(inode)) => Ok(*inode),
            Some(None) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn has_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || self.tree.get(dir) == Some(&None)
    }

    fn check_write(&self) -> io::Result<()> {
        match self.trouble {
            Trouble::None => Ok(()),
            Trouble::Full => Err(io::ErrorKind::StorageFull.into()),
            // EIO
            Trouble::Broken => Err(io::Error::from_raw_os_error(5)),
        }
    }

    /// What also works on a full disk.
    fn check(&self) -> io::Result<()> {
        if self.trouble == Trouble::Full { Ok(()) } else { self.check_write() }
    }

    fn name(&mut self, name: Name) {
        name.apply(&mut self.tree);
        self.names.push_back((name, false));
    }

    fn change(&mut self, inode: usize, change: Data) {
        self.writes += 1;
        let order = self.writes;
        let file = &mut self.inodes[inode];
        change.apply(&mut file.now);
        file.loose.push(Loose { order, change });
    }
}

#[derive(Clone)]
struct OpenFile {
    disk: Disk,
    inode: usize,
    path: PathBuf,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl File for OpenFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let contents = &state.inodes[self.inode].now;
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(contents.len());
        let len = buf.len().min(contents.len() - from);
        buf[..len].copy_from_slice(&contents[from..from + len]);
        Ok(len)
    }

    fn read_at_nowait(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }

    fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut data: Vec<u8> = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| data.extend_from_slice(part));
        let mut state = self.disk.lock();
        let checked = state.check_write();
        if checked.is_err() {
            data.truncate(data.len() / 2);
        }
        if !data.is_empty() {
            state.change(self.inode, Data::Write(position, data));
        }
        checked
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.check()?;
        let file = &mut state.inodes[self.inode];
        for Loose { change, .. } in file.loose.drain(..) {
            change.apply(&mut file.disk);
        }
        Ok(())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.check()?;
        if state.inodes[self.inode].now.len() as u64 != size_bytes {
            state.change(self.inode, Data::SetLen(size_bytes));
        }
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].now.len() as u64)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(i64::MAX)
    }
}

impl Files for Disk {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        let inode = match (state.inode(path), open) {
            (Err(error), Open::Create) if error.kind() == io::ErrorKind::NotFound => {
                if !path.parent().is_some_and(|dir| state.has_dir(dir)) {
                    return Err(error);
                }
                state.check()?;
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.name(Name::Create(path.to_owned(), inode));
                inode
            }
            (found, _) => found?,
        };
        Ok(Arc::new(OpenFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        if !state.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = state.tree.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entries = in_dir.filter_map(|(path, inode)| {
            let name = path.file_name()?.to_str()?.to_owned();
            let size_bytes = inode.map_or(0, |inode| state.inodes[inode].now.len() as u64);
            Some(Entry { name, is_dir: inode.is_none(), size_bytes })
        });
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let missing: Vec<&Path> =
            dir.ancestors().filter(|dir| dir.parent().is_some() && !state.tree.contains_key(*dir)).collect();
        for path in missing.into_iter().rev() {
            state.check()?;
            state.name(Name::CreateDir(path.to_owned()));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check()?;
        if !state.tree.contains_key(from) || !to.parent().is_some_and(|dir| state.has_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Name::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check()?;
        state.inode(path)?;
        state.name(Name::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.check()?;
        if state.tree.get(dir) != Some(&None) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Name::Remove(dir.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.lock();
        state.check()?;
        if !state.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (name, is_durable) in &mut state.names {
            *is_durable |= name.is_in(dir);
        }
        // What is on disk and has nothing loose before it stays so.
        while let Some((name, _)) = state.names.pop_front_if(|(_, is_durable)| *is_durable) {
            name.apply(&mut state.disk_tree);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(path.parent().is_none() || self.lock().tree.contains_key(path))
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(if self.trouble() == Trouble::None { u64::MAX } else { 0 })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync + fmt::Debug>> {
        self.open(path, Open::Create)?;
        if !Disk::lock(self).locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct Held {
    disk: Disk,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        Disk::lock(&self.disk).locks.remove(&self.path);
    }
}
