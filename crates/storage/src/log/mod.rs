//! One partition's log: segments in a directory. One owner, who holds a lock around it; no clock, no thread, nothing async.
//!
//! Appending writes one batch at the end of the active segment; syncing happens beside it, by tickets, oldest segment first.
//! A segment that begins before the one before it is synced bears a mark until then, so that recovery knows a hole between
//! them from a loss.

mod append;
mod clean;
mod config;
mod read;
mod rolled;
mod sync;
mod trim;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::ids::{LeaderEpoch, Offset};

use crate::descriptors::Descriptors;
use crate::epochs::{EpochStart, LeaderEpochs};
use crate::files::{File, Files};
use crate::planted::{Bug, planted};
use crate::producers::ProducerStates;
use crate::segment::{Segment, SegmentError, segment_path};

use rolled::{Pinned, Rolled};

pub(crate) use clean::{CLEANED_SUFFIX, GAPS_FILE, SWAP_SUFFIX, SWAPPED_EXTENSIONS, Source, read_gaps_below};
pub use clean::{Cleanable, CleaningPlan, PlanStamp, Swapped};
pub use config::{DamagedRange, LogConfig, LogError, OpenFrom, RecoveryReport};
pub use read::{LogSlice, TimestampOffset};
pub(crate) use rolled::UNSYNCED_MARK;
pub use sync::SyncTicket;
pub use trim::RemovedSegment;
pub(crate) use trim::{DELETED_SUFFIX, SIDE_EXTENSIONS};

/// One partition's log. All offsets it takes and gives are absolute; "end" is exclusive.
#[derive(Debug)]
pub struct Log {
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    /// Rising; the last is the active one. Empty until the first append.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) start_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) durable_offset: Offset,
    /// What compaction has to look at next: below, every key is there once at most (or was hidden by DeleteRecords).
    pub(crate) cleaned_to: Offset,
    /// Below, offsets may have gaps whatever the policy is now: a file beside the segments says so.
    pub(crate) gaps_below: Offset,
    pub(crate) epochs: LeaderEpochs,
    /// Epochs that the file does not have. It is written when a segment is closed: those of the active one stand in its
    /// batches, which every unclean opening reads.
    pub(crate) epochs_changed: bool,
    pub(crate) producers: ProducerStates,
    pub(crate) unsynced: Unsynced,
    /// The leader epochs that are known to be in their file.
    pub(crate) epochs_on_disk: LeaderEpochs,
    /// Rises with every truncation: a sync that began before says nothing about what came after.
    truncations: u64,
    /// What a ticket that is out syncs; nobody knows how far it is.
    in_flight: InFlight,
    /// Whether anything was written since the log was opened as clean.
    pub(crate) is_changed: bool,
    /// What stands in the producers' last snapshot; none is written twice.
    pub(crate) snapshot_at: Option<Offset>,
    deleted: Vec<trim::Deleted>,
    fenced: Option<String>,
}

/// What the next sync has to bring to disk.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    /// Closed segments, the oldest first.
    rolled: Vec<Arc<Rolled>>,
    /// The active segment's file, pinned, when it has unsynced data.
    data: Option<Pinned>,
    pub(crate) epochs: bool,
    /// Names were made in the log's directory.
    pub(crate) dir: bool,
    /// The directory itself is new.
    pub(crate) parent: bool,
}

/// The data of a ticket that is out.
#[derive(Debug, Default)]
struct InFlight {
    rolled: Vec<Arc<Rolled>>,
    data: Option<Arc<dyn File>>,
}

impl InFlight {
    fn is_empty(&self) -> bool {
        self.rolled.is_empty() && self.data.is_none()
    }
}

impl Log {
    /// Opens the log in `dir`, which may be absent (it is made at the first append). After an unclean stop everything from
    /// `from.recovery_point` on is read and checked, and a torn end is cut off.
    ///
    /// # Errors
    /// `Damaged` for what was lost otherwise: nothing is changed then (see [`Log::open_cutting_damage`]). `Io`.
    pub fn open(
        descriptors: &Arc<Descriptors>,
        dir: PathBuf,
        config: LogConfig,
        from: OpenFrom,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), LogError> {
        let log = Self::without_segments(descriptors, dir, config, from);
        crate::recovery::recover(log, from, crate::recovery::OnDamage::Refuse, now_ms)
    }

    /// Like [`Log::open`], but what stands at and behind the first damage above the recovery point (or anywhere in the
    /// segments that are checked) is cut off: for an operator who has decided to lose it, or a replica that has a leader to
    /// refetch from.
    ///
    /// # Errors
    /// `Io`.
    pub fn open_cutting_damage(
        descriptors: &Arc<Descriptors>,
        dir: PathBuf,
        config: LogConfig,
        from: OpenFrom,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), LogError> {
        let log = Self::without_segments(descriptors, dir, config, from);
        crate::recovery::recover(log, from, crate::recovery::OnDamage::Cut, now_ms)
    }

    fn without_segments(
        descriptors: &Arc<Descriptors>,
        dir: PathBuf,
        config: LogConfig,
        from: OpenFrom,
    ) -> Self {
        Self {
            descriptors: Arc::clone(descriptors),
            dir,
            config,
            segments: VecDeque::new(),
            start_offset: from.log_start_offset,
            end_offset: from.log_start_offset,
            durable_offset: from.log_start_offset,
            cleaned_to: from.cleaned_to,
            gaps_below: Offset(0),
            epochs: LeaderEpochs::default(),
            epochs_changed: false,
            epochs_on_disk: LeaderEpochs::default(),
            producers: ProducerStates::default(),
            unsynced: Unsynced::default(),
            truncations: 0,
            in_flight: InFlight::default(),
            is_changed: false,
            snapshot_at: None,
            deleted: Vec::new(),
            fenced: None,
        }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset that can be read.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.start_offset
    }

    /// The next record's offset.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Everything below is on disk.
    #[must_use]
    pub fn durable_offset(&self) -> Offset {
        if planted(Bug::AckBeforeSync) { self.end_offset } else { self.durable_offset }
    }

    /// The recovery point to write down. Recovery learns leader epochs from the segments that it reads, which are those from the
    /// recovery point on: it must not leave a segment behind with an epoch that is not in the epochs' file.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        let is_missing = |epoch: &&EpochStart| !self.epochs_on_disk.entries().contains(epoch);
        let missing = self.epochs.entries().iter().find(is_missing).map(|epoch| epoch.start_offset);
        let is_behind = |start: &Offset| self.segment_index(*start) < self.segment_index(self.durable_offset);
        missing.filter(is_behind).map_or(self.durable_offset, |start| start.min(self.durable_offset))
    }

    /// Whether something waits for a sync.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let Unsynced { rolled, data, epochs, dir, parent } = &self.unsynced;
        !rolled.is_empty() || data.is_some() || *epochs || *dir || *parent
    }

    /// Why nothing is appended any more, after a failed write or sync.
    #[must_use]
    pub fn fenced(&self) -> Option<&str> {
        self.fenced.as_deref()
    }

    /// Bytes of all segments, without indexes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Where leader epochs began.
    #[must_use]
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Notes that a leader epoch begins at the end of the log, before its first batch.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        self.epochs_changed |= self.epochs.assign(epoch, self.end_offset);
    }

    /// The producers of its batches.
    #[must_use]
    pub fn producers(&self) -> &ProducerStates {
        &self.producers
    }

    /// Forgets producers that wrote nothing for so long; see [`ProducerStates::expire`].
    pub fn expire_producers(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        self.producers.expire(now_ms, expiration_ms)
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings, from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    pub(crate) fn files(&self) -> &dyn Files {
        &**self.descriptors.files()
    }

    /// The segment that holds `offset`, or the last that begins below it.
    fn segment_index(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    fn check_usable(&self) -> Result<(), LogError> {
        self.fenced.as_ref().map_or(Ok(()), |why| Err(LogError::Failed(why.clone())))
    }

    /// From here on nothing is appended: what is on disk is unknown.
    fn fence(&mut self, what: &str, error: &io::Error) -> LogError {
        let why = format!("{what} in {}: {error}", self.dir.display());
        LogError::Failed(self.fenced.get_or_insert(why).clone())
    }

    pub(crate) fn segment_error(&self, segment: &Segment, from: Offset, error: SegmentError) -> LogError {
        let path = segment_path(&self.dir, segment.base_offset, "log");
        match error {
            SegmentError::Io(source) => LogError::io(format!("cannot read {}", path.display()), source),
            SegmentError::Bad { position, why } => LogError::Damaged(Box::new(DamagedRange {
                file: path.display().to_string(),
                position,
                from,
                until: None,
                why: why.to_string(),
            })),
        }
    }
}

/// Whether an error says that the device (or the user's share of it) is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
