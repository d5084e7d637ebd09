//! One fetcher for each broker that leads something here: it asks for all partitions at once, appends what comes, and tells what is on
//! disk. One connection, one task; idle partitions are not mentioned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::replica::{EpochEnd, Fetched};
use ottla_partition::follow::{FetchPosition, FetchedData, Followed};
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::generated::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData, ReplicaState,
};
use ottla_protocol::generated::report_durable::{ReportDurableRequest, ReportedPartition, ReportedTopic};
use ottla_protocol::generated::{ApiKey, ErrorCode, ResponseHeader};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset, Uuid};
use ottla_protocol::wire::{Message, Reader, Records, Writer};
use ottla_transport::client::{Client, ClientError, ClientOptions, PendingResponse};
use tokio::time::Instant;

use super::outbox::Reports;
use super::{Change, Mailbox, Shared};
use crate::fetch_sessions::epoch_after;
use crate::state::now_ms;

/// The version in which followers fetch.
const FETCH_VERSION: i16 = 17;
/// Requests under way: the one that is parked, and one that ends its wait.
const REQUESTS_MAX: usize = 2;
/// A leader that cannot be reached is tried again after that.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The first pause after an error is this fraction of the longest.
const BACKOFF_STEPS: u32 = 20;

type Key = (Uuid, i32);

/// One task's state.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    leader: BrokerId,
    mailbox: Arc<Mailbox>,
    followed: BTreeMap<Key, Entry>,
    /// To be mentioned in the next request.
    changed: BTreeSet<Key>,
    forgotten: BTreeSet<Key>,
    /// To be asked for again later, by time.
    later: BTreeSet<(Instant, Key)>,
    connection: Option<Connection>,
    /// Errors in a row.
    failures: u32,
}

struct Entry {
    partition: Arc<Partition>,
    /// The question that was asked last, and in which request of the connection.
    asked: Option<(FetchPosition, u64)>,
    failures: u32,
}

struct Connection {
    client: Client,
    /// The answers that are awaited, by their requests' numbers.
    pending: VecDeque<(u64, PendingResponse)>,
    /// Requests that were sent.
    sent: u64,
    session_id: i32,
    session_epoch: i32,
}

impl Connection {
    /// Sends the session's next fetch.
    async fn send(&mut self, body: &[u8]) -> Result<(), Lost> {
        let pending = self.client.send(ApiKey::Fetch, FETCH_VERSION, body).await?;
        self.pending.push_back((self.sent, pending));
        self.sent += 1;
        self.session_epoch = epoch_after(self.session_epoch);
        Ok(())
    }
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the leader's address is not known")]
    NoAddress,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer cannot be read: {0}")]
    Decode(ottla_protocol::wire::DecodeError),
    #[error("the leader refuses the fetch: {0:?}")]
    Refused(Option<ErrorCode>),
}

impl Fetcher {
    pub(super) fn new(shared: Arc<Shared>, leader: BrokerId, mailbox: Arc<Mailbox>) -> Self {
        Self {
            shared,
            leader,
            mailbox,
            followed: BTreeMap::new(),
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            later: BTreeSet::new(),
            connection: None,
            failures: 0,
        }
    }

    /// Works until the stop.
    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        tokio::select! {
            () = self.shared.started.cancelled() => {}
            () = stop.cancelled() => return,
        }
        loop {
            self.take_changes();
            if self.followed.is_empty() {
                self.connection = None;
                self.forgotten.clear();
                tokio::select! {
                    () = self.mailbox.told.notified() => continue,
                    () = stop.cancelled() => return,
                }
            }
            // Every branch inside is cancel-safe, or what it loses goes with the connection.
            let outcome = tokio::select! {
                outcome = self.step() => outcome,
                () = stop.cancelled() => return,
            };
            if let Err(why) = outcome {
                self.connection = None;
                self.failures += 1;
                if self.failures == 1 {
                    tracing::warn!(leader = self.leader.0, %why, "cannot fetch from a leader; trying on");
                }
                let pause = self.backoff(self.failures);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        let longest = self.shared.config.backoff_max;
        (longest / BACKOFF_STEPS * 2_u32.saturating_pow(failures.saturating_sub(1).min(8))).min(longest)
    }

    fn take_changes(&mut self) {
        for change in self.mailbox.take() {
            match change {
                Change::Follow(partition) => {
                    let key = (partition.key().topic_id, partition.key().index);
                    self.forgotten.remove(&key);
                    self.changed.insert(key);
                    self.followed.insert(key, Entry { partition, asked: None, failures: 0 });
                }
                Change::Leave(key) => {
                    self.changed.remove(&key);
                    if self.followed.remove(&key).is_some() {
                        self.forgotten.insert(key);
                    }
                }
            }
        }
    }

    /// Connects if need be, asks if there is something to ask, and waits for whatever comes first.
    async fn step(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        while let Some((due, key)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.remove(&(due, key));
            self.changed.insert(key);
        }
        if self.connection.is_none() {
            self.connect().await?;
        }
        self.ask().await?;
        let due = self.later.first().map(|(due, _)| *due);
        let reports = self.shared.outbox.reports_told(self.leader);
        let connection = self.connection.as_mut().expect("it was made above");
        let Some((number, answer)) = connection.pending.front_mut() else {
            tokio::select! {
                () = self.mailbox.told.notified() => {}
                () = sleep_until(due) => {}
            }
            return Ok(());
        };
        tokio::select! {
            frame = answer => {
                let number = *number;
                connection.pending.pop_front();
                self.handle(number, frame?)
            }
            () = reports.notified() => self.report().await,
            () = self.mailbox.told.notified() => Ok(()),
            () = sleep_until(due) => Ok(()),
        }
    }

    async fn connect(&mut self) -> Result<(), Lost> {
        let address = self.shared.address_of(self.leader).ok_or(Lost::NoAddress)?;
        let options = ClientOptions {
            client_id: Some(format!("broker-{}-fetcher", self.shared.me)),
            connect_max: self.shared.config.request_max.min(CONNECT_MAX),
            request_max: self.shared.config.request_max + self.shared.config.fetch_wait_max,
            ..ClientOptions::default()
        };
        let client = Client::connect_with(address, options).await?;
        self.connection =
            Some(Connection { client, pending: VecDeque::new(), sent: 0, session_id: 0, session_epoch: 0 });
        self.changed.extend(self.followed.keys());
        self.forgotten.clear();
        self.later.clear();
        // What the leader was told before may not have arrived.
        for entry in self.followed.values() {
            if let Some((following, durable)) = entry.partition.durable_report() {
                self.shared.outbox.report(entry.partition.key(), following, durable);
            }
        }
        Ok(())
    }

    /// Sends a request when there is something to say, or when none is under way.
    async fn ask(&mut self) -> Result<(), Lost> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let has_news = !self.changed.is_empty() || !self.forgotten.is_empty();
        // A session that has no number yet cannot be asked twice.
        let requests_max = if connection.session_id == 0 { 1 } else { REQUESTS_MAX };
        let room = connection.pending.len() < requests_max;
        if !room || !(has_news || connection.pending.is_empty()) {
            return Ok(());
        }
        let mut topics: Vec<FetchTopic> = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(entry) = self.followed.get_mut(&key) else { continue };
            let position = match entry.partition.fetch_position(now_ms()) {
                Ok(Some(position)) if position.leader == self.leader => position,
                // The reconciler has changed its mind; what that means for this fetcher is in the mailbox.
                Ok(_) => continue,
                // Told by who opened the log, or wrote to it; it is offline.
                Err(_) => {
                    self.followed.remove(&key);
                    self.forgotten.insert(key);
                    continue;
                }
            };
            entry.asked = Some((position, connection.sent));
            let partition = self.shared.question(key.1, &position);
            match topics.last_mut().filter(|last| last.topic_id == key.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic_id: key.0,
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        if connection.session_epoch == 0 && topics.is_empty() {
            return Ok(());
        }
        let forgotten = std::mem::take(&mut self.forgotten).into_iter().map(|(topic_id, index)| {
            ForgottenTopic { topic_id, partitions: vec![index], ..ForgottenTopic::default() }
        });
        let request = FetchRequest {
            replica_state: ReplicaState {
                replica_id: self.shared.me.0,
                replica_epoch: self.shared.broker_epoch(),
                ..ReplicaState::default()
            },
            max_wait_ms: i32::try_from(self.shared.config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.shared.config.fetch_bytes_min,
            max_bytes: self.shared.config.response_bytes_max,
            session_id: connection.session_id,
            session_epoch: connection.session_epoch,
            topics,
            forgotten_topics_data: forgotten.collect(),
            ..FetchRequest::default()
        };
        let body = encoded(&request, FETCH_VERSION)?;
        connection.send(&body).await
    }

    fn handle(&mut self, number: u64, frame: bytes::Bytes) -> Result<(), Lost> {
        let mut reader = Reader::new(frame);
        let _header = ResponseHeader::read(&mut reader, ApiKey::Fetch.response_header_version(FETCH_VERSION));
        let response = FetchResponse::read(&mut reader, FETCH_VERSION);
        reader.check().map_err(Lost::Decode)?;
        if response.error_code != 0 {
            return Err(Lost::Refused(ErrorCode::from_code(response.error_code)));
        }
        if self.failures > 0 {
            tracing::info!(leader = self.leader.0, "fetching from a leader again");
            self.failures = 0;
        }
        if let Some(connection) = &mut self.connection {
            connection.session_id = response.session_id;
        }
        for topic in &response.responses {
            for data in &topic.partitions {
                self.take(number, &(topic.topic_id, data.partition_index), data);
            }
        }
        Ok(())
    }

    /// Does what one partition's answer says. What it was asked anew in a later request than this one is answered there.
    fn take(&mut self, number: u64, key: &Key, data: &PartitionData) {
        let Some(entry) = self.followed.get_mut(key) else { return };
        let Some((asked, _)) = entry.asked.filter(|(_, asked_in)| *asked_in <= number) else { return };
        let mut fetched = Fetched { leader_epoch: asked.leader_epoch, offset: asked.offset, diverging: None };
        let done = match ErrorCode::from_code(data.error_code) {
            Some(ErrorCode::None) => {
                let end = &data.diverging_epoch;
                fetched.diverging = (end.end_offset >= 0)
                    .then_some(EpochEnd { epoch: LeaderEpoch(end.epoch), end: Offset(end.end_offset) });
                let data = FetchedData {
                    fetched,
                    high_watermark: Offset(data.high_watermark),
                    log_start_offset: Offset(data.log_start_offset),
                    records: records_of(data),
                };
                entry.partition.handle_fetched(&data, now_ms())
            }
            Some(ErrorCode::OffsetOutOfRange) if data.leader_end_offset >= 0 => {
                let (start, end) = (Offset(data.log_start_offset), Offset(data.leader_end_offset));
                entry.partition.handle_out_of_range(&fetched, start, end, now_ms())
            }
            // The leader has not heard of its leadership yet, or this broker not of the next one.
            code => {
                tracing::debug!(partition = %entry.partition.key(), ?code, "a leader refuses a partition");
                return self.ask_later(key);
            }
        };
        match done {
            // No whole batch came, or an answer to what is no longer so: the leader waits to be asked.
            Ok(Followed::Appended { bytes: 0, .. }) if !records_of(data).is_empty() => self.ask_later(key),
            Ok(Followed::Dropped) => self.ask_later(key),
            Ok(Followed::Appended { bytes: 0, .. }) => entry.failures = 0,
            Ok(Followed::Appended { .. }) => {
                entry.failures = 0;
                self.changed.insert(*key);
            }
            Ok(Followed::Truncated { end, lost }) => {
                let partition = entry.partition.key();
                match lost {
                    None => tracing::info!(%partition, end = end.0, "cut what the leader does not have"),
                    Some((from, until)) => tracing::error!(
                        %partition, from = from.0, until = until.0,
                        "committed records are gone: the leader, which was elected uncleanly, does not have them"
                    ),
                }
                self.changed.insert(*key);
            }
            // Told by who found it; the partition is offline.
            Err(PartitionError::Failed(_)) => {
                self.followed.remove(key);
                self.forgotten.insert(*key);
            }
            Err(error) => {
                if entry.failures == 0 {
                    tracing::warn!(partition = %entry.partition.key(), %error, "cannot follow; trying on");
                }
                self.ask_later(key);
            }
        }
    }

    fn ask_later(&mut self, key: &Key) {
        let Some(entry) = self.followed.get_mut(key) else { return };
        entry.failures += 1;
        entry.asked = None;
        let pause = entry.failures;
        self.later.insert((Instant::now() + self.backoff(pause), *key));
    }

    /// Tells the leader what is on disk.
    async fn report(&mut self) -> Result<(), Lost> {
        let reports = self.shared.outbox.take_reports(self.leader);
        let Some(connection) = &self.connection else { return Ok(()) };
        if reports.is_empty() {
            return Ok(());
        }
        let request = ReportDurableRequest {
            broker_id: self.shared.me.0,
            broker_epoch: self.shared.broker_epoch(),
            topics: reported(reports),
            ..ReportDurableRequest::default()
        };
        let body = encoded(&request, 0)?;
        connection.client.send_one_way(ApiKey::ReportDurable, 0, &body).await?;
        Ok(())
    }
}

fn records_of(data: &PartitionData) -> &[u8] {
    match &data.records {
        Records::Bytes(bytes) => bytes,
        _ => &[],
    }
}

fn reported(reports: Reports) -> Vec<ReportedTopic> {
    let mut topics: BTreeMap<Uuid, ReportedTopic> = BTreeMap::new();
    for ((topic_id, partition_index), (epoch, durable)) in reports {
        let topic =
            topics.entry(topic_id).or_insert_with(|| ReportedTopic { topic_id, ..Default::default() });
        topic.partitions.push(ReportedPartition {
            partition_index,
            leader_epoch: epoch.0,
            durable_offset: durable.0,
            ..Default::default()
        });
    }
    topics.into_values().collect()
}

fn encoded<T: Message>(message: &T, version: i16) -> Result<bytes::Bytes, Lost> {
    let mut writer = Writer::new();
    message.write(&mut writer, version);
    let encoded = writer.finish_bytes();
    Ok(encoded.map_err(|source| ClientError::Encode { message: T::NAME, version, source })?)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn question(&self, partition: i32, position: &FetchPosition) -> FetchPartition {
        FetchPartition {
            partition,
            current_leader_epoch: position.leader_epoch.0,
            fetch_offset: position.offset.0,
            last_fetched_epoch: position.last_epoch.0,
            log_start_offset: position.log_start_offset.0,
            partition_max_bytes: self.config.partition_bytes_max,
            ..FetchPartition::default()
        }
    }
}
