//! The consumer: a stream of the records of its partitions.

mod assignment;
mod decode;
mod fetcher;
mod options;
mod record;
mod session;
mod supervisor;

pub use options::{ConsumerOptions, Isolation, StartAt};
pub use record::ConsumerRecord;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::offsets::{Position, TopicPartition};
use assignment::{Assignment, Next, Progress};
use decode::Chunk;

/// Reads partitions that are assigned by hand: a [`Stream`] of records, which never ends by itself. Records of a
/// partition come in order; an error concerns one partition, and the others go on.
///
/// Its tasks end with it.
///
/// ```no_run
/// # async fn example(client: ottla_client_sdk::Client) -> Result<(), ottla_client_sdk::Error> {
/// use ottla_client_sdk::{Position, TopicPartition};
///
/// let mut consumer = client.consumer().start()?;
/// consumer.assign([(TopicPartition::new("greetings", 0), Position::Beginning)]);
/// let record = consumer.recv().await?;
/// println!("{} {:?} {:?}", record.offset(), record.key(), record.value());
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    supervisor: Option<JoinHandle<()>>,
    current: Option<Current>,
    records: VecDeque<ConsumerRecord>,
    /// The changes of the assignment that `current` has been compared with.
    seen_changes: u64,
}

/// What is being shown.
struct Current {
    chunk: Chunk,
    progress: Arc<Progress>,
    /// Behind the batch whose records are in `records`.
    batch_end: i64,
}

/// What the consumer's tasks share.
pub(crate) struct Shared {
    options: ConsumerOptions,
    assignment: Mutex<Assignment>,
    /// Rises with each change after which what was fetched may not count any more.
    changes: AtomicU64,
    /// Calls the supervisor.
    attention: Notify,
    /// How often the program has asked for a record. One task asks, so that this need not be one step.
    asked: AtomicU64,
    /// Does the program wait for a record?
    waits: AtomicBool,
}

impl Shared {
    /// A number that stays the same while the program works on what it was given; `None` while it waits for more.
    pub(crate) fn work(&self) -> Option<u64> {
        (!self.waits.load(Ordering::Relaxed)).then(|| self.asked.load(Ordering::Relaxed))
    }

    fn assignment(&self) -> MutexGuard<'_, Assignment> {
        self.assignment.lock().expect("no panic under this lock")
    }

    /// Changes the assignment so that all see it.
    fn change<T>(&self, change: impl FnOnce(&mut Assignment) -> T) -> T {
        let result = change(&mut self.assignment());
        self.changes.fetch_add(1, Ordering::Release);
        self.attention.notify_one();
        self.assignment().wake();
        result
    }

    pub(crate) fn add(&self, partitions: &[(TopicPartition, Position)]) {
        self.change(|assignment| assignment.add(partitions));
    }

    pub(crate) fn remove(&self, gone: impl Fn(&TopicPartition) -> bool) {
        self.change(|assignment| assignment.remove(gone));
    }

    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        self.assignment().partitions()
    }

    /// The offset of the next record to show, per partition, where it is known.
    pub(crate) fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let assignment = self.assignment();
        let places = assignment.partitions();
        places.into_iter().filter_map(|place| Some((place.clone(), assignment.position(&place)?))).collect()
    }

    pub(crate) fn done(&self) -> Vec<(TopicPartition, i64)> {
        self.assignment().done()
    }

    pub(crate) fn raise(&self, error: Error) {
        self.assignment().raise(error);
    }
}

impl Consumer {
    pub(crate) fn start(options: ConsumerOptions) -> Consumer {
        let shared = Arc::new(Shared {
            options,
            assignment: Mutex::new(Assignment::new()),
            changes: AtomicU64::new(0),
            attention: Notify::new(),
            asked: AtomicU64::new(0),
            waits: AtomicBool::new(false),
        });
        let stop = Arc::new(Notify::new());
        let supervisor = tokio::spawn(supervisor::run(shared.clone(), stop.clone()));
        Consumer {
            shared,
            stop,
            supervisor: Some(supervisor),
            current: None,
            records: VecDeque::new(),
            seen_changes: 0,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads these partitions from these positions, and no others.
    pub fn assign(&self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        let partitions: Vec<_> = partitions.into_iter().collect();
        self.shared.change(|assignment| {
            assignment.remove(|place| !partitions.iter().any(|(kept, _)| kept == place));
            assignment.add(&partitions);
        });
    }

    /// Reads all partitions that a topic has now, from one position each, and no others.
    ///
    /// # Errors
    /// [`Error::Topic`] when there is no such topic.
    pub async fn assign_topic(&self, topic: &str, position: Position) -> Result<(), Error> {
        let known = self.shared.options.client.topic(topic).await?;
        let partitions =
            (0..known.partitions_count()).map(|index| (TopicPartition::new(topic, index), position));
        self.assign(partitions);
        Ok(())
    }

    /// The partitions that are assigned.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment().partitions()
    }

    /// Goes on reading elsewhere; records that were fetched before are not shown any more.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn seek(&self, partition: &TopicPartition, position: Position) -> Result<(), Error> {
        self.shared.change(|assignment| assignment.seek(partition, position))
    }

    /// Shows nothing more of a partition until [`Consumer::resume`].
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.shared.change(|assignment| assignment.pause(partition, true))
    }

    /// Goes on where [`Consumer::pause`] stopped.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.shared.change(|assignment| assignment.pause(partition, false))
    }

    /// The offset of the next record to be shown; `None` while it is being looked up.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.assignment().position(partition)
    }

    /// The end of what can be read of a partition, as of the last fetch.
    #[must_use]
    pub fn end(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.assignment().end(partition)
    }

    /// The next record. Dropping the future loses none.
    ///
    /// # Errors
    /// What concerns one partition, which then waits for a [`Consumer::seek`]; the others go on.
    pub async fn recv(&mut self) -> Result<ConsumerRecord, Error> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    /// Ends the consumer and waits for its tasks.
    pub async fn close(mut self) {
        self.stop.notify_one();
        if let Some(supervisor) = self.supervisor.take() {
            // It ends whatever happened to it.
            let _ended = supervisor.await;
        }
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Result<ConsumerRecord, Error>> {
        self.shared.waits.store(false, Ordering::Relaxed);
        self.shared.asked.store(self.shared.asked.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if let Some(current) = &self.current {
            let done = current.progress.position.load(Ordering::Relaxed);
            current.progress.done.store(done, Ordering::Relaxed);
        }
        loop {
            self.compare();
            if let Some(record) = self.records.pop_front() {
                if let Some(current) = &self.current {
                    let next = if self.records.is_empty() { current.batch_end } else { record.offset() + 1 };
                    current.progress.position.store(next, Ordering::Relaxed);
                }
                return Poll::Ready(Ok(record));
            }
            if let Some(result) = self.open_batch() {
                match result {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match self.shared.assignment().next(context.waker()) {
                Next::Chunk(chunk, progress) => {
                    self.current = Some(Current { chunk, progress, batch_end: -1 });
                }
                Next::Error(error) => return Poll::Ready(Err(error)),
                Next::Nothing => {
                    self.shared.waits.store(true, Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Drops what does not count any more.
    fn compare(&mut self) {
        let changes = self.shared.changes.load(Ordering::Acquire);
        if changes == self.seen_changes {
            return;
        }
        self.seen_changes = changes;
        let stale =
            self.current.as_ref().is_some_and(|current| !self.shared.assignment().is_current(&current.chunk));
        if stale {
            self.current = None;
            self.records.clear();
        }
    }

    /// Decodes the next batch of what is being shown; `None` when there is no more of it.
    fn open_batch(&mut self) -> Option<Result<(), Error>> {
        let current = self.current.as_mut()?;
        let position = current.progress.position.load(Ordering::Relaxed);
        match current.chunk.next_batch(position, &mut self.records) {
            Ok(Some(next)) => {
                current.batch_end = next.max(position);
                if self.records.is_empty() {
                    current.progress.position.store(current.batch_end, Ordering::Relaxed);
                    current.progress.done.store(current.batch_end, Ordering::Relaxed);
                }
                Some(Ok(()))
            }
            Ok(None) => {
                self.current = None;
                None
            }
            Err(error) => {
                let place =
                    TopicPartition { topic: current.chunk.topic.clone(), partition: current.chunk.partition };
                self.records.clear();
                self.current = None;
                self.shared.assignment().fail(&place);
                Some(Err(error))
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context).map(Some)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abort();
        }
    }
}

impl Isolation {
    pub(crate) fn code(self) -> i8 {
        match self {
            Isolation::Uncommitted => 0,
            Isolation::Committed => 1,
        }
    }
}
