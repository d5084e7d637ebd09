//! A member of a group: joins, gets its partition, heartbeats and commits, and now and then falls silent.

use ottla_cluster::groups::{Reply, Request};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::HeartbeatRequest;
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::wire::Str;

use super::{Next, Work};
use crate::env::Env;
use crate::history::History;
use crate::message::{ClientAnswer, ClientRequest, Tp};

const GROUP: &str = "team";
/// JoinGroup's version.
const VERSION: i16 = 9;
const SESSION_MS: i32 = 3000;
/// How long a member that falls silent does so.
const SILENCE_US: u64 = 5_000_000;

pub(crate) struct Member {
    tp: Tp,
    number: u64,
    joins: u64,
    member_id: Str,
    stage: Stage,
    committed: i64,
    served_us: u64,
}

enum Stage {
    Join,
    Sync { generation: i32, assignments: Vec<SyncGroupRequestAssignment> },
    Stable { generation: i32, assigned: Option<i32> },
}

impl Member {
    pub(crate) fn new(tp: Tp, number: u64) -> Self {
        let stage = Stage::Join;
        Self { tp, number, joins: 0, member_id: Str::default(), stage, committed: 0, served_us: 0 }
    }

    fn join(&mut self) -> Request {
        self.joins += 1;
        let protocol =
            JoinGroupRequestProtocol { name: "range".into(), ..JoinGroupRequestProtocol::default() };
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: self.member_id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        let new_member_id = format!("m{}-{}", self.number, self.joins).into();
        Request::Join { request, version: VERSION, new_member_id }
    }

    fn failed(&mut self, env: &mut Env, error: i16) -> Next {
        match ErrorCode::from_code(error) {
            Some(ErrorCode::RebalanceInProgress) => {
                self.stage = Stage::Join;
                Next::after(1000)
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedInstanceId) => {
                self.member_id = Str::default();
                self.stage = Stage::Join;
                Next::after(10_000)
            }
            _ => Next::look_again(env),
        }
    }

    fn joined(&mut self, env: &mut Env, response: JoinGroupResponse) -> Next {
        if response.error_code == ErrorCode::MemberIdRequired.code() {
            self.member_id = response.member_id;
            return Next::after(0);
        }
        if response.error_code != 0 {
            return self.failed(env, response.error_code);
        }
        self.member_id = response.member_id;
        let assignments =
            response.members.iter().zip(0u8..).map(|(member, partition)| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: vec![partition].into(),
                ..SyncGroupRequestAssignment::default()
            });
        self.stage = Stage::Sync { generation: response.generation_id, assignments: assignments.collect() };
        Next::after(0)
    }

    fn group_answer(&mut self, env: &mut Env, history: &mut History, reply: Reply) -> Next {
        let error = match (reply, &self.stage) {
            (Reply::Join(response), Stage::Join) => return self.joined(env, response),
            (Reply::Sync(response), Stage::Sync { generation, .. }) if response.error_code == 0 => {
                let generation = *generation;
                let assigned = response.assignment.first().map(|partition| i32::from(*partition));
                history.assigned(env, generation, assigned, &self.member_id);
                self.stage = Stage::Stable { generation, assigned };
                0
            }
            (Reply::Sync(response), _) => response.error_code,
            (Reply::Heartbeat(response), _) => response.error_code,
            (Reply::Commit(response), _) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.map(|partition| partition.error_code).find(|code| *code != 0).unwrap_or(0)
            }
            _ => return Next::look_again(env),
        };
        if error != 0 {
            return self.failed(env, error);
        }
        self.served_us = env.now_us;
        if !env.is_healed && env.random.one_in(60) {
            env.trace.count("silent members");
            return Next::after(SILENCE_US);
        }
        Next::after(env.random.between(100_000, 400_000))
    }
}

impl Work for Member {
    fn tp(&self) -> Tp {
        self.tp
    }

    fn request(&mut self, env: &mut Env, _: LeaderEpoch) -> ClientRequest {
        let (group_id, member_id): (Str, _) = (GROUP.into(), self.member_id.clone());
        let request = match &self.stage {
            Stage::Join => self.join(),
            Stage::Sync { generation, assignments } => Request::Sync(SyncGroupRequest {
                group_id,
                generation_id: *generation,
                member_id,
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                assignments: assignments.clone(),
                ..SyncGroupRequest::default()
            }),
            Stage::Stable { generation, assigned: Some(partition) } if env.random.one_in(2) => {
                self.committed += 1;
                super::committer::commit(GROUP, *generation, &member_id, *partition, self.committed)
            }
            Stage::Stable { generation, .. } => Request::Heartbeat(HeartbeatRequest {
                group_id,
                generation_id: *generation,
                member_id,
                ..HeartbeatRequest::default()
            }),
        };
        ClientRequest::Group { partition: self.tp.1, request: Box::new(request) }
    }

    fn answer(&mut self, env: &mut Env, history: &mut History, answer: ClientAnswer) -> Next {
        match answer {
            ClientAnswer::Group(Ok(reply)) => self.group_answer(env, history, *reply),
            _ => Next::look_again(env),
        }
    }

    fn served_us(&self) -> u64 {
        self.served_us
    }

    fn name(&self) -> String {
        format!("member {}", self.number)
    }
}
