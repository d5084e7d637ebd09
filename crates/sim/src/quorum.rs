//! The metadata quorum, reduced to what the rest sees of it: one committed log, a leader that decides as the controller, and changes
//! of that leader, in which what was under way may be committed or not, and nobody is told.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_cluster::config::ConfigMap;
use ottla_cluster::controller::{Context, Controller, Settings, Tenure};
use ottla_cluster::image::{MetadataDelta, MetadataImage};
use ottla_protocol::ids::BrokerId;

use crate::env::Env;
use crate::message::{Address, ControlAnswer, ControlRequest, Correlation, Entry, Message, Timer};

/// The coordinators.
pub(crate) const COORDINATORS: [Address; 3] = [101, 102, 103];
/// The cluster's id.
pub(crate) const CLUSTER: &str = "simulated";
/// How often the controller looks at its tenure.
const TICK_US: u64 = 50_000;
/// How long a feed request waits for entries.
const FEED_WAIT_US: u64 = 500_000;
/// Entries of one answer.
const FEED_ENTRIES_MAX: usize = 64;

/// One coordinator.
struct Node {
    address: Address,
    is_up: bool,
    /// How many entries it knows to be committed.
    applied: usize,
    parked: Vec<(Correlation, Address, i64)>,
    /// Its monotonic clock is that much ahead.
    clock_ms: i64,
}

/// An entry that is being committed, and whom to answer then.
struct Proposal {
    number: u64,
    entry: Entry,
    image: MetadataImage,
    answers: Vec<(Address, Correlation, ControlAnswer)>,
}

/// The quorum.
pub(crate) struct Quorum {
    settings: Settings,
    entries: Vec<Entry>,
    image: MetadataImage,
    nodes: Vec<Node>,
    /// Rises with every change of the leader.
    term: u64,
    leader: Option<usize>,
    tenure: Option<Tenure>,
    in_flight: Option<Proposal>,
    proposals: u64,
    waiting: VecDeque<(Address, Correlation, ControlRequest)>,
}

impl Quorum {
    pub(crate) fn new(env: &mut Env) -> Self {
        let fixed = [("leader.imbalance.check.interval.seconds", "7"), ("offsets.topic.num.partitions", "1")];
        let fixed: ConfigMap = fixed.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        let node = |(i, address): (i64, &Address)| Node {
            address: *address,
            is_up: true,
            applied: 0,
            parked: Vec::new(),
            clock_ms: i * 1_000_000,
        };
        let mut quorum = Self {
            settings: Settings::new(CLUSTER.to_owned(), fixed),
            entries: Vec::new(),
            image: MetadataImage::default(),
            nodes: (1..).zip(&COORDINATORS).map(node).collect(),
            term: 0,
            leader: None,
            tenure: None,
            in_flight: None,
            proposals: 0,
            waiting: VecDeque::new(),
        };
        quorum.lead(env, 0);
        quorum
    }

    /// The committed metadata.
    pub(crate) fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Entries that are committed.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn leader(&self) -> Option<Address> {
        self.leader.map(|leader| self.nodes[leader].address)
    }

    fn node(&mut self, address: Address) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.address == address).expect("coordinators do not go")
    }

    fn lead(&mut self, env: &mut Env, index: usize) {
        self.term += 1;
        self.leader = Some(index);
        let now_ms = env.now_ms() + self.nodes[index].clock_ms;
        self.tenure = Some(Tenure::new(&self.image, &self.settings, now_ms));
        // A leader begins its term with an entry of its own.
        self.commit(env, Arc::default(), None);
        env.timer(self.nodes[index].address, self.term, TICK_US, Timer::Tick(self.term));
        env.trace.count("controllers");
        let (term, leader) = (self.term, self.nodes[index].address);
        env.trace.tell(|| format!("{leader} is the controller in term {term}"));
    }

    /// The leader crashes, or only steps down. Another leads some time later.
    pub(crate) fn depose(&mut self, env: &mut Env, is_crash: bool) {
        let Some(leader) = self.leader.take() else { return };
        self.tenure = None;
        self.waiting.clear();
        if let Some(proposal) = self.in_flight.take()
            && env.random.one_in(2)
        {
            env.trace.count("committed unknown");
            self.commit(env, proposal.entry, Some(proposal.image));
        }
        self.term += 1;
        self.nodes[leader].is_up = !is_crash;
        if is_crash {
            self.nodes[leader].parked.clear();
        }
        let after_us = if is_crash { env.random.between(500_000, 2_500_000) } else { 20_000 };
        env.timer(COORDINATORS[0], self.term, after_us, Timer::Elected(self.term));
    }

    pub(crate) fn restart(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.is_up = true);
    }

    fn commit(&mut self, env: &mut Env, entry: Entry, image: Option<MetadataImage>) {
        let index = i64::try_from(self.entries.len()).expect("few entries");
        let mut image = image.unwrap_or_else(|| self.image.clone());
        image.set_index(index);
        // What is replicated is the records: they alone must make the image.
        let mut replayed = self.image.clone();
        let mut delta = MetadataDelta::default();
        for record in entry.iter() {
            replayed.apply(record, &mut delta).expect("a record that was decided can be applied");
        }
        replayed.set_index(index);
        assert!(replayed == image, "the records of entry {index} do not make what was decided");
        self.image = image;
        self.entries.push(entry);
        for (i, node) in self.nodes.iter().enumerate() {
            let after_us = if Some(i) == self.leader { 0 } else { env.random.between(300, 30_000) };
            env.timer(node.address, 0, after_us, Timer::Applied);
        }
    }

    pub(crate) fn message(&mut self, env: &mut Env, to: Address, from: Address, message: Message) {
        if !self.node(to).is_up {
            return;
        }
        let is_leader = self.leader() == Some(to);
        match message {
            Message::Control(correlation, _) if !is_leader => {
                env.send(to, from, Message::Controlled(correlation, None));
            }
            Message::Control(correlation, request) => {
                self.waiting.push_back((from, correlation, request));
                self.decide(env);
            }
            Message::Closed { broker, connection } if is_leader => {
                let now_ms = self.now_ms(env);
                if let Some(tenure) = &mut self.tenure {
                    tenure.handle_disconnected(broker, connection, now_ms);
                }
            }
            Message::Closed { .. } => {}
            Message::Feed(correlation, from_index) => {
                self.node(to).parked.push((correlation, from, from_index));
                env.timer(to, 0, FEED_WAIT_US, Timer::FeedDue(correlation));
                self.feed(env, to, None);
            }
            Message::Controlled(..)
            | Message::Fed(..)
            | Message::ReplicaFetch(..)
            | Message::ReplicaFetched(..)
            | Message::Durable(_)
            | Message::Ask(..)
            | Message::Answer(..) => unreachable!("not for coordinators: {message:?}"),
        }
    }

    pub(crate) fn timer(&mut self, env: &mut Env, at: Address, life: u64, timer: &Timer) {
        match timer {
            Timer::Tick(term) if *term == self.term && self.leader.is_some() => {
                if self.in_flight.is_none() {
                    self.tick(env);
                }
                env.timer(at, life, TICK_US, Timer::Tick(*term));
            }
            Timer::Commit(term, number) if *term == self.term => {
                let Some(proposal) = self.in_flight.take_if(|proposal| proposal.number == *number) else {
                    return;
                };
                self.commit(env, proposal.entry, Some(proposal.image));
                for (to, correlation, answer) in proposal.answers {
                    env.send(at, to, Message::Controlled(correlation, Some(answer)));
                }
                self.decide(env);
            }
            Timer::Elected(term) if *term == self.term => {
                let up: Vec<usize> = (0..self.nodes.len()).filter(|i| self.nodes[*i].is_up).collect();
                match env.random.pick(&up).copied().filter(|_| up.len() * 2 > self.nodes.len()) {
                    Some(leader) => self.lead(env, leader),
                    // Without a majority nobody is elected.
                    None => env.timer(at, life, 100_000, Timer::Elected(*term)),
                }
            }
            Timer::Applied => {
                let count = self.entries.len();
                self.node(at).applied = count;
                self.feed(env, at, None);
            }
            Timer::FeedDue(correlation) => self.feed(env, at, Some(*correlation)),
            _ => {}
        }
    }

    /// Answers parked feed requests for which there is something, and the one whose time is over.
    fn feed(&mut self, env: &mut Env, at: Address, due: Option<Correlation>) {
        let node = self.nodes.iter_mut().find(|node| node.address == at).expect("coordinators do not go");
        if !node.is_up {
            return;
        }
        let (applied, entries) = (node.applied, &self.entries);
        node.parked.retain(|(correlation, from, index)| {
            let first = usize::try_from(*index).unwrap_or(0);
            let is_answered = first < applied || due == Some(*correlation);
            if is_answered {
                let until = applied.min(first + FEED_ENTRIES_MAX);
                let given = entries.get(first..until).unwrap_or_default().to_vec();
                env.send(at, *from, Message::Fed(*correlation, *index, given));
            }
            !is_answered
        });
    }

    fn now_ms(&self, env: &Env) -> i64 {
        env.now_ms() + self.leader.map_or(0, |leader| self.nodes[leader].clock_ms)
    }

    fn tick(&mut self, env: &mut Env) {
        let now_ms = self.now_ms(env);
        let Some(mut tenure) = self.tenure.take() else { return };
        if tenure.next_deadline_ms() <= now_ms {
            let mut controller = Controller::new(self.image.clone(), &self.settings);
            let mut random = env.random.fork();
            let mut entropy = || random.next();
            let index = i64::try_from(self.entries.len()).expect("few entries");
            let mut context = Context { index, entropy: &mut entropy };
            let outcome = controller.tick(&mut tenure, now_ms, &mut context);
            for event in &outcome.response {
                env.trace.tell(|| format!("controller: {event}"));
                env.trace.count("ticks with events");
            }
            if !outcome.records.is_empty() {
                let image = controller.into_image();
                self.propose(env, Arc::new(outcome.records), image, Vec::new());
            }
        }
        self.tenure = Some(tenure);
    }

    fn propose(
        &mut self,
        env: &mut Env,
        entry: Entry,
        image: MetadataImage,
        answers: Vec<(Address, Correlation, ControlAnswer)>,
    ) {
        let after_us = if env.random.one_in(50) { env.random.below(300_000) } else { 2000 };
        self.proposals += 1;
        let number = self.proposals;
        env.timer(self.leader().unwrap_or(0), 0, 500 + after_us, Timer::Commit(self.term, number));
        for record in entry.iter() {
            env.trace.tell(|| format!("controller: {record:?}"));
        }
        self.in_flight = Some(Proposal { number, entry, image, answers });
    }

    /// Decides what waits as one group.
    fn decide(&mut self, env: &mut Env) {
        let Some(leader) = self.leader().filter(|_| self.in_flight.is_none()) else { return };
        let now_ms = self.now_ms(env);
        let Some(mut tenure) = self.tenure.take() else { return };
        let mut controller = Controller::new(self.image.clone(), &self.settings);
        let (mut records, mut answers) = (Vec::new(), Vec::new());
        let index = i64::try_from(self.entries.len()).expect("few entries");
        let mut random = env.random.fork();
        while let Some((from, correlation, request)) = self.waiting.pop_front() {
            let mut entropy = || random.next();
            let mut context = Context { index, entropy: &mut entropy };
            let is_last = matches!(request, ControlRequest::Register(_));
            let (new, answer) = decide_one(&mut controller, &mut tenure, now_ms, &mut context, request);
            records.extend(new);
            answers.push((from, correlation, answer));
            if is_last && !records.is_empty() {
                break;
            }
        }
        self.tenure = Some(tenure);
        if records.is_empty() {
            for (to, correlation, answer) in answers {
                env.send(leader, to, Message::Controlled(correlation, Some(answer)));
            }
        } else {
            let image = controller.into_image();
            self.propose(env, Arc::new(records), image, answers);
        }
    }
}

fn decide_one(
    controller: &mut Controller<'_>,
    tenure: &mut Tenure,
    now_ms: i64,
    context: &mut Context<'_>,
    request: ControlRequest,
) -> (Vec<ottla_cluster::image::MetadataRecord>, ControlAnswer) {
    match request {
        ControlRequest::Register(request) => {
            let outcome = controller.admit_broker(&request, tenure, now_ms, context);
            (outcome.records, ControlAnswer::Register(outcome.response))
        }
        ControlRequest::Heartbeat(request, connection) => {
            let outcome = controller.broker_heartbeat(&request, tenure, now_ms, context);
            if outcome.response.error_code == 0 {
                let id = BrokerId(request.broker_id);
                tenure.handle_connected(id, request.broker_epoch, connection);
            }
            (outcome.records, ControlAnswer::Heartbeat(outcome.response))
        }
        ControlRequest::Alter(request) => {
            let outcome = controller.alter_partition(&request);
            (outcome.records, ControlAnswer::Alter(outcome.response))
        }
        ControlRequest::Create(request) => {
            (controller.create_topics(&request, context).records, ControlAnswer::Done)
        }
        ControlRequest::Elect(request) => (controller.elect_leaders(&request).records, ControlAnswer::Done),
        ControlRequest::Reassign(request) => {
            (controller.alter_partition_reassignments(&request).records, ControlAnswer::Done)
        }
    }
}
