//! Clients: they learn who leads, ask, wait, try again, and remember what they were told.

mod committer;
mod consumer;
mod member;
mod producer;

use std::collections::BTreeMap;

use ottla_protocol::ids::LeaderEpoch;

use crate::env::Env;
use crate::history::History;
use crate::message::{Address, ClientAnswer, ClientRequest, Correlation, Message, Timer, Tp};

pub(crate) use committer::Committer;
pub(crate) use consumer::Consumer;
pub(crate) use member::Member;
pub(crate) use producer::Producer;

/// Groups that are used.
pub(crate) const GROUPS: &[&str] = &["solo", "team"];
/// How long a client waits for an answer.
const TIMEOUT_US: u64 = 1_500_000;

/// What a client does, one request after the other.
pub(crate) trait Work {
    /// The partition it wants to ask of next.
    fn tp(&self) -> Tp;
    /// The next request for the leader of that partition, of that epoch.
    fn request(&mut self, env: &mut Env, epoch: LeaderEpoch) -> ClientRequest;
    /// The answer; how long to pause, and whether to look for the leader again.
    fn answer(&mut self, env: &mut Env, history: &mut History, answer: ClientAnswer) -> Next;
    /// When it last got what it wanted.
    fn served_us(&self) -> u64;
    /// What it is, for people.
    fn name(&self) -> String;
}

/// What a client does after an answer.
pub(crate) struct Next {
    pub pause_us: u64,
    pub look_again: bool,
}

impl Next {
    fn after(pause_us: u64) -> Self {
        Self { pause_us, look_again: false }
    }

    fn look_again(env: &mut Env) -> Self {
        Self { pause_us: env.random.between(20_000, 100_000), look_again: true }
    }
}

/// A client with its connection.
pub(crate) struct Client {
    address: Address,
    brokers: u32,
    pub work: Box<dyn Work>,
    leaders: BTreeMap<Tp, (Address, LeaderEpoch)>,
    must_look: bool,
    outstanding: Option<Correlation>,
}

impl Client {
    pub(crate) fn new(address: Address, brokers: u32, work: Box<dyn Work>) -> Self {
        Self { address, brokers, work, leaders: BTreeMap::new(), must_look: true, outstanding: None }
    }

    pub(crate) fn start(&self, env: &mut Env) {
        let after_us = env.random.below(300_000);
        env.timer(self.address, 0, after_us, Timer::Client(0));
    }

    /// 0: do the next thing; else that request has been out for too long.
    pub(crate) fn timer(&mut self, env: &mut Env, due: u64) {
        if due == 0 && self.outstanding.is_none() {
            self.ask(env);
        } else if self.outstanding == Some(due) {
            env.reconnect(self.address);
            env.trace.count("client timeouts");
            (self.outstanding, self.must_look) = (None, true);
            self.ask(env);
        }
    }

    fn ask(&mut self, env: &mut Env) {
        let correlation = env.correlation();
        self.outstanding = Some(correlation);
        let known = self.leaders.get(&self.work.tp()).copied().filter(|_| !self.must_look);
        let (to, request) = match known {
            Some((leader, epoch)) => (leader, self.work.request(env, epoch)),
            None => {
                let any = env.random.between(1, u64::from(self.brokers));
                (u32::try_from(any).unwrap_or(1), ClientRequest::Metadata)
            }
        };
        env.send(self.address, to, Message::Ask(correlation, request));
        env.timer(self.address, 0, TIMEOUT_US, Timer::Client(correlation));
    }

    pub(crate) fn message(&mut self, env: &mut Env, history: &mut History, message: Message) {
        let Message::Answer(correlation, answer) = message else { return };
        if self.outstanding != Some(correlation) {
            return;
        }
        self.outstanding = None;
        let pause_us = if let ClientAnswer::Metadata(leaders) = answer {
            for (tp, leader, epoch) in leaders.iter() {
                // What is older than what is known is not believed.
                if self.leaders.get(tp).is_none_or(|(_, known)| known < epoch) {
                    self.leaders.insert(*tp, (*leader, *epoch));
                }
            }
            self.must_look = false;
            if self.leaders.contains_key(&self.work.tp()) { 0 } else { 100_000 }
        } else {
            let next = self.work.answer(env, history, answer);
            self.must_look = next.look_again;
            next.pause_us
        };
        env.timer(self.address, 0, pause_us, Timer::Client(0));
    }
}
