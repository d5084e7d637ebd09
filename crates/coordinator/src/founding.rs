//! How a node that belongs to no cluster comes to one: it says hello to the others until it is told of a running quorum, or until all who
//! are configured are there and none has ever been a member. Then the one with the lowest id founds the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ottla_process::config::Voter;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::quorum_hello::{HelloListener, QuorumHelloRequest, QuorumHelloResponse};
use ottla_protocol::wire::Str;

use crate::coordinator::QuorumOptions;
use crate::limits::{HELLO_INTERVAL, HELLO_LOG_INTERVAL, HELLO_MAX};
use crate::opening::Role;
use crate::raft::network::connect;
use crate::raft::seat::Seat;
use crate::raft::{VoterEndpoint, VoterId, VoterNode};

/// Looks for a quorum.
pub(crate) struct Seeker {
    pub(crate) seat: Arc<Seat>,
    pub(crate) quorum: QuorumOptions,
    /// The id of a cluster that this node would found.
    pub(crate) new_cluster_id: String,
    /// Whether it was a member once, so that it may found nothing.
    pub(crate) is_wiped: bool,
}

/// What one address answered.
pub(crate) type Answer = (String, Result<QuorumHelloResponse, String>);

/// What follows from the answers.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Become(Role),
    /// Why not yet.
    Wait(String),
}

impl Seeker {
    /// Goes on until this node has a role. Cancel-safe: nothing is remembered but what others said.
    pub(crate) async fn seek(&self) -> Role {
        let mut logged: Option<(Instant, String)> = None;
        loop {
            let answers = say_hello(&self.seat, &self.addresses(), false, false).await;
            let why = match self.judge(&answers) {
                Verdict::Become(role) => return role,
                Verdict::Wait(why) => why,
            };
            let is_news = logged.as_ref().is_none_or(|(at, before)| {
                *before != why && at.elapsed() > HELLO_INTERVAL || at.elapsed() > HELLO_LOG_INTERVAL
            });
            if is_news {
                tracing::info!(node = %self.seat.me, why, "waiting for the metadata quorum");
                logged = Some((Instant::now(), why));
            }
            tokio::time::sleep(HELLO_INTERVAL).await;
        }
    }

    fn addresses(&self) -> Vec<String> {
        addresses(&self.quorum, self.seat.me.id)
    }

    fn judge(&self, answers: &[Answer]) -> Verdict {
        let members: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        let running: BTreeSet<_> = members
            .iter()
            .filter(|answer| answer.is_member && refusal(answer).is_none())
            .filter_map(|answer| answer.cluster_id.as_ref().map(Str::as_str))
            .collect();
        let mut running = running.into_iter();
        match (running.next(), running.next()) {
            (Some(one), Some(other)) => {
                return Verdict::Wait(format!("nodes of two clusters answer, {one} and {other}"));
            }
            (Some(one), None) => return Verdict::Become(Role::Joiner { cluster_id: one.to_owned() }),
            (None, _) => {}
        }
        let silent = answers.iter().filter_map(|(address, answer)| {
            let why = match answer {
                Ok(answer) => refusal(answer)?,
                Err(why) => why.clone(),
            };
            Some(format!("{address}: {why}"))
        });
        let silent: Vec<_> = silent.collect();
        if !silent.is_empty() {
            return Verdict::Wait(silent.join("; "));
        }
        if self.is_wiped {
            return Verdict::Wait("this node lost its log, and nobody who has one is there".to_owned());
        }
        match &self.quorum {
            QuorumOptions::Alone => Verdict::Become(self.founder(BTreeMap::from([self.own()]))),
            QuorumOptions::Bootstrap { .. } => {
                let is_me = |answer: &&QuorumHelloResponse| identity(answer) == self.seat.me;
                match members.iter().all(is_me) {
                    true => Verdict::Become(self.founder(BTreeMap::from([self.own()]))),
                    false => Verdict::Wait("no node of a running quorum has been found".to_owned()),
                }
            }
            QuorumOptions::Voters(voters) => self.judge_voters(voters, answers),
        }
    }

    /// All configured voters answer, and none was ever a member.
    fn judge_voters(&self, voters: &[Voter], answers: &[Answer]) -> Verdict {
        let mut found = BTreeMap::from([self.own()]);
        let others = voters.iter().filter(|voter| voter.id != self.seat.me.id);
        for (voter, (address, answer)) in others.zip(answers) {
            let id = answer.as_ref().map(identity).expect("all have answered");
            if id.id != voter.id {
                return Verdict::Wait(format!("{address}: node {} is there, not {}", id.id, voter.id));
            }
            if answer.as_ref().is_ok_and(|answer| answer.cluster_id.is_some()) {
                return Verdict::Wait(format!(
                    "{address}: node {} was a member once, and lost its log",
                    id.id
                ));
            }
            found.insert(id, self.node(voter));
        }
        let lowest = found.keys().map(|id| id.id).min();
        match lowest {
            Some(lowest) if lowest != self.seat.me.id => {
                Verdict::Wait(format!("node {lowest} is about to found the cluster"))
            }
            _ => Verdict::Become(self.founder(found)),
        }
    }

    fn founder(&self, voters: BTreeMap<VoterId, VoterNode>) -> Role {
        Role::Founder { cluster_id: self.new_cluster_id.clone(), voters }
    }

    fn own(&self) -> (VoterId, VoterNode) {
        (self.seat.me, self.seat.node.clone())
    }

    fn node(&self, voter: &Voter) -> VoterNode {
        let own = self.seat.node.endpoints.first();
        let name = own.map(|endpoint| endpoint.name.clone()).unwrap_or_default();
        VoterNode { endpoints: vec![VoterEndpoint { name, host: voter.host.clone(), port: voter.port }] }
    }
}

fn identity(answer: &QuorumHelloResponse) -> VoterId {
    VoterId { id: answer.node_id, directory_id: answer.directory_id }
}

fn refusal(answer: &QuorumHelloResponse) -> Option<String> {
    let code = ErrorCode::from_code(answer.error_code);
    (code != Some(ErrorCode::None)).then(|| format!("it refuses: {code:?}"))
}

/// Where the configured others are reached, in the order of the configuration.
pub(crate) fn addresses(quorum: &QuorumOptions, own: i32) -> Vec<String> {
    match quorum {
        QuorumOptions::Alone => Vec::new(),
        QuorumOptions::Voters(voters) => {
            let others = voters.iter().filter(|voter| voter.id != own);
            others.map(Voter::to_string).collect()
        }
        QuorumOptions::Bootstrap { servers, .. } => servers.clone(),
    }
}

/// Says hello at all these addresses at once.
pub(crate) async fn say_hello(
    seat: &Seat,
    addresses: &[String],
    wants_to_listen: bool,
    wants_to_vote: bool,
) -> Vec<Answer> {
    let listeners = seat.node.endpoints.iter().map(|endpoint| HelloListener {
        name: endpoint.name.as_str().into(),
        host: endpoint.host.as_str().into(),
        port: endpoint.port,
        ..HelloListener::default()
    });
    let request = QuorumHelloRequest {
        cluster_id: seat.cluster_id().borrow().as_deref().map(Str::from),
        node_id: seat.me.id,
        directory_id: seat.me.directory_id,
        listeners: listeners.collect(),
        wants_to_listen,
        wants_to_vote,
        ..QuorumHelloRequest::default()
    };
    let asked = addresses.iter().map(|address| {
        let request = &request;
        async move {
            let answer = tokio::time::timeout(HELLO_MAX, ask(address.clone(), request)).await;
            (address.clone(), answer.unwrap_or_else(|_| Err(format!("no answer within {HELLO_MAX:?}"))))
        }
    });
    join_all(asked).await
}

async fn ask(address: String, request: &QuorumHelloRequest) -> Result<QuorumHelloResponse, String> {
    let client = connect(address).await?;
    client.call(request, 0).await.map_err(|error| error.to_string())
}

/// How long a whole round takes at most.
const _: () =
    assert!(HELLO_MAX.as_millis() + HELLO_INTERVAL.as_millis() < Duration::from_secs(4).as_millis());
