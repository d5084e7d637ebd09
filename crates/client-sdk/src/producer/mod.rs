//! The producer: batches records per partition, sends them to the leaders, and tells what became of each.

mod batch;
mod delivery;
mod options;
mod queue;
mod sender;
mod supervisor;

pub use delivery::{Delivery, Receipt};
pub use options::{Acks, ProducerOptions, Spread};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_protocol::wire::Str;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::metadata::Topic;
use crate::record::Record;
use batch::{Batch, Identity};
use queue::{Enqueued, Needs, Queue, Taken, Verdict};

/// Sends records. Its tasks end with it: what is not acknowledged when the last clone is dropped fails with
/// [`Error::Closed`]; [`Producer::close`] sends all first.
///
/// Records of one partition are written in the order in which `send` returned, each once.
#[derive(Clone)]
pub struct Producer {
    owner: Arc<Owner>,
}

/// Ends the tasks.
struct Owner {
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// What the producer's tasks share.
struct Shared {
    options: ProducerOptions,
    queue: Mutex<Queue>,
    /// Bytes of memory left.
    memory: Semaphore,
    /// How many wait for memory: open batches are sent without lingering then.
    starved: AtomicUsize,
    /// Calls the supervisor.
    attention: Notify,
    /// Brokers that need a sender.
    missing: Mutex<Vec<i32>>,
}

impl Producer {
    async fn start(options: ProducerOptions) -> Result<Producer, Error> {
        let identity = match options.idempotence {
            true => Some(supervisor::new_identity(&options.client).await?),
            false => None,
        };
        let shared = Arc::new(Shared {
            memory: Semaphore::new(options.buffer_bytes),
            queue: Mutex::new(Queue::new(identity)),
            starved: AtomicUsize::new(0),
            attention: Notify::new(),
            missing: Mutex::new(Vec::new()),
            options,
        });
        let stop = Arc::new(Notify::new());
        let supervisor = tokio::spawn(supervisor::run(shared.clone(), stop.clone()));
        let owner = Owner { shared, stop, supervisor: Mutex::new(Some(supervisor)) };
        Ok(Producer { owner: Arc::new(owner) })
    }

    /// Puts a record into its partition's batch; waits while the producer's memory is full, or while the topic is not
    /// known yet. What becomes of the record comes by the [`Delivery`].
    ///
    /// Dropping this future before it is ready means that the record is not sent.
    ///
    /// # Errors
    /// [`Error::Topic`] for a topic that does not exist, [`Error::NoSuchPartition`], [`Error::RecordTooLarge`],
    /// [`Error::Closed`].
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, Error> {
        let shared = &self.owner.shared;
        let bytes = record.bytes_max();
        if bytes > shared.options.buffer_bytes {
            return Err(Error::RecordTooLarge {
                topic: record.topic.to_owned(),
                bytes,
                bytes_max: shared.options.buffer_bytes,
            });
        }
        let charged = shared.charge(bytes).await?;
        let delivery = self.enqueue(&record, bytes).await?;
        // The batch gives it back.
        charged.forget();
        Ok(delivery)
    }

    async fn enqueue(&self, record: &Record<'_>, bytes: usize) -> Result<Delivery, Error> {
        let shared = &self.owner.shared;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        loop {
            let enqueued = shared.queue().enqueue(record, timestamp_ms, bytes, &shared.options)?;
            match enqueued {
                Enqueued::Done(delivery) => return Ok(delivery),
                Enqueued::UnknownTopic => {
                    let topic = shared.options.client.find_topic(record.topic, true).await?;
                    if topic.partitions.is_empty() {
                        let code = ottla_protocol::generated::ErrorCode::LeaderNotAvailable;
                        return Err(Error::topic(record.topic, code));
                    }
                    shared.learn(&topic);
                }
            }
        }
    }

    /// Waits until every record sent so far has met its fate, good or bad. Open batches leave at once.
    pub async fn flush(&self) {
        let fates = self.owner.shared.queue().flush();
        self.owner.shared.attention.notify_one();
        for fate in fates {
            fate.known().await;
        }
    }

    /// Sends what is left, then ends the producer and its tasks. Clones of it are closed too.
    ///
    /// # Errors
    /// None so far; each record's own error is with its [`Delivery`].
    pub async fn close(self) -> Result<(), Error> {
        self.owner.shared.queue().close();
        self.flush().await;
        self.owner.stop.notify_one();
        let supervisor = self.owner.supervisor.lock().expect("no panic under this lock").take();
        if let Some(supervisor) = supervisor {
            supervisor.await.map_err(|_panicked| Error::Closed("producer"))?;
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let supervisor = self.supervisor.lock().expect("no panic under this lock").take();
        if let Some(supervisor) = supervisor {
            supervisor.abort();
        }
        let mut queue = self.shared.queue();
        queue.close();
        for fate in queue.flush() {
            fate.settle(Err(Error::Closed("producer")));
        }
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic under this lock")
    }

    /// Takes memory, waiting for it if there is none.
    async fn charge(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Error> {
        let count = u32::try_from(bytes).expect("below the buffer, which is below 4 GiB");
        if let Ok(permit) = self.memory.try_acquire_many(count) {
            return Ok(permit);
        }
        let _waiting = Starved::new(self);
        self.memory.acquire_many(count).await.map_err(|_closed| Error::Closed("producer"))
    }

    fn take(&self, broker: i32) -> Taken {
        let starved = self.starved.load(Ordering::Relaxed) > 0;
        let (taken, expired) = self.queue().take(broker, starved, &self.options);
        self.release(&expired);
        taken
    }

    fn release(&self, ended: &[Batch]) {
        self.memory.add_permits(ended.iter().map(|batch| batch.charged_bytes).sum());
    }

    /// Ends or requeues batches.
    fn settle(&self, verdicts: impl IntoIterator<Item = (Batch, Verdict)>) {
        let mut ended = Vec::new();
        let mut again = false;
        {
            let mut queue = self.queue();
            for (batch, verdict) in verdicts {
                match queue.settle(batch, verdict) {
                    Some(end) => ended.push(end),
                    None => again = true,
                }
            }
        }
        if again {
            self.attention.notify_one();
        }
        for (batch, result) in ended {
            self.memory.add_permits(batch.charged_bytes);
            batch.fate.settle(result);
        }
    }

    fn learn(&self, topic: &Topic) {
        let missing = self.queue().learn(topic);
        if !missing.is_empty() {
            let mut wanted = self.missing.lock().expect("no panic under this lock");
            for broker in missing {
                if !wanted.contains(&broker) {
                    wanted.push(broker);
                }
            }
            self.attention.notify_one();
        }
    }

    fn missing_senders(&self) -> Vec<(i32, Arc<Notify>)> {
        let brokers = std::mem::take(&mut *self.missing.lock().expect("no panic under this lock"));
        let mut queue = self.queue();
        brokers.into_iter().filter_map(|broker| Some((broker, queue.add_sender(broker)?))).collect()
    }

    fn needs(&self) -> Needs {
        let (needs, expired) = self.queue().needs(self.options.idempotence, self.options.delivery_max);
        self.release(&expired);
        needs
    }

    fn topics(&self) -> Vec<Str> {
        self.queue().topics()
    }

    fn identify(&self, places: &[usize], identity: Identity) {
        self.queue().identify(places, identity);
    }
}

/// One who waits for memory.
struct Starved<'a>(&'a Shared);

impl<'a> Starved<'a> {
    fn new(shared: &'a Shared) -> Starved<'a> {
        shared.starved.fetch_add(1, Ordering::Relaxed);
        shared.queue().wake_all();
        Starved(shared)
    }
}

impl Drop for Starved<'_> {
    fn drop(&mut self) {
        self.0.starved.fetch_sub(1, Ordering::Relaxed);
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
