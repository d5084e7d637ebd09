//! A broker as a follower: one fetch per leader at a time, over all partitions that follow it, and reports of what is on disk.

use std::collections::BTreeMap;

use ottla_cluster::replica::{DurableReport, EpochEnd, Fetched, FollowerFetch, Following};
use ottla_partition::follow::{FetchedData, Followed};
use ottla_protocol::ids::{BrokerId, Offset};

use super::Process;
use crate::env::Env;
use crate::message::{Address, Correlation, Given, Message, ReplicaAsked, ReplicaGiven, Timer, Tp};

const FETCH_TIMEOUT_US: u64 = 1_500_000;
/// After a fetch that nothing came of.
const BACKOFF_US: u64 = 100_000;

/// What goes on with one leader.
#[derive(Default)]
pub(super) struct Fetcher {
    outstanding: Option<Correlation>,
    /// The next fetch waits for a timer.
    backs_off: bool,
    /// Its connection is a new one: it is told again what is on disk.
    is_new: bool,
}

fn address(id: BrokerId) -> Address {
    u32::try_from(id.0).expect("ids are positive")
}

impl Process {
    /// Fetches from all leaders from which no answer is awaited.
    pub(super) fn follow_all(&mut self, env: &mut Env) {
        if !self.is_active {
            return;
        }
        let now_ms = self.wall_ms(env);
        let mut asked: BTreeMap<Address, Vec<ReplicaAsked>> = BTreeMap::new();
        for (tp, partition) in &self.partitions {
            let Some(following) = partition.following() else { continue };
            let leader = address(following.leader);
            let fetcher = self.fetchers.entry(leader).or_default();
            if fetcher.outstanding.is_some() || fetcher.backs_off {
                continue;
            }
            // A log that cannot be opened is not fetched for.
            let Ok(Some(position)) = partition.fetch_position(now_ms) else { continue };
            let fetch = FollowerFetch {
                id: self.id,
                broker_epoch: self.epoch,
                leader_epoch: position.leader_epoch,
                offset: position.offset,
                last_epoch: position.last_epoch,
            };
            asked.entry(leader).or_default().push(ReplicaAsked { tp: *tp, fetch });
        }
        for (leader, asked) in asked {
            let correlation = env.correlation();
            self.fetchers.entry(leader).or_default().outstanding = Some(correlation);
            env.send(self.address(), leader, Message::ReplicaFetch(correlation, asked));
            self.wait(env, FETCH_TIMEOUT_US, Timer::Fetch(leader, Some(correlation)));
        }
    }

    pub(super) fn fetch_due(&mut self, env: &mut Env, leader: Address, given_up: Option<Correlation>) {
        let Some(fetcher) = self.fetchers.get_mut(&leader) else { return };
        match given_up {
            Some(_) if fetcher.outstanding != given_up => return,
            Some(_) => {
                fetcher.outstanding = None;
                fetcher.is_new = true;
            }
            None => fetcher.backs_off = false,
        }
        self.follow_all(env);
    }

    pub(super) fn replica_fetched(
        &mut self,
        env: &mut Env,
        from: Address,
        correlation: Correlation,
        given: Vec<ReplicaGiven>,
    ) {
        let Some(fetcher) = self.fetchers.get_mut(&from) else { return };
        if fetcher.outstanding != Some(correlation) {
            return;
        }
        fetcher.outstanding = None;
        let is_new = std::mem::take(&mut fetcher.is_new);
        let mut is_served = true;
        for given in given {
            is_served &= self.take_given(env, &given);
        }
        self.hear(env);
        if is_new {
            self.report_all(env, from);
        }
        if !is_served {
            self.fetchers.entry(from).or_default().backs_off = true;
            self.wait(env, BACKOFF_US, Timer::Fetch(from, None));
        }
        self.follow_all(env);
    }

    /// False when nothing came of it.
    fn take_given(&mut self, env: &mut Env, given: &ReplicaGiven) -> bool {
        let Some(partition) = self.partitions.get(&given.tp) else { return true };
        let now_ms = self.wall_ms(env);
        let FollowerFetch { leader_epoch, offset, .. } = given.fetch;
        let asked = Fetched { leader_epoch, offset, diverging: None };
        let followed = match &given.answer {
            Given::Records { batches, high_watermark, log_start } => {
                let data = FetchedData {
                    fetched: asked,
                    high_watermark: *high_watermark,
                    log_start_offset: *log_start,
                    records: batches,
                };
                partition.handle_fetched(&data, now_ms)
            }
            Given::Diverging { epoch, end } => {
                let diverging = Some(EpochEnd { epoch: *epoch, end: *end });
                let data = FetchedData {
                    fetched: Fetched { diverging, ..asked },
                    high_watermark: Offset(0),
                    log_start_offset: Offset(-1),
                    records: &[],
                };
                partition.handle_fetched(&data, now_ms)
            }
            Given::OutOfRange { start, end } => partition.handle_out_of_range(&asked, *start, *end, now_ms),
            Given::Refused => return false,
        };
        let what = || {
            let epochs = partition.with_open_log(|log| log.epochs().entries().to_vec());
            format!("broker {} has {followed:?} of {given:?}, epochs {epochs:?}", self.id)
        };
        if !matches!(given.answer, Given::Refused | Given::Records { .. }) {
            env.trace.tell(what);
        }
        match &followed {
            Ok(Followed::Truncated { end, lost }) => {
                env.trace.count("truncations");
                if let Some((from, to)) = lost {
                    self.faults
                        .push(format!("{from} to {to} of {} was committed and is cut, {end}", given.tp.1));
                }
                true
            }
            Ok(Followed::Dropped | Followed::Appended { .. }) => true,
            Err(error) => {
                let number = given.tp.1;
                env.trace.tell(|| format!("broker {} cannot follow {number}: {error}", self.id));
                false
            }
        }
    }

    /// Tells leaders what is on disk, each all at once.
    pub(super) fn report(&mut self, env: &mut Env, due: Vec<(Tp, Following, Offset)>) {
        let mut reports: BTreeMap<Address, Vec<(Tp, DurableReport)>> = BTreeMap::new();
        for (tp, following, durable) in due {
            let report = DurableReport {
                id: self.id,
                broker_epoch: self.epoch,
                leader_epoch: following.epoch,
                durable,
            };
            reports.entry(address(following.leader)).or_default().push((tp, report));
        }
        for (leader, reports) in reports {
            if env.net.cuts.contains(&(self.address(), leader)) {
                // It arrives when the connection is there again.
                self.fetchers.entry(leader).or_default().is_new = true;
            }
            env.send(self.address(), leader, Message::Durable(reports));
        }
    }

    fn report_all(&mut self, env: &mut Env, leader: Address) {
        let due = self.partitions.iter().filter_map(|(tp, partition)| {
            let (following, durable) = partition.durable_report()?;
            (address(following.leader) == leader).then_some((*tp, following, durable))
        });
        let due = due.collect();
        self.report(env, due);
    }
}
