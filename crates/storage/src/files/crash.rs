//! What a power loss leaves of a history of operations: the disk's side of [`super::faulty`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::faulty::Operation;

/// Data survives a power loss in units of this many bytes.
pub const PAGE_BYTES: u64 = 512;

/// What of the unsynced operations a power loss leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Survival {
    /// All of them: the process was killed, the machine lives.
    All,
    /// None.
    SyncedOnly,
    /// Those before some moment.
    Prefix,
    /// Those before some moment, and of the one at that moment a part.
    TornPrefix,
    /// Names up to some moment; of the data any pages.
    AnyPages,
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { inode: usize, position: u64, data: Vec<u8> },
    SetLen { inode: usize, size_bytes: u64 },
    Sync { inode: usize },
    Create { path: PathBuf, inode: usize },
    CreateDir { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    SyncDir { path: PathBuf },
}

impl Change {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Write { .. } => Operation::Write,
            Self::SetLen { .. } => Operation::SetLen,
            Self::Sync { .. } => Operation::Sync,
            Self::Create { .. } => Operation::Create,
            Self::CreateDir { .. } => Operation::CreateDir,
            Self::Rename { .. } => Operation::Rename,
            Self::Remove { .. } => Operation::Remove,
            Self::SyncDir { .. } => Operation::SyncDir,
        }
    }

    fn is_durable(&self, later: &[Self]) -> bool {
        let dir = match self {
            Self::Write { inode, .. } | Self::SetLen { inode, .. } => {
                return later.iter().any(|change| matches!(change, Self::Sync { inode: i } if i == inode));
            }
            Self::Sync { .. } | Self::SyncDir { .. } => return true,
            Self::Create { path, .. } | Self::CreateDir { path } | Self::Remove { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        };
        later.iter().any(|change| matches!(change, Self::SyncDir { path } if Some(path.as_path()) == dir))
    }
}

/// The disk after `past`; `next` was under way. See [`super::faulty::FaultyFiles::crash_image`].
pub(super) fn image(
    past: &[Change],
    next: Option<&Change>,
    inode_count: usize,
    survival: Survival,
    seed: u64,
) -> Image {
    let random = Random(seed ^ (past.len() as u64) << 32 ^ survival as u64);
    let mut image = Image { random, tree: BTreeMap::new(), inodes: vec![Vec::new(); inode_count] };
    image.replay(past, survival);
    if survival == Survival::All
        && seed != 0
        && let Some(change @ Change::Write { .. }) = next
    {
        image.tear(change);
    }
    image
}

/// Names and contents.
pub(super) struct Image {
    random: Random,
    pub(super) tree: BTreeMap<PathBuf, Option<usize>>,
    pub(super) inodes: Vec<Vec<u8>>,
}

impl Image {
    fn replay(&mut self, past: &[Change], survival: Survival) {
        let durable: Vec<bool> =
            past.iter().enumerate().map(|(i, change)| change.is_durable(&past[i + 1..])).collect();
        let loose: Vec<usize> = (0..past.len()).filter(|&i| !durable[i]).collect();
        // The first loose operation that is lost (for names, where data is subject to other rules).
        let lost_from = match survival {
            Survival::All => past.len(),
            Survival::SyncedOnly => 0,
            Survival::Prefix | Survival::TornPrefix | Survival::AnyPages => {
                let index = self.random.below(loose.len() as u64 + 1);
                loose.get(index as usize).copied().unwrap_or(past.len())
            }
        };
        for (i, change) in past.iter().enumerate() {
            let is_data = matches!(change, Change::Write { .. } | Change::SetLen { .. });
            if durable[i] {
                self.apply(change);
            } else if survival == Survival::AnyPages && is_data {
                self.apply_any_pages(change);
            } else if i < lost_from {
                self.apply(change);
            } else if i == lost_from && survival == Survival::TornPrefix && is_data {
                self.tear(change);
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { inode, position, data } => write(&mut self.inodes[*inode], *position, data),
            Change::SetLen { inode, size_bytes } => self.inodes[*inode].resize(*size_bytes as usize, 0),
            Change::Sync { .. } | Change::SyncDir { .. } => {}
            Change::Create { path, inode } => self.add(path, Some(*inode)),
            Change::CreateDir { path } => self.add(path, None),
            Change::Rename { from, to } => rename(&mut self.tree, from, to),
            Change::Remove { path } => self.tree.retain(|name, _| !name.starts_with(path)),
        }
    }

    /// A name whose directory did not survive does not either.
    fn add(&mut self, path: &Path, inode: Option<usize>) {
        let is_rooted = path.parent().is_none_or(|dir| is_root(dir) || self.tree.contains_key(dir));
        if is_rooted {
            self.tree.insert(path.to_owned(), inode);
        }
    }

    fn tear(&mut self, change: &Change) {
        if let Change::Write { inode, position, data } = change {
            let kept = self.random.below(data.len() as u64) as usize;
            write(&mut self.inodes[*inode], *position, &data[..kept]);
        }
    }

    fn apply_any_pages(&mut self, change: &Change) {
        let Change::Write { inode, position, data } = change else {
            if self.random.below(2) == 0 {
                self.apply(change);
            }
            return;
        };
        let end = position + data.len() as u64;
        let mut from = *position;
        while from < end {
            let until = ((from / PAGE_BYTES + 1) * PAGE_BYTES).min(end);
            if self.random.below(2) == 0 {
                let page = &data[(from - position) as usize..(until - position) as usize];
                write(&mut self.inodes[*inode], from, page);
            }
            from = until;
        }
    }
}

pub(super) fn is_root(dir: &Path) -> bool {
    dir.parent().is_none()
}

pub(super) fn write(contents: &mut Vec<u8>, position: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let from = position as usize;
    let until = from + data.len();
    if contents.len() < until {
        contents.resize(until, 0);
    }
    contents[from..until].copy_from_slice(data);
}

pub(super) fn rename(tree: &mut BTreeMap<PathBuf, Option<usize>>, from: &Path, to: &Path) {
    let moved: Vec<PathBuf> = tree.keys().filter(|name| name.starts_with(from)).cloned().collect();
    for name in moved {
        let inode = tree.remove(&name).flatten();
        let rest = name.strip_prefix(from).unwrap_or(Path::new(""));
        let new_name = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        tree.insert(new_name, inode);
    }
}

/// Numbers from a seed (splitmix64): equal seeds, equal images.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
