//! One leader per epoch; it has all that is committed, and knows of producers what its log says.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_partition::Partition;
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};

use super::{History, Note, notes};
use crate::env::Env;
use crate::message::{Address, Tp};

impl History {
    /// A broker leads a partition from now on, or goes on leading it.
    pub(crate) fn leads(
        &mut self,
        env: &mut Env,
        broker: Address,
        tp: Tp,
        epoch: LeaderEpoch,
        partition: &Arc<Partition>,
    ) {
        match self.leaders.get(&(tp, epoch)) {
            Some(known) if *known == broker => return,
            Some(known) => {
                let known = *known;
                let what = format!("one leader: {known} and {broker} lead {} in epoch {epoch}", tp.1);
                self.violate(env, what);
            }
            None => {}
        }
        self.leaders.insert((tp, epoch), broker);
        env.trace.count("elections");
        env.trace.tell(|| format!("broker {broker} leads {} in epoch {epoch}", tp.1));
        self.check_log(env, broker, tp, partition);
    }

    fn check_log(&mut self, env: &Env, broker: Address, tp: Tp, partition: &Arc<Partition>) {
        let Some(end) = partition.with_open_log(|log| log.end_offset()) else { return };
        let batches = notes(partition, Offset(0), end);
        let committed = self.committed.get(&tp).map_or(&[][..], |committed| &committed.batches);
        let lacks = committed.iter().zip(batches.iter().map(Some).chain(std::iter::repeat(None)));
        let lacks =
            lacks.filter(|(committed, found)| Some(*committed) != *found).map(|(c, f)| (*c, f.copied()));
        if let Some((committed, found)) = lacks.into_iter().next() {
            let what = format!("leader {broker} of {} has {found:?} where {committed:?} is committed", tp.1);
            self.violate(env, what);
        }
        self.check_producers(env, broker, tp, partition, &batches);
    }

    /// What a replica knows of producers is what its log says.
    pub(super) fn check_producers(
        &mut self,
        env: &Env,
        broker: Address,
        tp: Tp,
        partition: &Partition,
        batches: &[Note],
    ) {
        let mut said: BTreeMap<ProducerId, i32> = BTreeMap::new();
        for batch in batches.iter().filter(|batch| batch.producer != ProducerId::NONE) {
            let count = i32::try_from(batch.next.0 - batch.base.0).unwrap_or(i32::MAX);
            said.insert(batch.producer, batch.sequence + count - 1);
        }
        let known = partition.with_open_log(|log| {
            log.producers().iter().map(|producer| (producer.producer_id, producer.last_sequence)).collect()
        });
        let known: BTreeMap<ProducerId, i32> = known.unwrap_or_default();
        if known != said {
            let what =
                format!("producers: broker {broker} knows {known:?} in {}, its log says {said:?}", tp.1);
            self.violate(env, what);
        }
    }
}
