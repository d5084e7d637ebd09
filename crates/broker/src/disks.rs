//! What a failing or full log directory means for the broker: partitions go offline, health says so, the process ends when
//! nothing is left to serve from. Sleeps until a directory is in trouble; looks each second whether a disk hangs, and
//! for room only while one is full.
//!
//! As Kafka does, the broker stops when its metadata's directory or all of them have failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::limits::DISK_HANG_MAX;
use crate::shutdown::Reason;
use crate::state::State;
use crate::{Shell, maintenance};

/// How often a full directory is looked at.
const ROOM_CHECK: Duration = Duration::from_millis(500);
/// How often it is looked whether a disk hangs.
const HANG_CHECK: Duration = Duration::from_secs(1);
/// How often segments whose deletion delay is over are removed while a directory is full.
const RETAIN_WHILE_FULL: Duration = Duration::from_secs(5);

/// Watches the directories until `stop` is cancelled.
pub async fn watch(state: Arc<State>, shell: Shell, stop: CancellationToken) {
    let mut retained = Instant::now();
    loop {
        // All branches are cancel-safe: a notice that is not taken stays.
        tokio::select! {
            () = state.logs.trouble() => {}
            () = tokio::time::sleep(ROOM_CHECK), if state.logs.full().next().is_some() => {}
            () = tokio::time::sleep(HANG_CHECK) => if !state.logs.fence_hung(DISK_HANG_MAX) { continue },
            () = stop.cancelled() => return,
        }
        let retain = state.logs.full().next().is_some() && retained.elapsed() >= RETAIN_WHILE_FULL;
        if retain {
            retained = Instant::now();
        }
        let (state, shell) = (state.clone(), shell.clone());
        let looked = tokio::task::spawn_blocking(move || {
            // First: what hangs in a disk holds the locks of its partitions.
            end_if_hopeless(&state, &shell);
            take_offline(&state);
            state.logs.look_for_room();
            if retain {
                maintenance::retain(&state);
            }
            tell(&state, &shell);
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "looking after the log directories panicked");
        }
    }
}

/// Takes all partitions in failed directories offline.
fn take_offline(state: &State) {
    for (place, path, why) in state.logs.offline() {
        let reason = format!("log directory {} is offline: {why}", path.display());
        let topics = state.topics.all();
        for (_, partition) in topics.iter().flat_map(|topic| topic.partitions()) {
            if state.logs.directory_of(partition.key()) == Some(place) {
                partition.take_offline(&reason);
            }
        }
    }
}

/// Says how things stand.
fn tell(state: &State, shell: &Shell) {
    let mut faults = Vec::new();
    let offline: Vec<_> = state.logs.offline().collect();
    for (_, path, why) in &offline {
        faults.push(format!("log directory {} is offline: {why}", path.display()));
    }
    for path in state.logs.full() {
        faults.push(format!("log directory {} has no space left", path.display()));
    }
    let topics = state.topics.all();
    let failed =
        topics.iter().flat_map(|topic| topic.partitions()).filter(|(_, p)| p.failure().is_some()).count();
    if failed > 0 {
        faults.push(format!("{failed} partitions are offline"));
    }
    shell.health.set_faults(&faults);
}

/// Ends the process where nothing can be served any more.
fn end_if_hopeless(state: &State, shell: &Shell) {
    let offline: Vec<_> = state.logs.offline().collect();
    if offline.len() == state.logs.directory_count() {
        let why = offline.iter().map(|(_, _, why)| *why).collect::<Vec<_>>().join("; ");
        shell.shutdown.request(Reason::Fatal(format!("all log directories have failed: {why}")));
    } else if let Some((_, path, why)) =
        offline.iter().find(|(_, path, _)| *path == state.config.metadata_log_dir)
    {
        let path = path.display();
        shell
            .shutdown
            .request(Reason::Fatal(format!("the metadata's log directory {path} has failed: {why}")));
    }
}
