//! Sees to what fetchers cannot: who leads, where to begin, a fetcher for each broker. Owns the fetchers' tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::assignment::Needs;
use super::{Shared, fetcher};
use crate::error::Error;
use crate::offsets;
use crate::retry::Backoff;

/// Runs until `stop`, then ends the fetchers and waits for them.
pub(super) async fn run(shared: Arc<Shared>, stop: Arc<Notify>) {
    let mut fetchers = JoinSet::new();
    tokio::select! {
        () = supervise(&shared, &mut fetchers) => {}
        () = stop.notified() => {}
    }
    fetchers.shutdown().await;
}

async fn supervise(shared: &Arc<Shared>, fetchers: &mut JoinSet<()>) {
    let mut backoff = Backoff::default();
    let age_max = shared.options.client.metadata_age_max();
    let mut refresh_at = Instant::now() + age_max;
    loop {
        let mut needs = shared.assignment().needs();
        if Instant::now() >= refresh_at {
            refresh_at = Instant::now() + age_max;
            let mut topics: Vec<_> =
                shared.assignment().partitions().into_iter().map(|place| place.topic).collect();
            topics.dedup();
            needs.leaders = topics;
        }
        find_leaders(shared, fetchers, &needs).await;
        // What has just found its leader can find its position at once.
        let needs = shared.assignment().needs();
        find_positions(shared, &needs).await;
        let wake_at = if needs.leaders.is_empty() && needs.positions.is_empty() {
            backoff = Backoff::default();
            needs.look_again.unwrap_or(refresh_at).min(refresh_at)
        } else {
            Instant::now() + backoff.next()
        };
        tokio::select! {
            () = shared.attention.notified() => {}
            () = sleep_until(wake_at) => {}
        }
    }
}

async fn find_leaders(shared: &Arc<Shared>, fetchers: &mut JoinSet<()>, needs: &Needs) {
    if needs.leaders.is_empty() {
        return;
    }
    let client = &shared.options.client;
    let seen = client.cluster().generation;
    if let Err(error) = client.refresh(&needs.leaders, false, seen, client.request_max()).await {
        tracing::warn!(%error, "no metadata for a consumer");
        if !error.is_retriable() {
            shared.assignment().raise(error);
        }
    }
    for topic in &needs.leaders {
        let Some(topic) = client.cluster().topic(topic, Duration::MAX) else { continue };
        let missing = shared.assignment().learn(&topic);
        for broker in missing {
            let work = shared.assignment().add_fetcher(broker);
            fetchers.spawn(fetcher::run(shared.clone(), broker, work));
        }
    }
}

async fn find_positions(shared: &Shared, needs: &Needs) {
    if needs.positions.is_empty() {
        return;
    }
    let wanted: Vec<_> =
        needs.positions.iter().map(|(place, position, _)| (place.clone(), *position)).collect();
    let found = offsets::find_once(&shared.options.client, &wanted, shared.options.isolation).await;
    let mut assignment = shared.assignment();
    for (place, found) in found {
        let version =
            needs.positions.iter().find(|(other, ..)| *other == place).map(|(_, _, version)| *version);
        if let Some(version) = version {
            let found: Result<i64, Error> = found.map(|found| found.offset);
            assignment.locate(&place, version, found);
        }
    }
}
