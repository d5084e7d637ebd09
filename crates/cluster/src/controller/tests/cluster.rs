//! Several brokers that live, fail and come back: a script of what they do in, text out.

use ottla_protocol::generated::alter_partition::{
    AlterPartitionRequest, BrokerState, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::generated::broker_heartbeat::BrokerHeartbeatRequest;
use ottla_protocol::generated::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use ottla_protocol::generated::unregister_broker::UnregisterBrokerRequest;

use super::*;

/// A cluster with its controller's soft state, at some time.
pub(super) struct Cluster {
    pub(super) script: Script,
    pub(super) tenure: Tenure,
    pub(super) now_ms: i64,
}

impl Cluster {
    /// Brokers 1 to `count`, admitted and serving.
    pub(super) fn new(count: i32, fixed: &[(&str, &str)]) -> Self {
        let script = Script::new(fixed);
        let tenure = Tenure::new(script.image(), &script.settings, 0);
        let mut cluster = Self { script, tenure, now_ms: 0 };
        for id in 1..=count {
            cluster.admit(id, 1);
            cluster.beat(id);
        }
        cluster.script.text.clear();
        cluster
    }

    fn epoch(&self, id: i32) -> i64 {
        self.script.image().broker(BrokerId(id)).map_or(-1, |broker| broker.epoch)
    }

    /// A process starts: `incarnation` tells it from others with that id.
    pub(super) fn admit(&mut self, id: i32, incarnation: u8) {
        let request =
            BrokerRegistrationRequest { incarnation_id: Uuid([incarnation; 16]), ..registration(id, -1) };
        self.admit_as(&request);
    }

    pub(super) fn admit_as(&mut self, request: &BrokerRegistrationRequest) {
        let (tenure, now_ms) = (&mut self.tenure, self.now_ms);
        let response = self
            .script
            .decide(|controller, context| controller.admit_broker(request, tenure, now_ms, context));
        self.script.say(&format!("admit {}", request.broker_id), response.error_code, None);
    }

    pub(super) fn heartbeat(&self, id: i32) -> BrokerHeartbeatRequest {
        BrokerHeartbeatRequest {
            broker_id: id,
            broker_epoch: self.epoch(id),
            current_metadata_offset: self.script.image().index(),
            ..BrokerHeartbeatRequest::default()
        }
    }

    pub(super) fn beat(&mut self, id: i32) {
        self.beat_as(&self.heartbeat(id));
    }

    pub(super) fn beat_as(&mut self, request: &BrokerHeartbeatRequest) {
        let (tenure, now_ms) = (&mut self.tenure, self.now_ms);
        let response = self
            .script
            .decide(|controller, context| controller.broker_heartbeat(request, tenure, now_ms, context));
        let mut who = format!("beat {}", request.broker_id);
        for (said, word) in [
            (response.is_fenced, " fenced"),
            (!response.is_caught_up, " behind"),
            (response.should_shut_down, " may stop"),
        ] {
            who.push_str(if said { word } else { "" });
        }
        self.script.say(&who, response.error_code, None);
    }

    /// A broker fails without a word, and its connection tells.
    pub(super) fn kill(&mut self, id: i32) {
        self.tenure.handle_connected(BrokerId(id), self.epoch(id), 7);
        self.tenure.handle_disconnected(BrokerId(id), 7, self.now_ms);
        self.pass(RECONNECT_MS, &[]);
    }

    /// Time passes; the controller does what is due when it is due, having heard of `alive`.
    pub(super) fn pass(&mut self, ms: i64, alive: &[i32]) {
        let until = self.now_ms + ms;
        loop {
            self.now_ms = self.tenure.next_deadline_ms().clamp(self.now_ms, until);
            self.tick(alive);
            if self.now_ms == until {
                break;
            }
        }
    }

    fn tick(&mut self, alive: &[i32]) {
        let brokers: Vec<_> = self.script.image().brokers().map(|b| (b.id, b.epoch, b.fenced)).collect();
        for (id, epoch, fenced) in brokers {
            if alive.contains(&id.0) && !fenced {
                self.tenure.heard(id, epoch, self.script.image().index(), self.now_ms);
            }
        }
        let (tenure, now_ms) = (&mut self.tenure, self.now_ms);
        let events = self.script.decide(|controller, context| controller.tick(tenure, now_ms, context));
        for event in events {
            writeln!(self.script.text, "{event}").unwrap();
        }
    }

    fn altered(&self, leader: i32, topic: &str, isr: &[i32]) -> AlterPartitionRequest {
        let topic = self.script.image().topic_by_name(topic).unwrap();
        let partition = &topic.partitions[0];
        let member = |id: &i32| BrokerState {
            broker_id: *id,
            broker_epoch: self.epoch(*id),
            ..BrokerState::default()
        };
        let asked = RequestPartitionData {
            partition_index: 0,
            leader_epoch: partition.leader_epoch.0,
            partition_epoch: partition.partition_epoch,
            new_isr_with_epochs: isr.iter().map(member).collect(),
            ..RequestPartitionData::default()
        };
        let topics =
            vec![RequestTopicData { topic_id: topic.id, partitions: vec![asked], ..Default::default() }];
        AlterPartitionRequest {
            broker_id: leader,
            broker_epoch: self.epoch(leader),
            topics,
            ..AlterPartitionRequest::default()
        }
    }

    /// The leader of the topic's first partition asks for an ISR.
    pub(super) fn isr(&mut self, topic: &str, isr: &[i32]) {
        let leader = self.script.image().topic_by_name(topic).unwrap().partitions[0].leader.0;
        let request = self.altered(leader, topic, isr);
        self.isr_as(&request);
    }

    pub(super) fn isr_as(&mut self, request: &AlterPartitionRequest) {
        let response = self.script.decide(|controller, _| controller.alter_partition(request));
        let partition =
            response.topics.first().map_or(response.error_code, |topic| topic.partitions[0].error_code);
        self.script.say("isr", partition, None);
    }

    pub(super) fn reassign(&mut self, topic: &str, replicas: Option<&[i32]>) {
        self.reassign_as(topic, replicas, true);
    }

    pub(super) fn reassign_as(&mut self, topic: &str, replicas: Option<&[i32]>, allow_factor: bool) {
        let partition = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.map(<[i32]>::to_vec),
            ..ReassignablePartition::default()
        };
        let topics =
            vec![ReassignableTopic { name: topic.into(), partitions: vec![partition], ..Default::default() }];
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: allow_factor,
            topics,
            ..AlterPartitionReassignmentsRequest::default()
        };
        let response = self.script.decide(|controller, _| controller.alter_partition_reassignments(&request));
        let answer = &response.responses[0].partitions[0];
        self.script.say("reassign", answer.error_code, answer.error_message.as_ref());
    }

    pub(super) fn elect(&mut self, election_type: i8, topics: Option<&[(&str, i32)]>) {
        let named = topics.map(|topics| {
            let named = topics.iter().map(|(topic, partition)| TopicPartitions {
                topic: (*topic).into(),
                partitions: vec![*partition],
                ..TopicPartitions::default()
            });
            named.collect()
        });
        let request =
            ElectLeadersRequest { election_type, topic_partitions: named, ..ElectLeadersRequest::default() };
        let response = self.script.decide(|controller, _| controller.elect_leaders(&request));
        if response.error_code != 0 {
            self.script.say("elect", response.error_code, None);
        }
        for topic in response.replica_election_results {
            for result in topic.partition_result {
                let who = format!("elect {}-{}", topic.topic, result.partition_id);
                self.script.say(&who, result.error_code, result.error_message.as_ref());
            }
        }
    }

    pub(super) fn unregister(&mut self, id: i32) {
        let request = UnregisterBrokerRequest { broker_id: id, ..UnregisterBrokerRequest::default() };
        let tenure = &mut self.tenure;
        let response = self.script.decide(|controller, _| controller.unregister_broker(&request, tenure));
        self.script.say(&format!("unregister {id}"), response.error_code, response.error_message.as_ref());
    }

    /// All partitions, with what is not as usual.
    pub(super) fn show(&mut self) {
        let mut text = String::new();
        for topic in self.script.image().topics() {
            for (n, p) in topic.partitions() {
                write!(
                    text,
                    "{}-{n} led by {} in {}/{}",
                    topic.name, p.leader, p.leader_epoch, p.partition_epoch
                )
                .unwrap();
                for (what, ids) in
                    [("of", &p.replicas), ("isr", &p.isr), ("adding", &p.adding), ("removing", &p.removing)]
                {
                    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                    if !ids.is_empty() {
                        write!(text, " {what} {}", ids.join(",")).unwrap();
                    }
                }
                writeln!(text, "{}", if p.recovering { " recovering" } else { "" }).unwrap();
            }
        }
        self.script.text.push_str(&text);
    }

    #[track_caller]
    pub(super) fn check(&mut self, expected: &str) {
        self.script.check(expected);
    }

    /// Topic `a` with one partition on these brokers.
    pub(super) fn with_topic(count: i32, replicas: &[i32]) -> Self {
        let mut cluster = Self::new(count, &[]);
        cluster.script.create(vec![assigned("a", &[(0, replicas)])], false);
        cluster.script.text.clear();
        cluster
    }
}

mod alter_partition;
mod broker_life;
mod elections;
mod placement;
mod random;
mod reassignments;
