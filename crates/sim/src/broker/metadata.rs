//! A broker and the controller: registration, heartbeats, the feed, and what follows from it for partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_cluster::image::{MetadataDelta, MetadataImage, PartitionImage, TopicImage};
use ottla_cluster::replica::{Following, Leadership, ProposalAnswer, ProposalError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

use super::{Control, Process};
use crate::env::Env;
use crate::history::History;
use crate::message::{Address, ControlAnswer, ControlRequest, Correlation, Entry, Message, Timer, Tp};
use crate::quorum::{CLUSTER, COORDINATORS};

const REGISTER_AGAIN_US: u64 = 300_000;
const HEARTBEAT_US: u64 = 500_000;
const FEED_TIMEOUT_US: u64 = 1_500_000;
const PROPOSAL_TIMEOUT_US: u64 = 1_000_000;
/// After NOT_CONTROLLER.
const BACKOFF_US: u64 = 50_000;

impl Process {
    fn ask_controller(&mut self, env: &mut Env, request: ControlRequest, what: Control) -> Correlation {
        let correlation = env.correlation();
        env.send(self.address(), self.controller, Message::Control(correlation, request));
        self.controls.insert(correlation, what);
        correlation
    }

    fn other_controller(&mut self, env: &mut Env, than: Address) {
        if self.controller == than {
            let others: Vec<_> = COORDINATORS.iter().copied().filter(|other| *other != than).collect();
            self.controller = *env.random.pick(&others).expect("there are others");
        }
    }

    pub(super) fn register(&mut self, env: &mut Env) {
        if self.epoch >= 0 {
            return;
        }
        if self.controls.values().any(|control| matches!(control, Control::Register)) {
            self.other_controller(env, self.controller);
            self.controls.clear();
        }
        let directory = &self.owner.directory;
        let request = BrokerRegistrationRequest {
            broker_id: self.id.0,
            cluster_id: CLUSTER.into(),
            incarnation_id: Uuid(self.incarnation),
            log_dirs: vec![directory.meta().directory_id],
            previous_broker_epoch: directory.clean_broker_epoch().unwrap_or(-1),
            ..BrokerRegistrationRequest::default()
        };
        self.ask_controller(env, ControlRequest::Register(request), Control::Register);
        self.wait(env, REGISTER_AGAIN_US, Timer::Register);
    }

    pub(super) fn heartbeat(&mut self, env: &mut Env) {
        if self.controls.values().any(|control| matches!(control, Control::Heartbeat)) {
            self.controls.retain(|_, control| !matches!(control, Control::Heartbeat));
            self.other_controller(env, self.controller);
        }
        let directory = &self.owner.directory;
        let offline = directory.fenced().map(|_| directory.meta().directory_id);
        let request = BrokerHeartbeatRequest {
            broker_id: self.id.0,
            broker_epoch: self.epoch,
            current_metadata_offset: self.image.index(),
            want_shut_down: self.wants_to_stop,
            offline_log_dirs: offline.into_iter().collect(),
            ..BrokerHeartbeatRequest::default()
        };
        self.heartbeat =
            self.ask_controller(env, ControlRequest::Heartbeat(request, self.life), Control::Heartbeat);
        let after_us = if self.wants_to_stop { HEARTBEAT_US / 5 } else { HEARTBEAT_US };
        self.wait(env, after_us, Timer::Heartbeat(self.heartbeat));
    }

    pub(super) fn controlled(
        &mut self,
        env: &mut Env,
        from: Address,
        correlation: Correlation,
        answer: Option<ControlAnswer>,
    ) {
        let Some(answer) = answer else {
            self.other_controller(env, from);
            if matches!(self.controls.get(&correlation), Some(Control::Proposals(_))) {
                self.wait(env, BACKOFF_US, Timer::Proposed(correlation));
            } else if let Some(Control::Heartbeat) = self.controls.remove(&correlation) {
                self.wait(env, BACKOFF_US, Timer::Heartbeat(correlation));
            }
            return;
        };
        match (self.controls.remove(&correlation), answer) {
            (Some(Control::Register), ControlAnswer::Register(response)) if response.error_code == 0 => {
                self.epoch = response.broker_epoch;
                self.heartbeat(env);
            }
            (Some(Control::Heartbeat), ControlAnswer::Heartbeat(response)) => {
                if response.error_code != 0 {
                    // A request of an earlier life came late and was taken for a new one: this life is over.
                    env.trace.count("lives replaced");
                    self.is_replaced = true;
                    return;
                }
                self.is_fenced = response.is_fenced;
                self.may_stop |= response.should_shut_down && self.wants_to_stop;
            }
            (Some(Control::Proposals(proposals)), ControlAnswer::Alter(response)) => {
                self.proposals_answered(env, proposals, &response);
            }
            _ => {}
        }
    }

    pub(super) fn ask_feed(&mut self, env: &mut Env) {
        self.feed = env.correlation();
        let to = *env.random.pick(&COORDINATORS).expect("there are some");
        env.send(self.address(), to, Message::Feed(self.feed, self.image.index() + 1));
        self.wait(env, FEED_TIMEOUT_US, Timer::Feed(self.feed));
    }

    pub(super) fn fed(
        &mut self,
        env: &mut Env,
        history: &mut History,
        correlation: Correlation,
        first: i64,
        entries: &[Entry],
    ) {
        if correlation != self.feed {
            return;
        }
        let mut delta = MetadataDelta::default();
        let mut image = self.image.clone();
        for (index, entry) in (first..).zip(entries).filter(|(index, _)| *index > self.image.index()) {
            for record in entry.iter() {
                image.apply(record, &mut delta).expect("what is committed can be applied");
            }
            image.set_index(index);
        }
        self.image = image;
        let was_active = self.is_active;
        self.is_active = self.epoch >= 0 && self.image.index() >= self.epoch;
        if self.is_active && !was_active {
            delta = MetadataDelta::everything(&self.image);
        }
        if self.is_active {
            self.reconcile(env, history, &delta);
        }
        if self.is_active && !was_active && !self.owner.directory.was_clean() {
            for partition in self.partitions.values() {
                // A log that cannot be opened says so itself.
                drop(partition.open_now(self.wall_ms(env)));
            }
        }
        if !delta.is_empty() {
            self.leaders = None;
        }
        if env.random.one_in(20) {
            // A broker that is slow to read the metadata.
            let after_us = env.random.below(200_000);
            self.feed = env.correlation();
            self.wait(env, after_us, Timer::Feed(self.feed));
        } else {
            self.ask_feed(env);
        }
    }

    fn reconcile(&mut self, env: &mut Env, history: &mut History, delta: &MetadataDelta) {
        let mut changed: BTreeSet<Tp> = delta.partitions_changed.clone();
        for topic in &delta.topics_created {
            let topic = self.image.topic_by_id(topic).cloned();
            changed.extend(topic.iter().flat_map(|t| t.partitions().map(|(number, _)| (t.id, number))));
        }
        for tp in changed {
            let Some(topic) = self.image.topic_by_id(&tp.0).cloned() else { continue };
            let Some(image) = topic.partition(tp.1).cloned() else { continue };
            self.serve(env, history, &topic, tp, &image);
        }
        self.follow_all(env);
    }

    fn serve(
        &mut self,
        env: &mut Env,
        history: &mut History,
        topic: &TopicImage,
        tp: Tp,
        image: &PartitionImage,
    ) {
        if !image.replicas.contains(&self.id) {
            return self.give_up(env, history, topic, tp);
        }
        let now_ms = self.wall_ms(env);
        let partition = match self.partitions.get(&tp) {
            Some(partition) => partition.clone(),
            None => {
                let partition = self.partition_of(&topic.name, tp);
                self.partitions.insert(tp, partition.clone());
                partition
            }
        };
        if image.leader == self.id {
            let leadership = Leadership {
                epoch: image.leader_epoch,
                partition_epoch: image.partition_epoch,
                replicas: image.replicas.clone(),
                isr: image.isr.clone(),
                min_insync_replicas: self.plan.min_insync_replicas,
            };
            partition.lead(leadership, now_ms);
            history.leads(env, self.address(), tp, image.leader_epoch, &partition);
        } else if image.leader.0 >= 0 {
            partition.follow(Following { leader: image.leader, epoch: image.leader_epoch });
        } else {
            partition.unlead();
        }
        if &*topic.name == crate::OFFSETS {
            self.coordinate(env, tp, image, &partition);
        }
    }

    /// The partition lives elsewhere now.
    fn give_up(&mut self, env: &mut Env, history: &mut History, topic: &TopicImage, tp: Tp) {
        let Some(partition) = self.partitions.remove(&tp) else { return };
        if &*topic.name == crate::OFFSETS {
            self.resign(env, tp.1);
        }
        self.syncing.remove(&tp);
        drop(partition.retire());
        history.gone(self.address(), tp);
        let name = ottla_storage::names::TopicPartition::new(&topic.name, tp.1);
        let directory = &self.owner.directory;
        if let Ok(renamed) = directory.rename_for_deletion(&[name]) {
            for path in renamed {
                // What cannot be removed now is removed some other time.
                drop(directory.remove_deleted(&path));
            }
        }
        env.trace.count("partitions moved away");
        env.trace.tell(|| format!("broker {} gives {tp:?} up", self.id));
    }

    /// Proposals of partitions that this broker leads go out together.
    pub(super) fn propose(&mut self, env: &mut Env, proposals: Vec<(Tp, ottla_cluster::replica::Proposal)>) {
        let mut topics: Vec<RequestTopicData> = Vec::new();
        for (tp, proposal) in &proposals {
            let members = proposal.isr.iter().map(|(id, epoch)| BrokerState {
                broker_id: id.0,
                broker_epoch: *epoch,
                ..BrokerState::default()
            });
            let asked = RequestPartitionData {
                partition_index: tp.1,
                leader_epoch: proposal.leader_epoch.0,
                partition_epoch: proposal.partition_epoch,
                new_isr_with_epochs: members.collect(),
                ..RequestPartitionData::default()
            };
            topics.push(RequestTopicData {
                topic_id: tp.0,
                partitions: vec![asked],
                ..RequestTopicData::default()
            });
        }
        let request = AlterPartitionRequest {
            broker_id: self.id.0,
            broker_epoch: self.epoch,
            topics,
            ..AlterPartitionRequest::default()
        };
        let correlation =
            self.ask_controller(env, ControlRequest::Alter(request), Control::Proposals(proposals));
        self.wait(env, PROPOSAL_TIMEOUT_US, Timer::Proposed(correlation));
    }

    /// No answer came.
    pub(super) fn proposed_unknown(&mut self, env: &mut Env, correlation: Correlation) {
        if !matches!(self.controls.get(&correlation), Some(Control::Proposals(_))) {
            return;
        }
        if let Some(Control::Proposals(proposals)) = self.controls.remove(&correlation) {
            self.other_controller(env, self.controller);
            for (tp, proposal) in proposals {
                self.answer_proposal(env, tp, &proposal, Err(ProposalError::Unknown));
            }
        }
    }

    fn proposals_answered(
        &mut self,
        env: &mut Env,
        proposals: Vec<(Tp, ottla_cluster::replica::Proposal)>,
        response: &AlterPartitionResponse,
    ) {
        for (i, (tp, proposal)) in proposals.into_iter().enumerate() {
            let answer = if response.error_code == 0 {
                answer_of(&response.topics[i].partitions[0])
            } else {
                Err(ProposalError::Stale)
            };
            env.trace.count(if answer.is_ok() { "isr changes" } else { "isr refusals" });
            self.answer_proposal(env, tp, &proposal, answer);
        }
    }

    /// Leaders as this broker knows them, for clients.
    pub(super) fn leaders(&mut self) -> Arc<Vec<(Tp, Address, LeaderEpoch)>> {
        let image: &MetadataImage = &self.image;
        let known = self.leaders.get_or_insert_with(|| {
            let all = image.topics().flat_map(|topic| topic.partitions().map(|(n, p)| ((topic.id, n), p)));
            let led = all.filter_map(|(tp, p)| Some((tp, u32::try_from(p.leader.0).ok()?, p.leader_epoch)));
            Arc::new(led.collect())
        });
        known.clone()
    }

    /// Epoch of a broker that serves.
    pub(super) fn serving(image: &MetadataImage, id: BrokerId) -> Option<i64> {
        let broker = image.broker(id).filter(|b| !b.fenced && !b.in_controlled_shutdown);
        broker.map(|broker| broker.epoch)
    }
}

fn answer_of(
    partition: &ottla_protocol::generated::alter_partition::ResponsePartitionData,
) -> Result<ProposalAnswer, ProposalError> {
    match ErrorCode::from_code(partition.error_code) {
        Some(ErrorCode::None) => Ok(ProposalAnswer {
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.iter().copied().map(BrokerId).collect(),
        }),
        Some(ErrorCode::IneligibleReplica) => Err(ProposalError::Refused),
        Some(ErrorCode::NotController) => Err(ProposalError::Unknown),
        _ => Err(ProposalError::Stale),
    }
}
