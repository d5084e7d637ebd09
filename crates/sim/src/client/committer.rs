//! A client that commits ever higher offsets, without a membership, and reads them back: what was acknowledged is there.

use ottla_cluster::groups::{Reply, Request};
use ottla_protocol::generated::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::ids::LeaderEpoch;

use super::{Next, Work};
use crate::env::Env;
use crate::history::History;
use crate::message::{ClientAnswer, ClientRequest, Tp};

/// OffsetCommit's version.
const VERSION: i16 = 9;

pub(crate) struct Committer {
    tp: Tp,
    sent: i64,
    acknowledged: i64,
    served_us: u64,
}

impl Committer {
    pub(crate) fn new(tp: Tp) -> Self {
        Self { tp, sent: 0, acknowledged: -1, served_us: 0 }
    }
}

/// A commit of one offset.
pub(super) fn commit(
    group: &str,
    generation: i32,
    member: &ottla_protocol::wire::Str,
    partition: i32,
    offset: i64,
) -> Request {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: crate::TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.clone(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    Request::Commit { request, version: VERSION }
}

impl Work for Committer {
    fn tp(&self) -> Tp {
        self.tp
    }

    fn request(&mut self, env: &mut Env, _: LeaderEpoch) -> ClientRequest {
        if self.sent > 0 && env.random.one_in(3) {
            return ClientRequest::Offsets { partition: self.tp.1, group: "solo" };
        }
        self.sent += 1;
        let request = commit("solo", -1, &"".into(), 0, self.sent);
        ClientRequest::Group { partition: self.tp.1, request: Box::new(request) }
    }

    fn answer(&mut self, env: &mut Env, history: &mut History, answer: ClientAnswer) -> Next {
        match answer {
            ClientAnswer::Group(Ok(reply)) => {
                let Reply::Commit(response) = *reply else { return Next::look_again(env) };
                let is_stored =
                    response.topics.iter().all(|t| t.partitions.iter().all(|p| p.error_code == 0));
                if !is_stored {
                    return Next::look_again(env);
                }
                self.acknowledged = self.sent;
                self.served_us = env.now_us;
                Next::after(env.random.between(20_000, 200_000))
            }
            ClientAnswer::Offsets(Ok(offsets)) => {
                let found = offsets.iter().find(|(partition, _)| *partition == 0).map_or(-1, |(_, at)| *at);
                if found < self.acknowledged || found > self.sent {
                    let (acknowledged, sent) = (self.acknowledged, self.sent);
                    let what = format!(
                        "groups: committed is {found}, {acknowledged} was acknowledged of {sent} sent"
                    );
                    history.violate(env, what);
                }
                env.trace.count("offset fetches");
                Next::after(20_000)
            }
            _ => Next::look_again(env),
        }
    }

    fn served_us(&self) -> u64 {
        self.served_us
    }

    fn name(&self) -> String {
        "the committer".to_owned()
    }
}
