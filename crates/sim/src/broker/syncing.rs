//! Syncs: one at a time per partition, each of which takes its time, and what partitions tell their owner.

use ottla_partition::partition::SyncWish;
use ottla_storage::directory::Progress;
use ottla_storage::log::SyncTicket;
use ottla_storage::names::TopicPartition;

use super::Process;
use super::owner::Told;
use crate::env::Env;
use crate::message::{Timer, Tp};

/// A partition's syncs.
#[derive(Default)]
pub(super) struct Syncing {
    under_way: Option<SyncTicket>,
    /// Whether the disk has the data before the sync comes back.
    is_done: bool,
    /// A sync is to begin then.
    due_us: Option<u64>,
}

impl Process {
    /// Does what partitions asked for.
    pub(super) fn hear(&mut self, env: &mut Env) {
        let (mut proposals, mut reports) = (Vec::new(), Vec::new());
        for told in self.owner.take() {
            match told {
                Told::Flush(tp, wish) => {
                    let after_us = match wish {
                        SyncWish::Now => 0,
                        SyncWish::Soon => 2_000,
                        SyncWish::Later => 100_000,
                    };
                    self.sync_after(env, tp, after_us);
                }
                Told::Opened(tp, report) => {
                    let bounds = self.partitions.get(&tp).and_then(|partition| {
                        partition.with_open_log(|log| {
                            (log.start_offset(), log.end_offset(), log.epochs().entries().to_vec())
                        })
                    });
                    env.trace.tell(|| format!("broker {} opened {tp:?} {bounds:?}: {report:?}", self.id));
                }
                Told::Failed(tp, fault, reason) => {
                    env.trace.tell(|| format!("broker {} lost {}: {fault:?} {reason}", self.id, tp.1));
                    if fault == ottla_partition::error::Fault::Write {
                        self.owner.directory.fence(&reason);
                    }
                }
                Told::NoRoom => env.trace.count("no room"),
                Told::Cut(tp, damage) => {
                    env.trace.count("holes cut");
                    env.trace.tell(|| format!("broker {} cuts {}: {damage}", self.id, tp.1));
                }
                Told::Propose(tp, proposal) => proposals.push((tp, proposal)),
                Told::Ticks(tp) => {
                    self.ticking.insert(tp);
                }
                Told::Report(tp, following, durable) => reports.push((tp, following, durable)),
            }
        }
        if !proposals.is_empty() {
            self.propose(env, proposals);
        }
        if !reports.is_empty() {
            self.report(env, reports);
        }
    }

    fn sync_after(&mut self, env: &mut Env, tp: Tp, after_us: u64) {
        let due_us = env.now_us + after_us;
        let syncing = self.syncing.entry(tp).or_default();
        if syncing.due_us.is_some_and(|due| due <= due_us) {
            return;
        }
        syncing.due_us = Some(due_us);
        if syncing.under_way.is_none() {
            self.wait(env, after_us, Timer::Flush(tp));
        }
    }

    pub(super) fn begin_sync(&mut self, env: &mut Env, tp: Tp) {
        let Some(partition) = self.partitions.get(&tp).cloned() else { return };
        let hangs_us = self.hangs_until_us.saturating_sub(env.now_us);
        let syncing = self.syncing.entry(tp).or_default();
        if syncing.under_way.is_some() || syncing.due_us.is_none_or(|due| due > env.now_us) {
            return;
        }
        syncing.due_us = None;
        let Some(ticket) = partition.begin_flush() else { return };
        syncing.is_done = env.random.one_in(2);
        if syncing.is_done {
            // The ticket remembers how it went.
            drop(ticket.sync());
        }
        syncing.under_way = Some(ticket);
        let slow_us = if env.random.one_in(60) { env.random.below(60_000) } else { 0 };
        let takes_us = env.random.between(200, 2000) + slow_us + hangs_us;
        self.wait(env, takes_us, Timer::Flushed(tp));
    }

    pub(super) fn end_sync(&mut self, env: &mut Env, tp: Tp) {
        let Some(syncing) = self.syncing.get_mut(&tp) else { return };
        let Some(ticket) = syncing.under_way.take() else { return };
        if !syncing.is_done {
            drop(ticket.sync());
        }
        if let Some(due_us) = syncing.due_us {
            let after_us = due_us.saturating_sub(env.now_us);
            self.wait(env, after_us, Timer::Flush(tp));
        }
        if let Some(partition) = self.partitions.get(&tp).cloned() {
            partition.end_flush(ticket);
        }
    }

    /// Writes down how far the logs are.
    pub(super) fn checkpoint(&mut self, env: &mut Env) {
        if self.owner.directory.fenced().is_some() {
            return;
        }
        let written = self.owner.directory.write_checkpoints(self.progress());
        if let Err(error) = written {
            env.trace.tell(|| format!("broker {} cannot write its checkpoints: {error}", self.id));
            if error.raw_os_error() == Some(5) {
                self.owner.directory.fence("a checkpoint cannot be written");
            }
        }
    }

    fn progress(&self) -> Vec<(TopicPartition, Progress)> {
        let all = self.partitions.values().filter_map(|partition| {
            let high_watermark = Some(partition.high_watermark()).filter(|known| known.0 > 0);
            let progress = partition.with_open_log(|log| Progress {
                high_watermark,
                recovery_point: log.recovery_point(),
                log_start_offset: Some(log.start_offset()).filter(|start| start.0 > 0),
                cleaned_to: None,
            })?;
            Some((TopicPartition::new(&partition.key().topic, partition.key().index), progress))
        });
        all.collect()
    }

    /// The orderly end: logs are closed, and the mark says so.
    pub(super) fn close(mut self) {
        for (tp, syncing) in &mut self.syncing {
            // What is under way is waited for.
            let Some(ticket) = syncing.under_way.take() else { continue };
            if !syncing.is_done {
                drop(ticket.sync());
            }
            if let Some(partition) = self.partitions.get(tp) {
                partition.end_flush(ticket);
            }
        }
        let mut progress = self.progress();
        // What was not recovered must not be taken for clean the next time.
        let mut is_clean = self.is_active || self.owner.directory.was_clean();
        for ((_, partition), (_, progress)) in self.partitions.iter().zip(&mut progress) {
            if let Some(mut log) = partition.retire() {
                is_clean &= log.close(super::WALL_MS).is_ok();
                progress.recovery_point = log.recovery_point();
            }
        }
        if is_clean && self.partitions.len() == progress.len() {
            let directory = &self.owner.directory;
            if directory.write_checkpoints(progress).is_ok() {
                // Without the mark the next start looks at everything.
                drop(directory.close_clean(self.epoch));
            }
        }
    }
}
