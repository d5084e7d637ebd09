//! A producer: idempotent with acks=all, which must lose nothing and double nothing, or with acks=1, which may.

use bytes::Bytes;
use ottla_protocol::ids::{LeaderEpoch, ProducerId};
use ottla_protocol::records::{BatchHeader, Builder, Compression};

use super::{Next, Work};
use crate::env::Env;
use crate::history::History;
use crate::message::{ClientAnswer, ClientRequest, Failure, Tp};

pub(crate) struct Producer {
    tp: Tp,
    /// `None`: acks=1 without an id.
    id: Option<ProducerId>,
    sequence: i32,
    /// The batch that is to be sent, and how many records it has.
    batch: Option<(Bytes, i32)>,
    served_us: u64,
    pace_us: u64,
}

impl Producer {
    pub(crate) fn new(tp: Tp, id: Option<ProducerId>, pace_us: u64) -> Self {
        Self { tp, id, sequence: 0, batch: None, served_us: 0, pace_us }
    }

    fn make(&self, env: &mut Env) -> (Bytes, i32) {
        let mut builder = Builder::new(Compression::None);
        if let Some(id) = self.id {
            builder = builder.producer(id, 0, self.sequence);
        }
        let count = env.random.between(1, 4);
        for _ in 0..count {
            let value = env.random.next().to_be_bytes();
            builder.append(env.now_ms(), None, Some(&value), &[]).expect("it is small");
        }
        let batch = Bytes::from(builder.finish().expect("it is small"));
        (batch, i32::try_from(count).unwrap_or(0))
    }
}

impl Work for Producer {
    fn tp(&self) -> Tp {
        self.tp
    }

    fn request(&mut self, env: &mut Env, _: LeaderEpoch) -> ClientRequest {
        let batch = self.batch.take().unwrap_or_else(|| self.make(env));
        self.batch = Some(batch.clone());
        ClientRequest::Produce { tp: self.tp, acks_all: self.id.is_some(), batch: batch.0 }
    }

    fn answer(&mut self, env: &mut Env, history: &mut History, answer: ClientAnswer) -> Next {
        let ClientAnswer::Produced(produced) = answer else { return Next::look_again(env) };
        match (produced, self.id) {
            (Ok(base), id) => {
                if let Some((batch, count)) = self.batch.take() {
                    self.sequence += count;
                    let header = BatchHeader::parse(&batch).expect("it was sent");
                    if id.is_some() {
                        history.acknowledge(env, 0, self.tp, base, header.crc);
                        history.check_acknowledged(env);
                    }
                }
                self.served_us = env.now_us;
                Next::after(env.random.below(self.pace_us))
            }
            (Err(Failure::OutOfOrder), Some(id)) => {
                let what =
                    format!("acknowledged: what producer {id} sends next, {}, is refused", self.sequence);
                history.violate(env, what);
                Next::look_again(env)
            }
            (Err(_), id) => {
                if id.is_none() {
                    self.batch = None;
                }
                env.trace.count("produce refusals");
                Next::look_again(env)
            }
        }
    }

    fn served_us(&self) -> u64 {
        self.served_us
    }

    fn name(&self) -> String {
        format!("producer {:?} of {}", self.id, self.tp.1)
    }
}
