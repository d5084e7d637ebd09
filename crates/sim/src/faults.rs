//! What goes wrong: drawn from the seed, one fault after the other, each with its end; then everything is healed.

use ottla_cluster::replica::Durability;
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::generated::elect_leaders::ElectLeadersRequest;
use ottla_storage::files::faulty::Survival;

use crate::disk::{Disk, Trouble};
use crate::env::Env;
use crate::message::{Address, ControlRequest};
use crate::quorum::COORDINATORS;
use crate::world::World;

/// From when on nothing goes wrong any more.
pub(crate) const HEALED_US: u64 = 42_000_000;
/// When the first thing goes wrong.
pub(crate) const FIRST_US: u64 = 3_000_000;

/// Something that ends by itself, at some time.
#[derive(Clone, Debug)]
pub(crate) enum Passing {
    Cut(Vec<(Address, Address)>),
    Slow,
    Lossy,
    Disk(Address),
    Coordinator,
}

/// What passes, and when.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    passing: Vec<(u64, Passing)>,
    next_us: u64,
    /// What this run is prone to: it has a weight of its own for each kind.
    weights: Vec<u64>,
}

/// Kinds of faults, with how often they come.
const KINDS: &[(&str, u64)] = &[
    ("kill", 6),
    ("power", 8),
    ("outage", 1),
    ("pause", 6),
    ("cut one way", 6),
    ("cut off", 5),
    ("isolate", 5),
    ("slow", 4),
    ("lossy", 4),
    ("full", 3),
    ("hang", 4),
    ("broken", 2),
    ("wipe", 3),
    ("clock", 3),
    ("controller", 5),
    ("stop", 3),
    ("reassign", 3),
    ("elect", 1),
];

impl Faults {
    pub(crate) fn new(env: &mut Env) -> Self {
        env.fault_after(FIRST_US);
        let weights = KINDS.iter().map(|(_, weight)| weight * env.random.below(4));
        let weights = weights.collect();
        Self { passing: Vec::new(), next_us: FIRST_US, weights }
    }

    fn draw(&self, env: &mut Env) -> &'static str {
        let total: u64 = self.weights.iter().sum();
        let mut at = env.random.below(total);
        for ((kind, _), weight) in KINDS.iter().zip(&self.weights) {
            if at < *weight {
                return kind;
            }
            at -= weight;
        }
        "kill"
    }

    fn pass(&mut self, env: &mut Env, longest_us: u64, passing: Passing) {
        let after_us = env.random.between(longest_us / 20, longest_us);
        self.passing.push((env.now_us + after_us, passing));
        env.fault_after(after_us);
    }

    fn is_quiet(&self) -> bool {
        self.passing.is_empty()
    }
}

impl World {
    /// Something goes wrong, or passes.
    pub(crate) fn fault(&mut self) {
        let now_us = self.env.now_us;
        let (over, passing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.faults.passing).into_iter().partition(|(until, _)| *until <= now_us);
        self.faults.passing = passing;
        over.into_iter().for_each(|(_, passing)| self.end(passing));
        if now_us >= HEALED_US {
            return self.heal();
        }
        if now_us < self.faults.next_us {
            return;
        }
        let pause_us = if self.env.random.one_in(3) { 400_000 } else { 4_000_000 };
        let after_us = self.env.random.between(50_000, pause_us);
        let next_us = (now_us + after_us).min(HEALED_US);
        self.faults.next_us = next_us;
        self.env.fault_after(next_us - now_us);
        // Nothing more may happen while a replica that lost what it had is counted on.
        self.forgive();
        if self.brokers.values().any(|broker| broker.damaged.is_some()) {
            return;
        }
        let kind = self.faults.draw(&mut self.env);
        self.begin(kind);
    }

    fn any_broker(&mut self) -> Address {
        let all: Vec<_> = self.brokers.keys().copied().collect();
        *self.env.random.pick(&all).expect("there are some")
    }

    fn begin(&mut self, kind: &'static str) {
        let victim = self.any_broker();
        self.env.trace.count(kind);
        self.env.trace.tell(|| format!("fault: {kind}, broker {victim} if any"));
        match kind {
            "kill" => self.crash(victim, false),
            "power" => self.crash(victim, true),
            "outage" => {
                for victim in self.brokers.keys().copied().collect::<Vec<_>>() {
                    self.crash(victim, true);
                }
            }
            "pause" => {
                let until_us = self.env.now_us + self.env.random.between(50_000, 8_000_000);
                self.env.paused.insert(victim, until_us);
            }
            "cut one way" | "cut off" | "isolate" => self.cut(kind, victim),
            "slow" => {
                self.env.net.delay_us_max = self.env.random.between(5_000, 400_000);
                self.faults.pass(&mut self.env, 5_000_000, Passing::Slow);
            }
            "lossy" => {
                self.env.net.loss_odds = self.env.random.between(5, 50);
                self.faults.pass(&mut self.env, 5_000_000, Passing::Lossy);
            }
            "full" | "broken" => {
                let trouble = if kind == "full" { Trouble::Full } else { Trouble::Broken };
                if trouble == Trouble::Full || self.plan.durability == Durability::Durable {
                    self.brokers[&victim].disk.set_trouble(trouble);
                    self.faults.pass(&mut self.env, 5_000_000, Passing::Disk(victim));
                }
            }
            "hang" => {
                let until_us = self.env.now_us + self.env.random.between(200_000, 7_000_000);
                self.broker(victim).hangs_until_us = until_us;
            }
            "wipe" => self.wipe(victim),
            "clock" => {
                let hour_ms = 3_600_000;
                let skew_ms = self.env.random.below(2 * hour_ms).cast_signed() - hour_ms.cast_signed();
                self.broker(victim).wall_skew_ms = skew_ms;
            }
            "controller" => {
                let is_crash = self.env.random.one_in(2);
                self.quorum.depose(&mut self.env, is_crash);
                self.faults.pass(&mut self.env, 6_000_000, Passing::Coordinator);
            }
            "stop" => self.broker(victim).stop(),
            "reassign" => self.reassign(),
            _ => self.elect(),
        }
    }

    fn broker(&mut self, address: Address) -> &mut crate::broker::Broker {
        self.brokers.get_mut(&address).expect("brokers do not go")
    }

    fn crash(&mut self, victim: Address, loses_power: bool) {
        let survivals = [Survival::SyncedOnly, Survival::Prefix, Survival::TornPrefix, Survival::AnyPages];
        let survival = if loses_power && self.plan.durability == Durability::Durable {
            *self.env.random.pick(&survivals).expect("there are some")
        } else {
            Survival::All
        };
        let broker = self.brokers.get_mut(&victim).expect("brokers do not go");
        if broker.process.is_none() {
            return;
        }
        broker.crash(&mut self.env, survival);
        if loses_power && self.env.random.one_in(4) {
            // What can be made anew from the log may be damaged.
            let suffix =
                *self.env.random.pick(&[".index", ".timeindex", ".snapshot"]).expect("there are some");
            if let Some(path) = broker.disk.flip(suffix, &mut self.env.random) {
                self.env.trace.count("flips");
                self.env.trace.tell(|| format!("a bit flips in {}", path.display()));
            }
        }
        let longest_us = if self.env.random.one_in(3) { 8_000_000 } else { 1_500_000 };
        let after_us = self.env.random.between(50_000, longest_us);
        self.brokers.get_mut(&victim).expect("it is there").start_after(&mut self.env, after_us);
    }

    fn cut(&mut self, kind: &str, victim: Address) {
        let others: Vec<Address> = self.brokers.keys().copied().filter(|other| *other != victim).collect();
        let pairs: Vec<(Address, Address)> = match kind {
            "cut one way" => {
                let peers: Vec<_> = others.iter().chain(&COORDINATORS).copied().collect();
                let other = *self.env.random.pick(&peers).expect("there are some");
                vec![if self.env.random.one_in(2) { (victim, other) } else { (other, victim) }]
            }
            "cut off" => COORDINATORS.iter().flat_map(|other| [(victim, *other), (*other, victim)]).collect(),
            _ => {
                let all = others.iter().chain(&COORDINATORS);
                all.flat_map(|other| [(victim, *other), (*other, victim)]).collect()
            }
        };
        self.env.net.cuts.extend(pairs.iter().copied());
        self.faults.pass(&mut self.env, 9_000_000, Passing::Cut(pairs));
    }

    /// A disk is replaced by an empty one. Only when everybody else has everything.
    fn wipe(&mut self, victim: Address) {
        let image = self.quorum.image();
        let registered = image.broker(self.brokers[&victim].id).map(|known| known.epoch);
        let is_full = image.topics().all(|topic| topic.partitions().all(|(_, p)| p.isr.len() >= 3));
        let is_well = |broker: &crate::broker::Broker| {
            let registered = image.broker(broker.id).map(|known| known.epoch);
            let process = broker.process.as_ref();
            process.is_some_and(|process| Some(process.epoch) == registered && !process.is_fenced)
        };
        let all_well = self.brokers.values().all(is_well);
        if !is_full || !all_well || !self.faults.is_quiet() || !self.env.paused.is_empty() {
            return;
        }
        self.env.trace.count("wiped");
        let new = self.env.random.id();
        let broker = self.brokers.get_mut(&victim).expect("brokers do not go");
        broker.crash(&mut self.env, Survival::All);
        (broker.disk, broker.next_directory, broker.damaged) = (Disk::default(), new, registered);
        let after_us = self.env.random.between(50_000, 3_000_000);
        broker.start_after(&mut self.env, after_us);
        self.history.damage(victim, true);
    }

    /// Nobody may count on what was lost once the broker is in no ISR, or has said that it begins anew.
    pub(crate) fn forgive(&mut self) {
        let image = self.quorum.image();
        for broker in self.brokers.values_mut().filter(|broker| broker.damaged.is_some()) {
            let is_counted_on =
                image.topics().any(|topic| topic.partitions().any(|(_, p)| p.isr.contains(&broker.id)));
            let registered = image.broker(broker.id).map(|known| known.epoch);
            if !is_counted_on || registered != broker.damaged {
                broker.damaged = None;
                self.history.damage(broker.address(), false);
            }
        }
    }

    fn reassign(&mut self) {
        if self.brokers.len() < 4 {
            return;
        }
        let topics: Vec<_> = self.quorum.image().topics().cloned().collect();
        let Some(topic) = self.env.random.pick(&topics) else { return };
        let number = self.env.random.below(topic.partitions.len() as u64);
        let mut replicas: Vec<i32> = self.brokers.values().map(|broker| broker.id.0).collect();
        while replicas.len() > 3 {
            let at = self.env.random.below(replicas.len() as u64);
            replicas.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        let is_cancel = self.env.random.one_in(5);
        let partition = ReassignablePartition {
            partition_index: i32::try_from(number).unwrap_or(0),
            replicas: (!is_cancel).then_some(replicas),
            ..ReassignablePartition::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: (&*topic.name).into(),
                partitions: vec![partition],
                ..ReassignableTopic::default()
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        self.control(ControlRequest::Reassign(request));
    }

    fn elect(&mut self) {
        self.control(ControlRequest::Elect(ElectLeadersRequest {
            election_type: 0,
            topic_partitions: None,
            ..ElectLeadersRequest::default()
        }));
    }

    fn end(&mut self, passing: Passing) {
        self.env.trace.tell(|| format!("over: {passing:?}"));
        match passing {
            Passing::Cut(pairs) => pairs.iter().for_each(|pair| {
                self.env.net.cuts.remove(pair);
            }),
            Passing::Slow => self.env.net.delay_us_max = 0,
            Passing::Lossy => self.env.net.loss_odds = 0,
            Passing::Disk(broker) => self.brokers[&broker].disk.set_trouble(Trouble::None),
            Passing::Coordinator => self.quorum.restart(),
        }
    }

    /// Nothing is wrong any more.
    fn heal(&mut self) {
        if self.env.is_healed {
            return;
        }
        self.env.trace.tell(|| "healed".to_owned());
        self.env.is_healed = true;
        for (_, passing) in std::mem::take(&mut self.faults.passing) {
            self.end(passing);
        }
        self.env.net.cuts.clear();
        let now_us = self.env.now_us;
        self.env.paused.values_mut().for_each(|until| *until = now_us);
        for broker in self.brokers.values_mut() {
            broker.hangs_until_us = 0;
            let is_offline = |process: &crate::broker::Process| {
                process.partitions.values().any(|partition| partition.failure().is_some())
            };
            if broker.process.as_ref().is_some_and(is_offline) {
                // A log that could not be opened is tried again by the next process: an operator's part.
                broker.crash(&mut self.env, Survival::All);
            }
            if broker.process.is_none() {
                broker.start_after(&mut self.env, 100_000);
            }
        }
    }
}
