//! Random schedules: clients that join, sync, commit, fall silent, leave and come back, and writes that fail. What must hold,
//! holds after every event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::shape::{assignment, subscription};
use super::*;
use crate::groups::group::State;
use crate::groups::record::{Key, read_key};

const SEEDS: u64 = 2000;
const STEPS: usize = 120;
const CLIENTS: usize = 5;
const PARTITIONS: i32 = 4;
const GROUP: &str = "g";

/// xorshift64*: equal seeds give equal schedules.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

/// What a client believes.
#[derive(Clone, Default)]
struct Consumer {
    instance_id: Option<Str>,
    member_id: Str,
    generation: i32,
    /// The members, when it leads and has to assign.
    assigns: Option<Vec<Str>>,
    joined: bool,
    synced: bool,
    waits: Option<u64>,
}

enum Asked {
    Join(usize),
    Sync(usize),
    Commit { partition: i32, offset: i64 },
    Heartbeat(usize),
    Leave,
}

struct World {
    seed: u64,
    dice: Dice,
    shard: GroupShard,
    mono_ms: i64,
    clients: Vec<Consumer>,
    open: BTreeMap<u64, Asked>,
    tickets: u64,
    writes: VecDeque<(StoreId, Vec<GroupRecord>)>,
    log: Vec<GroupRecord>,
    /// What was answered as committed, and what may be.
    committed: BTreeMap<i32, i64>,
    /// By generation: who was given which partition.
    given: BTreeMap<(i32, i32), Str>,
    /// A record of the group itself failed, so the log is behind.
    behind: bool,
    stable_seen: usize,
    size_max: usize,
    /// Which request was answered with which code, in order.
    history: Vec<(u64, i16)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let delay = [0, 50, 300][dice.below(3) as usize];
        let size_max = 3 + dice.below(3) as usize;
        let config = GroupConfig {
            initial_rebalance_delay_ms: delay,
            session_timeout_ms_min: 1,
            size_max,
            ..GroupConfig::default()
        };
        let clients = (0..CLIENTS).map(|i| Consumer {
            instance_id: (i % 3 == 0).then(|| format!("i{i}").into()),
            ..Consumer::default()
        });
        let clients = clients.collect();
        Self {
            seed,
            dice,
            shard: GroupShard::new(config),
            mono_ms: 0,
            clients,
            open: BTreeMap::new(),
            tickets: 0,
            writes: VecDeque::new(),
            log: Vec::new(),
            committed: BTreeMap::new(),
            given: BTreeMap::new(),
            behind: false,
            size_max,
            stable_seen: 0,
            history: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: WALL_MS + self.mono_ms }
    }

    fn step(&mut self) {
        let who = self.dice.below(CLIENTS as u64) as usize;
        match self.dice.below(60) {
            0 => self.join(who),
            1 => self.sync(who),
            2 => self.commit(who),
            3 => self.heartbeat(who),
            4 => self.leave(who),
            // Falls silent and starts anew: a static one under its instance id.
            5 => {
                let instance_id = self.clients[who].instance_id.clone();
                self.clients[who] = Consumer { instance_id, ..Consumer::default() };
            }
            6 => self.pass(400),
            7 => self.finish(Err(StoreError::NotAvailable)),
            _ => self.go_on(who),
        }
        self.check();
    }

    /// What a client that behaves does next.
    fn go_on(&mut self, who: usize) {
        let client = &self.clients[who];
        if client.waits.is_some_and(|ticket| self.open.contains_key(&ticket)) {
            if self.writes.is_empty() {
                self.pass(60);
            } else {
                self.finish(Ok(()));
            }
        } else if !client.joined {
            self.join(who);
        } else if !client.synced {
            self.sync(who);
        } else if self.dice.below(3) == 0 {
            self.commit(who);
        } else {
            self.heartbeat(who);
        }
    }

    fn pass(&mut self, end_ms: u64) {
        let until_ms = self.mono_ms + self.dice.below(end_ms) as i64;
        self.advance(until_ms);
    }

    fn send(&mut self, request: Request, asked: Asked) {
        self.tickets += 1;
        self.open.insert(self.tickets, asked);
        let actions = self.shard.handle(self.now(), Ticket(self.tickets), &Client::default(), request);
        self.take(actions);
    }

    fn join(&mut self, who: usize) {
        let client = &self.clients[who];
        let both = self.dice.below(4) == 0;
        let names = if both { &["range", "sticky"][..] } else { &["range"] };
        let protocols = names.iter().map(|name| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: subscription("t"),
            ..Default::default()
        });
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            session_timeout_ms: 500,
            rebalance_timeout_ms: 700,
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        let version = [3, 4, 8, 9][self.dice.below(4) as usize];
        let new_member_id = format!("c{who}-{}", self.tickets).into();
        self.clients[who].waits = Some(self.tickets + 1);
        self.send(Request::Join { request, version, new_member_id }, Asked::Join(who));
    }

    fn sync(&mut self, who: usize) {
        if !self.clients[who].joined {
            return;
        }
        let client = self.clients[who].clone();
        let mut assignments = Vec::new();
        if let Some(members) = &client.assigns {
            let turn = self.dice.below(members.len() as u64) as i32;
            for (index, member) in members.iter().enumerate() {
                let mine = |p: &i32| (p + turn) as usize % members.len() == index;
                let names: Vec<_> = (0..PARTITIONS).filter(mine).map(|p| format!("t-{p}")).collect();
                assignments.push(SyncGroupRequestAssignment {
                    member_id: member.clone(),
                    assignment: assignment(&names.join(",")),
                    ..Default::default()
                });
            }
        }
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: client.generation,
            member_id: client.member_id,
            group_instance_id: client.instance_id,
            assignments,
            ..SyncGroupRequest::default()
        };
        self.clients[who].waits = Some(self.tickets + 1);
        self.send(Request::Sync(request), Asked::Sync(who));
    }

    fn commit(&mut self, who: usize) {
        let client = self.clients[who].clone();
        let simple = self.dice.below(4) == 0;
        let partition_index = self.dice.below(PARTITIONS as u64) as i32;
        let committed_offset = self.tickets as i64;
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: if simple { -1 } else { client.generation },
            member_id: if simple { Str::default() } else { client.member_id },
            group_instance_id: client.instance_id.filter(|_| !simple),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let asked = Asked::Commit { partition: partition_index, offset: committed_offset };
        self.send(Request::Commit { request, version: 8 }, asked);
    }

    fn heartbeat(&mut self, who: usize) {
        let client = &self.clients[who];
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            ..HeartbeatRequest::default()
        };
        self.send(Request::Heartbeat(request), Asked::Heartbeat(who));
    }

    fn leave(&mut self, who: usize) {
        let client = &self.clients[who];
        let member = MemberIdentity {
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            members: vec![member],
            ..LeaveGroupRequest::default()
        };
        self.send(Request::Leave { request, version: 5 }, Asked::Leave);
    }

    fn advance(&mut self, until_ms: i64) {
        while let Some(at_ms) = self.shard.next_deadline_ms().filter(|at_ms| *at_ms <= until_ms) {
            self.mono_ms = at_ms.max(self.mono_ms);
            let actions = self.shard.tick(self.now());
            self.take(actions);
        }
        self.mono_ms = until_ms;
    }

    fn finish(&mut self, outcome: Result<(), StoreError>) {
        let Some((id, records)) = self.writes.pop_front() else { return };
        let about_group = records.iter().any(|record| matches!(read_key(&record.key), Ok(Key::Group(_))));
        if about_group {
            self.behind = outcome.is_err();
        }
        if outcome.is_ok() {
            self.log.extend(records);
        }
        let actions = self.shard.handle_stored(self.now(), id, outcome);
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Store { id, records } => {
                    assert!(!records.is_empty(), "seed {}", self.seed);
                    self.writes.push_back((id, records));
                }
                Action::Tell(_) => {}
                Action::Reply { ticket, reply } => {
                    let asked = self.open.remove(&ticket.0);
                    let asked = asked.unwrap_or_else(|| panic!("seed {}: answered twice", self.seed));
                    self.answered(ticket.0, asked, reply);
                }
            }
        }
    }

    fn answered(&mut self, ticket: u64, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Join(who), Reply::Join(response)) => {
                self.history.push((ticket, response.error_code));
                if self.clients[who].waits == Some(ticket) {
                    self.joined(who, &response);
                }
            }
            (Asked::Sync(who), Reply::Sync(response)) => {
                self.history.push((ticket, response.error_code));
                if response.error_code != 0 {
                    if self.clients[who].waits == Some(ticket) {
                        self.turned_away(who, response.error_code);
                    }
                    return;
                }
                let names = shape::partitions_text(&response.assignment);
                let owned: Vec<i32> = names
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(|name| partition_name(name).1)
                    .collect();
                let client = &mut self.clients[who];
                if client.waits == Some(ticket) {
                    client.synced = true;
                    let (generation, member_id) = (client.generation, client.member_id.clone());
                    self.note_owned(generation, &member_id, &owned);
                }
            }
            (Asked::Commit { partition, offset }, Reply::Commit(response)) => {
                if response.topics[0].partitions[0].error_code == 0 {
                    self.committed.insert(partition, offset);
                }
            }
            (Asked::Heartbeat(who), Reply::Heartbeat(response)) => {
                self.history.push((ticket, response.error_code));
                if response.error_code != 0 {
                    self.turned_away(who, response.error_code);
                }
            }
            (Asked::Leave, Reply::Leave(_)) => {}
            (_, reply) => panic!("seed {}: {reply:?} does not answer the request", self.seed),
        }
    }

    /// The client joins again, as the same member where it still is one.
    fn turned_away(&mut self, who: usize, code: i16) {
        let client = &mut self.clients[who];
        client.joined = false;
        let lost = [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId].map(ErrorCode::code);
        if lost.contains(&code) {
            client.member_id = Str::default();
        }
    }

    fn joined(&mut self, who: usize, response: &ottla_protocol::generated::join_group::JoinGroupResponse) {
        let client = &mut self.clients[who];
        client.joined = response.error_code == 0;
        client.synced = false;
        let code = ErrorCode::from_code(response.error_code).expect("a code of the table");
        match code {
            ErrorCode::None => {
                client.member_id = response.member_id.clone();
                client.generation = response.generation_id;
                let assigns = response.leader == response.member_id && !response.skip_assignment;
                client.assigns =
                    assigns.then(|| response.members.iter().map(|m| m.member_id.clone()).collect());
                assert!(
                    !assigns || !response.members.is_empty(),
                    "seed {}: a leader without members",
                    self.seed
                );
            }
            ErrorCode::MemberIdRequired => client.member_id = response.member_id.clone(),
            ErrorCode::RebalanceInProgress => {}
            _ => client.member_id = Str::default(),
        }
    }

    /// A static member's place may be taken by its next id; otherwise a partition has one owner in a generation.
    fn note_owned(&mut self, generation: i32, member_id: &Str, owned: &[i32]) {
        for partition in owned {
            let old = self.given.insert((generation, *partition), member_id.clone());
            let same_client = |old: &Str| old.split('-').next() == member_id.split('-').next();
            assert!(
                old.as_ref().is_none_or(same_client),
                "seed {}: partition {partition} of generation {generation} has {old:?} and {member_id}",
                self.seed
            );
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        for partition in 0..PARTITIONS {
            let is = self.offset_of(&self.shard, partition);
            let said = self.committed.get(&partition).copied();
            assert_eq!(is, said, "seed {seed}: partition {partition} moved unasked");
        }
        let Some(group) = self.shard.groups.get(GROUP) else { return };
        let is_rebalancing = group.state == State::PreparingRebalance;
        assert!(is_rebalancing || group.members.len() <= self.size_max, "seed {seed}: too many members");
        if group.state == State::Stable {
            self.stable_seen += 1;
            let mut owned = BTreeMap::new();
            for member in group.members.in_order() {
                let names = shape::partitions_text(&member.assignment);
                for name in names.split(',').filter(|name| !name.is_empty()) {
                    let old = owned.insert(name.to_owned(), &member.id);
                    assert_eq!(old, None, "seed {seed}: {name} is owned twice");
                }
            }
            assert_eq!(owned.len(), PARTITIONS as usize, "seed {seed}: not all owned: {owned:?}");
        }
    }

    fn offset_of(&self, shard: &GroupShard, partition: i32) -> Option<i64> {
        let group = shard.groups.get(GROUP)?;
        group.offsets.get("t", partition).map(|offset| offset.offset)
    }

    /// Faults are over: all writes succeed and time goes on until nobody waits; then the log says what memory says.
    fn settle(&mut self) {
        for _ in 0..200 {
            while !self.writes.is_empty() {
                self.finish(Ok(()));
                self.check();
            }
            let Some(at_ms) = self.shard.next_deadline_ms() else { break };
            self.advance(at_ms);
            self.check();
        }
        assert!(self.open.is_empty(), "seed {}: {} requests are not answered", self.seed, self.open.len());
        assert_eq!(self.shard.members_count(), 0, "seed {}: who is silent goes", self.seed);
        self.compare_with_log();
    }

    fn compare_with_log(&self) {
        let mut other = GroupShard::new(GroupConfig::default());
        for record in &self.log {
            other.replay(&record.key, record.value.as_deref(), None).unwrap();
        }
        let seed = self.seed;
        for partition in 0..PARTITIONS {
            let (live, replayed) =
                (self.offset_of(&self.shard, partition), self.offset_of(&other, partition));
            assert_eq!(live, replayed, "seed {seed}: partition {partition}");
        }
        if self.behind {
            return;
        }
        let Some(group) = self.shard.groups.get(GROUP).filter(|group| group.recorded) else { return };
        if matches!(group.state, State::Stable | State::Empty) {
            assert_eq!(describe_of(&self.shard), describe_of(&other), "seed {seed}");
            assert_eq!(Some(group.generation), other.groups.get(GROUP).map(|g| g.generation), "seed {seed}");
        }
    }
}

fn describe_of(shard: &GroupShard) -> ottla_protocol::generated::describe_groups::DescribedGroup {
    shard.describe(GROUP, 6)
}

#[test]
fn whatever_clients_do_the_rules_hold() {
    let mut stable_seen = 0;
    let mut histories = BTreeSet::new();
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            if step % 10 == 0 && world.writes.is_empty() {
                world.compare_with_log();
            }
        }
        world.settle();
        stable_seen += world.stable_seen;
        histories.insert(world.history);
    }
    println!("{SEEDS} seeds, {} different histories, stable after {stable_seen} events", histories.len());
    assert!(histories.len() as u64 > SEEDS * 9 / 10, "the schedules are too much alike");
    assert!(stable_seen as u64 > SEEDS * 5, "the schedules hardly ever get anywhere");
}
