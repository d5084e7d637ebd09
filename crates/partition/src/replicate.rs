//! Leading followers: their fetches and reports, the ISR that is proposed, and the time that passes for those who are late.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_cluster::replica::{
    Action, DurableReport, EpochEnd, FetchAnswer, FetchRefusal, FollowerFetch, Proposal, ProposalAnswer,
    ProposalError, Serving,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_storage::log::LogSlice;

use crate::error::PartitionError;
use crate::follow::epoch_end;
use crate::partition::{Inner, Partition};
use crate::read::ReadLimits;
use crate::wait::Inbox;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the wall clock, in ms since 1970: what files and records are judged by.
    pub wall_ms: i64,
    /// By a clock that nobody sets, in ms since any moment: what followers are judged by.
    pub steady_ms: i64,
}

/// What a follower's fetch found.
#[derive(Debug)]
pub struct FollowerRead {
    /// The batches, as they are stored; `None` where there are none.
    pub slice: Option<LogSlice>,
    /// Where the logs part, when they do: the follower cuts, and nothing else is answered.
    pub diverging: Option<EpochEnd>,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// First offset of the log.
    pub log_start_offset: Offset,
}

impl Partition {
    /// A follower fetches: what it has counts from now on, and it gets what follows, committed or not.
    ///
    /// # Errors
    /// Not the leader, or the follower is no replica; another epoch; an earlier life of the broker; an offset that is not in the
    /// log (its bounds are given); a failed log.
    pub fn read_for_follower(
        self: &Arc<Self>,
        fetch: &FollowerFetch,
        limits: ReadLimits,
        serving: Serving<'_>,
        now: Now,
    ) -> Result<FollowerRead, PartitionError> {
        let mut inner = self.lock();
        Self::check_leader(&inner, fetch.leader_epoch)?;
        let log = self.log(&mut inner, now.wall_ms)?;
        let (start, end) = (log.start_offset(), log.end_offset());
        let local_end = epoch_end(log, fetch.last_epoch);
        let out_of_range = || PartitionError::OffsetOutOfRange { asked: fetch.offset, start, end };
        let diverging = match inner.replica.handle_fetch(now.steady_ms, fetch, local_end, serving) {
            FetchAnswer::Serve(actions) => {
                self.perform(&mut inner, actions);
                None
            }
            FetchAnswer::Diverging(at) => Some(at),
            FetchAnswer::OutOfRange => return Err(out_of_range()),
            FetchAnswer::Refused(refusal) => return Err(refused(&inner, fetch.leader_epoch, refusal)),
        };
        if fetch.offset < start {
            return Err(out_of_range());
        }
        let high_watermark = inner.replica.high_watermark();
        let log = self.log(&mut inner, now.wall_ms)?;
        let slice = if diverging.is_some() || fetch.offset >= end {
            None
        } else {
            let slice = log.read(fetch.offset, end, limits.max_bytes, limits.at_least_one_batch)?;
            Some(slice).filter(|slice| slice.len_bytes() > 0)
        };
        Ok(FollowerRead { slice, diverging, high_watermark, log_start_offset: start })
    }

    /// A follower tells what it has on disk.
    ///
    /// # Errors
    /// Not the leader, or the follower is no replica; another epoch; an earlier life of the broker; a failed log.
    pub fn handle_durable_report(
        self: &Arc<Self>,
        report: &DurableReport,
        serving: Serving<'_>,
        now: Now,
    ) -> Result<(), PartitionError> {
        let mut inner = self.lock();
        Self::check_leader(&inner, report.leader_epoch)?;
        self.log(&mut inner, now.wall_ms)?;
        match inner.replica.handle_durable_report(now.steady_ms, report, serving) {
            Ok(actions) => {
                self.perform(&mut inner, actions);
                Ok(())
            }
            Err(refusal) => Err(refused(&inner, report.leader_epoch, refusal)),
        }
    }

    /// The controller answered a proposal that [`Observer::propose`] was told of, or could not be asked.
    ///
    /// [`Observer::propose`]: crate::partition::Observer::propose
    pub fn handle_proposal_answer(
        self: &Arc<Self>,
        proposal: &Proposal,
        answer: Result<ProposalAnswer, ProposalError>,
        serving: Serving<'_>,
        steady_ms: i64,
    ) {
        let mut inner = self.lock();
        let actions = inner.replica.handle_proposal_answer(steady_ms, proposal, answer, serving);
        self.perform(&mut inner, actions);
        self.after_isr_change(&mut inner);
    }

    /// Time has passed. False when nothing is to be expected of more of it: [`Observer::wants_ticks`] then says when that changes.
    ///
    /// [`Observer::wants_ticks`]: crate::partition::Observer::wants_ticks
    pub fn tick(self: &Arc<Self>, serving: Serving<'_>, steady_ms: i64) -> bool {
        let mut inner = self.lock();
        inner.is_untold = false;
        if inner.failure().is_some() {
            // Its followers get no answer from it. They are not late, and may be the last who have the records.
            self.ticks.store(false, Ordering::Relaxed);
            return false;
        }
        let actions = inner.replica.tick(steady_ms, serving);
        self.perform(&mut inner, actions);
        let wants = inner.wants_ticks();
        self.ticks.store(wants, Ordering::Relaxed);
        wants
    }

    /// When [`Partition::tick`] has something to decide; `None` when never, as it looks now. By the steady clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.lock().replica.next_deadline_ms()
    }

    /// `replica.lag.time.max.ms`: how long a follower may lack what the leader has before it leaves the ISR.
    pub fn set_lag_limit(&self, lag_ms_max: i64) {
        self.lock().replica.handle_lag_limit(lag_ms_max);
    }

    /// First offset of the log and the high watermark, as a follower is told them; `None` when the log is not open.
    #[must_use]
    pub fn told_bounds(&self) -> Option<(Offset, Offset)> {
        let mut inner = self.lock();
        let high_watermark = inner.replica.high_watermark();
        inner.open_log().map(|log| (log.start_offset(), high_watermark))
    }

    /// The high watermark that is known here.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.lock().replica.high_watermark()
    }

    /// Whether this broker leads and a replica is outside of the ISR. A [`Partition::tick`] is wanted whenever the broker of such a one
    /// serves again: nothing else may say so on an idle partition.
    #[must_use]
    pub fn has_outsiders(&self) -> bool {
        let inner = self.lock();
        inner.replica.leadership().is_some_and(|leadership| leadership.isr.len() < leadership.replicas.len())
    }

    /// Whether nobody else has a say in what is committed.
    #[must_use]
    pub fn is_led_alone(&self) -> bool {
        self.lock().replica.leadership().is_some_and(|leadership| leadership.isr.len() <= 1)
    }

    /// Puts `number` into `inbox` when the log has something at `from` or beyond or starts elsewhere, or when the leadership of
    /// `epoch` is over.
    pub fn watch_end(&self, from: Offset, epoch: LeaderEpoch, inbox: &Arc<Inbox>, number: u32) {
        let mut inner = self.lock();
        let leads = inner.replica.leadership().is_some_and(|leadership| leadership.epoch == epoch);
        let end = inner.open_log().map(|log| log.end_offset());
        if !leads || end.is_none_or(|end| end > from) {
            inbox.put(number);
        } else {
            inner.end_waiters.add(from, inbox, number);
        }
    }

    /// Tells the owner, once, when time matters to a follower.
    pub(crate) fn want_ticks(self: &Arc<Self>, inner: &Inner) {
        if !self.ticks.load(Ordering::Relaxed) && inner.wants_ticks() {
            self.ticks.store(true, Ordering::Relaxed);
            self.observer.wants_ticks(self);
        }
    }

    /// Whoever waits for a commit learns when the ISR is too small for one, and when a smaller one made it.
    pub(crate) fn after_isr_change(&self, inner: &mut Inner) {
        if inner.replica.leadership().is_some_and(|leadership| !leadership.has_enough_replicas()) {
            inner.waiters.wake_all();
        } else {
            inner.release();
        }
    }

    fn perform(self: &Arc<Self>, inner: &mut Inner, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Committed(_) => inner.release(),
                Action::Propose(proposal) if inner.failure().is_none() => {
                    self.observer.propose(self, proposal)
                }
                Action::Propose(_) => {}
            }
        }
        self.want_ticks(inner);
    }
}

impl Inner {
    /// Whether a follower lacks something, or was not heard of yet.
    fn wants_ticks(&self) -> bool {
        // Looked at with each append: one without followers is done here.
        if self.replica.leadership().is_none_or(|leadership| leadership.replicas.len() < 2) {
            return false;
        }
        let is_behind = self.replica.high_watermark() < self.replica.local().end;
        let is_awaited = self.replica.next_deadline_ms().is_some() || self.replica.is_being_joined();
        self.is_untold || is_behind || is_awaited
    }
}

fn refused(inner: &Inner, asked: LeaderEpoch, refusal: FetchRefusal) -> PartitionError {
    let current = inner.replica.leadership().map_or(LeaderEpoch::NONE, |leadership| leadership.epoch);
    match refusal {
        FetchRefusal::NotLeader => PartitionError::NotLeader,
        FetchRefusal::FencedLeaderEpoch => PartitionError::FencedEpoch { asked, current },
        FetchRefusal::UnknownLeaderEpoch => PartitionError::UnknownEpoch { asked, current },
        FetchRefusal::StaleBrokerEpoch => PartitionError::StaleBrokerEpoch,
    }
}
