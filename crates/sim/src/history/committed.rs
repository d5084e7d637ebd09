//! One value per offset below any replica's high watermark, whoever held it and whenever; and of an idempotent producer each batch
//! once, in order.

use std::collections::BTreeMap;

use ottla_protocol::ids::{Offset, ProducerId};

use super::{History, Note};
use crate::env::Env;
use crate::message::{Address, Tp};

/// All that was ever committed in a partition.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    pub batches: Vec<Note>,
    /// Last sequence of each producer.
    sequences: BTreeMap<ProducerId, i32>,
}

impl Committed {
    pub(crate) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |last| last.next)
    }

    pub(crate) fn at(&self, base: Offset) -> Option<&Note> {
        let at = self.batches.partition_point(|batch| batch.base < base);
        self.batches.get(at).filter(|batch| batch.base == base)
    }
}

impl History {
    /// A replica holds these to be committed, and everything below `upto`. Gives whether anything of it is new.
    pub(super) fn commit(
        &mut self,
        env: &mut Env,
        broker: Address,
        tp: Tp,
        upto: Offset,
        batches: &[Note],
    ) -> bool {
        let committed = self.committed.entry(tp).or_default();
        let end = committed.end();
        let mut wrong = None;
        if let Some(gap) = batches.windows(2).find(|pair| pair[0].next != pair[1].base) {
            wrong = Some(format!("a gap: {gap:?}"));
        }
        for batch in batches {
            if batch.base < end {
                if committed.at(batch.base) != Some(batch) {
                    wrong = Some(format!("{batch:?} instead of {:?}", committed.at(batch.base)));
                }
                continue;
            }
            if batch.base != committed.end() {
                wrong = Some(format!("{batch:?} behind {}", committed.end()));
            }
            if batch.producer != ProducerId::NONE {
                let count = i32::try_from(batch.next.0 - batch.base.0).unwrap_or(i32::MAX);
                let expected = committed.sequences.get(&batch.producer).map_or(0, |last| last + 1);
                if batch.sequence != expected {
                    wrong = Some(format!("{batch:?} is not the next of its producer, {expected}"));
                }
                committed.sequences.insert(batch.producer, batch.sequence + count - 1);
            }
            committed.batches.push(*batch);
            env.trace.mix(&[batch.base.0.cast_unsigned(), u64::from(batch.crc)]);
            env.trace.count("committed");
        }
        let now = committed.end();
        if batches.last().is_some_and(|last| last.next != upto) || (batches.is_empty() && upto > now) {
            wrong = Some(format!("a high watermark of {upto} where no batch ends"));
        }
        if let Some(wrong) = wrong {
            self.violate(env, format!("one value: broker {broker} has committed in {}: {wrong}", tp.1));
        }
        now > end
    }
}
