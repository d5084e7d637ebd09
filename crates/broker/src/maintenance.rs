//! What happens by the clock: retention, checkpoints, `flush.ms`. Few timers for the whole broker, none per partition; a broker
//! without data does nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::state::{State, now_ms};

/// How often what nobody waits for is synced, and topics with `flush.ms` are looked at.
const FLUSH_MS_TICK: Duration = Duration::from_millis(500);

/// Starts the timers; they end when `stop` is cancelled.
pub fn start(state: &Arc<State>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
    let config = &state.config;
    let checkpoints =
        config.log_flush_offset_checkpoint_interval.min(config.log_flush_start_offset_checkpoint_interval);
    vec![
        every(config.log_retention_check_interval, state, stop, retain),
        every(checkpoints, state, stop, checkpoint),
        every(FLUSH_MS_TICK, state, stop, flush_by_time),
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
fn retain(state: &State) {
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

/// Syncs what nobody waits for, and `flush.ms`: for topics that do not sync by themselves.
fn flush_by_time(state: &State) {
    state.logs.flush_noted();
    for topic in state.topics.all().iter().filter(|topic| topic.settings.flush_ms < i64::MAX) {
        for (_, partition) in topic.partitions() {
            if partition.unsynced_for_ms(now_ms()) >= topic.settings.flush_ms {
                state.logs.flush_soon(partition);
            }
        }
    }
}
