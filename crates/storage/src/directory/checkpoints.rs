//! The checkpoints of a log directory: an offset per partition in each of Kafka's files, in memory and written when they changed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ottla_protocol::ids::Offset;

use super::{DirectoryError, Found, failed};
use crate::checkpoint::{
    CLEANER_OFFSET_FILE, CheckpointError, HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, OffsetCheckpoint,
    RECOVERY_POINT_FILE,
};
use crate::files::Files;
use crate::names::TopicPartition;

#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub(super) recovery_points: Checkpoint,
    pub(super) log_start_offsets: Checkpoint,
    pub(super) cleaned_to: Checkpoint,
    pub(super) high_watermarks: Checkpoint,
    /// How often a recovery point was lowered, and for which partitions when: what was gathered before that is out of date.
    pub(super) lowered: u64,
    pub(super) lowered_at: BTreeMap<TopicPartition, u64>,
}

/// From when what is gathered for [`LogDirectory::write_gathered`] is.
#[derive(Clone, Copy, Debug)]
pub struct GatheringStamp(pub(super) u64);

impl Checkpoints {
    /// Reads them without what has no directory. False when the recovery points were damaged: every log is read whole then, which
    /// costs time only.
    pub(super) fn load(
        files: &dyn Files,
        dir: &Path,
        found: &mut Found,
    ) -> Result<(Self, bool), DirectoryError> {
        let start_offsets = OffsetCheckpoint::read(files, &dir.join(LOG_START_OFFSET_FILE))
            .map_err(DirectoryError::LogStartOffsets)?;
        let mut read = |name, loss| read_or_do_without(files, &dir.join(name), loss, found);
        let (points, are_good) = read(RECOVERY_POINT_FILE, "every log is checked from its start")?;
        let cleaned_to = read(CLEANER_OFFSET_FILE, "compacted logs are cleaned from their start")?;
        let high_watermarks = read(HIGH_WATERMARK_FILE, "a new leader asks its followers what is committed")?;
        let load = |(mut now, is_good): (OffsetCheckpoint, bool)| {
            let before = now.offsets.len();
            now.offsets.retain(|partition, _| found.partitions.binary_search(partition).is_ok());
            Checkpoint { is_dirty: now.offsets.len() != before || !is_good, now }
        };
        let checkpoints = Self {
            recovery_points: load((points, are_good)),
            log_start_offsets: load((start_offsets, true)),
            cleaned_to: load(cleaned_to),
            high_watermarks: load(high_watermarks),
            ..Self::default()
        };
        Ok((checkpoints, are_good))
    }

    /// A log is about to be cut to end at `point`. True when a file has to be written before.
    pub(super) fn lower(&mut self, partition: &TopicPartition, point: Offset) -> bool {
        self.lowered += 1;
        self.lowered_at.insert(partition.clone(), self.lowered);
        let is_lower = self.recovery_points.lower(partition, point);
        self.high_watermarks.lower(partition, point) || is_lower
    }

    /// Writes those that changed, durably.
    pub(super) fn write(&mut self, files: &dyn Files, dir: &Path) -> io::Result<()> {
        self.cleaned_to.write(files, &dir.join(CLEANER_OFFSET_FILE))?;
        self.log_start_offsets.write(files, &dir.join(LOG_START_OFFSET_FILE))?;
        self.recovery_points.write(files, &dir.join(RECOVERY_POINT_FILE))?;
        self.high_watermarks.write(files, &dir.join(HIGH_WATERMARK_FILE))
    }

    /// It was another partition of that name.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.cleaned_to.set(partition.clone(), None);
        self.recovery_points.set(partition.clone(), None);
        self.log_start_offsets.set(partition.clone(), None);
        self.high_watermarks.set(partition.clone(), None);
        self.lowered_at.remove(partition);
    }
}

#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) now: OffsetCheckpoint,
    /// The file differs, as far as is known.
    is_dirty: bool,
}

impl Checkpoint {
    /// Not above `offset` any more. True when that changed it.
    fn lower(&mut self, partition: &TopicPartition, offset: Offset) -> bool {
        let is_above = self.now.get(partition).is_some_and(|written| written > offset);
        if is_above {
            self.set(partition.clone(), Some(offset));
        }
        is_above
    }

    pub(super) fn set(&mut self, partition: TopicPartition, offset: Option<Offset>) {
        let before = match offset {
            Some(offset) => self.now.offsets.insert(partition, offset),
            None => self.now.offsets.remove(&partition),
        };
        self.is_dirty |= before != offset;
    }

    fn write(&mut self, files: &dyn Files, path: &Path) -> io::Result<()> {
        if self.is_dirty {
            self.now.write(files, path)?;
            self.is_dirty = false;
        }
        Ok(())
    }
}

/// A damaged file is as good as none; `loss` tells an operator what that costs. False when it was damaged.
fn read_or_do_without(
    files: &dyn Files,
    path: &Path,
    loss: &str,
    found: &mut Found,
) -> Result<(OffsetCheckpoint, bool), DirectoryError> {
    match OffsetCheckpoint::read(files, path) {
        Ok(offsets) => Ok((offsets, true)),
        Err(CheckpointError::Io { path, source }) => Err(failed("read", &path, source)),
        Err(error @ CheckpointError::Damaged { .. }) => {
            found.warnings.push(format!("{error}; {loss}"));
            Ok((OffsetCheckpoint::default(), false))
        }
    }
}
