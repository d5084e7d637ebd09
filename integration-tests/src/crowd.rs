//! Many members of groups on few threads, each on a connection of its own, as far as a coordinator can tell them from real
//! ones: they join, the leader assigns, all heartbeat, and join again when told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::generated::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use ottla_protocol::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use ottla_protocol::generated::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use ottla_protocol::wire::Str;
use ottla_transport::client::{Client, ClientOptions};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait_until;
use crate::wire::Connection;

/// A consumer's subscription to nothing, and an assignment of nothing: what is in them is the members' own business.
const NOTHING: &[u8] = &[0; 10];
const PROTOCOL: &str = "range";
const REPLY_MAX: Duration = Duration::from_secs(120);
const STEP_MAX: Duration = Duration::from_secs(60);
const JOIN_VERSION: i16 = 9;

/// What the members of a crowd are like.
#[derive(Clone, Copy)]
pub struct Habits {
    /// `session.timeout.ms`.
    pub session_ms: i32,
    /// `max.poll.interval.ms`.
    pub rebalance_ms: i32,
    /// `heartbeat.interval.ms`.
    pub heartbeat: Duration,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { session_ms: 10_000, rebalance_ms: 60_000, heartbeat: Duration::from_secs(3) }
    }
}

/// Members of one or more groups. Dropping it kills them all at once: connections end, nobody leaves.
pub struct Crowd {
    address: SocketAddr,
    members: Vec<JoinHandle<()>>,
    groups: Vec<(String, Vec<Arc<Mutex<i32>>>)>,
    leaving: watch::Sender<bool>,
    runtime: Runtime,
}

impl Crowd {
    /// Starts `size` members of each of the groups, all at once.
    pub fn start(address: SocketAddr, groups: &[String], size: usize, habits: Habits) -> Crowd {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (leaving, _) = watch::channel(false);
        let mut crowd = Crowd { address, members: Vec::new(), groups: Vec::new(), leaving, runtime };
        for name in groups {
            let generations: Vec<_> = (0..size).map(|_| Arc::new(Mutex::new(-1))).collect();
            for generation in &generations {
                let member = Member {
                    address,
                    group: name.as_str().into(),
                    id: Str::default(),
                    habits,
                    generation: Arc::clone(generation),
                };
                crowd.members.push(crowd.runtime.spawn(member.live(crowd.leaving.subscribe())));
            }
            crowd.groups.push((name.clone(), generations));
        }
        crowd
    }

    /// Waits until every group is stable with exactly these members, all of one generation; gives the generations.
    pub fn settle(&self, limit: Duration) -> Vec<i32> {
        let mut connection = Connection::open(self.address);
        let one = |(name, members): &(String, Vec<Arc<Mutex<i32>>>)| {
            wait_until(limit, &format!("{} members of {name} to settle", members.len()), || {
                assert!(!self.members.iter().any(JoinHandle::is_finished), "a member has failed");
                let mut known =
                    members.iter().map(|generation| *generation.lock().expect("no panic while held"));
                let first = known.next().expect("a member");
                if first < 0 || known.any(|generation| generation != first) {
                    return None;
                }
                let described = connection.describe_group(name);
                let stable = &*described.group_state == "Stable" && described.members.len() == members.len();
                stable.then_some(first)
            })
        };
        self.groups.iter().map(one).collect()
    }

    /// All leave in order.
    pub fn leave(mut self) {
        self.leaving.send_replace(true);
        let members = std::mem::take(&mut self.members);
        self.runtime.block_on(async {
            for member in members {
                tokio::time::timeout(STEP_MAX, member).await.expect("it leaves in time").expect("it leaves");
            }
        });
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.members.iter().for_each(JoinHandle::abort);
    }
}

struct Member {
    address: SocketAddr,
    group: Str,
    /// Empty until the coordinator has given one.
    id: Str,
    habits: Habits,
    /// For the crowd to see; -1 while it is not in one.
    generation: Arc<Mutex<i32>>,
}

impl Member {
    async fn live(mut self, mut leaving: watch::Receiver<bool>) {
        let options = ClientOptions { request_max: REPLY_MAX, connect_max: STEP_MAX, ..Default::default() };
        let client = Client::connect_with(self.address, options).await.expect("the broker listens");
        while !*leaving.borrow() {
            let Some(generation) = self.join(&client).await else { continue };
            *self.generation.lock().expect("no panic while held") = generation;
            self.heartbeat(&client, generation, &mut leaving).await;
            *self.generation.lock().expect("no panic while held") = -1;
        }
        let member = MemberIdentity { member_id: self.id, ..Default::default() };
        let request = LeaveGroupRequest { group_id: self.group, members: vec![member], ..Default::default() };
        let reply: LeaveGroupResponse = client.call(&request, 5).await.expect("a reply");
        assert_eq!(reply.error_code, 0);
    }

    /// One round of JoinGroup and SyncGroup; the generation, or nothing if another round is needed.
    async fn join(&mut self, client: &Client) -> Option<i32> {
        let protocol = JoinGroupRequestProtocol {
            name: PROTOCOL.into(),
            metadata: Bytes::from_static(NOTHING),
            ..Default::default()
        };
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: self.habits.session_ms,
            rebalance_timeout_ms: self.habits.rebalance_ms,
            member_id: self.id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        let joined: JoinGroupResponse = client.call(&request, JOIN_VERSION).await.expect("a reply");
        self.judge(joined.error_code)?;
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            self.id = joined.member_id;
            return None;
        }
        self.id = joined.member_id.clone();
        let assign = |id: &Str| SyncGroupRequestAssignment {
            member_id: id.clone(),
            assignment: Bytes::from_static(NOTHING),
            ..Default::default()
        };
        // The leader alone is told who is there.
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: self.id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(PROTOCOL.into()),
            assignments: joined.members.iter().map(|member| assign(&member.member_id)).collect(),
            ..Default::default()
        };
        let synced: SyncGroupResponse = client.call(&request, 5).await.expect("a reply");
        self.judge(synced.error_code)?;
        (synced.error_code == 0).then_some(joined.generation_id)
    }

    /// Heartbeats until there is another round, or it is to leave.
    async fn heartbeat(&mut self, client: &Client, generation: i32, leaving: &mut watch::Receiver<bool>) {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        // Both branches are cancel-safe: neither has begun a request.
        while tokio::time::timeout(self.habits.heartbeat, leaving.wait_for(|leave| *leave)).await.is_err() {
            let reply: HeartbeatResponse = client.call(&request, 4).await.expect("a reply");
            if reply.error_code != 0 {
                self.judge(reply.error_code);
                return;
            }
        }
    }

    /// What an error means to a consumer: begin anew, or ask again; nothing else may come.
    fn judge(&mut self, code: i16) -> Option<()> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None | ErrorCode::MemberIdRequired) => Some(()),
            Some(ErrorCode::UnknownMemberId) => {
                self.id = Str::default();
                None
            }
            Some(
                ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable,
            ) => None,
            other => panic!("{}: {other:?} ({code})", self.group),
        }
    }
}
