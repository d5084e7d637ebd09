//! What was acknowledged with acks=all is committed, at the offset that was told. (That it stays so follows from the others.)

use ottla_protocol::ids::Offset;

use super::History;
use crate::env::Env;
use crate::message::{Address, Tp};

impl History {
    /// A broker tells a producer, or a producer (broker 0) hears, that its batch is committed.
    pub(crate) fn acknowledge(&mut self, env: &mut Env, broker: Address, tp: Tp, base: Offset, crc: u32) {
        env.trace.mix(&[u64::from(broker), base.0.cast_unsigned(), u64::from(crc)]);
        env.trace.count("acknowledged");
        self.acknowledged.push((tp, base, crc));
    }

    /// To be called once the broker that acknowledged was looked at.
    pub(crate) fn check_acknowledged(&mut self, env: &Env) {
        for (tp, base, crc) in std::mem::take(&mut self.acknowledged) {
            let found = self.committed.get(&tp).and_then(|committed| committed.at(base));
            if found.is_none_or(|found| found.crc != crc) {
                self.violate(
                    env,
                    format!("acknowledged: {crc:x} at {base} of {}, committed is {found:?}", tp.1),
                );
            }
        }
    }

    /// A consumer was given a batch.
    pub(crate) fn consumed(&mut self, env: &Env, tp: Tp, note: super::Note) {
        let found = self.committed.get(&tp).and_then(|committed| committed.at(note.base)).copied();
        if found != Some(note) {
            self.violate(env, format!("consumed: {note:?} in {}, committed is {found:?}", tp.1));
        }
    }
}
