//! The test of the tests: each bug that is planted must be caught.

use std::time::Instant;

use ottla_cluster::planted as cluster;
use ottla_storage::planted as storage;

use crate::world::{Report, run};

/// So many seeds are tried for each bug.
const SEEDS: u64 = 600;

/// A bug with its name.
#[derive(Clone, Copy)]
enum Planted {
    Storage(storage::Bug),
    Cluster(cluster::Bug),
}

const ALL: &[Planted] = &[
    Planted::Storage(storage::Bug::AckBeforeSync),
    Planted::Storage(storage::Bug::RecoveryCuts),
    Planted::Storage(storage::Bug::ProducersForgotten),
    Planted::Storage(storage::Bug::SyncCoversCut),
    Planted::Cluster(cluster::Bug::TruncateToHighWatermark),
    Planted::Cluster(cluster::Bug::WatermarkOnLeaderChange),
    Planted::Cluster(cluster::Bug::JoinsBehind),
    Planted::Cluster(cluster::Bug::ReportBeforeMatch),
    Planted::Cluster(cluster::Bug::CommittedIsrOnly),
    Planted::Cluster(cluster::Bug::StaleIsrEpoch),
    Planted::Cluster(cluster::Bug::WipedReplicaElected),
    Planted::Cluster(cluster::Bug::UncleanElection),
    Planted::Cluster(cluster::Bug::AcknowledgedEarly),
];

impl Planted {
    fn plant(self) {
        let (storage, cluster) = match self {
            Self::Storage(bug) => (Some(bug), None),
            Self::Cluster(bug) => (None, Some(bug)),
        };
        storage::plant(storage);
        cluster::plant(cluster);
    }

    fn name(self) -> String {
        match self {
            Self::Storage(bug) => format!("{bug:?}"),
            Self::Cluster(bug) => format!("{bug:?}"),
        }
    }
}

/// Plants one after the other; true when all were caught. A line for each goes to `say`.
pub fn catch_all(mut say: impl FnMut(&str)) -> bool {
    let mut caught = 0;
    for bug in ALL {
        bug.plant();
        let started = Instant::now();
        let found = (0..SEEDS).map(|seed| run(seed, false)).find(|report| !report.violations.is_empty());
        let wall_s = started.elapsed().as_secs_f64();
        match found {
            Some(Report { seed, simulated_us, violations, .. }) => {
                caught += 1;
                let (simulated_s, name) = (simulated_us as f64 / 1e6, bug.name());
                let first = violations.first().map_or("", String::as_str);
                say(&format!(
                    "bug={name} caught seed={seed} simulated_s={simulated_s:.1} wall_s={wall_s:.1}: {first}"
                ));
            }
            None => say(&format!("bug={} not caught by {SEEDS} seeds in {wall_s:.1} s", bug.name())),
        }
    }
    storage::plant(None);
    cluster::plant(None);
    say(&format!("caught {caught} of {}", ALL.len()));
    caught == ALL.len()
}
