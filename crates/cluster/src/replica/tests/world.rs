//! Three brokers with one partition, a controller and a network that loses, repeats and reorders; everything that is decided is
//! decided by the machines of this crate. Logs are lists in memory, a crash loses what was not synced.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::generated::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::ids::Uuid;

use super::*;
use crate::config::ConfigMap;
use crate::controller::{Context, Controller, Outcome, Settings, Tenure};
use crate::image::{MetadataDelta, MetadataImage, MetadataRecord, PartitionImage};

/// Brokers are 1 to this.
pub(super) const BROKERS: i32 = 3;

/// What a broker has on disk and in memory.
pub(super) struct Node {
    pub(super) up: bool,
    life: i64,
    disk: u8,
    /// Epoch and value of each record.
    pub(super) log: Vec<(LeaderEpoch, u64)>,
    synced: usize,
    /// Where epochs began, also those without records yet.
    starts: Vec<(LeaderEpoch, usize)>,
    image: MetadataImage,
    pub(super) replica: Replica,
    /// What producers wait for: offset and value.
    waiting: Vec<(usize, u64)>,
}

impl Node {
    fn progress(&self) -> Progress {
        progress(i64::try_from(self.log.len()).unwrap(), i64::try_from(self.synced).unwrap())
    }

    /// OffsetForLeaderEpoch.
    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let next = self.starts.partition_point(|(known, _)| *known <= epoch);
        let floor = next.checked_sub(1).map(|at| self.starts[at].0);
        let end = |at: usize| Offset(i64::try_from(at).unwrap());
        match self.starts.get(next) {
            Some((_, start)) => Some(EpochEnd { epoch: floor.unwrap_or(epoch), end: end(*start) }),
            None if floor == Some(epoch) => Some(EpochEnd { epoch, end: end(self.log.len()) }),
            None => None,
        }
    }

    fn begin_epoch(&mut self, epoch: LeaderEpoch, at: usize) {
        if self.starts.last().is_none_or(|(latest, _)| *latest < epoch) {
            self.starts.retain(|(_, start)| *start < at);
            self.starts.push((epoch, at));
        }
    }

    fn append(&mut self, record: (LeaderEpoch, u64)) {
        self.begin_epoch(record.0, self.log.len());
        self.log.push(record);
    }

    fn cut(&mut self, end: usize) {
        self.log.truncate(end);
        self.synced = self.synced.min(end);
        self.starts.retain(|(_, start)| *start < end);
    }
}

#[derive(Clone, Debug)]
enum Message {
    Fetch { to: i32, fetch: FollowerFetch },
    Fetched { to: i32, life: i64, fetched: Fetched, records: Vec<(LeaderEpoch, u64)>, high_watermark: Offset },
    Durable { to: i32, report: DurableReport },
    Propose { from: i32, life: i64, proposal: Proposal },
    Answer { to: i32, life: i64, proposal: Proposal, answer: Result<ProposalAnswer, ProposalError> },
}

pub(super) struct World {
    pub(super) nodes: BTreeMap<i32, Node>,
    pub(super) image: MetadataImage,
    entries: Vec<Vec<MetadataRecord>>,
    settings: Settings,
    tenure: Tenure,
    now_ms: i64,
    net: Vec<Message>,
    state: u64,
    values: u64,
    processes: u8,
    pub(super) durability: Durability,
    min_insync: usize,
    /// What producers were told is kept: value by offset.
    pub(super) acknowledged: BTreeMap<usize, u64>,
    /// What any replica held to be committed: value by offset.
    committed: BTreeMap<usize, u64>,
    /// How often things happened, to see that the run was one.
    pub(super) seen: BTreeMap<&'static str, usize>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let fixed = ConfigMap::from([("auto.leader.rebalance.enable".to_owned(), "false".to_owned())]);
        let settings = Settings::new("c".to_owned(), fixed);
        let image = MetadataImage::default();
        let tenure = Tenure::new(&image, &settings, 0);
        let mut world = Self {
            nodes: BTreeMap::new(),
            image,
            entries: Vec::new(),
            settings,
            tenure,
            now_ms: 0,
            net: Vec::new(),
            state: seed,
            values: 0,
            processes: 0,
            durability: Durability::Durable,
            min_insync: 1 + usize::try_from(seed % 2).unwrap(),
            acknowledged: BTreeMap::new(),
            committed: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        for id in 1..=BROKERS {
            world.nodes.insert(id, world.node(id, u8::try_from(id).unwrap()));
            world.start(id);
            world.heartbeat(id);
        }
        let topic = CreatableTopic {
            name: "a".into(),
            num_partitions: 1,
            replication_factor: 3,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        world.decide(|controller, _, _, context| controller.create_topics(&request, context));
        world
    }

    fn node(&self, id: i32, disk: u8) -> Node {
        let replica = Replica::new(BrokerId(id), self.durability, progress(0, 0), Offset(0));
        Node {
            up: false,
            life: -1,
            disk,
            log: Vec::new(),
            synced: 0,
            starts: Vec::new(),
            image: MetadataImage::default(),
            replica,
            waiting: Vec::new(),
        }
    }

    /// A number below `bound`.
    pub(super) fn draw(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn broker(&mut self) -> i32 {
        1 + i32::try_from(self.draw(3)).unwrap()
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Controller<'_>, &mut Tenure, i64, &mut Context<'_>) -> Outcome<R>,
    ) -> R {
        let mut draws = self.state;
        let mut entropy = || {
            draws = draws.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            draws
        };
        let mut controller = Controller::new(self.image.clone(), &self.settings);
        let index = i64::try_from(self.entries.len()).unwrap();
        let mut context = Context { index, entropy: &mut entropy };
        let outcome = decide(&mut controller, &mut self.tenure, self.now_ms, &mut context);
        if !outcome.records.is_empty() {
            self.image = controller.into_image();
            self.image.set_index(index);
            self.entries.push(outcome.records);
        }
        outcome.response
    }

    pub(super) fn partition(&self) -> &PartitionImage {
        &self.image.topic_by_name("a").expect("it was made").partitions[0]
    }

    /// A process starts on the disk that is there, or on an empty one.
    pub(super) fn start(&mut self, id: i32) {
        self.processes = self.processes.wrapping_add(1);
        let request = BrokerRegistrationRequest {
            broker_id: id,
            cluster_id: "c".into(),
            incarnation_id: Uuid([self.processes; 16]),
            log_dirs: vec![Uuid([self.nodes[&id].disk; 16])],
            ..BrokerRegistrationRequest::default()
        };
        let response = self.decide(|controller, tenure, now, context| {
            controller.admit_broker(&request, tenure, now, context)
        });
        if response.error_code != 0 {
            return;
        }
        let node = self.nodes.get_mut(&id).unwrap();
        (node.up, node.life, node.image) = (true, response.broker_epoch, MetadataImage::default());
        node.replica = Replica::new(BrokerId(id), self.durability, node.progress(), Offset(0));
        node.replica.handle_lag_limit(5000);
    }

    pub(super) fn crash(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        if !node.up {
            return;
        }
        node.up = false;
        node.waiting.clear();
        let synced = node.synced;
        node.cut(synced);
        self.count("crash");
    }

    /// The disk of a dead broker is replaced.
    pub(super) fn wipe(&mut self, id: i32) {
        if !self.nodes[&id].up {
            self.processes = self.processes.wrapping_add(1);
            let node = self.node(id, 100 + self.processes % 100);
            self.nodes.insert(id, node);
            self.count("wipe");
        }
    }

    pub(super) fn heartbeat(&mut self, id: i32) {
        let node = &self.nodes[&id];
        let request = BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: node.life,
            current_metadata_offset: i64::try_from(self.entries.len()).unwrap(),
            ..BrokerHeartbeatRequest::default()
        };
        if node.up {
            self.decide(|c, tenure, now, context| c.broker_heartbeat(&request, tenure, now, context));
        }
    }

    /// Time passes; the controller hears of those of `heard` that are up.
    pub(super) fn pass(&mut self, ms: i64, heard: &[i32]) {
        self.now_ms += ms;
        heard.iter().for_each(|id| self.heartbeat(*id));
        self.decide(|controller, tenure, now, context| controller.tick(tenure, now, context));
        for id in 1..=BROKERS {
            self.act(id, |node, now, serving| node.replica.tick(now, serving));
        }
    }

    /// How many entries of metadata the last of the brokers has not read.
    pub(super) fn unread(&self) -> usize {
        let read = self.nodes.values().map(|node| node.image.index() + 1).min().unwrap_or(0);
        self.entries.len() - usize::try_from(read).unwrap()
    }

    /// A broker reads the next metadata.
    pub(super) fn feed(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        let next = usize::try_from(node.image.index() + 1).unwrap();
        let Some(records) = self.entries.get(next).filter(|_| node.up) else { return };
        let mut delta = MetadataDelta::default();
        for record in records {
            node.image.apply(record, &mut delta).unwrap();
        }
        node.image.set_index(i64::try_from(next).unwrap());
        let Some(topic) = node.image.topic_by_name("a").cloned() else { return };
        // A process takes no part in what was before its own life.
        if node.image.index() < node.life {
            return;
        }
        let p = &topic.partitions[0];
        if p.leader == BrokerId(id) {
            let leadership = Leadership {
                epoch: p.leader_epoch,
                partition_epoch: p.partition_epoch,
                replicas: p.replicas.clone(),
                isr: p.isr.clone(),
                min_insync_replicas: self.min_insync,
            };
            node.replica.handle_lead(leadership);
            node.begin_epoch(p.leader_epoch, node.log.len());
        } else if p.leader.0 >= 0 {
            node.replica.handle_follow(Following { leader: p.leader, epoch: p.leader_epoch });
            node.waiting.clear();
        } else {
            node.replica.handle_unlead();
            node.waiting.clear();
        }
        self.after(id);
    }

    pub(super) fn produce(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(leadership) = node.replica.leadership().filter(|_| node.up) else { return };
        if !leadership.has_enough_replicas() {
            return;
        }
        self.values += 1;
        node.waiting.push((node.log.len(), self.values));
        node.append((leadership.epoch, self.values));
        node.replica.handle_local_progress(node.progress());
        self.after(id);
    }

    pub(super) fn sync(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        if !node.up {
            return;
        }
        node.synced = node.log.len();
        node.replica.handle_local_progress(node.progress());
        self.report(id);
        self.after(id);
    }

    fn report(&mut self, id: i32) {
        let node = &self.nodes[&id];
        if let (Some(durable), Some(following)) = (node.replica.durable_report(), node.replica.following()) {
            let (broker_epoch, leader_epoch) = (node.life, following.epoch);
            let report = DurableReport { id: BrokerId(id), broker_epoch, leader_epoch, durable };
            self.net.push(Message::Durable { to: following.leader.0, report });
        }
    }

    pub(super) fn fetch(&mut self, id: i32) {
        let node = &self.nodes[&id];
        let Some(following) = node.replica.following().filter(|_| node.up) else { return };
        let fetch = FollowerFetch {
            id: BrokerId(id),
            broker_epoch: node.life,
            leader_epoch: following.epoch,
            offset: node.progress().end,
            last_epoch: node.starts.last().map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch),
        };
        self.net.push(Message::Fetch { to: following.leader.0, fetch });
    }

    /// Something arrives; sometimes twice, sometimes not at all.
    pub(super) fn deliver(&mut self, lossy: bool) {
        if self.net.is_empty() {
            return;
        }
        let at = usize::try_from(self.draw(self.net.len() as u64)).unwrap();
        let fate = if lossy { self.draw(20) } else { 19 };
        let message = if fate == 0 { self.net[at].clone() } else { self.net.swap_remove(at) };
        if fate == 1 {
            return self.lost(message);
        }
        match message {
            Message::Fetch { to, fetch } => self.fetch_arrives(to, &fetch),
            Message::Fetched { to, life, fetched, records, high_watermark } => {
                self.fetched_arrives(to, life, &fetched, &records, high_watermark);
            }
            Message::Durable { to, report } => {
                self.act(to, |node, now, serving| {
                    node.replica.handle_durable_report(now, &report, serving).unwrap_or_default()
                });
            }
            Message::Propose { from, life, proposal } => self.proposal_arrives(from, life, &proposal),
            Message::Answer { to, life, proposal, answer } => {
                if self.nodes[&to].life == life {
                    self.act(to, |node, now, serving| {
                        node.replica.handle_proposal_answer(now, &proposal, answer, serving)
                    });
                }
            }
        }
    }

    /// Whoever waits for an answer learns that none will come.
    fn lost(&mut self, message: Message) {
        let (to, life, proposal) = match message {
            Message::Propose { from, life, proposal } => (from, life, proposal),
            Message::Answer { to, life, proposal, .. } => (to, life, proposal),
            Message::Fetch { .. } | Message::Fetched { .. } | Message::Durable { .. } => return,
        };
        self.net.push(Message::Answer { to, life, proposal, answer: Err(ProposalError::Unknown) });
    }

    fn fetch_arrives(&mut self, to: i32, fetch: &FollowerFetch) {
        let mut answer = None;
        self.act(to, |node, now, serving| {
            let local_end = node.epoch_end(fetch.last_epoch);
            let at = usize::try_from(fetch.offset.0).unwrap();
            let (diverging, records, actions) =
                match node.replica.handle_fetch(now, fetch, local_end, serving) {
                    FetchAnswer::Serve(actions) => (None, node.log[at..].to_vec(), actions),
                    FetchAnswer::Diverging(end) => (Some(end), Vec::new(), Vec::new()),
                    FetchAnswer::OutOfRange => panic!("no log is ever out of range here: {fetch:?}"),
                    FetchAnswer::Refused(_) => return Vec::new(),
                };
            let fetched = Fetched { leader_epoch: fetch.leader_epoch, offset: fetch.offset, diverging };
            answer = Some((fetched, records, node.replica.high_watermark()));
            actions
        });
        if let Some((fetched, mut records, high_watermark)) = answer {
            records.truncate(usize::try_from(self.draw(4)).unwrap());
            let (to, life) = (fetch.id.0, fetch.broker_epoch);
            self.net.push(Message::Fetched { to, life, fetched, records, high_watermark });
        }
    }

    fn fetched_arrives(
        &mut self,
        to: i32,
        life: i64,
        fetched: &Fetched,
        records: &[(LeaderEpoch, u64)],
        high_watermark: Offset,
    ) {
        let node = self.nodes.get_mut(&to).unwrap();
        if !node.up || node.life != life {
            return;
        }
        let local_end = fetched.diverging.and_then(|end| node.epoch_end(end.epoch));
        match node.replica.handle_fetched(fetched, local_end) {
            Step::Drop => return,
            Step::Append => {
                records.iter().for_each(|record| node.append(*record));
                node.replica.handle_appended(node.progress(), high_watermark);
            }
            Step::Truncate(end) => {
                node.cut(usize::try_from(end.0).unwrap());
                let gone = node.replica.handle_truncated(node.progress());
                assert_eq!(gone, None, "broker {to} cut what was committed");
                self.count("truncate");
            }
            Step::Restart(_) => panic!("logs begin at 0 here"),
        }
        self.report(to);
        self.after(to);
    }

    fn proposal_arrives(&mut self, from: i32, life: i64, proposal: &Proposal) {
        let member = |(id, epoch): &(BrokerId, i64)| BrokerState {
            broker_id: id.0,
            broker_epoch: *epoch,
            ..BrokerState::default()
        };
        let asked = RequestPartitionData {
            leader_epoch: proposal.leader_epoch.0,
            partition_epoch: proposal.partition_epoch,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            ..RequestPartitionData::default()
        };
        let topic_id = self.image.topic_by_name("a").unwrap().id;
        let topics = vec![RequestTopicData { topic_id, partitions: vec![asked], ..Default::default() }];
        let request =
            AlterPartitionRequest { broker_id: from, broker_epoch: life, topics, ..Default::default() };
        let response = self.decide(|controller, _, _, _| controller.alter_partition(&request));
        let answer = answer_of(&response);
        self.count(if answer.is_ok() { "isr change" } else { "isr refusal" });
        self.net.push(Message::Answer { to: from, life, proposal: proposal.clone(), answer });
    }

    /// Lets a broker's replica act, and does what it asks for.
    fn act(&mut self, id: i32, act: impl FnOnce(&mut Node, i64, Serving<'_>) -> Vec<Action>) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).unwrap();
        if !node.up {
            return;
        }
        let image = node.image.clone();
        let serving = |id: BrokerId| {
            let broker = image.broker(id).filter(|b| !b.fenced && !b.in_controlled_shutdown);
            broker.map(|broker| broker.epoch)
        };
        let actions = act(node, now_ms, &serving);
        let life = node.life;
        for action in actions {
            match action {
                Action::Committed(_) => {}
                Action::Propose(proposal) => self.net.push(Message::Propose { from: id, life, proposal }),
            }
        }
        self.after(id);
    }

    /// What must hold of a broker after each of its steps; and whom it answers.
    fn after(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        let high_watermark = usize::try_from(node.replica.high_watermark().0).unwrap();
        assert!(high_watermark <= node.log.len(), "broker {id} commits what it does not have");
        for (offset, (_, value)) in node.log[..high_watermark].iter().enumerate() {
            let one = self.committed.entry(offset).or_insert(*value);
            assert_eq!(one, value, "two values are committed at {offset}, one on broker {id}");
        }
        if node.replica.leadership().is_some() {
            let done: Vec<_> = node.waiting.iter().copied().filter(|(at, _)| *at < high_watermark).collect();
            node.waiting.retain(|(at, _)| *at >= high_watermark);
            if !done.is_empty() {
                *self.seen.entry("acknowledged").or_default() += done.len();
            }
            self.acknowledged.extend(done);
        }
    }

    /// What must hold of the cluster after every step.
    pub(super) fn check(&self) {
        let leader = self.partition().leader;
        let Some(node) = self.nodes.get(&leader.0).filter(|node| node.up) else { return };
        for (offset, value) in &self.acknowledged {
            let found = node.log.get(*offset).map(|(_, value)| value);
            assert_eq!(found, Some(value), "leader {leader} has lost what was acknowledged at {offset}");
        }
        let leads = self.nodes.values().filter_map(|node| node.replica.leadership().filter(|_| node.up));
        let epochs: Vec<_> = leads.map(|leadership| leadership.epoch).collect();
        let distinct: BTreeSet<_> = epochs.iter().collect();
        assert_eq!(distinct.len(), epochs.len(), "two leaders in one epoch: {epochs:?}");
    }
}

fn answer_of(response: &AlterPartitionResponse) -> Result<ProposalAnswer, ProposalError> {
    use ottla_protocol::generated::ErrorCode;
    if response.error_code != 0 {
        return Err(ProposalError::Stale);
    }
    let partition = &response.topics[0].partitions[0];
    match ErrorCode::from_code(partition.error_code).unwrap() {
        ErrorCode::None => Ok(ProposalAnswer {
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.iter().copied().map(BrokerId).collect(),
        }),
        ErrorCode::IneligibleReplica => Err(ProposalError::Refused),
        ErrorCode::FencedLeaderEpoch | ErrorCode::InvalidUpdateVersion => Err(ProposalError::Stale),
        other => panic!("a leader of this house never gets {other:?}"),
    }
}
