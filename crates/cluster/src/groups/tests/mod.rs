//! Scripts for the group machine: lines that begin with `>` are events, the lines below each are what came out, and `check`
//! compares. A `#n` is the n-th request. Writes are committed at once unless the script says `hold`.

mod expiry;
mod explain;
mod joining;
mod leaving;
mod loading;
mod offsets;

mod random;
mod rebalancing;
mod shape;
mod shard;

mod show;
mod sizes;
mod static_members;
mod storing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::HeartbeatRequest;
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::generated::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::generated::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::wire::Str;

use super::*;
use shape::{assignment, partition_name, subscription};
use show::Show;

/// Wall clock when the monotonic one is 0.
const WALL_MS: i64 = 1_000_000;

/// Runs a script and compares what comes out with what it says.
#[track_caller]
fn check(text: &str) {
    let mut script = Script::default();
    let mut found = String::new();
    let mut expected = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        expected.push_str(line);
        expected.push('\n');
        if let Some(event) = line.strip_prefix("> ") {
            found.push_str(line);
            found.push('\n');
            for out in script.run(event) {
                found.push_str(&out);
                found.push('\n');
            }
        }
    }
    assert_eq!(found, expected, "\nfound:\n{found}\nexpected:\n{expected}");
}

/// The words of an event: a verb, a group, and `key=value`.
struct Words<'a> {
    group: &'a str,
    all: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.all.get(key).copied()
    }

    fn str(&self, key: &str) -> Str {
        self.text(key).unwrap_or_default().into()
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.text(key).map_or(default, |text| text.parse().ok().expect("a number"))
    }

    fn list(&self, key: &str, separator: char) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text(key).into_iter().flat_map(move |text| text.split(separator)).filter(|part| !part.is_empty())
    }
}

struct Script {
    shard: GroupShard,
    config: GroupConfig,
    mono_ms: i64,
    tickets: u64,
    holds: bool,
    tells: bool,
    in_flight: VecDeque<(StoreId, Vec<GroupRecord>)>,
    log: Vec<GroupRecord>,
}

impl Default for Script {
    fn default() -> Self {
        let config = GroupConfig::default();
        Self {
            shard: GroupShard::new(config.clone()),
            config,
            mono_ms: 0,
            tickets: 0,
            holds: false,
            tells: false,
            in_flight: VecDeque::new(),
            log: Vec::new(),
        }
    }
}

impl Script {
    fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: WALL_MS + self.mono_ms }
    }

    fn run(&mut self, event: &str) -> Vec<String> {
        let mut words = event.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let mut arguments = Words { group: "", all: BTreeMap::new() };
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => drop(arguments.all.insert(key, value)),
                None => arguments.group = word,
            }
        }
        let mut out = Vec::new();
        match self.request(verb, &arguments) {
            Some(request) => {
                self.tickets += 1;
                let client = Client { id: arguments.str("client"), host: "/1.2.3.4".into() };
                let actions = self.shard.handle(self.now(), Ticket(self.tickets), &client, request);
                self.take(actions, &mut out);
            }
            None => self.other(verb, &arguments, &mut out),
        }
        out
    }

    fn other(&mut self, verb: &str, words: &Words<'_>, out: &mut Vec<String>) {
        let show = Show { shard: &self.shard };
        match verb {
            "set" => self.set(words),
            "hold" => self.holds = true,
            "tell" => self.tells = true,
            "at" => self.advance(words.group.parse().expect("milliseconds"), out),
            "stored" => self.finish(Ok(()), out),
            "fail" => self.finish(Err(error_named(words.group)), out),
            "restart" => self.restart(out),
            "resign" => {
                let actions = self.shard.resign();
                self.take(actions, out);
            }
            "expire" => {
                let actions = self.shard.expire_offsets(self.now());
                self.take(actions, out);
            }
            "delete-topics" => {
                let names: BTreeSet<Str> = words.group.split(',').map(Str::from).collect();
                let actions = self.shard.delete_topics(self.now(), &names);
                self.take(actions, out);
            }
            "fetch" => out.extend(show.fetched(&fetch(words), words.text("stable").is_some())),
            "describe" => out.extend(show.described(words.group, words.number("v", 6))),
            "list" => out.extend(show.listed()),
            "explain" => out.extend(show.explained(words.group)),
            other => panic!("no such event: {other}"),
        }
    }

    fn set(&mut self, words: &Words<'_>) {
        let config = &mut self.config;
        config.initial_rebalance_delay_ms = words.number("delay", config.initial_rebalance_delay_ms);
        config.size_max = words.number("size", config.size_max);
        config.offset_metadata_bytes_max = words.number("metadata", config.offset_metadata_bytes_max);
        config.offsets_retention_ms = words.number("retention", config.offsets_retention_ms);
        self.shard.set_config(config.clone());
    }

    fn request(&self, verb: &str, words: &Words<'_>) -> Option<Request> {
        let (group_id, member_id) = (Str::from(words.group), words.str("id"));
        let group_instance_id = words.text("instance").map(Str::from);
        let version = words.number("v", 9);
        let generation_id = words.number("gen", -1);
        Some(match verb {
            "join" => Request::Join { request: join(words), version, new_member_id: words.str("as") },
            "sync" => Request::Sync(SyncGroupRequest {
                group_id,
                member_id,
                group_instance_id,
                generation_id,
                protocol_type: words.text("type").map(Str::from),
                protocol_name: words.text("protocol").map(Str::from),
                assignments: words.list("give", ';').map(given).collect(),
                ..SyncGroupRequest::default()
            }),
            "heartbeat" => Request::Heartbeat(HeartbeatRequest {
                group_id,
                member_id,
                group_instance_id,
                generation_id,
                ..HeartbeatRequest::default()
            }),
            "leave" => Request::Leave { request: leave(words), version },
            "commit" => Request::Commit { request: commit(words), version },
            "delete-offsets" => Request::DeleteOffsets(OffsetDeleteRequest {
                group_id,
                topics: words.list("of", ',').map(deleted).collect(),
            }),
            "delete" => Request::DeleteGroup(group_id),
            _ => return None,
        })
    }

    /// Lets time pass, from one deadline to the next.
    fn advance(&mut self, until_ms: i64, out: &mut Vec<String>) {
        while let Some(at_ms) = self.shard.next_deadline_ms().filter(|at_ms| *at_ms <= until_ms) {
            self.mono_ms = at_ms.max(self.mono_ms);
            let actions = self.shard.tick(self.now());
            self.take(actions, out);
        }
        self.mono_ms = until_ms;
    }

    fn take(&mut self, actions: Vec<Action>, out: &mut Vec<String>) {
        for action in actions {
            match action {
                Action::Reply { ticket, reply } => out.push(format!("#{} {}", ticket.0, show::reply(&reply))),
                Action::Tell(event) if self.tells => out.push(format!("tell {event}")),
                Action::Tell(_) => {}
                Action::Store { id, records } => {
                    out.extend(records.iter().map(show::record));
                    self.in_flight.push_back((id, records));
                }
            }
        }
        if !self.holds && !self.in_flight.is_empty() {
            self.finish(Ok(()), out);
        }
    }

    fn finish(&mut self, outcome: Result<(), StoreError>, out: &mut Vec<String>) {
        let (id, records) = self.in_flight.pop_front().expect("something is being written");
        if outcome.is_ok() {
            self.log.extend(records);
        }
        let actions = self.shard.handle_stored(self.now(), id, outcome);
        self.take(actions, out);
    }

    /// What was not written is lost, and who waits with it.
    fn restart(&mut self, out: &mut Vec<String>) {
        self.in_flight.clear();
        self.shard = GroupShard::new(self.config.clone());
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_deref(), None).expect("our own record");
        }
        let actions = self.shard.loaded(self.now());
        self.take(actions, out);
    }
}

fn error_named(name: &str) -> StoreError {
    match name {
        "not-coordinator" => StoreError::NotCoordinator,
        "not-available" => StoreError::NotAvailable,
        "too-large" => StoreError::TooLarge,
        other => panic!("no such error: {other}"),
    }
}

fn join(words: &Words<'_>) -> JoinGroupRequest {
    let protocol_type = words.text("type").unwrap_or("consumer");
    let protocols = words.text("protocols").unwrap_or("range:t").split('|').filter(|part| !part.is_empty());
    JoinGroupRequest {
        group_id: words.group.into(),
        member_id: words.str("id"),
        group_instance_id: words.text("instance").map(Str::from),
        session_timeout_ms: words.number("session", 10_000),
        rebalance_timeout_ms: words.number("rebalance", 60_000),
        protocol_type: protocol_type.into(),
        protocols: protocols
            .map(|part| {
                let (name, topics) = part.split_once(':').unwrap_or((part, ""));
                let is_consumer = protocol_type == "consumer";
                let metadata = if is_consumer {
                    subscription(topics)
                } else {
                    Bytes::copy_from_slice(topics.as_bytes())
                };
                JoinGroupRequestProtocol { name: name.into(), metadata, ..Default::default() }
            })
            .collect(),
        reason: words.text("reason").map(Str::from),
        ..JoinGroupRequest::default()
    }
}

fn given(part: &str) -> SyncGroupRequestAssignment {
    let (member_id, partitions) = part.split_once(':').expect("member:partitions");
    SyncGroupRequestAssignment {
        member_id: member_id.into(),
        assignment: assignment(partitions),
        ..SyncGroupRequestAssignment::default()
    }
}

/// `who=a,b/instance(reason)`: member ids, instance ids behind a slash.
fn leave(words: &Words<'_>) -> LeaveGroupRequest {
    let members = words.list("who", ',').map(|who| {
        let (who, reason) =
            who.split_once('(').map_or((who, None), |(w, r)| (w, Some(r.trim_end_matches(')'))));
        let (id, instance) = who.split_once('/').map_or((who, None), |(id, instance)| (id, Some(instance)));
        MemberIdentity {
            member_id: id.into(),
            group_instance_id: instance.map(Str::from),
            reason: reason.map(Str::from),
            ..MemberIdentity::default()
        }
    });
    LeaveGroupRequest {
        group_id: words.group.into(),
        member_id: words.str("id"),
        members: members.collect(),
        ..LeaveGroupRequest::default()
    }
}

/// `of=t-0:5,t-1:6@3`: partition, offset, leader epoch.
fn commit(words: &Words<'_>) -> OffsetCommitRequest {
    let topics = words.list("of", ',').map(|part| {
        let (name, offset) = part.split_once(':').expect("partition:offset");
        let (topic, partition_index) = partition_name(name);
        let (offset, epoch) = offset.split_once('@').unwrap_or((offset, "-1"));
        OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset.parse().expect("an offset"),
                committed_leader_epoch: epoch.parse().expect("an epoch"),
                committed_metadata: words.text("metadata").map(Str::from),
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }
    });
    OffsetCommitRequest {
        group_id: words.group.into(),
        member_id: words.str("id"),
        group_instance_id: words.text("instance").map(Str::from),
        generation_id_or_member_epoch: words.number("gen", -1),
        retention_time_ms: words.number("retention", -1),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

fn deleted(name: &str) -> OffsetDeleteRequestTopic {
    let (topic, partition_index) = partition_name(name);
    OffsetDeleteRequestTopic {
        name: topic.into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index }],
    }
}

fn fetch(words: &Words<'_>) -> OffsetFetchRequestGroup {
    let topics = words.text("of").map(|_| {
        let asked = words.list("of", ',').map(|name| {
            let (topic, partition) = partition_name(name);
            OffsetFetchRequestTopics {
                name: topic.into(),
                partition_indexes: vec![partition],
                ..OffsetFetchRequestTopics::default()
            }
        });
        asked.collect()
    });
    OffsetFetchRequestGroup { group_id: words.group.into(), topics, ..OffsetFetchRequestGroup::default() }
}
