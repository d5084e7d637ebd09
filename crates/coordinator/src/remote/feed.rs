//! The metadata from whichever coordinator can be reached: a long poll on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::image::{MetadataRecord, RecordError};
use ottla_protocol::generated::fetch_metadata::{FetchMetadataRequest, FetchMetadataResponse, MetadataEntry};
use ottla_protocol::generated::{ApiKey, ErrorCode};
use ottla_protocol::wire::{Message, Str};
use ottla_transport::client::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::line::{Pending, connect, decode};
use super::{Leader, Remote, pause};
use crate::feed::{FeedEntry, FeedError};
use crate::limits::{FEED_ANSWER_MS_MAX, FEED_BYTES, FEED_PAUSE_MS_MAX, FEED_WAIT_MS, RETRY_PAUSE_MS};

/// A feed over the network.
#[derive(Debug)]
pub(crate) struct RemoteFeed {
    remote: Arc<Remote>,
    leader: watch::Receiver<Option<Leader>>,
    next: i64,
    /// The whole metadata of which pieces have come.
    whole: Option<FeedEntry>,
    link: Option<Link>,
    pause_ms: u64,
    /// Whether it was said that no coordinator answers.
    is_lost: bool,
}

/// The connection in use.
#[derive(Debug)]
struct Link {
    address: String,
    client: Client,
    /// The answer that is waited for, and until when. It is kept when the wait is cancelled.
    pending: Option<(Pending, Instant)>,
}

impl RemoteFeed {
    pub(crate) fn new(remote: Arc<Remote>, from: i64) -> Self {
        Self {
            leader: remote.leader.subscribe(),
            remote,
            next: from.max(0),
            whole: None,
            link: None,
            pause_ms: RETRY_PAUSE_MS,
            is_lost: false,
        }
    }

    pub(crate) fn next_index(&self) -> i64 {
        self.next
    }

    /// As [`crate::MetadataFeed::next`].
    pub(crate) async fn next(&mut self) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        loop {
            let response = match self.poll().await {
                Ok(Some(response)) => response,
                // It goes on with the leader.
                Ok(None) => continue,
                Err(error) => {
                    self.lost(&error).await;
                    continue;
                }
            };
            let entries = self.take(response).await?;
            if let Some(last) = entries.last() {
                self.next = last.index + 1;
                return Ok(entries);
            }
        }
    }

    /// Lets go of a coordinator that does not answer, or refuses, and waits a little before another is asked.
    async fn lost(&mut self, error: &str) {
        let address = self.link.take().map(|link| link.address);
        if let Some(address) = &address {
            self.remote.forget(address);
        }
        if !std::mem::replace(&mut self.is_lost, true) {
            let address = address.unwrap_or_default();
            tracing::warn!(%address, %error, "the metadata feed is interrupted: another coordinator is looked for");
        }
        let far = Instant::now() + Duration::from_secs(3600);
        pause(&mut self.leader, self.pause_ms, far).await;
        self.pause_ms = (self.pause_ms * 2).min(FEED_PAUSE_MS_MAX);
    }

    /// The next answer; `None` when another coordinator came to lead. Cancel-safe: what was asked is waited for again.
    async fn poll(&mut self) -> Result<Option<FetchMetadataResponse>, String> {
        self.link_up().await?;
        let request = self.request();
        let link = self.link.as_mut().expect("it is linked");
        if link.pending.is_none() {
            let body = request.encode(0).map_err(|error| error.to_string())?;
            let sent = link.client.send(ApiKey::FetchMetadata, 0, &body);
            let wait_ms = u64::from(FEED_WAIT_MS.unsigned_abs()) + FEED_ANSWER_MS_MAX;
            let until = Instant::now() + Duration::from_millis(wait_ms);
            let sent = timeout_at(until, sent).await.map_err(|_| "no answer in time".to_owned())?;
            link.pending = Some((sent.map_err(|error| error.to_string())?, until));
        }
        let (pending, until) = link.pending.as_mut().expect("it was set just now");
        let address = &link.address;
        let frame = tokio::select! {
            biased;
            frame = pending => frame.map_err(|error| error.to_string()),
            () = sleep_until(*until) => Err("no answer in time".to_owned()),
            // Its sender lives in what this feed holds.
            _ = self.leader.wait_for(|leader| leads_elsewhere(leader, address)) => return Ok(None),
        };
        link.pending = None;
        decode(frame?, ApiKey::FetchMetadata).map(Some).map_err(|error| error.to_string())
    }

    /// Connects to the leader, or to any coordinator where none is known.
    async fn link_up(&mut self) -> Result<(), String> {
        let leader = self.leader.borrow_and_update().as_ref().map(|leader| leader.address.clone());
        if let Some(link) = &self.link
            && leader.is_none_or(|leader| leader == link.address)
        {
            return Ok(());
        }
        self.link = None;
        let Some(address) = self.remote.target() else { return Err("no coordinator is known".to_owned()) };
        match connect(&address, &self.remote.options.client_id).await {
            Ok(client) => self.link = Some(Link { address, client, pending: None }),
            Err(error) => {
                self.remote.forget(&address);
                return Err(error);
            }
        }
        Ok(())
    }

    fn request(&self) -> FetchMetadataRequest {
        let (whole_index, whole_position) =
            self.whole.as_ref().map_or((-1, 0), |whole| (whole.index, position(whole)));
        FetchMetadataRequest {
            cluster_id: self.remote.state().cluster_id.as_deref().map(Str::from),
            from_index: self.next,
            whole_index,
            whole_position,
            max_wait_ms: FEED_WAIT_MS,
            max_bytes: FEED_BYTES,
            ..self.remote.fetch_request()
        }
    }

    /// The entries of an answer that are complete and new.
    async fn take(&mut self, response: FetchMetadataResponse) -> Result<Vec<Arc<FeedEntry>>, FeedError> {
        let address = self.link.as_ref().map_or_else(String::new, |link| link.address.clone());
        if let Err(own) = self.remote.learn_from(&response) {
            return Err(FeedError::OtherCluster { address, found: response.cluster_id.to_string(), own });
        }
        if response.error_code != ErrorCode::None.code() {
            let text = response.error_message.as_ref().map_or_else(String::new, ToString::to_string);
            self.lost(&text).await;
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.is_lost) {
            tracing::info!(%address, "the metadata feed goes on");
        }
        self.pause_ms = RETRY_PAUSE_MS;
        let mut entries = Vec::with_capacity(response.entries.len());
        for entry in response.entries {
            if let Some(entry) =
                self.complete(entry).map_err(|error| FeedError::Unreadable(error.to_string()))?
            {
                entries.push(Arc::new(entry));
            }
        }
        if response.leader_id < 0 {
            // It may be cut off from the others: the next one may know more.
            self.link = None;
        }
        Ok(entries)
    }

    fn complete(&mut self, entry: MetadataEntry) -> Result<Option<FeedEntry>, RecordError> {
        if entry.index < self.next {
            return Ok(None);
        }
        let decoded: Result<Vec<_>, _> = entry.records.into_iter().map(MetadataRecord::decode).collect();
        let records = decoded?;
        if !entry.is_whole {
            return Ok(Some(FeedEntry { index: entry.index, is_whole: false, records }));
        }
        let known = self.whole.take().filter(|whole| whole.index == entry.index);
        let mut whole = match known {
            Some(whole) if position(&whole) == entry.position => whole,
            _ if entry.position == 0 => FeedEntry { index: entry.index, is_whole: true, records: Vec::new() },
            // Not the piece that comes next: it begins anew.
            _ => return Ok(None),
        };
        whole.records.extend(records);
        if entry.is_last {
            return Ok(Some(whole));
        }
        self.whole = Some(whole);
        Ok(None)
    }
}

fn leads_elsewhere(leader: &Option<Leader>, address: &str) -> bool {
    leader.as_ref().is_some_and(|leader| leader.address != address)
}

fn position(whole: &FeedEntry) -> i64 {
    i64::try_from(whole.records.len()).unwrap_or(i64::MAX)
}
