//! A member's life: find the coordinator, join, get partitions, give signs of life, and again when the group changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::join_group::JoinGroupResponse;
use ottla_protocol::wire::Str;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::assignor::{Assignments, Assignor, Member as Joined};
use super::membership::{self, Subscription};
use super::options::GroupOptions;
use super::{GroupHandle, calls};
use crate::connection::Connection;
use crate::consumer::StartAt;
use crate::error::{Error, code_of};
use crate::offsets::{Position, TopicPartition};
use crate::retry::Backoff;
use crate::{committed, coordinator};

/// A member that must end does not wait longer than this for its last words.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Runs until `stop`; then commits, leaves, and ends.
pub(super) async fn run(options: GroupOptions, handle: GroupHandle, stop: Arc<Notify>) {
    let mut member = Member {
        options,
        handle,
        coordinator: None,
        connection: None,
        owned: Vec::new(),
        counts: BTreeMap::new(),
        reason: "it is new",
    };
    tokio::select! {
        () = member.live() => {}
        () = stop.notified() => {}
    }
    if tokio::time::timeout(GOODBYE_MAX, member.end()).await.is_err() {
        tracing::warn!(group = %member.options.group, "no time to leave the group in order");
    }
}

struct Member {
    options: GroupOptions,
    handle: GroupHandle,
    coordinator: Option<i32>,
    /// For joins, which wait in the broker.
    connection: Option<Connection>,
    owned: Vec<TopicPartition>,
    /// How many partitions the topics had at the last join.
    counts: BTreeMap<Str, i32>,
    /// Why it joins the next time, for people who ask the group's coordinator.
    reason: &'static str,
}

impl Member {
    async fn live(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.join_and_stay().await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => {
                    self.stumble(error).await;
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// From the join to the next rebalance.
    async fn join_and_stay(&mut self) -> Result<(), Error> {
        if !self.options.is_cooperative() {
            self.let_go(|_| true).await;
        }
        let joined = self.join().await?;
        let assigned = self.sync(&joined).await?;
        let more = self.take_over(assigned).await?;
        if more {
            self.reason = "it has let go of partitions";
            // What was let go is given to others in the next round.
            return Ok(());
        }
        self.stay().await
    }

    async fn find_coordinator(&mut self) -> Result<i32, Error> {
        if let Some(broker) = self.coordinator {
            return Ok(broker);
        }
        let broker = coordinator::find(&self.handle.client, &self.options.group).await?;
        self.coordinator = Some(broker);
        Ok(broker)
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Error> {
        self.counts = self.count_partitions().await?;
        let broker = self.find_coordinator().await?;
        if self.connection.is_none() {
            self.connection = Some(self.handle.client.own_connection(broker).await?);
        }
        let connection = self.connection.as_ref().expect("just made");
        loop {
            let me = self.handle.committer().clone();
            let subscription = Subscription {
                topics: self.options.topics.clone(),
                owned: self.owned.clone(),
                generation: me.generation,
            };
            let metadata = membership::write_subscription(&subscription);
            let response = calls::join(connection, &self.options, &me, &metadata, self.reason).await?;
            match code_of(response.error_code) {
                ErrorCode::None => {
                    let mut committer = self.handle.committer();
                    committer.member = response.member_id.detached();
                    committer.generation = response.generation_id;
                    return Ok(response);
                }
                // KIP-394: the coordinator has given an id and wants to see it before it counts the member.
                ErrorCode::MemberIdRequired => {
                    self.handle.committer().member = response.member_id.detached();
                }
                code => return Err(Error::group(&self.options.group, code)),
            }
        }
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<TopicPartition>, Error> {
        let assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            self.lead(joined).await?
        } else {
            Assignments::new()
        };
        let me = self.handle.committer().clone();
        let connection = self.connection.as_ref().expect("joined by it");
        let protocol = joined.protocol_name.clone();
        let response = calls::sync(connection, &self.options, &me, protocol, &assignments).await?;
        membership::read_assignment(&response.assignment).map_err(|error| Error::Refused {
            what: format!("group {}: the leader's assignment does not decode ({error})", self.options.group),
            code: ErrorCode::UnknownServerError,
            message: None,
        })
    }

    /// Decides who gets what.
    async fn lead(&mut self, joined: &JoinGroupResponse) -> Result<Assignments, Error> {
        let name = joined.protocol_name.as_deref().unwrap_or_default();
        let assignor = Assignor::by_name(name)
            .ok_or_else(|| Error::group(&self.options.group, ErrorCode::InconsistentGroupProtocol))?;
        let mut members = Vec::with_capacity(joined.members.len());
        let mut topics = BTreeSet::new();
        for member in &joined.members {
            // A member whose wishes nobody can read gets nothing; the others go on.
            let subscription = membership::read_subscription(&member.metadata).unwrap_or_default();
            topics.extend(subscription.topics.iter().cloned());
            members.push(Joined {
                id: member.member_id.detached(),
                instance: member.group_instance_id.as_ref().map(Str::detached),
                subscription,
            });
        }
        let mut counts = BTreeMap::new();
        for topic in topics {
            match self.handle.client.topic(&topic).await {
                Ok(known) => {
                    counts.insert(topic, known.partitions_count());
                }
                Err(error) => tracing::warn!(%error, group = %self.options.group, "nobody gets this topic"),
            }
        }
        Ok(assignor.assign(&members, &counts))
    }

    /// Lets go of what was taken and begins with what was given; true when another round must follow.
    async fn take_over(&mut self, assigned: Vec<TopicPartition>) -> Result<bool, Error> {
        let gone = self.owned.iter().any(|place| !assigned.contains(place));
        if gone {
            self.let_go(|place| !assigned.contains(place)).await;
        }
        let fresh: Vec<TopicPartition> =
            assigned.into_iter().filter(|place| !self.owned.contains(place)).collect();
        let client = &self.handle.client;
        let committed = if fresh.is_empty() {
            BTreeMap::new()
        } else {
            committed::fetch(client, &self.options.group, Some(&fresh)).await?
        };
        let mut starts = Vec::with_capacity(fresh.len());
        for place in &fresh {
            let start = match (committed.get(place), self.options.consumer.start_at) {
                (Some(offset), _) => Position::Offset(*offset),
                (None, StartAt::Beginning) => Position::Beginning,
                (None, StartAt::End) => Position::End,
                (None, StartAt::Nowhere) => {
                    self.handle.reading.raise(Error::OffsetOutOfRange {
                        topic: place.topic.to_string(),
                        partition: place.partition,
                        offset: -1,
                    });
                    continue;
                }
            };
            starts.push((place.clone(), start));
        }
        tracing::info!(group = %self.options.group, partitions = fresh.len(), "assigned");
        if let Some(listener) = &self.options.listener {
            listener.assigned(&fresh);
        }
        self.handle.reading.add(&starts);
        self.owned.extend(fresh);
        Ok(gone && self.options.is_cooperative())
    }

    /// Lets go in order: the program hears of it, and what is done is committed.
    async fn let_go(&mut self, gone: impl Fn(&TopicPartition) -> bool) {
        let leaving: Vec<TopicPartition> = self.owned.iter().filter(|place| gone(place)).cloned().collect();
        if leaving.is_empty() {
            return;
        }
        if let Some(listener) = &self.options.listener {
            listener.revoked(&self.handle, &leaving).await;
        }
        self.commit_done(|place| gone(place)).await;
        self.handle.reading.remove(|place| gone(place));
        self.owned.retain(|place| !gone(place));
    }

    /// They have gone to others already.
    fn lose_all(&mut self) {
        if self.owned.is_empty() {
            return;
        }
        if let Some(listener) = &self.options.listener {
            listener.lost(&self.owned);
        }
        self.handle.reading.remove(|_| true);
        self.owned.clear();
    }

    async fn commit_done(&self, which: impl Fn(&TopicPartition) -> bool) {
        if self.options.commit_every.is_none() {
            return;
        }
        let done: Vec<_> = self.handle.reading.done().into_iter().filter(|(place, _)| which(place)).collect();
        if let Err(error) = self.handle.commit_offsets(&done).await {
            tracing::warn!(%error, "offsets are not committed");
        }
    }

    /// Gives signs of life and commits until the group changes.
    async fn stay(&mut self) -> Result<(), Error> {
        let mut working = self.handle.reading.work().map(|work| (work, Instant::now()));
        let mut heartbeat_at = Instant::now() + self.options.heartbeat_every;
        let commit_every = self.options.commit_every;
        let mut commit_at = commit_every.map(|pause| Instant::now() + pause);
        let refresh_every = self.handle.client.metadata_age_max();
        let mut refresh_at = Instant::now() + refresh_every;
        loop {
            let wake_at = commit_at.map_or(heartbeat_at, |at| at.min(heartbeat_at));
            sleep_until(wake_at).await;
            let now = Instant::now();
            working = match (self.handle.reading.work(), working) {
                (Some(work), Some((before, since))) if work == before => {
                    if now - since > self.options.work_max {
                        return self.stand_aside(work).await;
                    }
                    Some((work, since))
                }
                (work, _) => work.map(|work| (work, now)),
            };
            if commit_at.is_some_and(|at| at <= now) {
                self.commit_done(|_| true).await;
                commit_at = commit_every.map(|pause| Instant::now() + pause);
            }
            if refresh_at <= now {
                refresh_at = now + refresh_every;
                if self.count_partitions().await? != self.counts {
                    self.reason = "a topic has more partitions";
                    return Ok(());
                }
            }
            if heartbeat_at <= now {
                heartbeat_at = now + self.options.heartbeat_every;
                let me = self.handle.committer().clone();
                let broker = self.find_coordinator().await?;
                match calls::heartbeat(&self.handle.client, broker, &me).await {
                    Ok(()) => {}
                    Err(error) if error.code() == Some(ErrorCode::RebalanceInProgress) => {
                        self.reason = "the group rebalances";
                        return Ok(());
                    }
                    Err(error) if coordinator::is_elsewhere(&error) => {
                        // The group lives on at another coordinator; the session's time is long enough to find it.
                        self.coordinator = None;
                        self.connection = None;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// The program is too long at work on one record: others get the partitions until it asks for the next. What it has
    /// is lost to it, as others may have it before it is done. A static member leaves by its silence.
    async fn stand_aside(&mut self, work: u64) -> Result<(), Error> {
        tracing::warn!(
            group = %self.options.group,
            "the program works on a record for longer than work_max: leaving the group until it asks for the next"
        );
        self.lose_all();
        let me = self.handle.committer().clone();
        if me.instance.is_none() {
            let broker = self.find_coordinator().await?;
            calls::leave(&self.handle.client, broker, &me, "its program works on a record for too long")
                .await?;
            let mut committer = self.handle.committer();
            committer.member = Str::default();
            committer.generation = -1;
        }
        while self.handle.reading.work() == Some(work) {
            sleep(self.options.heartbeat_every).await;
        }
        self.reason = "its program asks for records again";
        Ok(())
    }

    async fn count_partitions(&self) -> Result<BTreeMap<Str, i32>, Error> {
        let mut counts = BTreeMap::new();
        for topic in &self.options.topics {
            let known = self.handle.client.topic(topic).await?;
            counts.insert(topic.clone(), known.partitions_count());
        }
        Ok(counts)
    }

    /// After an error of the membership: what has to be forgotten before the next try.
    async fn stumble(&mut self, error: Error) {
        self.reason = "it tries again after an error";
        if coordinator::is_elsewhere(&error) {
            self.coordinator = None;
            self.connection = None;
            return;
        }
        match error.code() {
            Some(ErrorCode::RebalanceInProgress) => {}
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                tracing::warn!(%error, "the group has given this member up");
                self.lose_all();
                let mut committer = self.handle.committer();
                if error.code() == Some(ErrorCode::UnknownMemberId) {
                    committer.member = Str::default();
                }
                committer.generation = -1;
            }
            _ if error.is_retriable() => tracing::warn!(%error, "cannot be in the group"),
            _ => {
                self.lose_all();
                self.handle.reading.raise(error);
            }
        }
    }

    async fn end(&mut self) {
        if let Some(listener) = &self.options.listener
            && !self.owned.is_empty()
        {
            listener.revoked(&self.handle, &self.owned).await;
        }
        if self.options.commit_every.is_some()
            && let Err(error) = self.handle.commit().await
        {
            tracing::warn!(%error, "offsets are not committed");
        }
        self.handle.reading.remove(|_| true);
        let me = self.handle.committer().clone();
        if me.member.is_empty() || me.instance.is_some() {
            return;
        }
        if let Some(broker) = self.coordinator
            && let Err(error) = calls::leave(&self.handle.client, broker, &me, "its consumer is closed").await
        {
            tracing::debug!(%error, "left without a goodbye");
        }
    }
}
