//! How brokers learn what was committed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ottla_cluster::image::{ApplyError, MetadataDelta, MetadataImage, MetadataRecord};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::Command;
use crate::leadership::Leadership;
use crate::limits::{FEED_BATCH_ENTRIES_MAX, FEED_ENTRIES_MAX, FEED_RECORDS_MAX};
use crate::remote::feed::RemoteFeed;

/// A committed entry. One without records (a leader's first, a change of voters) only moves the index.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEntry {
    /// Its index in the log.
    pub index: i64,
    /// Whether it stands for all entries up to its own: its records then make the image out of nothing. That is what a follower gets
    /// that is further behind than the log reaches back.
    pub is_whole: bool,
    /// What it changes, to be applied as a whole.
    pub records: Vec<MetadataRecord>,
}

impl FeedEntry {
    /// All of an image.
    #[must_use]
    pub fn whole(image: &MetadataImage) -> Self {
        Self { index: image.index(), is_whole: true, records: image.to_records().collect() }
    }
}

/// Why a feed ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The coordinator has stopped.
    #[error("the coordinator has stopped")]
    Stopped,
    /// Older entries could not be read from the log.
    #[error("the metadata log cannot be read: {0}")]
    Unreadable(String),
    /// The coordinator that was asked belongs to another cluster.
    #[error("the coordinator at {address} belongs to cluster {found}, not to {own}")]
    OtherCluster {
        /// Where it was reached.
        address: String,
        /// Its cluster.
        found: String,
        /// The cluster whose metadata is followed.
        own: String,
    },
}

/// What the driver publishes and everybody reads.
#[derive(Debug)]
pub(crate) struct Published {
    /// Index of the last committed entry.
    committed: watch::Sender<i64>,
    /// Who leads.
    leadership: watch::Sender<Leadership>,
    /// Guards the image and the last entries together.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    image: MetadataImage,
    entries: VecDeque<Arc<FeedEntry>>,
    /// Records of `entries` together.
    records: usize,
}

impl State {
    /// Keeps the newest entries within their bounds, and always the last one.
    fn push(&mut self, entry: FeedEntry) {
        if entry.is_whole {
            self.entries.clear();
            self.records = 0;
        }
        self.records += entry.records.len();
        self.entries.push_back(Arc::new(entry));
        while self.entries.len() > 1
            && (self.entries.len() > FEED_ENTRIES_MAX || self.records > FEED_RECORDS_MAX)
        {
            let oldest = self.entries.pop_front().expect("there are at least two");
            self.records -= oldest.records.len();
        }
    }
}

impl Published {
    pub(crate) fn new(image: MetadataImage) -> Self {
        let (committed, _) = watch::channel(image.index());
        let (leadership, _) = watch::channel(Leadership::default());
        let state = Mutex::new(State { image, entries: VecDeque::new(), records: 0 });
        Self { committed, leadership, state }
    }

    /// Makes committed entries and the image after them visible to all.
    pub(crate) fn publish(&self, image: MetadataImage, entries: Vec<FeedEntry>) {
        let index = image.index();
        let mut state = self.lock();
        state.image = image;
        for entry in entries {
            state.push(entry);
        }
        drop(state);
        self.committed.send_replace(index);
    }

    pub(crate) fn image(&self) -> MetadataImage {
        self.lock().image.clone()
    }

    pub(crate) fn set_leadership(&self, now: Leadership) {
        self.leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(crate) fn committed(&self) -> watch::Receiver<i64> {
        self.committed.subscribe()
    }

    /// Entries from `from` on that are in memory; `None` when the log has to be asked.
    fn recent(&self, from: i64) -> Option<Vec<Arc<FeedEntry>>> {
        let state = self.lock();
        let first = state.entries.front()?.index;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        Some(state.entries.iter().skip(skip).take(FEED_BATCH_ENTRIES_MAX).cloned().collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Committed entries in order, from some index on, for ever: from the coordinator in this process, or over the network from whichever
/// coordinator can be reached.
#[derive(Debug)]
pub struct MetadataFeed {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Local(LocalFeed),
    Remote(Box<RemoteFeed>),
}

impl MetadataFeed {
    /// Index of the entry that comes next.
    #[must_use]
    pub fn next_index(&self) -> i64 {
        match &self.source {
            Source::Local(feed) => feed.next,
            Source::Remote(feed) => feed.next_index(),
        }
    }

    /// Waits until there is at least one entry, and gives what there is, in order and without gaps but before one that is whole
    /// ([`FeedEntry::is_whole`]). Cancel-safe: what is not given is given by the next call. Over the network it waits as long as no
    /// coordinator can be reached.
    ///
    /// # Errors
    /// When the coordinator in this process has stopped and everything was given, the log cannot be read, a record is one that only a
    /// newer program knows, or a coordinator of another cluster answers.
    pub async fn next(&mut self) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        match &mut self.source {
            Source::Local(feed) => feed.next().await,
            Source::Remote(feed) => feed.next().await,
        }
    }
}

impl From<LocalFeed> for MetadataFeed {
    fn from(feed: LocalFeed) -> Self {
        Self { source: Source::Local(feed) }
    }
}

impl From<RemoteFeed> for MetadataFeed {
    fn from(feed: RemoteFeed) -> Self {
        Self { source: Source::Remote(Box::new(feed)) }
    }
}

/// The feed of the coordinator in this process.
#[derive(Debug)]
pub(crate) struct LocalFeed {
    next: i64,
    published: Arc<Published>,
    committed: watch::Receiver<i64>,
    queue: mpsc::Sender<Command>,
}

impl LocalFeed {
    pub(crate) fn new(from: i64, published: Arc<Published>, queue: mpsc::Sender<Command>) -> Self {
        let committed = published.committed();
        Self { next: from.max(0), published, committed, queue }
    }

    /// As [`MetadataFeed::next`].
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        loop {
            let committed = *self.committed.borrow_and_update();
            if committed >= self.next {
                let entries = self.take().await?;
                if let Some(last) = entries.last() {
                    self.next = last.index + 1;
                    return Ok(entries);
                }
            }
            tokio::select! {
                changed = self.committed.changed() => changed.map_err(|_| FeedError::Stopped)?,
                () = self.queue.closed() => {
                    // The driver ends after its last publication.
                    if *self.committed.borrow() < self.next {
                        return Err(FeedError::Stopped);
                    }
                }
            }
        }
    }

    async fn take(&self) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        if let Some(entries) = self.published.recent(self.next) {
            return Ok(entries);
        }
        let (reply, answer) = oneshot::channel();
        let read = Command::Read { from: self.next, reply };
        self.queue.send(read).await.map_err(|_| FeedError::Stopped)?;
        answer.await.map_err(|_| FeedError::Stopped)?
    }
}

/// A broker's own image, which follows a feed.
#[derive(Clone, Debug, Default)]
pub struct ImageReplica {
    image: MetadataImage,
}

impl ImageReplica {
    /// Starts from an image; the feed goes on at [`ImageReplica::next_index`].
    #[must_use]
    pub fn new(image: MetadataImage) -> Self {
        Self { image }
    }

    /// Index of the entry that it needs next.
    #[must_use]
    pub fn next_index(&self) -> i64 {
        self.image.index() + 1
    }

    /// The image as it is now.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Applies entries and tells what they changed together. Entries that it has already are passed over.
    ///
    /// # Errors
    /// When a record does not fit: this replica may then be used no further.
    pub fn apply(
        &mut self,
        entries: &[Arc<FeedEntry>],
    ) -> Result<(MetadataImage, MetadataDelta), ApplyError> {
        let before = entries.iter().any(|entry| entry.is_whole).then(|| self.image.clone());
        let mut delta = MetadataDelta::default();
        for entry in entries {
            if entry.index < self.next_index() {
                continue;
            }
            if entry.is_whole {
                self.image = MetadataImage::default();
            }
            for record in &entry.records {
                self.image.apply(record, &mut delta)?;
            }
            self.image.set_index(entry.index);
        }
        if let Some(before) = before {
            delta = MetadataDelta::between(&before, &self.image);
        }
        Ok((self.image.clone(), delta))
    }
}
