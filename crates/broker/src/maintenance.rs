//! What happens by the clock: retention, checkpoints, compaction, `flush.ms`. Few timers for the whole broker, none per partition; a broker
//! without data does nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::cleaner;
use crate::config::effective::DynamicConfig;
use crate::groups;
use crate::state::{State, now_ms};

/// How long what nobody waits for gathers before it is synced.
const NOTED_GATHER: Duration = Duration::from_millis(500);
/// `flush.ms` is looked at so often at most, and so rarely at least while a topic has it.
const FLUSH_TICK_MIN: Duration = Duration::from_millis(10);
const FLUSH_TICK_MAX: Duration = Duration::from_secs(1);
/// How often silent producers are looked for: Kafka's `producer.id.expiration.check.interval.ms`.
const PRODUCER_CHECK: Duration = Duration::from_secs(600);

/// Starts the timers; they end when `stop` is cancelled.
pub fn start(state: &Arc<State>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
    let config = &state.config;
    vec![
        every(config.log_retention_check_interval, state, stop, retain),
        every(config.log_flush_offset_checkpoint_interval, state, stop, checkpoint),
        every(PRODUCER_CHECK, state, stop, expire_producers),
        every(config.groups.retention_check_interval, state, stop, groups::expire),
        tokio::spawn(flush_by_time(state.clone(), stop.clone())),
        tokio::spawn(flush_noted(state.clone(), stop.clone())),
        tokio::spawn(cleaner::run(state.clone(), stop.clone())),
    ]
}

/// Runs `work` on a thread for blocking work each `period`; late rounds are not made up for.
fn every(period: Duration, state: &Arc<State>, stop: &CancellationToken, work: fn(&State)) -> JoinHandle<()> {
    let (state, stop) = (state.clone(), stop.clone());
    let period = period.max(Duration::from_millis(1));
    tokio::spawn(async move {
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let state = state.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || work(&state)).await {
                tracing::error!(%error, "maintenance panicked");
            }
        }
    })
}

/// Retention by time and size, and the removal of segments whose delay is over.
pub fn retain(state: &State) {
    let mut start_moved = false;
    for topic in state.topics.all() {
        for (_, partition) in topic.partitions() {
            if state.logs.directory_of(partition.key()).is_none() {
                continue;
            }
            match partition.maintain(now_ms()) {
                Ok(done) => {
                    start_moved |= done.start_moved;
                    if done.removed_segments > 0 {
                        let removed = done.removed_segments;
                        tracing::info!(partition = %partition.key(), removed, "retention removed segments");
                    }
                }
                Err(error) => tracing::error!(partition = %partition.key(), %error, "retention failed"),
            }
        }
    }
    if start_moved {
        checkpoint(state);
    }
}

fn checkpoint(state: &State) {
    // What could not be written has been logged; the next round tries again.
    let _written = state.logs.checkpoint(&state.topics);
}

/// Forgets idempotent producers that have been silent for `producer.id.expiration.ms`.
pub fn expire_producers(state: &State) {
    let expiration = DynamicConfig::resolve(&state.config, &state.image()).producer_id_expiration;
    let expiration_ms = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
    for topic in state.topics.all() {
        for (_, partition) in topic.partitions() {
            partition.with_open_log(|log| log.expire_producers(now_ms(), expiration_ms));
        }
    }
}

/// Syncs what nobody waits for, some time after it came. Sleeps while there is nothing.
async fn flush_noted(state: Arc<State>, stop: CancellationToken) {
    // A wait loses nothing when it is cancelled.
    while stop.run_until_cancelled(state.logs.flush_wanted_later()).await.is_some() {
        if stop.run_until_cancelled(tokio::time::sleep(NOTED_GATHER)).await.is_none() {
            return;
        }
        state.logs.flush_noted();
    }
}

/// `flush.ms`: for topics that do not sync by themselves. Sleeps while no topic has it.
async fn flush_by_time(state: Arc<State>, stop: CancellationToken) {
    loop {
        let pause = state.topics.flush_ms_min().map(|ms| {
            Duration::from_millis(u64::try_from(ms).unwrap_or(0)).clamp(FLUSH_TICK_MIN, FLUSH_TICK_MAX)
        });
        // All branches are cancel-safe.
        tokio::select! {
            () = tokio::time::sleep(pause.unwrap_or(FLUSH_TICK_MAX)), if pause.is_some() => {}
            () = state.topics.flush_ms_changed() => continue,
            () = stop.cancelled() => return,
        }
        for topic in state.topics.with_flush_ms() {
            for (_, partition) in topic.partitions() {
                if partition.unsynced_for_ms(now_ms()).is_some_and(|for_ms| for_ms >= topic.settings.flush_ms)
                {
                    state.logs.flush_soon(partition);
                }
            }
        }
    }
}
