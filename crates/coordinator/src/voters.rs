//! What administrators ask about the quorum: DescribeQuorum, AddRaftVoter, RemoveRaftVoter. Answered by the leader.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ottla_cluster::controller::METADATA_TOPIC;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::generated::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState, ResponsePartitionData,
    ResponseTopicData,
};
use ottla_protocol::generated::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::wire::Str;

use crate::error::RequestError;
use crate::limits::{VOTER_REMOVAL_MAX, VOTERS_MAX};
use crate::raft::seat::{Seat, Standing};
use crate::raft::steward::Wish;
use crate::raft::{VoterEndpoint, VoterId, VoterNode};

type Refused = (ErrorCode, String);

/// DescribeQuorum. `now_ms` is the present, in milliseconds since 1970.
///
/// # Errors
/// When this node does not lead.
pub(crate) fn describe(
    seat: &Seat,
    request: &DescribeQuorumRequest,
    now_ms: i64,
) -> Result<DescribeQuorumResponse, RequestError> {
    let standings = seat.standings().ok_or(RequestError::NotLeader)?;
    let (term, committed) = (standings.term, standings.committed);
    let mut topics = Vec::new();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            if topic.topic_name.as_str() != METADATA_TOPIC || index != 0 {
                return ResponsePartitionData {
                    partition_index: index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    ..ResponsePartitionData::default()
                };
            }
            let states = |votes: bool| {
                let of = standings.nodes.iter().filter(move |node| node.votes == votes);
                of.map(|node| replica_state(node, standings.end, now_ms)).collect()
            };
            ResponsePartitionData {
                partition_index: index,
                leader_id: seat.me.id,
                leader_epoch: term,
                high_watermark: committed + 1,
                current_voters: states(true),
                observers: states(false),
                ..ResponsePartitionData::default()
            }
        });
        let partitions = partitions.collect();
        topics.push(ResponseTopicData {
            topic_name: topic.topic_name.clone(),
            partitions,
            ..ResponseTopicData::default()
        });
    }
    let nodes = standings.nodes.iter().map(|node| Node {
        node_id: node.id.id,
        listeners: node.node.endpoints.iter().map(listener).collect(),
        ..Node::default()
    });
    Ok(DescribeQuorumResponse { topics, nodes: nodes.collect(), ..DescribeQuorumResponse::default() })
}

fn listener(endpoint: &VoterEndpoint) -> Listener {
    Listener {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        ..Listener::default()
    }
}

fn replica_state(node: &Standing, end: i64, now_ms: i64) -> ReplicaState {
    let heard_ms = node.silence.map(|ago| now_ms - i64::try_from(ago.as_millis()).unwrap_or(now_ms));
    let heard_ms = heard_ms.unwrap_or(-1);
    ReplicaState {
        replica_id: node.id.id,
        replica_directory_id: node.id.directory_id,
        log_end_offset: node.end,
        last_fetch_timestamp: heard_ms,
        last_caught_up_timestamp: if node.end >= end { heard_ms } else { -1 },
        ..ReplicaState::default()
    }
}

/// AddRaftVoter: waits until the node votes. Where that would make an even number, it waits for another request that makes it odd.
///
/// # Errors
/// When this node does not lead.
pub(crate) async fn add(
    seat: &Seat,
    request: &AddRaftVoterRequest,
) -> Result<AddRaftVoterResponse, RequestError> {
    let id = VoterId { id: request.voter_id, directory_id: request.voter_directory_id };
    let endpoints = request.listeners.iter().map(|listener| VoterEndpoint {
        name: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
    });
    let node = VoterNode { endpoints: endpoints.collect() };
    let wait_max = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let checked = check_cluster(seat, request.cluster_id.as_ref())
        .and_then(|()| check_addition(&voters(seat)?, id, &node));
    let result = match checked {
        Ok(()) => until(seat, id, Wish::Add(node), wait_max, |voters| voters.contains(&id)).await,
        Err(refused) => Err(refused),
    };
    let Some((code, why)) = refusal(result)? else { return Ok(AddRaftVoterResponse::default()) };
    let error_message = Some(why.as_str().into());
    Ok(AddRaftVoterResponse { error_code: code.code(), error_message, ..AddRaftVoterResponse::default() })
}

/// RemoveRaftVoter: waits until the node votes no more. Where that would make an even number, it waits for another request that makes it
/// odd.
///
/// # Errors
/// When this node does not lead.
pub(crate) async fn remove(
    seat: &Seat,
    request: &RemoveRaftVoterRequest,
) -> Result<RemoveRaftVoterResponse, RequestError> {
    let id = VoterId { id: request.voter_id, directory_id: request.voter_directory_id };
    let checked =
        check_cluster(seat, request.cluster_id.as_ref()).and_then(|()| check_removal(&voters(seat)?, id));
    let result = match checked {
        Ok(()) => until(seat, id, Wish::Remove, VOTER_REMOVAL_MAX, |voters| !voters.contains(&id)).await,
        Err(refused) => Err(refused),
    };
    let Some((code, why)) = refusal(result)? else { return Ok(RemoveRaftVoterResponse::default()) };
    let error_message = Some(why.as_str().into());
    Ok(RemoveRaftVoterResponse {
        error_code: code.code(),
        error_message,
        ..RemoveRaftVoterResponse::default()
    })
}

/// The caller is told who leads by an error of its own.
fn refusal(result: Result<(), Refused>) -> Result<Option<Refused>, RequestError> {
    match result {
        Ok(()) => Ok(None),
        Err((ErrorCode::NotController, _)) => Err(RequestError::NotLeader),
        Err(refused) => Ok(Some(refused)),
    }
}

fn voters(seat: &Seat) -> Result<BTreeSet<VoterId>, Refused> {
    let view = seat.view();
    if view.leader != Some(seat.me) {
        return Err((ErrorCode::NotController, "this node does not lead the quorum".to_owned()));
    }
    Ok(view.members.voter_ids().collect())
}

fn check_cluster(seat: &Seat, cluster_id: Option<&Str>) -> Result<(), Refused> {
    let own = seat.cluster_id().borrow().clone();
    match cluster_id {
        Some(theirs) if own.as_deref() != Some(theirs.as_str()) => {
            let why = format!("this is cluster {}", own.unwrap_or_default());
            Err((ErrorCode::InconsistentClusterId, why))
        }
        _ => Ok(()),
    }
}

fn check_addition(voters: &BTreeSet<VoterId>, id: VoterId, node: &VoterNode) -> Result<(), Refused> {
    if voters.contains(&id) {
        return Err((ErrorCode::DuplicateVoter, format!("{id} is a voter already")));
    }
    if node.endpoints.is_empty() || id.directory_id.is_zero() {
        let why = "a voter needs a directory id and a listener".to_owned();
        return Err((ErrorCode::InvalidRequest, why));
    }
    let replaces = voters.iter().any(|voter| voter.id == id.id);
    if voters.len() >= VOTERS_MAX && !replaces {
        return Err((ErrorCode::InvalidRequest, format!("there are {VOTERS_MAX} voters, which is the most")));
    }
    Ok(())
}

fn check_removal(voters: &BTreeSet<VoterId>, id: VoterId) -> Result<(), Refused> {
    if !voters.contains(&id) {
        return Err((ErrorCode::VoterNotFound, format!("{id} is no voter")));
    }
    if voters.len() == 1 {
        return Err((ErrorCode::InvalidRequest, "the last voter cannot be removed".to_owned()));
    }
    Ok(())
}

/// Has something wished for until it is so.
async fn until(
    seat: &Seat,
    id: VoterId,
    wish: Wish,
    wait_max: Duration,
    is_so: impl Fn(&BTreeSet<VoterId>) -> bool,
) -> Result<(), Refused> {
    let began = Instant::now();
    seat.wishes.want(id, wish);
    seat.said.notify_one();
    // Also when the asker goes away.
    let _withdrawn = Withdrawn { seat, id };
    loop {
        let changed = seat.changed();
        let now = voters(seat)?;
        if is_so(&now) {
            return Ok(());
        }
        let left = wait_max.saturating_sub(began.elapsed());
        if left.is_zero() || tokio::time::timeout(left, changed).await.is_err() {
            let why = format!(
                "it did not come about within {wait_max:?}; {} voters vote, an even number is not made: ask for two changes at once, \
                 and see that the nodes run",
                now.len()
            );
            return Err((ErrorCode::RequestTimedOut, why));
        }
    }
}

struct Withdrawn<'a> {
    seat: &'a Seat,
    id: VoterId,
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        self.seat.wishes.withdraw(self.id);
    }
}
