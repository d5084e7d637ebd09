//! A consumer: reads a partition from its beginning on, and must find each offset, with what was committed there.

use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::Batches;

use super::{Next, Work};
use crate::env::Env;
use crate::history::{History, Note};
use crate::message::{ClientAnswer, ClientRequest, Failure, Tp};

pub(crate) struct Consumer {
    tp: Tp,
    position: Offset,
    served_us: u64,
}

impl Consumer {
    pub(crate) fn new(tp: Tp) -> Self {
        Self { tp, position: Offset(0), served_us: 0 }
    }
}

impl Work for Consumer {
    fn tp(&self) -> Tp {
        self.tp
    }

    fn request(&mut self, _: &mut Env, epoch: LeaderEpoch) -> ClientRequest {
        ClientRequest::Fetch { tp: self.tp, offset: self.position, epoch }
    }

    fn answer(&mut self, env: &mut Env, history: &mut History, answer: ClientAnswer) -> Next {
        let ClientAnswer::Fetched(fetched) = answer else { return Next::look_again(env) };
        match fetched {
            Ok((bytes, _)) => {
                for batch in Batches::new(&bytes).verifying() {
                    let note = Note::from(batch.expect("a leader sends whole batches").header());
                    if note.base != self.position {
                        let at = self.position;
                        history.violate(env, format!("consumed: {note:?} at {at} of {}", self.tp.1));
                    }
                    history.consumed(env, self.tp, note);
                    self.position = note.next;
                }
                self.served_us = env.now_us;
                Next::after(1000)
            }
            Err(Failure::OutOfRange) => {
                let at = self.position;
                history.violate(env, format!("consumed: {at} of {} is not there any more", self.tp.1));
                Next::look_again(env)
            }
            Err(_) => Next::look_again(env),
        }
    }

    fn served_us(&self) -> u64 {
        self.served_us
    }

    fn name(&self) -> String {
        format!("consumer of {} at {}", self.tp.1, self.position)
    }
}
