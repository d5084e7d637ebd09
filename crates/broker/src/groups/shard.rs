//! One partition of `__consumer_offsets`: its machine behind one lock, the clients that wait, and the task that tells the machine
//! what was stored and what time it is.
//!
//! Actions are performed under the lock, so that the order of the log is the order of the machine. Nothing awaits under it. The
//! partition's own lock is taken below it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ottla_cluster::groups::{Action, Client, Event, GroupShard, Reply, Request, StoreError, StoreId, Ticket};
use ottla_partition::Partition;
use ottla_partition::append::{Appended, Committed};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::wire::Str;
use tokio::sync::{Notify, oneshot};

use super::ask::Asked;
use super::load::{LoadError, load};
use super::store;
use super::{GroupsView, Led, ShardContext};
use crate::state::now_ms;

/// One partition of `__consumer_offsets` that this broker leads.
pub struct Shard {
    context: Arc<ShardContext>,
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    batch_bytes_max: AtomicUsize,
    inner: Mutex<Inner>,
    /// Told when the task has to look: the first write of several, an earlier deadline, the end.
    changed: Notify,
}

struct Inner {
    stage: Stage,
    machine: GroupShard,
    /// Who waits for a reply. An entry goes with the machine's reply, whether or not the client is still there.
    waiting: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    next_ticket: u64,
    /// Writes that the machine has not been told about, in the order of the log.
    stores: VecDeque<(StoreId, Result<Appended, StoreError>)>,
    /// Until when the task sleeps, by the monotonic clock.
    sleeps_until_ms: Option<i64>,
    /// Topics that were deleted while the shard was being loaded.
    deleted_topics: BTreeSet<Str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Serving,
    /// What is being written is finished; nothing new is taken.
    Stopping,
    /// The log is damaged.
    Failed,
    Resigned,
}

impl Stage {
    fn check(self) -> Result<(), ErrorCode> {
        match self {
            Self::Serving => Ok(()),
            Self::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Self::Failed => Err(ErrorCode::CoordinatorNotAvailable),
            Self::Stopping | Self::Resigned => Err(ErrorCode::NotCoordinator),
        }
    }
}

/// What the task waits for.
struct Next {
    /// The oldest write that the machine has not been told about.
    store: Option<(StoreId, Result<Appended, StoreError>)>,
    deadline_ms: Option<i64>,
}

impl Shard {
    pub(super) fn new(context: Arc<ShardContext>, led: Led) -> Arc<Self> {
        let inner = Inner {
            stage: Stage::Loading,
            machine: GroupShard::new(context.config.machine.clone()),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            stores: VecDeque::new(),
            sleeps_until_ms: None,
            deleted_topics: BTreeSet::new(),
        };
        Arc::new(Self {
            context,
            partition: led.partition,
            epoch: led.epoch,
            batch_bytes_max: AtomicUsize::new(led.batch_bytes_max),
            inner: Mutex::new(inner),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a panic under the shard's lock ends the process")
    }

    /// Whether it is the shard of this leadership.
    pub(super) fn is_of(&self, led: &Led) -> bool {
        self.epoch == led.epoch && Arc::ptr_eq(&self.partition, &led.partition)
    }

    pub(super) fn set_batch_bytes_max(&self, bytes: usize) {
        self.batch_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Has the machine handle a request.
    pub(super) fn ask(&self, client: &Client, request: Request) -> Result<Asked, ErrorCode> {
        let mut inner = self.lock();
        inner.stage.check()?;
        let ticket = Ticket(inner.next_ticket);
        inner.next_ticket += 1;
        let actions = inner.machine.handle(self.context.clock.now(), ticket, client, request);
        if let Some(reply) = self.perform(&mut inner, actions, Some(ticket)) {
            return Ok(Asked::Now(reply));
        }
        let (sender, receiver) = oneshot::channel();
        inner.waiting.insert(ticket, sender);
        Ok(Asked::Later(receiver))
    }

    /// Looks at the machine.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
    pub fn read<T>(&self, look: impl FnOnce(&GroupShard) -> T) -> Result<T, ErrorCode> {
        let inner = self.lock();
        inner.stage.check()?;
        Ok(look(&inner.machine))
    }

    /// Does what the machine asks for. The reply to `own`, if there is one, is given back instead of sent.
    fn perform(&self, inner: &mut Inner, actions: Vec<Action>, own: Option<Ticket>) -> Option<Reply> {
        let mut own_reply = None;
        for action in actions {
            match action {
                Action::Reply { ticket, reply } if Some(ticket) == own => own_reply = Some(reply),
                Action::Reply { ticket, reply } => {
                    if let Some(waiting) = inner.waiting.remove(&ticket) {
                        // The client may have gone.
                        drop(waiting.send(reply));
                    }
                }
                Action::Store { id, records } => {
                    let (codec, most) =
                        (self.context.config.compression, self.batch_bytes_max.load(Ordering::Relaxed));
                    let appended = store::append(&self.partition, &records, codec, most, now_ms());
                    inner.stores.push_back((id, appended));
                    if inner.stores.len() == 1 {
                        self.changed.notify_one();
                    }
                }
                Action::Tell(event) => self.tell(&event),
            }
        }
        let deadline = inner.machine.next_deadline_ms();
        if deadline.is_some_and(|deadline| inner.sleeps_until_ms.is_none_or(|until| deadline < until)) {
            inner.sleeps_until_ms = deadline;
            self.changed.notify_one();
        }
        own_reply
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Rebalanced { .. } | Event::Emptied { .. } => {
                self.context.metrics.group_rebalances.add(1);
                tracing::info!("{event}");
            }
            Event::NotStored { .. } => tracing::warn!("{event}"),
        }
    }

    /// The machine is loaded: requests are taken.
    pub(super) fn serve(&self, machine: GroupShard) {
        let mut inner = self.lock();
        if inner.stage != Stage::Loading {
            return;
        }
        inner.machine = machine;
        inner.stage = Stage::Serving;
        let now = self.context.clock.now();
        let actions = inner.machine.loaded(now);
        self.perform(&mut inner, actions, None);
        let deleted = std::mem::take(&mut inner.deleted_topics);
        if !deleted.is_empty() {
            let actions = inner.machine.delete_topics(now, &deleted);
            self.perform(&mut inner, actions, None);
        }
    }

    pub(super) fn expire_offsets(&self) {
        let mut inner = self.lock();
        if inner.stage == Stage::Serving {
            let actions = inner.machine.expire_offsets(self.context.clock.now());
            self.perform(&mut inner, actions, None);
        }
    }

    pub(super) fn delete_topics(&self, names: &BTreeSet<Str>) {
        let mut inner = self.lock();
        match inner.stage {
            Stage::Loading => inner.deleted_topics.extend(names.iter().cloned()),
            Stage::Serving => {
                let actions = inner.machine.delete_topics(self.context.clock.now(), names);
                self.perform(&mut inner, actions, None);
            }
            // The next coordinator finds them in its log; they do no harm but to a topic of the same name.
            Stage::Stopping | Stage::Failed | Stage::Resigned => {}
        }
    }

    /// This broker does not lead here any more: all who wait are told.
    pub(super) fn resign(&self) {
        let mut inner = self.lock();
        inner.stage = Stage::Resigned;
        let actions = inner.machine.resign();
        self.perform(&mut inner, actions, None);
        inner.stores.clear();
        // Nobody waits for ever: who has no reply learns it by the sender's end.
        inner.waiting.clear();
        inner.machine = GroupShard::new(self.context.config.machine.clone());
        self.changed.notify_one();
    }

    pub(super) fn count(&self, view: &mut GroupsView) {
        let inner = self.lock();
        match inner.stage {
            Stage::Loading => view.shards_loading += 1,
            Stage::Failed => view.shards_failed += 1,
            Stage::Serving => {
                for group in inner.machine.list() {
                    *view.groups.entry(group.group_state.to_string()).or_default() += 1;
                }
                view.members += inner.machine.members_count() as u64;
                view.offsets += inner.machine.offsets_count() as u64;
            }
            Stage::Stopping | Stage::Resigned => {}
        }
    }

    /// The shard's task: loads, then lives until the leadership ends or the broker stops.
    pub(super) async fn run(self: Arc<Self>) {
        let stop = self.context.stop.clone();
        self.clone().load().await;
        // Cancel-safe: what it waits for is found again.
        stop.run_until_cancelled(self.live(false)).await;
        self.stop_taking();
        self.live(true).await;
        self.resign();
    }

    /// Nothing new is taken from here on; who waits for other members is sent away by [`Shard::resign`].
    fn stop_taking(&self) {
        let mut inner = self.lock();
        if inner.stage != Stage::Resigned {
            inner.stage = Stage::Stopping;
        }
    }

    async fn load(self: Arc<Self>) {
        if self.lock().stage != Stage::Loading {
            return;
        }
        // The waits here are cancel-safe.
        let Some(Ok(_permit)) = self.context.stop.run_until_cancelled(self.context.loads.acquire()).await
        else {
            return;
        };
        let started = Instant::now();
        match self.clone().read_log().await {
            Ok(loaded) => {
                let took = started.elapsed();
                self.context.metrics.group_load.observe(took);
                let (groups, records) = (loaded.machine.groups_count(), loaded.records);
                tracing::info!(
                    partition = self.partition.key().index,
                    groups,
                    records,
                    ?took,
                    "groups are loaded"
                );
                self.serve(loaded.machine);
            }
            // Whoever took the leadership away resigns this shard.
            Err(LoadError::NotLeader | LoadError::Stopped) => {}
            Err(error) => {
                tracing::error!(
                    partition = %self.partition.key(),
                    %error,
                    "the groups of this partition are not available: its log cannot be loaded; repair it, then restart"
                );
                let mut inner = self.lock();
                if inner.stage == Stage::Loading {
                    inner.stage = Stage::Failed;
                }
            }
        }
    }

    async fn read_log(self: Arc<Self>) -> Result<super::load::Loaded, LoadError> {
        let partition = self.partition.clone();
        blocking(move || Ok(partition.open_now(now_ms())?)).await?;
        if let Some(settled) = self.partition.settle() {
            self.context.stop.run_until_cancelled(settled).await.ok_or(LoadError::Stopped)??;
        }
        blocking(move || load(&self.partition, self.epoch, &self.context.config, &self.context.stop)).await
    }

    /// Tells the machine what was stored and what time it is, until the shard is resigned, or, when it is `ending`, until all that
    /// was written is told.
    async fn live(&self, ending: bool) {
        let mut awaited: Option<(StoreId, Committed)> = None;
        loop {
            let Some(next) = self.next(ending) else { return };
            match next.store {
                Some((id, Ok(appended))) if awaited.as_ref().is_none_or(|(of, _)| *of != id) => {
                    awaited = Some((id, self.partition.committed(&appended)));
                }
                Some((_, Ok(_))) => {}
                Some((_, Err(_))) => {
                    self.tell_stored();
                    continue;
                }
                None => awaited = None,
            }
            let deadline = next.deadline_ms.filter(|_| !ending).map(|ms| self.context.clock.instant(ms));
            let stored = async {
                match &mut awaited {
                    // Whatever came of it, `tell_stored` asks the partition.
                    Some((_, committed)) => drop(committed.await),
                    None => std::future::pending().await,
                }
            };
            // All branches are cancel-safe: the future of the write outlives the round.
            tokio::select! {
                () = stored => {
                    awaited = None;
                    self.tell_stored();
                }
                () = sleep_until(deadline) => self.tick(),
                () = self.changed.notified() => {}
            }
        }
    }

    /// What to wait for; `None` when there is nothing more to do.
    fn next(&self, ending: bool) -> Option<Next> {
        let mut inner = self.lock();
        let store = inner.stores.front().cloned();
        let is_over = match inner.stage {
            Stage::Resigned => true,
            Stage::Loading | Stage::Serving | Stage::Stopping | Stage::Failed => ending && store.is_none(),
        };
        if is_over {
            return None;
        }
        let deadline_ms = inner.machine.next_deadline_ms();
        inner.sleeps_until_ms = deadline_ms;
        Some(Next { store, deadline_ms })
    }

    /// Tells the machine of all writes whose outcome is known, in the order of the log.
    fn tell_stored(&self) {
        let mut inner = self.lock();
        while let Some((id, appended)) = inner.stores.front() {
            let outcome = match appended {
                Err(error) => Err(*error),
                Ok(appended) => match self.partition.is_committed(appended.next_offset, appended.epoch) {
                    Ok(true) => Ok(()),
                    Ok(false) => return,
                    Err(error) => Err(store::of_partition(&error)),
                },
            };
            let id = *id;
            inner.stores.pop_front();
            let actions = inner.machine.handle_stored(self.context.clock.now(), id, outcome);
            self.perform(&mut inner, actions, None);
        }
    }

    fn tick(&self) {
        let mut inner = self.lock();
        if inner.stage == Stage::Serving {
            let actions = inner.machine.tick(self.context.clock.now());
            self.perform(&mut inner, actions, None);
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime stops.
            Err(_) => Err(LoadError::Stopped),
        },
    }
}
