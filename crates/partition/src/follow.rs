//! Following: what is asked of the leader, and what becomes of its answers. Appends, cuts and reports in the order that the replica
//! machine says.

use std::sync::Arc;

use ottla_cluster::replica::{EpochEnd, Fetched, Following, Progress, Step};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};
use ottla_protocol::records::{Batch, Batches};
use ottla_storage::log::{Log, LogError};

use crate::error::PartitionError;
use crate::partition::{Inner, Partition};

/// What to ask the leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// The leader.
    pub leader: BrokerId,
    /// Epoch of its leadership.
    pub leader_epoch: LeaderEpoch,
    /// First offset that is wanted.
    pub offset: Offset,
    /// Epoch of the last record before that; -1 when the log has none.
    pub last_epoch: LeaderEpoch,
    /// First offset of the log.
    pub log_start_offset: Offset,
}

/// A leader's answer without an error.
#[derive(Clone, Copy, Debug)]
pub struct FetchedData<'a> {
    /// What was asked for, and whether the logs part.
    pub fetched: Fetched,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// First offset of the leader's log; -1 when it does not say.
    pub log_start_offset: Offset,
    /// Batches; the last may be cut off.
    pub records: &'a [u8],
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It belongs to nothing that is still asked.
    Dropped,
    /// So many batches were appended, of so many bytes; there may be none.
    Appended {
        /// Batches.
        batches: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The log was cut and ends at `end` now: ask again from there.
    Truncated {
        /// End of the log.
        end: Offset,
        /// Committed records that are gone, as first offset and end: after an unclean election.
        lost: Option<(Offset, Offset)>,
    },
}

impl Partition {
    /// This replica follows another broker's leadership from now on: whoever waits for the own one learns that it is over.
    pub fn follow(&self, following: Following) {
        let mut inner = self.lock();
        let before = inner.replica.following();
        inner.replica.handle_follow(following);
        if inner.replica.following() != before {
            inner.wake_all();
        }
    }

    /// Whom this replica follows.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        self.lock().replica.following()
    }

    /// What to ask the leader for; `None` when this replica does not follow. Opens the log.
    ///
    /// # Errors
    /// The log failed or cannot be opened.
    pub fn fetch_position(&self, now_ms: i64) -> Result<Option<FetchPosition>, PartitionError> {
        let mut inner = self.lock();
        let Some(following) = inner.replica.following() else { return Ok(None) };
        let log = self.log(&mut inner, now_ms)?;
        Ok(Some(FetchPosition {
            leader: following.leader,
            leader_epoch: following.epoch,
            offset: log.end_offset(),
            last_epoch: log.epochs().latest().map_or(LeaderEpoch::NONE, |latest| latest.epoch),
            log_start_offset: log.start_offset(),
        }))
    }

    /// The leader answered a fetch: appends what it sent as it is, or cuts what is not the leader's. The checksums of the batches
    /// are verified here.
    ///
    /// # Errors
    /// `Corrupt`: batches before the bad one were appended; ask again. `NoSpace`, `Storage`: ask again later. `Failed`.
    pub fn handle_fetched(
        self: &Arc<Self>,
        data: &FetchedData<'_>,
        now_ms: i64,
    ) -> Result<Followed, PartitionError> {
        // Before the lock: this walks over all bytes.
        let (batches, fault) = verified(data.records);
        let mut inner = self.lock();
        let log = self.log(&mut inner, now_ms)?;
        let local_end = data.fetched.diverging.and_then(|diverging| epoch_end(log, diverging.epoch));
        let is_known = inner.replica.durable_report().is_some();
        let step = inner.replica.handle_fetched(&data.fetched, local_end);
        if step != Step::Append {
            return self.cut(&mut inner, step, now_ms);
        }
        let appended = self.append_fetched(&mut inner, &batches, data, now_ms);
        if let Some(log) = inner.open_log() {
            let local = progress_of(log);
            inner.replica.handle_appended(local, data.high_watermark);
        }
        if !is_known {
            self.report(&inner);
        }
        self.after_progress(&mut inner, true, now_ms);
        let bytes = appended?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        self.raise_start(&mut inner, data.log_start_offset, now_ms)?;
        Ok(Followed::Appended { batches: batches.len(), bytes })
    }

    /// The leader's log is `start..leader_end`, and the offset that was asked for is not in it.
    ///
    /// # Errors
    /// As [`Partition::handle_fetched`].
    pub fn handle_out_of_range(
        self: &Arc<Self>,
        asked: &Fetched,
        start: Offset,
        leader_end: Offset,
        now_ms: i64,
    ) -> Result<Followed, PartitionError> {
        let mut inner = self.lock();
        self.log(&mut inner, now_ms)?;
        let step = inner.replica.handle_out_of_range(asked, start, leader_end);
        self.cut(&mut inner, step, now_ms)
    }

    /// Whom to tell, and what is on disk here: everything below the offset. `None` while that says nothing to the leader. To be
    /// sent again for all partitions that follow a leader when the connection to it is a new one.
    #[must_use]
    pub fn durable_report(&self) -> Option<(Following, Offset)> {
        let inner = self.lock();
        Some((inner.replica.following()?, inner.replica.durable_report()?))
    }

    pub(crate) fn report(&self, inner: &Inner) {
        if let (Some(following), Some(durable)) = (inner.replica.following(), inner.replica.durable_report())
        {
            self.observer.report_due(self.key(), following, durable);
        }
    }

    fn append_fetched(
        self: &Arc<Self>,
        inner: &mut Inner,
        batches: &[Batch<'_>],
        data: &FetchedData<'_>,
        now_ms: i64,
    ) -> Result<usize, PartitionError> {
        let mut bytes = 0;
        for batch in batches {
            let header = batch.header();
            inner.check_room()?;
            let log = self.log(inner, now_ms)?;
            if header.next_offset() <= log.end_offset() {
                continue;
            }
            check_epoch(log, header.partition_leader_epoch, data.fetched.leader_epoch)?;
            if header.base_offset < log.end_offset() {
                self.begin_before(inner, header.base_offset, now_ms)?;
            }
            let log = self.log(inner, now_ms)?;
            if let Err(error) = log.append_fetched(header, batch.payload(), data.high_watermark, now_ms) {
                if let (LogError::NoSpace, Some(directory)) = (&error, &inner.directory) {
                    self.observer.no_room(directory, header.size_bytes());
                }
                return Err(self.write_error(inner, error));
            }
            bytes += header.size_bytes();
        }
        inner.unsynced_bytes += bytes as u64;
        Ok(bytes)
    }

    /// The leader's log starts inside of a batch: an empty log that starts there begins anew where the batch does.
    fn begin_before(
        &self,
        inner: &mut Inner,
        base_offset: Offset,
        now_ms: i64,
    ) -> Result<(), PartitionError> {
        let log = self.log(inner, now_ms)?;
        if log.start_offset() < log.end_offset() {
            let end = log.end_offset();
            let why = format!(
                "a batch from the leader begins at {base_offset}, inside of the log, which ends at {end}"
            );
            return Err(PartitionError::Corrupt(why));
        }
        self.lower_recovery_point(inner, base_offset)?;
        let log = self.log(inner, now_ms)?;
        log.truncate_all_and_start_at(base_offset, now_ms).map_err(|error| self.write_error(inner, error))
    }

    /// Does what the machine says about the end of the log.
    fn cut(self: &Arc<Self>, inner: &mut Inner, step: Step, now_ms: i64) -> Result<Followed, PartitionError> {
        let log = self.log(inner, now_ms)?;
        let cut = match step {
            Step::Drop | Step::Append => return Ok(Followed::Dropped),
            Step::Truncate(to) => {
                let point = log.truncation_point(to)?;
                self.lower_recovery_point(inner, point)?;
                self.log(inner, now_ms)?.truncate_to(to, now_ms)
            }
            Step::Restart(at) => log.truncate_all_and_start_at(at, now_ms),
        };
        cut.map_err(|error| self.write_error(inner, error))?;
        let local = progress_of(self.log(inner, now_ms)?);
        let lost = inner.replica.handle_truncated(local);
        inner.progressed();
        Ok(Followed::Truncated { end: local.end, lost })
    }

    /// A crash while the log is cut must not look like a loss.
    fn lower_recovery_point(&self, inner: &Inner, point: Offset) -> Result<(), PartitionError> {
        let Some(directory) = &inner.directory else { return Ok(()) };
        let lowered = directory.lower_recovery_point(&self.name(), point);
        lowered.map_err(|error| PartitionError::Storage(format!("cannot write the recovery point: {error}")))
    }

    /// What the leader deleted is deleted here too.
    fn raise_start(&self, inner: &mut Inner, leaders: Offset, now_ms: i64) -> Result<(), PartitionError> {
        let high_watermark = inner.replica.high_watermark();
        let log = self.log(inner, now_ms)?;
        let to = leaders.min(high_watermark).min(log.end_offset());
        if to > log.start_offset() {
            log.advance_start_offset(to, now_ms).map_err(|error| self.write_error(inner, error))?;
        }
        Ok(())
    }
}

/// The batches whose checksums are right, up to the first that is not one.
fn verified(records: &[u8]) -> (Vec<Batch<'_>>, Option<PartitionError>) {
    let mut found = Vec::new();
    for batch in Batches::new(records).verifying() {
        match batch {
            Ok(batch) => found.push(batch),
            Err(error) => {
                let why = format!("the leader sent a bad batch: {error}");
                return (found, Some(PartitionError::Corrupt(why)));
            }
        }
    }
    (found, None)
}

/// Epochs rise within a log, and none is above that of the leadership in which it was fetched.
fn check_epoch(log: &Log, epoch: LeaderEpoch, leaders: LeaderEpoch) -> Result<(), PartitionError> {
    let latest = log.epochs().latest().map_or(LeaderEpoch::NONE, |latest| latest.epoch);
    if epoch > leaders || epoch < latest {
        let why = format!("a batch from the leader of epoch {leaders} is of epoch {epoch}, after {latest}");
        return Err(PartitionError::Corrupt(why));
    }
    Ok(())
}

/// Where `epoch` ends in the log, as OffsetForLeaderEpoch answers it.
pub(crate) fn epoch_end(log: &Log, epoch: LeaderEpoch) -> Option<EpochEnd> {
    let found = log.epochs().end_offset_for(epoch, log.end_offset())?;
    Some(EpochEnd { epoch: found.epoch, end: found.end_offset })
}

pub(crate) fn progress_of(log: &Log) -> Progress {
    Progress { end: log.end_offset(), durable: log.durable_offset() }
}
