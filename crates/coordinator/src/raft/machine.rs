//! What committed entries do: they change the image, and everybody is told. Also the snapshots that take the place of old entries.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, alias};
use ottla_cluster::features::Features;
use ottla_cluster::image::{MetadataDelta, MetadataImage, MetadataRecord};
use ottla_storage::files::Files;
use tokio::sync::Notify;

use super::snapshot::Snapshot;
use super::{Entry, EntryId, Membership, StoredMembership, Types, to_i64};
use crate::coordinator::SnapshotLimits;
use crate::error::OpenError;
use crate::feed::{FeedEntry, Published};

type LibrarySnapshot = alias::SnapshotOf<Types, MetadataImage>;
type LibraryMeta = alias::SnapshotMetaOf<Types>;

/// The image with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Replayed {
    pub(crate) image: MetadataImage,
    pub(crate) last: Option<EntryId>,
    pub(crate) membership: StoredMembership,
}

impl Replayed {
    /// Where a log without snapshot begins.
    pub(crate) fn new(snapshot: Option<&Snapshot>) -> Self {
        match snapshot {
            Some(Snapshot { image, last, membership }) => {
                Self { image: image.clone(), last: Some(*last), membership: membership.clone() }
            }
            None => {
                let membership = StoredMembership::new(None, Membership::default());
                Self { image: MetadataImage::default(), last: None, membership }
            }
        }
    }

    /// Applies a committed entry and gives its records.
    ///
    /// # Errors
    /// When a record does not fit, or a newer node wrote it: this node must stop.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<Vec<MetadataRecord>, OpenError> {
        let index = to_i64(entry.log_id.index);
        let records = super::records(&entry).map_err(|error| OpenError::Record { index, error })?;
        if let EntryPayload::Membership(members) = entry.payload {
            self.membership = StoredMembership::new(Some(entry.log_id), members);
        }
        let mut delta = MetadataDelta::default();
        for record in &records {
            self.image.apply(record, &mut delta).map_err(|error| OpenError::Apply { index, error })?;
        }
        if !delta.features_changed.is_empty() {
            check_features(&self.image)?;
        }
        self.image.set_index(index);
        self.last = Some(entry.log_id);
        Ok(records)
    }
}

/// Whether this program knows what the cluster has finalized.
pub(crate) fn check_features(image: &MetadataImage) -> Result<(), OpenError> {
    Ok(Features::known().check(image)?)
}

/// What the machine shares with those who make snapshots and those who ask what went wrong.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    /// Rung when the log has grown enough for a snapshot.
    pub(crate) snapshot_due: Notify,
    state: Mutex<State>,
}

/// Guarded by a lock that is held for moments only.
#[derive(Debug, Default)]
struct State {
    /// The snapshot on disk.
    current: Option<Snapshot>,
    /// What a snapshot that is due shall hold.
    wanted: Option<Snapshot>,
    /// Why nothing is applied any more.
    failure: Option<String>,
}

impl Shared {
    pub(crate) fn new(files: Arc<dyn Files>, dir: PathBuf, current: Option<Snapshot>) -> Self {
        let state = Mutex::new(State { current, ..State::default() });
        Self { files, dir, snapshot_due: Notify::new(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is applied any more.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Writes the snapshot that is due; false when none was. Blocks.
    pub(crate) fn write_wanted(&self) -> io::Result<bool> {
        let Some(wanted) = self.state().wanted.take() else { return Ok(false) };
        self.write(wanted)?;
        Ok(true)
    }

    fn write(&self, snapshot: Snapshot) -> io::Result<()> {
        snapshot.write(&self.files, &self.dir).map_err(io::Error::other)?;
        self.state().current = Some(snapshot);
        Ok(())
    }

    fn current(&self) -> Option<LibrarySnapshot> {
        let state = self.state();
        state
            .current
            .as_ref()
            .map(|current| LibrarySnapshot { meta: current.meta(), snapshot: current.image.clone() })
    }
}

/// The state machine that the library drives.
pub(crate) struct Machine {
    pub(crate) replayed: Replayed,
    pub(crate) published: Arc<Published>,
    pub(crate) shared: Arc<Shared>,
    /// Entries and bytes of records since the last snapshot.
    pub(crate) grown: Grown,
    pub(crate) limits: SnapshotLimits,
}

/// How much has been applied since something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grown {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Grown {
    /// Counts an entry.
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        if let EntryPayload::Normal(change) = &entry.payload {
            self.bytes += change.records.iter().map(|record| record.len() as u64).sum::<u64>();
        }
    }
}

impl Machine {
    fn apply_one(&mut self, entry: Entry) -> io::Result<FeedEntry> {
        let index = to_i64(entry.log_id.index);
        self.grown.add(&entry);
        match self.replayed.apply(entry) {
            Ok(records) => Ok(FeedEntry { index, is_whole: false, records }),
            Err(error) => {
                tracing::error!(%error, "a committed entry cannot be applied: this node stops");
                self.shared.state().failure = Some(error.to_string());
                Err(io::Error::other(error.to_string()))
            }
        }
    }

    /// Asks for a snapshot when the log has grown enough.
    pub(crate) fn note_growth(&mut self) {
        let Some(last) = self.replayed.last else { return };
        if self.grown.entries < self.limits.entries && self.grown.bytes < self.limits.bytes {
            return;
        }
        self.grown = Grown::default();
        let Replayed { image, membership, .. } = self.replayed.clone();
        self.shared.state().wanted = Some(Snapshot { image, last, membership });
        self.shared.snapshot_due.notify_one();
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = MetadataImage;
    type SnapshotBuilder = Maker;

    async fn applied_state(&mut self) -> io::Result<(Option<EntryId>, StoredMembership)> {
        Ok((self.replayed.last, self.replayed.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let (mut applied, mut waiting) = (Vec::new(), Vec::new());
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            applied.push(self.apply_one(entry)?);
            waiting.extend(responder);
        }
        self.published.publish(self.replayed.image.clone(), applied);
        // Whoever is answered finds it published.
        for responder in waiting {
            responder.send(());
        }
        self.note_growth();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Maker {
        let Replayed { image, last, membership } = self.replayed.clone();
        let now = last.map(|last| Snapshot { image, last, membership });
        Maker { shared: self.shared.clone(), now }
    }

    async fn install_snapshot(&mut self, meta: &LibraryMeta, image: MetadataImage) -> io::Result<()> {
        let last = meta.last_log_id.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let membership = meta.last_membership.clone();
        check_features(&image).map_err(|error| io::Error::other(error.to_string()))?;
        let snapshot = Snapshot { image, last, membership };
        self.replayed = Replayed::new(Some(&snapshot));
        self.grown = Grown::default();
        let whole = FeedEntry::whole(&snapshot.image);
        write_aside(self.shared.clone(), snapshot).await?;
        self.published.publish(self.replayed.image.clone(), vec![whole]);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<LibrarySnapshot>> {
        Ok(self.shared.current())
    }
}

/// Makes a snapshot when the library asks: the one that is on disk, or where there is none the present state.
pub(crate) struct Maker {
    shared: Arc<Shared>,
    now: Option<Snapshot>,
}

impl RaftSnapshotBuilder<Types> for Maker {
    type SnapshotData = MetadataImage;

    async fn build_snapshot(&mut self) -> io::Result<LibrarySnapshot> {
        if self.shared.current().is_none()
            && let Some(now) = self.now.take()
        {
            write_aside(self.shared.clone(), now).await?;
        }
        self.shared.current().ok_or_else(|| io::Error::other("nothing has been applied yet"))
    }
}

/// Writes on a thread that may wait for the disk.
async fn write_aside(shared: Arc<Shared>, snapshot: Snapshot) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(move || shared.write(snapshot));
    written.await.map_err(io::Error::other)?
}
