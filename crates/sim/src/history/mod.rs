//! What happened, as somebody sees it who sees everything, and what must hold of it: one file for each invariant.

mod acknowledged;
mod committed;
mod groups;
mod isr;
mod leaders;
mod replicas;
mod watermark;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_cluster::image::MetadataImage;
use ottla_cluster::replica::Durability;
use ottla_partition::Partition;
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchHeader, Batches};

use crate::env::Env;
use crate::message::{Address, Tp};

pub(crate) use committed::Committed;

/// A batch, as it must be on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub base: Offset,
    pub next: Offset,
    pub epoch: LeaderEpoch,
    pub crc: u32,
    pub producer: ProducerId,
    pub sequence: i32,
}

impl From<&BatchHeader> for Note {
    fn from(header: &BatchHeader) -> Self {
        Self {
            base: header.base_offset,
            next: header.next_offset(),
            epoch: header.partition_leader_epoch,
            crc: header.crc,
            producer: header.producer_id,
            sequence: header.base_sequence,
        }
    }
}

/// What was last seen of a replica.
#[derive(Clone, Copy, Debug, Default)]
struct View {
    life: u64,
    broker_epoch: i64,
    end: Offset,
    durable: Offset,
    high_watermark: Offset,
}

/// Everything that is known.
pub(crate) struct History {
    durability: Durability,
    committed: BTreeMap<Tp, Committed>,
    views: BTreeMap<(Address, Tp), View>,
    leaders: BTreeMap<(Tp, LeaderEpoch), Address>,
    acknowledged: Vec<(Tp, Offset, u32)>,
    /// Brokers whose disks have less than they promised.
    damaged: BTreeSet<Address>,
    image: MetadataImage,
    /// Who was given a partition of the group in which generation.
    assigned: BTreeMap<(i32, i32), String>,
    /// What does not hold.
    pub(crate) violations: Vec<String>,
}

impl History {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            committed: BTreeMap::new(),
            views: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acknowledged: Vec::new(),
            damaged: BTreeSet::new(),
            image: MetadataImage::default(),
            assigned: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn violate(&mut self, env: &Env, what: String) {
        env.trace.tell(|| format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    /// The controller's metadata changed.
    pub(crate) fn decided(&mut self, env: &Env, image: &MetadataImage) {
        self.image = image.clone();
        for tp in self.committed.keys().copied().collect::<Vec<_>>() {
            self.check_isr(env, tp);
        }
    }

    /// A broker's disk lost something, or is whole again as far as anybody relies on it.
    pub(crate) fn damage(&mut self, broker: Address, is_damaged: bool) {
        if is_damaged {
            self.damaged.insert(broker);
            self.views.retain(|(address, _), _| *address != broker);
        } else {
            self.damaged.remove(&broker);
        }
    }

    /// A broker holds a replica no more.
    pub(crate) fn gone(&mut self, broker: Address, tp: Tp) {
        self.views.remove(&(broker, tp));
    }

    /// Looks at a replica after something happened to it.
    pub(crate) fn look(
        &mut self,
        env: &mut Env,
        broker: Address,
        life: u64,
        broker_epoch: i64,
        tp: Tp,
        partition: &Arc<Partition>,
    ) {
        let Some((end, durable)) = partition.with_open_log(|log| (log.end_offset(), log.durable_offset()))
        else {
            return;
        };
        let high_watermark = partition.high_watermark();
        let now = View { life, broker_epoch, end, durable, high_watermark };
        let before = self.views.get(&(broker, tp)).copied().filter(|before| before.life == life);
        let known = before.unwrap_or_default();
        if before.is_some()
            && (known.end, known.durable, known.high_watermark) == (end, durable, high_watermark)
        {
            return;
        }
        env.trace.mix(&[
            u64::from(broker),
            end.0.cast_unsigned(),
            durable.0.cast_unsigned(),
            high_watermark.0.cast_unsigned(),
        ]);
        self.views.insert((broker, tp), now);
        if before.is_some() {
            self.check_watermark(env, broker, tp, known.high_watermark, high_watermark);
        }
        if high_watermark > end {
            self.violate(env, format!("broker {broker} commits {high_watermark} of {end} in {}", tp.1));
        }
        if high_watermark > known.high_watermark {
            let batches = notes(partition, known.high_watermark, high_watermark);
            if self.commit(env, broker, tp, high_watermark, &batches) {
                self.check_isr(env, tp);
            }
        }
        self.check_leader_watermark(env, broker, tp, partition);
        if durable < known.durable || end < known.end {
            self.check_isr(env, tp);
        }
    }
}

/// Bytes of all batches from one offset to another, both where batches begin; `None` when they cannot be read.
pub(crate) fn read(partition: &Partition, from: Offset, to: Offset) -> Option<Vec<u8>> {
    partition.with_open_log(|log| {
        let (mut bytes, mut at) = (Vec::new(), from.max(log.start_offset()));
        while at < to {
            let slice = log.read(at, to, 1 << 20, true).ok()?;
            if slice.len_bytes() == 0 {
                break;
            }
            let begin = bytes.len();
            bytes.resize(begin + slice.len_bytes(), 0);
            let mut filled = begin;
            while filled < bytes.len() {
                filled += slice.read_at(&mut bytes[filled..], filled - begin).ok()?;
            }
            for batch in Batches::new(&bytes[begin..]) {
                at = batch.ok()?.header().next_offset();
            }
        }
        Some(bytes)
    })?
}

/// The batches from one offset to another.
fn notes(partition: &Partition, from: Offset, to: Offset) -> Vec<Note> {
    let bytes = read(partition, from, to).unwrap_or_default();
    let batches = Batches::new(&bytes);
    batches.map(|batch| Note::from(batch.expect("what was read is whole").header())).collect()
}
