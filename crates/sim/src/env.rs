//! Time, chance and the network: one queue of events, by time and then by the order in which they were made.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::message::{Address, ControlRequest, Correlation, Message, Timer};
use crate::random::Random;
use crate::trace::Trace;

/// Something that happens to a node.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A message arrives. `stream` is that of a client's connection when it was sent.
    Message { from: Address, message: Message, stream: u64 },
    /// A timer of that life of the node goes off.
    Timer { life: u64, timer: Timer },
    /// The next fault, or the end of one.
    Fault,
}

/// When, to whom, what.
#[derive(Debug)]
pub(crate) struct Event {
    pub at_us: u64,
    order: u64,
    pub to: Address,
    pub what: Happening,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// What is wrong with the network now.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// From whom nothing reaches whom.
    pub cuts: BTreeSet<(Address, Address)>,
    /// Most that a message takes longer, in microseconds.
    pub delay_us_max: u64,
    /// One of so many messages is lost, as many come twice; 0: none.
    pub loss_odds: u64,
    /// When the last message of a connection arrives that keeps its order.
    last_us: BTreeMap<(Address, Address), u64>,
    /// The client's present connections; what was sent on older ones is gone.
    streams: BTreeMap<Address, u64>,
}

/// All that nodes may use of the world.
#[derive(Debug)]
pub(crate) struct Env {
    pub now_us: u64,
    pub random: Random,
    pub trace: Trace,
    pub net: Network,
    /// Nothing is wrong any more, and nothing will be.
    pub is_healed: bool,
    queue: BinaryHeap<Reverse<Event>>,
    made: u64,
    correlations: u64,
    /// Nodes that stand still, until when.
    pub paused: BTreeMap<Address, u64>,
}

pub(crate) const CLIENTS_FROM: Address = 1001;
/// How late a message may come a second time.
const LATE_US: u64 = 8_000_000;

impl Env {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        Self {
            now_us: 0,
            random: Random::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(seed)),
            trace: Trace::new(verbose),
            net: Network::default(),
            is_healed: false,
            queue: BinaryHeap::new(),
            made: 0,
            correlations: 0,
            paused: BTreeMap::new(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.now_us / 1000).unwrap_or(i64::MAX)
    }

    /// A number that no request had before.
    pub(crate) fn correlation(&mut self) -> Correlation {
        self.correlations += 1;
        self.correlations
    }

    fn push(&mut self, at_us: u64, to: Address, what: Happening) {
        self.made += 1;
        self.queue.push(Reverse(Event { at_us, order: self.made, to, what }));
    }

    /// The next event, for whoever does not stand still; sets the clock.
    pub(crate) fn next(&mut self, until_us: u64) -> Option<Event> {
        loop {
            if self.queue.peek().is_none_or(|Reverse(event)| event.at_us > until_us) {
                self.now_us = until_us;
                return None;
            }
            let Reverse(mut event) = self.queue.pop()?;
            if let Some(until) = self.paused.get(&event.to).copied()
                && !matches!(event.what, Happening::Fault)
            {
                if until > event.at_us {
                    event.at_us = until;
                    self.queue.push(Reverse(event));
                    continue;
                }
                self.paused.remove(&event.to);
            }
            self.now_us = event.at_us;
            self.trace.now_us = event.at_us;
            let is_stale = |stream: u64, client: &Address| {
                self.net.streams.get(client).is_some_and(|present| stream < *present)
            };
            if let Happening::Message { from, stream, .. } = &event.what
                && (is_stale(*stream, from) || is_stale(*stream, &event.to))
            {
                continue;
            }
            return Some(event);
        }
    }

    /// A timer of a life of a node, after so many microseconds.
    pub(crate) fn timer(&mut self, at: Address, life: u64, after_us: u64, timer: Timer) {
        self.push(self.now_us + after_us, at, Happening::Timer { life, timer });
    }

    pub(crate) fn fault_after(&mut self, after_us: u64) {
        self.push(self.now_us + after_us, 0, Happening::Fault);
    }

    /// A client gives its connections up: what is on its way on them never arrives.
    pub(crate) fn reconnect(&mut self, client: Address) {
        *self.net.streams.entry(client).or_insert(0) += 1;
    }

    /// Sends a message, which arrives late, twice or never. Connections of clients keep their order.
    pub(crate) fn send(&mut self, from: Address, to: Address, message: Message) {
        let client = if from >= CLIENTS_FROM { from } else { to };
        let is_client = client >= CLIENTS_FROM;
        let stream = if is_client { *self.net.streams.entry(client).or_insert(1) } else { u64::MAX };
        if self.net.cuts.contains(&(from, to)) {
            self.trace.count("cut off");
            return;
        }
        let odds = self.net.loss_odds;
        if odds > 0 && !is_client && self.random.one_in(odds) {
            self.trace.count("lost");
            return;
        }
        // Proposals are sent again often, and the first one may still come.
        let is_proposal = matches!(message, Message::Control(_, ControlRequest::Alter(_))) && !self.is_healed;
        let is_doubled = odds > 0 && !is_client && self.random.one_in(odds);
        if is_doubled || (is_proposal && self.random.one_in(2)) {
            self.trace.count("twice");
            // An old connection may hold back for long what was sent again on a new one.
            let late_us = if self.random.one_in(2) { self.random.below(LATE_US) } else { 0 };
            let at_us = self.now_us + self.delay_us() + late_us;
            let message = message.clone();
            self.push(at_us, to, Happening::Message { from, message, stream });
        }
        let mut at_us = self.now_us + self.delay_us();
        if is_client {
            let last_us = self.net.last_us.entry((from, to)).or_insert(0);
            at_us = at_us.max(*last_us);
            *last_us = at_us;
        }
        self.push(at_us, to, Happening::Message { from, message, stream });
    }

    fn delay_us(&mut self) -> u64 {
        let mut delay_us = self.random.between(100, 600);
        if self.random.one_in(100) {
            delay_us += self.random.below(20_000);
        }
        if self.net.delay_us_max > 0 {
            delay_us += self.random.below(self.net.delay_us_max);
        }
        delay_us
    }
}
