//! When all is well again: replicas are equal, and nobody has less than what is committed.

use std::sync::Arc;

use ottla_partition::Partition;
use ottla_protocol::ids::Offset;

use super::{History, Note, notes};
use crate::env::Env;
use crate::message::{Address, Tp};

impl History {
    /// Compares the replicas of one partition, batch by batch.
    pub(crate) fn compare_replicas(&mut self, env: &mut Env, tp: Tp, replicas: &[(Address, Arc<Partition>)]) {
        let mut first: Option<(Address, Vec<Note>)> = None;
        for (broker, partition) in replicas {
            let end = partition.with_open_log(|log| log.end_offset()).unwrap_or_default();
            let mut batches = notes(partition, Offset(0), end);
            let bytes = super::read(partition, Offset(0), end).unwrap_or_default();
            let is_sound =
                ottla_protocol::records::Batches::new(&bytes).verifying().all(|batch| batch.is_ok());
            if !is_sound {
                self.violate(env, format!("replicas: broker {broker} has damaged batches in {}", tp.1));
            }
            self.check_producers(env, *broker, tp, partition, &batches);
            let committed = self.committed.get(&tp).map_or(Offset(0), super::Committed::end);
            if end < committed {
                let what =
                    format!("replicas: broker {broker} ends at {end} in {}, {committed} is committed", tp.1);
                self.violate(env, what);
            }
            // What groups wrote at the last moment may be on its way.
            batches.retain(|batch| batch.next <= committed);
            match &first {
                None => first = Some((*broker, batches)),
                Some((other, known)) if *known != batches => {
                    let at = known.iter().zip(&batches).find(|(one, two)| one != two);
                    let at = (at, known.last(), batches.last());
                    let what = format!("replicas: {other} and {broker} differ in {}: {at:?}", tp.1);
                    self.violate(env, what);
                }
                Some(_) => {}
            }
        }
    }
}
