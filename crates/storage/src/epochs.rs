//! At which offset each leader epoch of a partition began. Followers and consumers find with it where their log and the
//! leader's part (KIP-101, KIP-320). Kept in Kafka's `leader-epoch-checkpoint`.

use std::io;
use std::path::Path;

use ottla_protocol::ids::{LeaderEpoch, Offset};

use crate::checkpoint::{self, CheckpointError};
use crate::files::Files;

/// Name of the file in a partition's directory.
pub const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// An epoch, and the first offset that was or will be written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// Where an epoch ends: the answer of OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch not above the one asked for.
    pub epoch: LeaderEpoch,
    /// First offset after that epoch.
    pub end_offset: Offset,
}

/// All epochs of one log, rising in epoch and in start offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Notes that `epoch` begins at `start_offset`. An epoch that is already the latest keeps its earlier start; entries
    /// that contradict the new one (as high an epoch, or as high a start) go. True when anything changed, that is when
    /// the file is to be written. A negative epoch (a batch without one) changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch < LeaderEpoch(0) || start_offset < Offset(0) {
            return false;
        }
        if let Some(latest) = self.latest()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return false;
        }
        let contradicts = |entry: &EpochStart| entry.epoch >= epoch || entry.start_offset >= start_offset;
        let kept = self.entries.iter().rposition(|entry| !contradicts(entry)).map_or(0, |last| last + 1);
        self.entries.truncate(kept);
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The latest epoch and where it began.
    #[must_use]
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// The first epoch that is still known.
    #[must_use]
    pub fn earliest(&self) -> Option<EpochStart> {
        self.entries.first().copied()
    }

    /// All entries, rising.
    #[must_use]
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Where `epoch` ends in a log that ends at `log_end` (Kafka's OffsetForLeaderEpoch): the latest epoch ends at the
    /// log's end; another where the next begins, answered with the largest known epoch not above it, or with itself
    /// when it lies before all that is known. `None` (-1 and -1 on the wire) when it is negative or still to come.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if epoch < LeaderEpoch(0) {
            return None;
        }
        let next = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let floor = next.checked_sub(1).map(|index| self.entries[index].epoch);
        match self.entries.get(next) {
            Some(next) => Some(EpochEnd { epoch: floor.unwrap_or(epoch), end_offset: next.start_offset }),
            None if floor == Some(epoch) => Some(EpochEnd { epoch, end_offset: log_end }),
            None => None,
        }
    }

    /// The epoch in which `offset` was written; `None` when it lies before all that is known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// The log now ends at `end_offset`: epochs that began there or later are gone. True when anything changed.
    pub fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let before = self.entries.len();
        self.entries.truncate(self.entries.partition_point(|entry| entry.start_offset < end_offset));
        self.entries.len() != before
    }

    /// The log now starts at `start_offset`: the epoch of that offset begins there, older ones are gone. True when
    /// anything changed.
    pub fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(index) = after.checked_sub(1) else { return false };
        if index == 0 && self.entries[0].start_offset == start_offset {
            return false;
        }
        self.entries.drain(..index);
        self.entries[0].start_offset = start_offset;
        true
    }

    /// Forgets all. True when there was anything.
    pub fn clear(&mut self) -> bool {
        let had_any = !self.entries.is_empty();
        self.entries.clear();
        had_any
    }

    /// Reads the file in a partition's directory; an absent one is empty.
    pub fn read(files: &dyn Files, partition_dir: &Path) -> Result<Self, CheckpointError> {
        let path = partition_dir.join(LEADER_EPOCH_FILE);
        match checkpoint::read_whole(files, &path) {
            Ok(None) => Ok(Self::default()),
            Ok(Some(contents)) => {
                Self::decode(&contents).map_err(|why| CheckpointError::Damaged { path, why })
            }
            Err(source) => Err(CheckpointError::Io { path, source }),
        }
    }

    /// Replaces the file in a partition's directory, durably.
    pub fn write(&self, files: &dyn Files, partition_dir: &Path) -> io::Result<()> {
        checkpoint::write_atomically(files, &partition_dir.join(LEADER_EPOCH_FILE), self.encode().as_bytes())
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        checkpoint::encode_lines(
            self.entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset)),
        )
    }

    /// Reads the file's text; the error says what is wrong where.
    pub fn decode(contents: &[u8]) -> Result<Self, String> {
        let mut entries: Vec<EpochStart> = Vec::new();
        checkpoint::decode_lines(contents, |fields| {
            let &[epoch, start_offset] = fields else { return Err("not epoch and offset") };
            let epoch = LeaderEpoch(epoch.parse().map_err(|_| "the epoch is not a number")?);
            let start_offset = Offset(start_offset.parse().map_err(|_| "the offset is not a number")?);
            if epoch < LeaderEpoch(0) || start_offset < Offset(0) {
                return Err("negative");
            }
            if entries.last().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
                return Err("does not rise");
            }
            entries.push(EpochStart { epoch, start_offset });
            Ok(())
        })?;
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for &(epoch, start_offset) in entries {
            assert!(epochs.assign(LeaderEpoch(epoch), Offset(start_offset)));
        }
        assert_eq!(pairs(&epochs), entries);
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|entry| (entry.epoch.0, entry.start_offset.0)).collect()
    }

    fn end_of(epochs: &LeaderEpochs, epoch: i32) -> Option<(i32, i64)> {
        let end = epochs.end_offset_for(LeaderEpoch(epoch), Offset(100))?;
        Some((end.epoch.0, end.end_offset.0))
    }

    #[test]
    fn only_a_new_epoch_changes_anything() {
        let mut epochs = epochs(&[(0, 0), (2, 20)]);
        assert!(!epochs.assign(LeaderEpoch(2), Offset(20)));
        assert!(!epochs.assign(LeaderEpoch(2), Offset(30)));
        assert!(!epochs.assign(LeaderEpoch::NONE, Offset(30)));
        assert_eq!(pairs(&epochs), [(0, 0), (2, 20)]);
    }

    #[test]
    fn what_contradicts_the_new_epoch_goes() {
        let check = |epoch, start_offset, expected: &[(i32, i64)]| {
            let mut epochs = epochs(&[(0, 0), (2, 20), (4, 40)]);
            assert!(epochs.assign(LeaderEpoch(epoch), Offset(start_offset)));
            assert_eq!(pairs(&epochs), expected);
        };
        check(5, 40, &[(0, 0), (2, 20), (5, 40)]); // nothing was written in epoch 4
        check(4, 30, &[(0, 0), (2, 20), (4, 30)]);
        check(3, 50, &[(0, 0), (2, 20), (3, 50)]);
        check(5, 10, &[(0, 0), (5, 10)]);
        check(1, 0, &[(1, 0)]);
    }

    #[test]
    fn ends_are_answered_as_kafka_does() {
        let epochs = epochs(&[(2, 20), (4, 40), (6, 60)]);
        assert_eq!(end_of(&epochs, 6), Some((6, 100))); // the latest: the log's end
        assert_eq!(end_of(&epochs, 4), Some((4, 60)));
        assert_eq!(end_of(&epochs, 5), Some((4, 60))); // unknown: the one before
        assert_eq!(end_of(&epochs, 3), Some((2, 40)));
        assert_eq!(end_of(&epochs, 1), Some((1, 20))); // before all: where the known begins
        assert_eq!(end_of(&epochs, 7), None);
        assert_eq!(end_of(&epochs, -1), None);
        assert_eq!(end_of(&LeaderEpochs::default(), 0), None);
    }

    #[test]
    fn offsets_have_the_epoch_they_were_written_in() {
        let epochs = epochs(&[(2, 20), (4, 40)]);
        let at = |offset| epochs.epoch_at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!([at(19), at(20), at(39), at(40), at(4000)], [None, Some(2), Some(2), Some(4), Some(4)]);
    }

    #[test]
    fn cutting_the_log_cuts_the_epochs() {
        let full = epochs(&[(0, 0), (2, 20), (4, 40)]);
        let from_end = |offset| {
            let mut cut = full.clone();
            assert_eq!(cut.truncate_from_end(Offset(offset)), cut != full);
            pairs(&cut)
        };
        assert_eq!(from_end(41), [(0, 0), (2, 20), (4, 40)]);
        assert_eq!(from_end(40), [(0, 0), (2, 20)]);
        assert_eq!(from_end(1), [(0, 0)]);
        assert_eq!(from_end(0), []);
        let from_start = |offset| {
            let mut cut = full.clone();
            assert_eq!(cut.truncate_from_start(Offset(offset)), cut != full);
            pairs(&cut)
        };
        assert_eq!(from_start(0), [(0, 0), (2, 20), (4, 40)]);
        assert_eq!(from_start(19), [(0, 19), (2, 20), (4, 40)]);
        assert_eq!(from_start(20), [(2, 20), (4, 40)]);
        assert_eq!(from_start(90), [(4, 90)]);
    }

    #[test]
    fn the_file_is_kafkas_and_damage_is_found() {
        let text = "0\n4\n0 0\n2 20\n4 40\n6 60\n";
        let epochs = LeaderEpochs::decode(text.as_bytes()).expect("Kafka's own");
        assert_eq!(pairs(&epochs), [(0, 0), (2, 20), (4, 40), (6, 60)]);
        assert_eq!(epochs.encode(), text);
        for broken in [
            "",
            "0\n",
            "0\n1\n",
            "0\n1\n0\n",
            "0\n1\n0 x\n",
            "0\n2\n2 20\n4 20\n",
            "0\n2\n2 20\n2 30\n",
            "0\n1\n-1 0\n",
        ] {
            assert!(LeaderEpochs::decode(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn entries_always_rise_and_survive_the_file(
            steps in prop::collection::vec((0..4u8, 0..30i32, 0..200i64), 0..40)
        ) {
            let mut epochs = LeaderEpochs::default();
            for (kind, epoch, offset) in steps {
                let before = epochs.clone();
                let changed = match kind {
                    0 => epochs.truncate_from_end(Offset(offset)),
                    1 => epochs.truncate_from_start(Offset(offset)),
                    _ => epochs.assign(LeaderEpoch(epoch), Offset(offset)),
                };
                prop_assert_eq!(changed, epochs != before);
                let rises = |pair: &[EpochStart]| pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset;
                prop_assert!(epochs.entries().windows(2).all(rises));
                prop_assert_eq!(LeaderEpochs::decode(epochs.encode().as_bytes()), Ok(epochs.clone()));
            }
        }
    }
}
