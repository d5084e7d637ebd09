//! Membership of a consumer group: the classic protocol, beside members of any other client.

mod assignor;
mod calls;
mod member;
pub(crate) mod membership;
mod options;

pub use assignor::Assignor;
pub use options::{GroupOptions, RebalanceListener};

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use ottla_protocol::wire::Str;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::committed::{self, Committer};
use crate::consumer::{Consumer, ConsumerRecord, Shared as Reading};
use crate::error::Error;
use crate::offsets::TopicPartition;

/// A member of a consumer group: a [`Stream`] of the records of the partitions that the group gives it.
///
/// [`GroupConsumer::close`] leaves the group at once; a member that is only dropped is given up by the group after the
/// session's time.
///
/// ```no_run
/// # async fn example(client: ottla_client_sdk::Client) -> Result<(), ottla_client_sdk::Error> {
/// use ottla_client_sdk::StartAt;
///
/// let options = client.consumer().start_at(StartAt::Beginning).group("readers").subscribe(["greetings"]);
/// let mut consumer = options.start()?;
/// for _ in 0..100 {
///     let record = consumer.recv().await?;
///     println!("{}-{} {:?}", record.topic(), record.partition(), record.value());
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct GroupConsumer {
    consumer: Consumer,
    handle: GroupHandle,
    stop: Arc<Notify>,
    member: Option<JoinHandle<()>>,
}

/// Commits for a member of a group, from wherever the program is.
#[derive(Clone)]
pub struct GroupHandle {
    client: Client,
    reading: Arc<Reading>,
    committer: Arc<Mutex<Committer>>,
}

impl GroupHandle {
    /// Commits the positions of all partitions: what was given out counts as done.
    ///
    /// # Errors
    /// [`Error::Group`] with `UnknownMemberId`, `IllegalGeneration` or `RebalanceInProgress` when the partitions are
    /// going to others or have gone.
    pub async fn commit(&self) -> Result<(), Error> {
        self.commit_offsets(&self.reading.positions()).await
    }

    /// Commits offsets: each that of the next record to read.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn commit_offsets(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let committer = self.committer().clone();
        committed::commit(&self.client, &committer, offsets).await
    }

    /// Commits that a record, and all before it in its partition, are done.
    ///
    /// # Errors
    /// As `commit`.
    pub async fn commit_record(&self, record: &ConsumerRecord) -> Result<(), Error> {
        let place = TopicPartition { topic: record.topic_name().clone(), partition: record.partition() };
        self.commit_offsets(&[(place, record.offset() + 1)]).await
    }

    /// The partitions that the group has given to this member.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.reading.partitions()
    }

    /// The member's id, once the coordinator has given one.
    #[must_use]
    pub fn member_id(&self) -> Option<String> {
        let id: Str = self.committer().member.clone();
        (!id.is_empty()).then(|| id.to_string())
    }

    fn committer(&self) -> std::sync::MutexGuard<'_, Committer> {
        self.committer.lock().expect("no panic under this lock")
    }
}

impl GroupConsumer {
    fn start(options: GroupOptions) -> GroupConsumer {
        let consumer = Consumer::start(options.consumer.clone());
        let handle = GroupHandle {
            client: options.consumer.client.clone(),
            reading: consumer.shared().clone(),
            committer: Arc::new(Mutex::new(Committer {
                instance: options.instance.clone(),
                ..Committer::outside(&options.group)
            })),
        };
        let stop = Arc::new(Notify::new());
        let member = tokio::spawn(member::run(options, handle.clone(), stop.clone()));
        GroupConsumer { consumer, handle, stop, member: Some(member) }
    }

    /// The next record. Dropping the future loses none.
    ///
    /// # Errors
    /// What concerns one partition, or the membership; the member goes on and tries to join again.
    pub async fn recv(&mut self) -> Result<ConsumerRecord, Error> {
        self.consumer.recv().await
    }

    /// What commits, from wherever the program is.
    #[must_use]
    pub fn handle(&self) -> &GroupHandle {
        &self.handle
    }

    /// The reader beneath, for `pause`, `resume`, `seek` and `position` of partitions that are assigned.
    #[must_use]
    pub fn reader(&self) -> &Consumer {
        &self.consumer
    }

    /// Commits, if it commits by itself, leaves the group, unless it is static, and ends the tasks. What was given out
    /// counts as done.
    ///
    /// # Errors
    /// None so far: a group that cannot be reached gives the member up after the session's time.
    pub async fn close(mut self) -> Result<(), Error> {
        self.stop.notify_one();
        if let Some(member) = self.member.take() {
            member.await.map_err(|_panicked| Error::Closed("consumer"))?;
        }
        Ok(())
    }
}

impl Stream for GroupConsumer {
    type Item = Result<ConsumerRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.consumer).poll_next(context)
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            member.abort();
        }
    }
}
