//! A run: nodes, clients and faults from a seed, one event after the other, what must hold after each, and what must work in the end.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use ottla_cluster::replica::Durability;
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::ids::ProducerId;

use crate::broker::{Broker, Plan};
use crate::client::{Client, Committer, Consumer, Member, Producer, Work};
use crate::env::{CLIENTS_FROM, Env, Event, Happening};
use crate::faults::{Faults, HEALED_US};
use crate::history::History;
use crate::message::{Address, ControlRequest, Message, Tp};
use crate::quorum::{COORDINATORS, Quorum};

/// How long a run lasts.
pub(crate) const END_US: u64 = 60_000_000;
/// From when on everybody must be served.
const SERVED_FROM_US: u64 = 56_000_000;
/// Metadata and requests of nobody come from here.
const NOBODY: Address = 0;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// Events that were handled.
    pub events: u64,
    /// Hash of what happened.
    pub trace: u64,
    /// How often things happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// What did not hold.
    pub violations: Vec<String>,
}

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) plan: Plan,
    pub(crate) history: History,
    pub(crate) quorum: Quorum,
    pub(crate) brokers: BTreeMap<Address, Broker>,
    pub(crate) faults: Faults,
    clients: BTreeMap<Address, Client>,
    entries_seen: usize,
    is_created: bool,
    events: u64,
}

/// Runs one seed for 60 simulated seconds, or until something does not hold.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Report {
    let mut world = World::new(seed, verbose);
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = done {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.history.violations.push(format!("panic: {}", text.unwrap_or_default()));
    }
    Report {
        seed,
        simulated_us: world.env.now_us,
        events: world.events,
        trace: world.env.trace.hash(),
        seen: std::mem::take(&mut world.env.trace.seen),
        violations: std::mem::take(&mut world.history.violations),
    }
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let mut env = Env::new(seed, verbose);
        let plan = Plan {
            durability: if seed % 4 == 3 { Durability::Replicated } else { Durability::Durable },
            min_insync_replicas: if env.random.one_in(3) { 1 } else { 2 },
            brokers: if env.random.one_in(2) { 4 } else { 3 },
            lag_ms_max: if env.random.one_in(2) { 3000 } else { 10_000 },
            segment_bytes: 1 << env.random.between(12, 16),
        };
        env.trace.tell(|| format!("{plan:?}"));
        let quorum = Quorum::new(&mut env);
        let mut brokers = BTreeMap::new();
        for id in 1..=plan.brokers {
            let mut broker = Broker::new(id, plan, &mut env);
            let after_us = env.random.below(100_000);
            broker.start_after(&mut env, after_us);
            brokers.insert(id, broker);
        }
        let faults = Faults::new(&mut env);
        Self {
            env,
            plan,
            history: History::new(plan.durability),
            quorum,
            brokers,
            faults,
            clients: BTreeMap::new(),
            entries_seen: 0,
            is_created: false,
            events: 0,
        }
    }

    fn run(&mut self) {
        while let Some(event) = self.env.next(END_US) {
            self.events += 1;
            self.handle(event);
            if self.quorum.entries().len() != self.entries_seen {
                self.entries_seen = self.quorum.entries().len();
                self.forgive();
                self.history.decided(&self.env, self.quorum.image());
                self.prepare();
            }
            if !self.history.violations.is_empty() {
                return;
            }
        }
        self.check_served();
        self.check_replicas();
    }

    fn handle(&mut self, event: Event) {
        let Self { env, history, quorum, brokers, clients, .. } = self;
        let Event { to, what, .. } = event;
        env.trace.mix(&[env.now_us, u64::from(to)]);
        let is_coordinator = COORDINATORS.contains(&to);
        match what {
            Happening::Fault => self.fault(),
            Happening::Message { from, message, .. } if is_coordinator => {
                quorum.message(env, to, from, message);
            }
            Happening::Timer { life, timer } if is_coordinator => quorum.timer(env, to, life, &timer),
            Happening::Message { from, message, .. } => {
                if let Some(broker) = brokers.get_mut(&to) {
                    broker.message(env, history, from, message);
                } else if let Some(client) = clients.get_mut(&to) {
                    client.message(env, history, message);
                }
            }
            Happening::Timer { life, timer } => {
                if let Some(broker) = brokers.get_mut(&to) {
                    broker.timer(env, history, life, timer);
                } else if let (Some(client), crate::message::Timer::Client(due)) =
                    (clients.get_mut(&to), timer)
                {
                    client.timer(env, due);
                }
            }
        }
    }

    /// Asks the controller, whoever that is.
    pub(crate) fn control(&mut self, request: ControlRequest) {
        if let Some(leader) = self.quorum.leader() {
            let correlation = self.env.correlation();
            let message = Message::Control(correlation, request);
            self.quorum.message(&mut self.env, leader, NOBODY, message);
        }
    }

    /// Topics are made when all brokers serve, and clients begin when there are topics.
    fn prepare(&mut self) {
        let serving = self.quorum.image().brokers().filter(|broker| !broker.fenced).count();
        let topics: Vec<_> = self.quorum.image().topics().cloned().collect();
        if !self.is_created && serving == self.brokers.len() {
            self.is_created = true;
            let topic = |name: &str, num_partitions| CreatableTopic {
                name: name.into(),
                num_partitions,
                replication_factor: 3,
                ..CreatableTopic::default()
            };
            let topics = vec![topic(crate::TOPIC, crate::PARTITIONS), topic(crate::OFFSETS, 1)];
            self.control(ControlRequest::Create(CreateTopicsRequest {
                topics,
                ..CreateTopicsRequest::default()
            }));
        }
        if !topics.is_empty() && self.clients.is_empty() {
            let tps: Vec<(bool, Tp)> = topics
                .iter()
                .flat_map(|t| t.partitions().map(|(n, _)| (&*t.name == crate::OFFSETS, (t.id, n))))
                .collect();
            self.connect(&tps);
        }
    }

    fn connect(&mut self, tps: &[(bool, Tp)]) {
        let mut works: Vec<Box<dyn Work>> = Vec::new();
        for (is_offsets, tp) in tps {
            if *is_offsets {
                works.push(Box::new(Committer::new(*tp)));
                works.extend((0..3).map(|number| Box::new(Member::new(*tp, number)) as Box<dyn Work>));
                continue;
            }
            for _ in 0..2 {
                let id = ProducerId(i64::try_from(works.len()).unwrap_or(0));
                let pace_us = self.env.random.between(20_000, 300_000);
                works.push(Box::new(Producer::new(*tp, Some(id), pace_us)));
            }
            works.push(Box::new(Producer::new(*tp, None, 400_000)));
            works.push(Box::new(Consumer::new(*tp)));
        }
        for (address, work) in (CLIENTS_FROM..).zip(works) {
            let client = Client::new(address, self.plan.brokers, work);
            client.start(&mut self.env);
            self.clients.insert(address, client);
        }
    }

    /// After healing everybody gets what they ask for.
    fn check_served(&mut self) {
        if self.clients.is_empty() {
            self.history.violate(&self.env, "serving: no topics were made".to_owned());
        }
        for client in self.clients.values() {
            let served_us = client.work.served_us();
            if served_us < SERVED_FROM_US {
                let image = self.quorum.image();
                let (topic, number) = client.work.tp();
                let what = format!(
                    "serving: {} was last served at {:.3} s, healed since {:.3} s: {:?}",
                    client.work.name(),
                    served_us as f64 / 1e6,
                    HEALED_US as f64 / 1e6,
                    image.partition(topic, number),
                );
                self.history.violate(&self.env, what);
            }
        }
    }

    /// After healing all replicas are in sync, and equal once nobody writes any more.
    fn check_replicas(&mut self) {
        self.clients.clear();
        let until_us = END_US + 3_000_000;
        while let Some(event) = self.env.next(until_us) {
            self.handle(event);
        }
        // What was simulated is what was watched.
        self.env.now_us = END_US;
        let topics: Vec<_> = self.quorum.image().topics().cloned().collect();
        for topic in &topics {
            for (number, partition) in topic.partitions() {
                if partition.isr.len() < 3 {
                    let what = format!("serving: {} {number} is not whole: {partition:?}", topic.name);
                    self.history.violate(&self.env, what);
                }
                let tp = (topic.id, number);
                let replicas = self.brokers.values().filter(|broker| partition.isr.contains(&broker.id));
                let replicas = replicas.filter_map(|broker| {
                    let process = broker.process.as_ref()?;
                    Some((broker.address(), process.partitions.get(&tp)?.clone()))
                });
                let replicas: Vec<_> = replicas.collect();
                self.history.compare_replicas(&mut self.env, tp, &replicas);
            }
        }
    }
}
