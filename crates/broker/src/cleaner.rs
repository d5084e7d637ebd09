//! Compaction of this broker's logs, one at a time: the dirtiest first, as Kafka does (`log.cleaner.*`). Looks only at topics with
//! `cleanup.policy` compact; sleeps while there is none, and for `log.cleaner.backoff.ms` when none is dirty enough.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ottla_partition::{Partition, PartitionKey};
use ottla_storage::compaction::{CleaningError, CleaningOptions, KeyHash};
use tokio_util::sync::CancellationToken;

use crate::config::effective::{CleanerConfig, DynamicConfig};
use crate::state::{State, now_ms};

/// The cleaner never looks more often than so.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// A throttled cleaning notices the broker's stop within this.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Cleans until `stop` is cancelled.
pub async fn run(state: Arc<State>, stop: CancellationToken) {
    if !state.config.log_cleaner_enable {
        return;
    }
    let mut cleaner =
        Cleaner { hash: KeyHash::random(), uncleanable: BTreeSet::new(), is_without_room: false };
    let mut images = state.image.clone();
    while !stop.is_cancelled() {
        // Topics and settings are what this image says or a later one; a later one ends the pause.
        images.mark_unchanged();
        let config = DynamicConfig::resolve(&state.config, &state.image()).cleaner;
        let has_topics = state.topics.has_compacted();
        if has_topics {
            let (shared, stopping, settings) = (state.clone(), stop.clone(), config.clone());
            let round = tokio::task::spawn_blocking(move || {
                let outcome = cleaner.clean_one(&shared, &settings, &stopping);
                (cleaner, outcome)
            });
            let (back, outcome) = match round.await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "the log cleaner panicked, logs are not compacted any more");
                    return;
                }
            };
            cleaner = back;
            if outcome.is_continue() {
                continue;
            }
        }
        // All branches are cancel-safe.
        tokio::select! {
            () = tokio::time::sleep(config.backoff.max(BACKOFF_MIN)), if has_topics => {}
            Ok(()) = images.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What it remembers from one cleaning to the next.
struct Cleaner {
    hash: KeyHash,
    /// Logs that could not be cleaned: each was told of once and is left alone until the broker restarts.
    uncleanable: BTreeSet<PartitionKey>,
    /// The last cleaning found no room, which was told.
    is_without_room: bool,
}

impl Cleaner {
    /// Cleans the dirtiest log. Goes on when there may be another.
    fn clean_one(
        &mut self,
        state: &State,
        config: &CleanerConfig,
        stop: &CancellationToken,
    ) -> ControlFlow<()> {
        let Some(partition) = self.dirtiest(state) else { return ControlFlow::Break(()) };
        let options = CleaningOptions {
            dedupe_buffer_bytes: config.dedupe_buffer_bytes,
            load_factor: config.load_factor,
            io_buffer_bytes: config.io_buffer_bytes,
            hash: self.hash.clone(),
            now_ms: now_ms(),
        };
        let started = Instant::now();
        let mut throttle = Throttle { bytes_per_second: config.bytes_per_second, started, bytes: 0 };
        let mut pace = |bytes| throttle.spend(bytes, &partition, state, stop);
        let cleaned = partition.clean(&options, &mut pace);
        let metrics = &state.metrics.cleaner;
        match cleaned {
            Ok(Some(cleaned)) => {
                self.is_without_room = false;
                let stats = cleaned.stats;
                metrics.cleaned_bytes.add(stats.replaced_bytes);
                metrics.kept_bytes.add(stats.kept_bytes);
                metrics.runs.add(1);
                metrics.last_run_ms.store(now_ms().unsigned_abs(), Ordering::Relaxed);
                tracing::info!(
                    partition = %partition.key(),
                    cleaned_to = cleaned.cleaned_to.0,
                    bytes_before = stats.replaced_bytes,
                    bytes_after = stats.kept_bytes,
                    took_ms = started.elapsed().as_millis(),
                    "cleaned a log"
                );
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Break(()),
            Err(error) => {
                self.note_error(&partition, &error);
                metrics.uncleanable.store(self.uncleanable.len() as u64, Ordering::Relaxed);
                ControlFlow::Break(())
            }
        }
    }

    /// The log with the highest dirty ratio of those that are due.
    fn dirtiest(&mut self, state: &State) -> Option<Arc<Partition>> {
        let mut best: Option<(f64, Arc<Partition>)> = None;
        let mut still_uncleanable = BTreeSet::new();
        for topic in state.topics.compacted() {
            for (_, partition) in topic.partitions() {
                if let Some(key) = self.uncleanable.take(partition.key()) {
                    still_uncleanable.insert(key);
                    continue;
                }
                match partition.dirty(now_ms()) {
                    Ok(Some(dirty)) if dirty.is_due() => {
                        let ratio = dirty.cleanable.dirty_ratio();
                        if best.as_ref().is_none_or(|(highest, _)| ratio > *highest) {
                            best = Some((ratio, partition.clone()));
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        still_uncleanable.extend(set_aside(partition, &error));
                    }
                }
            }
        }
        // Those of deleted topics are forgotten.
        self.uncleanable = still_uncleanable;
        let uncleanable = &state.metrics.cleaner.uncleanable;
        uncleanable.store(self.uncleanable.len() as u64, Ordering::Relaxed);
        best.map(|(_, partition)| partition)
    }

    fn note_error(&mut self, partition: &Arc<Partition>, error: &CleaningError) {
        match error {
            CleaningError::Stopped | CleaningError::Stale => {}
            CleaningError::NoSpace => {
                if !std::mem::replace(&mut self.is_without_room, true) {
                    tracing::error!(partition = %partition.key(), "no space left to clean logs: they are not compacted until there is");
                }
            }
            CleaningError::Log(_) | CleaningError::Batch(_) => {
                self.uncleanable.extend(set_aside(partition, error));
            }
        }
    }
}

fn set_aside(partition: &Partition, error: &dyn std::fmt::Display) -> Option<PartitionKey> {
    tracing::error!(
        partition = %partition.key(),
        %error,
        "cannot clean a log: it is not compacted any more until the broker restarts, the others are"
    );
    Some(partition.key().clone())
}

/// `log.cleaner.io.max.bytes.per.second`, over one cleaning.
struct Throttle {
    bytes_per_second: f64,
    started: Instant,
    bytes: u64,
}

impl Throttle {
    /// Waits until so many more bytes are allowed; false when the cleaning is to stop.
    fn spend(&mut self, bytes: u64, partition: &Partition, state: &State, stop: &CancellationToken) -> bool {
        self.bytes += bytes;
        loop {
            if stop.is_cancelled() {
                return false;
            }
            let pause = self.due().saturating_sub(self.started.elapsed());
            if pause.is_zero() {
                return true;
            }
            if !partition.wait_unless_retired(pause.min(PAUSE_MAX)) {
                return false;
            }
            // It may have been raised meanwhile.
            let config = DynamicConfig::resolve(&state.config, &state.image()).cleaner;
            self.bytes_per_second = config.bytes_per_second;
        }
    }

    /// When so many bytes are allowed, counted from the start.
    fn due(&self) -> Duration {
        let seconds = self.bytes as f64 / self.bytes_per_second.max(1.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
