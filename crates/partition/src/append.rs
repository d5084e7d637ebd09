//! Appending as the leader, and waiting until what was appended is committed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla_cluster::planted::{Bug, planted};
use ottla_cluster::replica::Durability;
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::BatchHeader;
use ottla_storage::log::LogError;
use ottla_storage::producers::{Checked, ProducerError};

use crate::error::{Fault, PartitionError};
use crate::partition::{Inner, Partition, SyncWish};
use crate::wait::Waiter;

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record: committed once the high watermark is here.
    pub next_offset: Offset,
    /// Epoch it was appended in.
    pub epoch: LeaderEpoch,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// An idempotent producer sent it again: nothing was written. Its first answer's timestamp, in ms.
    pub duplicate_of: Option<i64>,
}

/// Whether the producer asked for acks=all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// acks=0 or 1: answered after the append.
    Leader,
    /// acks=all: refused when the ISR is too small, answered when committed.
    All,
}

/// The number of the error with which a device says that it failed.
const EIO: i32 = 5;

impl Inner {
    /// Refuses what cannot be written, before it is tried.
    pub(crate) fn check_room(&self) -> Result<(), PartitionError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if let Some(why) = directory.fenced() {
            return Err(PartitionError::Failed(format!("the log directory is offline: {why}")));
        }
        if directory.is_full() { Err(PartitionError::NoSpace) } else { Ok(()) }
    }
}

impl Partition {
    /// Appends one validated batch: leader epoch, producer id and sequence, offsets, one write. `header` is the producer's
    /// (its base offset and epoch are replaced), `payload` what follows its 61 bytes.
    ///
    /// # Errors
    /// Not the leader, too few replicas for acks=all, a gap or stale epoch of an idempotent producer, no space, a failed log.
    pub fn append_as_leader(
        self: &Arc<Self>,
        header: &BatchHeader,
        payload: &[u8],
        acks: Acks,
        now_ms: i64,
    ) -> Result<Appended, PartitionError> {
        let mut inner = self.lock();
        let leadership = inner.replica.leadership().ok_or(PartitionError::NotLeader)?;
        if acks == Acks::All && !leadership.has_enough_replicas() {
            let needed = leadership.min_insync_effective();
            return Err(PartitionError::NotEnoughReplicas { isr: leadership.isr.len(), needed });
        }
        let epoch = leadership.epoch;
        let log = self.log(&mut inner, now_ms)?;
        let log_start_offset = log.start_offset();
        if header.producer_id != ProducerId::NONE
            && let Checked::Duplicate(first) = log.producers().check(header)?
        {
            return Ok(Appended {
                base_offset: first.base_offset,
                next_offset: first.last_offset.plus(1),
                epoch,
                log_start_offset,
                duplicate_of: Some(first.timestamp),
            });
        }
        let base_offset = log.end_offset();
        inner.check_room()?;
        let header = BatchHeader { base_offset, partition_leader_epoch: epoch, ..header.clone() };
        let log = self.log(&mut inner, now_ms)?;
        if let Err(error) = log.append(&header, payload, now_ms) {
            if let (LogError::NoSpace, Some(directory)) = (&error, &inner.directory) {
                self.observer.no_room(directory, header.size_bytes());
            }
            return Err(self.write_error(&mut inner, error));
        }
        if base_offset == Offset(0) {
            // The directory is new: the first sync also notes whose it is.
            self.observer.wants_flush(self, SyncWish::Later);
        }
        inner.unsynced_bytes += header.size_bytes() as u64;
        inner.end_waiters.wake_below(header.next_offset());
        self.after_progress(&mut inner, acks == Acks::All, now_ms);
        let next_offset = header.next_offset();
        Ok(Appended { base_offset, next_offset, epoch, log_start_offset, duplicate_of: None })
    }

    /// An error of an operation that writes. One that leaves unknown what is on disk takes the partition offline.
    pub(crate) fn write_error(&self, inner: &mut Inner, error: LogError) -> PartitionError {
        if is_disk_error(&error) {
            let reason = error.to_string();
            self.fail(inner, Fault::Write, &reason);
            return PartitionError::Failed(reason);
        }
        PartitionError::from(error)
    }

    /// A future that is ready when the high watermark reaches `appended.next_offset`, or when this leadership ends.
    #[must_use]
    pub fn committed(self: &Arc<Self>, appended: &Appended) -> Committed {
        let waiter = Waiter::new();
        Committed {
            partition: self.clone(),
            upto: appended.next_offset,
            epoch: appended.epoch,
            needs_isr: false,
            waiter,
            watching: false,
        }
    }

    /// On a durable topic, has what is only in memory synced at once, and gives a future that is ready when all that the log
    /// held at the call is visible; `None` when it is already. So that a client which asks where the log ends, or deletes up
    /// to its end, sees what was acknowledged to it with acks=1.
    #[must_use]
    pub fn settle(self: &Arc<Self>) -> Option<Committed> {
        let mut inner = self.lock();
        let durable = inner.replica.durability() == Durability::Durable;
        let epoch = inner.replica.leadership().filter(|_| durable)?.epoch;
        let upto = inner.open_log()?.end_offset();
        if inner.replica.high_watermark() >= upto {
            return None;
        }
        self.observer.wants_flush(self, SyncWish::Now);
        let waiter = Waiter::new();
        Some(Committed { partition: self.clone(), upto, epoch, needs_isr: false, waiter, watching: false })
    }

    /// Whether everything below `upto` is committed.
    ///
    /// # Errors
    /// The leadership of `epoch` is over, or the log failed.
    pub fn is_committed(&self, upto: Offset, epoch: LeaderEpoch) -> Result<bool, PartitionError> {
        self.look(upto, epoch, false)
    }

    /// With `needs_isr` it is an error that it is not committed while the ISR is too small for that.
    fn look(&self, upto: Offset, epoch: LeaderEpoch, needs_isr: bool) -> Result<bool, PartitionError> {
        let inner = self.lock();
        if let Some(reason) = inner.failure() {
            return Err(PartitionError::Failed(reason.to_owned()));
        }
        match inner.replica.leadership() {
            Some(leadership) if leadership.epoch == epoch => {
                let is_committed = inner.replica.high_watermark() >= upto || planted(Bug::AcknowledgedEarly);
                if needs_isr && !is_committed && !leadership.has_enough_replicas() {
                    let needed = leadership.min_insync_effective();
                    let isr = leadership.isr.len();
                    return Err(PartitionError::NotEnoughReplicasAfterAppend { isr, needed });
                }
                Ok(is_committed)
            }
            Some(_) | None => Err(PartitionError::NotLeader),
        }
    }
}

/// See [`Partition::committed`].
#[derive(Debug)]
pub struct Committed {
    partition: Arc<Partition>,
    upto: Offset,
    epoch: LeaderEpoch,
    needs_isr: bool,
    waiter: Arc<Waiter>,
    watching: bool,
}

impl Committed {
    /// Also ready, with an error, when the ISR becomes smaller than `min.insync.replicas`: the records may be committed later or
    /// never, and a producer is told so instead of left waiting.
    #[must_use]
    pub fn or_too_few_replicas(self) -> Self {
        Self { needs_isr: true, ..self }
    }
}

impl Future for Committed {
    type Output = Result<(), PartitionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.partition.look(self.upto, self.epoch, self.needs_isr) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if !self.watching {
                self.watching = true;
                self.partition.watch(self.upto.plus(-1), &self.waiter);
            }
            if !self.waiter.poll_woken(context.waker()) {
                return Poll::Pending;
            }
            self.watching = false;
        }
    }
}

/// Whether an error says that the device fails, not that a file is damaged or that there is no room.
pub(crate) fn is_disk_error(error: &LogError) -> bool {
    match error {
        LogError::Failed(_) => true,
        // Creating a file is an operation that can be repeated, but not on a disk that fails.
        LogError::Io { source, .. } => {
            source.kind() == io::ErrorKind::ReadOnlyFilesystem || source.raw_os_error() == Some(EIO)
        }
        LogError::OffsetOutOfRange { .. }
        | LogError::NoSpace
        | LogError::Damaged(_)
        | LogError::InvalidAppend(_) => false,
    }
}

impl From<ProducerError> for PartitionError {
    fn from(error: ProducerError) -> Self {
        match error {
            ProducerError::OutOfOrderSequence { .. } => Self::OutOfOrderSequence(error.to_string()),
            ProducerError::InvalidProducerEpoch { .. } => Self::InvalidProducerEpoch(error.to_string()),
            ProducerError::InvalidTxnState { .. } => Self::InvalidTxnState(error.to_string()),
        }
    }
}
