//! Every member of the ISR that the controller has committed holds all that is committed, on disk where the topic is durable.

use ottla_cluster::replica::Durability;

use super::History;
use crate::env::Env;
use crate::message::Tp;

impl History {
    pub(super) fn check_isr(&mut self, env: &Env, tp: Tp) {
        let Some(end) = self.committed.get(&tp).map(super::Committed::end) else { return };
        let Some(partition) = self.image.partition(tp.0, tp.1).cloned() else { return };
        for member in &partition.isr {
            let address = u32::try_from(member.0).expect("ids are positive");
            let registered = self.image.broker(*member).map(|broker| broker.epoch);
            let Some(view) = self.views.get(&(address, tp)) else { continue };
            if registered != Some(view.broker_epoch) || self.damaged.contains(&address) {
                continue;
            }
            let has = match self.durability {
                Durability::Durable => view.durable,
                Durability::Replicated => view.end,
            };
            if has < end {
                let isr = &partition.isr;
                let what =
                    format!("isr: broker {member} is in {isr:?} of {} with {has}, committed is {end}", tp.1);
                self.violate(env, what);
            }
        }
    }
}
