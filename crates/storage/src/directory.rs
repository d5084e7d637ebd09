//! One entry of `log.dirs`: a directory that is locked, knows to which cluster and node it belongs, holds the partitions'
//! directories, and remembers how far each was on disk. It does not own the logs; it opens nothing inside a partition.
//!
//! Files: `.lock`, `meta.properties`, `.kafka_cleanshutdown` (there only between an orderly stop and the next start),
//! `recovery-point-offset-checkpoint`, `log-start-offset-checkpoint`, `cleaner-offset-checkpoint`,
//! `replication-offset-checkpoint`, `.ottla-reserve`,
//! `.ottla-directory-id` (there only while `meta.properties` is not).

mod checkpoints;
mod claim;
mod space;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ottla_protocol::ids::{BrokerId, Offset, Uuid};

use crate::checkpoint::{self, CheckpointError};
use crate::files::Files;
use crate::log::OpenFrom;
use crate::meta::{META_PROPERTIES_FILE, MetaError, MetaProperties};
use crate::names::{DirKind, METADATA_DIR, TopicPartition, dir_kind};

use checkpoints::Checkpoints;

pub use checkpoints::GatheringStamp;
pub use claim::{Claim, DIRECTORY_ID_FILE};
pub use space::{RESERVE_BYTES, RESERVE_FILE};

/// The file whose lock says that a broker uses the directory.
pub const LOCK_FILE: &str = ".lock";
/// The mark of an orderly stop.
pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";

/// Why a log directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The file system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("log directory {} is in use by another broker (its lock is taken); give each broker its own log.dirs", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// `meta.properties` cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// There are partitions, but nothing says whose.
    #[error(
        "log directory {} holds partitions ({example}, ...) but no {META_PROPERTIES_FILE}; restore that file from a copy, \
         or start with an empty directory", path.display()
    )]
    NoIdentity {
        /// The directory.
        path: PathBuf,
        /// One of the partitions' directories.
        example: String,
    },
    /// It belongs to another cluster or node.
    #[error(
        "log directory {} belongs to {key} {found}, this broker has {key} {expected}; check log.dirs and the \
         configuration, the data were not touched", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// `cluster.id` or `node.id`.
        key: &'static str,
        /// What `meta.properties` says.
        found: String,
        /// What the broker was told.
        expected: String,
    },
    /// The log start offsets are lost: records that were deleted would come back.
    #[error(
        "{0}; restore the file from a copy, or remove it: then records deleted by DeleteRecords may be readable again until \
         retention takes their segment"
    )]
    LogStartOffsets(CheckpointError),
}

/// To whom the directory is to belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster: what another log directory or the configuration says, else a new one. See [`MetaProperties::read`].
    pub cluster_id: String,
    /// The node.
    pub node_id: BrokerId,
    /// A random id, taken when the directory is new.
    pub new_directory_id: Uuid,
}

/// What was found in a directory when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The partitions, by name.
    pub partitions: Vec<TopicPartition>,
    /// Directories of deleted partitions, for [`LogDirectory::remove_deleted`].
    pub deleted: Vec<PathBuf>,
    /// What an operator should know: damage that costs time, not data.
    pub warnings: Vec<String>,
    /// The directory had no identity before: it is new.
    pub is_new: bool,
}

/// How far a partition is, for the checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything below is on disk.
    pub recovery_point: Offset,
    /// Where the log starts, if DeleteRecords made that a place inside its first segment.
    pub log_start_offset: Option<Offset>,
    /// What compaction has to look at next, if it has cleaned anything.
    pub cleaned_to: Option<Offset>,
    /// What is known to be committed, if anything is.
    pub high_watermark: Option<Offset>,
}

/// A log directory in use by this process.
#[derive(Debug)]
pub struct LogDirectory {
    files: Arc<dyn Files>,
    path: PathBuf,
    meta: MetaProperties,
    was_clean: bool,
    clean_broker_epoch: Option<i64>,
    /// Guards the checkpoints in memory and the writing of their files.
    checkpoints: Mutex<Checkpoints>,
    /// Part of the next name of a renamed partition's directory.
    renames: AtomicU64,
    is_full: AtomicBool,
    fenced: OnceLock<String>,
    /// Held until the directory is dropped.
    _lock: Box<dyn Send + Sync + std::fmt::Debug>,
}

impl LogDirectory {
    /// Opens the directory at `path`; makes it when it is absent. Nothing in it is changed before it is locked and known
    /// to belong to `identity`; then the mark of an orderly stop is taken away, durably, so that only the next orderly
    /// stop makes the directory clean again.
    pub fn open(
        files: Arc<dyn Files>,
        path: PathBuf,
        identity: &Identity,
    ) -> Result<(Self, Found), DirectoryError> {
        Claim::take(files, path)?.open(identity)
    }

    fn open_locked(
        files: Arc<dyn Files>,
        path: PathBuf,
        lock: Box<dyn Send + Sync + std::fmt::Debug>,
        identity: &Identity,
    ) -> Result<(Self, Found), DirectoryError> {
        let mut found = look_around(&*files, &path)?;
        let meta = match MetaProperties::read(&*files, &path)? {
            Some(meta) => {
                let meta = check_identity(meta, identity, &path)?;
                claim::forget_promised_id(&*files, &path)?;
                meta
            }
            None => {
                found.is_new = true;
                make_identity(&*files, &path, identity, &found)?
            }
        };
        let clean_mark = take_clean_mark(&*files, &path)?;
        let (checkpoints, points_are_good) = Checkpoints::load(&*files, &path, &mut found)?;
        let directory = Self {
            files,
            path,
            meta,
            was_clean: clean_mark.is_some() && points_are_good,
            clean_broker_epoch: clean_mark.flatten().filter(|_| points_are_good),
            checkpoints: Mutex::new(checkpoints),
            renames: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            fenced: OnceLock::new(),
            _lock: lock,
        };
        if let Err(error) = directory.restore_reserve() {
            found
                .warnings
                .push(format!("no space is kept in reserve in {}: {error}", directory.path.display()));
        }
        Ok((directory, found))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system it is on.
    #[must_use]
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// To whom it belongs.
    #[must_use]
    pub fn meta(&self) -> &MetaProperties {
        &self.meta
    }

    /// Whether it had been closed in order when it was opened.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Epoch of the broker that closed it in order; `None` when it was not closed in order (KIP-966).
    #[must_use]
    pub fn clean_broker_epoch(&self) -> Option<i64> {
        self.clean_broker_epoch
    }

    /// Where a partition's files are or will be; the directory may not exist.
    #[must_use]
    pub fn partition_dir(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(partition.dir_name())
    }

    /// From where a partition's log is to be opened. What is noted of one without a directory is dropped: it was another's
    /// of the same name.
    #[must_use]
    pub fn open_from(&self, partition: &TopicPartition) -> OpenFrom {
        let mut checkpoints = lock(&self.checkpoints);
        // An error here is met again, and told, by who opens the log.
        if matches!(self.files.exists(&self.partition_dir(partition)), Ok(false)) {
            checkpoints.forget(partition);
        }
        OpenFrom {
            log_start_offset: checkpoints.log_start_offsets.now.get(partition).unwrap_or_default(),
            recovery_point: checkpoints.recovery_points.now.get(partition).unwrap_or_default(),
            cleaned_to: checkpoints.cleaned_to.now.get(partition).unwrap_or_default(),
            clean: self.was_clean,
        }
    }

    /// What was noted of a partition's high watermark; 0 when nothing was.
    #[must_use]
    pub fn high_watermark(&self, partition: &TopicPartition) -> Offset {
        lock(&self.checkpoints).high_watermarks.now.get(partition).unwrap_or_default()
    }

    /// Notes how far partitions are and writes the checkpoints that changed, durably. Partitions not named keep what they
    /// had. A recovery point that goes back is to be written before the log is cut below it. Not at the same time as a
    /// deletion of one of these partitions.
    pub fn write_checkpoints(
        &self,
        progress: impl IntoIterator<Item = (TopicPartition, Progress)>,
    ) -> io::Result<()> {
        let stamp = self.begin_gathering();
        self.write_gathered(stamp, progress)
    }

    /// To be called before the logs are asked how far they are, when they may be cut meanwhile.
    #[must_use]
    pub fn begin_gathering(&self) -> GatheringStamp {
        GatheringStamp(lock(&self.checkpoints).lowered)
    }

    /// Like [`LogDirectory::write_checkpoints`], with what was gathered since `stamp`; logs that were cut since then keep what
    /// [`LogDirectory::lower_recovery_point`] has written.
    pub fn write_gathered(
        &self,
        stamp: GatheringStamp,
        progress: impl IntoIterator<Item = (TopicPartition, Progress)>,
    ) -> io::Result<()> {
        let mut checkpoints = lock(&self.checkpoints);
        for (partition, progress) in progress {
            if checkpoints.lowered_at.get(&partition).is_some_and(|at| *at > stamp.0) {
                continue;
            }
            checkpoints.log_start_offsets.set(partition.clone(), progress.log_start_offset);
            checkpoints.cleaned_to.set(partition.clone(), progress.cleaned_to);
            checkpoints.high_watermarks.set(partition.clone(), progress.high_watermark);
            checkpoints.recovery_points.set(partition, Some(progress.recovery_point));
        }
        checkpoints.write(&*self.files, &self.path)
    }

    /// Before a log is cut to end at `point`: neither its recovery point nor its high watermark is above that any more, durably.
    pub fn lower_recovery_point(&self, partition: &TopicPartition, point: Offset) -> io::Result<()> {
        let mut checkpoints = lock(&self.checkpoints);
        if checkpoints.lower(partition, point) { checkpoints.write(&*self.files, &self.path) } else { Ok(()) }
    }

    /// Takes partitions out of sight, durably and in one go: their directories get names of deleted ones and their
    /// checkpoints are forgotten. Gives back the directories to remove, at leisure; a partition that was never written
    /// has none. The logs must not write any more.
    pub fn rename_for_deletion(&self, partitions: &[TopicPartition]) -> io::Result<Vec<PathBuf>> {
        self.rename_all(partitions, TopicPartition::deleted_dir_name)
    }

    /// Like [`LogDirectory::rename_for_deletion`], for partitions that nobody knows: the directories are kept under names
    /// that end in `-stray`, for an operator to look at.
    pub fn set_aside(&self, partitions: &[TopicPartition]) -> io::Result<Vec<PathBuf>> {
        self.rename_all(partitions, TopicPartition::stray_dir_name)
    }

    fn rename_all(
        &self,
        partitions: &[TopicPartition],
        new_name: fn(&TopicPartition, u128) -> String,
    ) -> io::Result<Vec<PathBuf>> {
        let mut checkpoints = lock(&self.checkpoints);
        let mut renamed = Vec::new();
        for partition in partitions {
            let from = self.partition_dir(partition);
            if self.files.exists(&from)? {
                let to = self.unused_path(partition, new_name)?;
                self.files.rename(&from, &to)?;
                renamed.push(to);
            }
            checkpoints.forget(partition);
        }
        if !renamed.is_empty() {
            self.files.sync_dir(&self.path)?;
        }
        // After the renames: what a crash in between leaves are entries without a directory, which `open` drops.
        checkpoints.write(&*self.files, &self.path)?;
        Ok(renamed)
    }

    fn unused_path(
        &self,
        partition: &TopicPartition,
        new_name: fn(&TopicPartition, u128) -> String,
    ) -> io::Result<PathBuf> {
        let high = u128::from_be_bytes(self.meta.directory_id.0) >> 64 << 64;
        loop {
            let low = self.renames.fetch_add(1, Ordering::Relaxed);
            let path = self.path.join(new_name(partition, high | u128::from(low)));
            if !self.files.exists(&path)? {
                return Ok(path);
            }
        }
    }

    /// Removes a directory that [`LogDirectory::rename_for_deletion`] or [`Found::deleted`] named, with all in it. One
    /// that is gone is no error.
    ///
    /// # Panics
    /// When `dir` is not the directory of a deleted partition in this log directory.
    pub fn remove_deleted(&self, dir: &Path) -> io::Result<()> {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_ours = dir.parent() == Some(&self.path) && dir_kind(name) == DirKind::Deleted;
        assert!(is_ours, "{} is not a deleted partition of {}", dir.display(), self.path.display());
        match self.files.remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Ends an orderly stop, after every log was synced and closed and the last [`LogDirectory::write_checkpoints`]:
    /// puts the mark there that lets the next start skip recovery. Refused when the directory is fenced.
    pub fn close_clean(&self, broker_epoch: i64) -> io::Result<()> {
        if let Some(why) = self.fenced() {
            return Err(io::Error::other(format!("not marked as clean, because it is fenced: {why}")));
        }
        lock(&self.checkpoints).write(&*self.files, &self.path)?;
        let mark = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        checkpoint::write_atomically(&*self.files, &self.path.join(CLEAN_SHUTDOWN_FILE), mark.as_bytes())
    }

    /// A write or sync failed in a way that leaves unknown what is on disk: nothing is written here any more. The first
    /// reason stays. True when it was not fenced before.
    pub fn fence(&self, why: &str) -> bool {
        self.fenced.set(why.to_owned()).is_ok()
    }

    /// Why nothing may be written here any more.
    #[must_use]
    pub fn fenced(&self) -> Option<&str> {
        self.fenced.get().map(String::as_str)
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io { what, path: path.to_owned(), source }
}

/// Makes `dir` and its missing parents, each name durable.
fn create_durably(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        if files.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    files.create_dir_all(dir)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        files.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn take_lock(
    files: &dyn Files,
    dir: &Path,
) -> Result<Box<dyn Send + Sync + std::fmt::Debug>, DirectoryError> {
    let path = dir.join(LOCK_FILE);
    files.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => DirectoryError::Locked { path: dir.to_owned() },
        _ => failed("lock", &path, source),
    })
}

fn look_around(files: &dyn Files, dir: &Path) -> Result<Found, DirectoryError> {
    let mut found = Found::default();
    let entries = files.list(dir).map_err(|source| failed("list", dir, source))?;
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        match dir_kind(&entry.name) {
            DirKind::Partition(partition) => found.partitions.push(partition),
            DirKind::Deleted => found.deleted.push(dir.join(entry.name)),
            DirKind::Metadata | DirKind::Other => {}
        }
    }
    found.partitions.sort_unstable();
    Ok(found)
}

fn check_identity(
    meta: MetaProperties,
    identity: &Identity,
    path: &Path,
) -> Result<MetaProperties, DirectoryError> {
    let foreign = |key, found: String, expected: String| {
        Err(DirectoryError::Foreign { path: path.to_owned(), key, found, expected })
    };
    if meta.cluster_id != identity.cluster_id {
        return foreign("cluster.id", meta.cluster_id, identity.cluster_id.clone());
    }
    if meta.node_id != identity.node_id {
        return foreign("node.id", meta.node_id.to_string(), identity.node_id.to_string());
    }
    Ok(meta)
}

fn make_identity(
    files: &dyn Files,
    path: &Path,
    identity: &Identity,
    found: &Found,
) -> Result<MetaProperties, DirectoryError> {
    let has_metadata =
        files.exists(&path.join(METADATA_DIR)).map_err(|source| failed("look into", path, source))?;
    let promised = claim::promised_id(files, path)?;
    let partition = found.partitions.first().map(TopicPartition::dir_name);
    // A node that is about to found or join a cluster may have metadata before it knows the cluster's name.
    let has_metadata = has_metadata && promised.is_none();
    if let Some(example) = partition.or_else(|| has_metadata.then(|| METADATA_DIR.to_owned())) {
        return Err(DirectoryError::NoIdentity { path: path.to_owned(), example });
    }
    let meta = MetaProperties {
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node_id,
        directory_id: promised.unwrap_or(identity.new_directory_id),
    };
    meta.write(files, path).map_err(|source| failed("write", &path.join(META_PROPERTIES_FILE), source))?;
    claim::forget_promised_id(files, path)?;
    Ok(meta)
}

/// `None` when there is no mark, else the broker epoch that it names (Kafka's older marks name none).
fn take_clean_mark(files: &dyn Files, dir: &Path) -> Result<Option<Option<i64>>, DirectoryError> {
    let path = dir.join(CLEAN_SHUTDOWN_FILE);
    let read = checkpoint::read_whole(files, &path).map_err(|source| failed("read", &path, source))?;
    let Some(contents) = read else { return Ok(None) };
    files.remove_file(&path).map_err(|source| failed("remove", &path, source))?;
    files.sync_dir(dir).map_err(|source| failed("sync", dir, source))?;
    Ok(Some(broker_epoch_in(&String::from_utf8_lossy(&contents))))
}

fn broker_epoch_in(mark: &str) -> Option<i64> {
    let (_, rest) = mark.split_once("\"brokerEpoch\":")?;
    rest.trim_end_matches('}').trim().parse().ok()
}

/// What is behind it stays whole: entries are set one by one and files replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
