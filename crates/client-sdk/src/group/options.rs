//! How a member of a group behaves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::wire::Str;

use super::assignor::Assignor;
use super::{GroupConsumer, GroupHandle};
use crate::consumer::ConsumerOptions;
use crate::error::Error;
use crate::offsets::TopicPartition;

/// Hears of partitions that come and go. Nothing is read of them before `assigned` and after `revoked` return.
pub trait RebalanceListener: Send + Sync + 'static {
    /// These have come.
    fn assigned(&self, partitions: &[TopicPartition]) {
        let _nothing_to_do = partitions;
    }

    /// These will go when the future is done; offsets can still be committed.
    fn revoked<'a>(
        &'a self,
        group: &'a GroupHandle,
        partitions: &'a [TopicPartition],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let _nothing_to_do = (group, partitions);
        Box::pin(std::future::ready(()))
    }

    /// These are gone already, to another member: nothing can be committed.
    fn lost(&self, partitions: &[TopicPartition]) {
        let _nothing_to_do = partitions;
    }
}

/// How a member of a group behaves; made by [`ConsumerOptions::group`].
#[derive(Clone)]
#[must_use]
pub struct GroupOptions {
    pub(super) consumer: ConsumerOptions,
    pub(super) group: Str,
    pub(super) topics: Vec<Str>,
    pub(super) assignors: Vec<Assignor>,
    pub(super) instance: Option<Str>,
    pub(super) session_max: Duration,
    pub(super) rebalance_max: Duration,
    pub(super) heartbeat_every: Duration,
    pub(super) commit_every: Option<Duration>,
    pub(super) work_max: Duration,
    pub(super) listener: Option<Arc<dyn RebalanceListener>>,
}

impl GroupOptions {
    pub(crate) fn new(consumer: ConsumerOptions, group: &str) -> GroupOptions {
        GroupOptions {
            consumer,
            group: Str::from(group),
            topics: Vec::new(),
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            instance: None,
            session_max: Duration::from_secs(45),
            rebalance_max: Duration::from_secs(300),
            heartbeat_every: Duration::from_secs(3),
            commit_every: Some(Duration::from_secs(5)),
            work_max: Duration::from_secs(300),
            listener: None,
        }
    }

    /// The topics to read.
    pub fn subscribe<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.topics = topics.into_iter().map(Str::from).collect();
        self
    }

    /// The assignors that this member has, the dearest first; range and cooperative sticky by default.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.assignors = assignors.into_iter().collect();
        self
    }

    /// Makes the member static: with the same id it gets the same partitions again after a restart, without a rebalance
    /// if it is back within the session's time.
    pub fn instance_id(mut self, id: &str) -> Self {
        self.instance = Some(Str::from(id));
        self
    }

    /// The group gives a member up after this time without a sign of life; 45 s by default.
    pub fn session_max(mut self, limit: Duration) -> Self {
        self.session_max = limit;
        self
    }

    /// How long members have in a rebalance to let go of partitions and to join; 5 minutes by default.
    pub fn rebalance_max(mut self, limit: Duration) -> Self {
        self.rebalance_max = limit;
        self
    }

    /// How often a sign of life is given; 3 s by default.
    pub fn heartbeat_every(mut self, pause: Duration) -> Self {
        self.heartbeat_every = pause;
        self
    }

    /// How often offsets are committed by themselves: those of records behind which the program has asked for the next.
    /// 5 s by default; `None` leaves it to the program.
    pub fn commit_every(mut self, pause: Option<Duration>) -> Self {
        self.commit_every = pause;
        self
    }

    /// How long the program may work on a record before it asks for the next; 5 minutes by default, to the precision of
    /// `heartbeat_every`. A member that takes longer leaves the group, so that others go on with its partitions, and joins
    /// again when it asks again (`max.poll.interval.ms` of other clients).
    pub fn work_max(mut self, limit: Duration) -> Self {
        self.work_max = limit;
        self
    }

    /// Who hears of partitions that come and go.
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Starts a member; it joins in the background.
    ///
    /// # Errors
    /// [`Error::Options`]. Must be called within a tokio runtime.
    pub fn start(self) -> Result<GroupConsumer, Error> {
        self.consumer.check()?;
        let refuse = |text: &str| Err(Error::Options(text.to_owned()));
        if self.group.is_empty() || self.topics.is_empty() || self.assignors.is_empty() {
            return refuse("a member of a group needs a group id, a topic and an assignor");
        }
        if self.heartbeat_every.is_zero() || self.heartbeat_every >= self.session_max {
            return refuse("heartbeat_every is more than nothing and less than session_max");
        }
        Ok(GroupConsumer::start(self))
    }

    /// Does a member keep reading during a rebalance?
    pub(super) fn is_cooperative(&self) -> bool {
        self.assignors == [Assignor::CooperativeSticky]
    }
}
