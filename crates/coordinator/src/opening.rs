//! What a node that starts finds in its directory, and what it writes there when it comes to belong to a cluster.
//!
//! A node must never forget what it has promised. So a mark outside the metadata log's directory says that it has been a member: one
//! that finds the mark alone has lost its memory, and comes back as somebody else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ottla_cluster::features::{OTTLA_FEATURE, OTTLA_FEATURE_LEVEL};
use ottla_cluster::image::MetadataRecord;
use ottla_protocol::generated::records::FeatureLevelRecord;
use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_protocol::wire::Str;
use ottla_storage::meta::MetaProperties;

use crate::coordinator::{CoordinatorOptions, LOG_DIRECTORY, QuorumOptions};
use crate::entry::{EntryError, EntryKind, LogEntry};
use crate::error::OpenError;
use crate::feed::Published;
use crate::hard_state::{FILE_NAME, FIRST_TERM, Founder, HardState};
use crate::mark::Mark;
use crate::metadata_log::MetadataLog;
use crate::raft::disk::Disk;
use crate::raft::machine::{Machine, Shared};
use crate::raft::quorum::Opened;
use crate::raft::seat::Seat;
use crate::raft::snapshot::{self, Snapshot};
use crate::raft::{Membership, VoterEndpoint, VoterId, VoterNode, membership, recovery};
use crate::reserve::Reserve;

pub(crate) type Entropy = Box<dyn FnMut() -> u64 + Send>;

/// A directory on its way to an open log.
pub(crate) struct Opening {
    pub(crate) options: CoordinatorOptions,
    /// Who this node is.
    pub(crate) me: VoterId,
    /// The metadata log's directory.
    dir: PathBuf,
}

/// What the directory says of the node.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It belongs to a cluster, and knows what it has promised.
    Member(HardState),
    /// It never belonged to any.
    Empty,
    /// It belonged to this one, and its log is gone.
    Wiped {
        /// The cluster.
        cluster_id: String,
    },
}

/// What a node that is no member becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of the first voters, which writes down who they are. It leads the first term.
    Founder {
        /// The new cluster.
        cluster_id: String,
        /// The first voters.
        voters: BTreeMap<VoterId, VoterNode>,
    },
    /// One that is told everything by the leader.
    Joiner {
        /// The cluster.
        cluster_id: String,
    },
}

impl Opening {
    /// Looks at the options and the directory. Writes nothing.
    ///
    /// # Errors
    /// When the options cannot make a quorum, or the directory is not what it should be.
    pub(crate) fn begin(mut options: CoordinatorOptions) -> Result<(Self, Standing), OpenError> {
        check_voters(&options)?;
        let dir = options.dir.join(LOG_DIRECTORY);
        let found = HardState::read(&options.files, &dir)?;
        let mark = Mark::read(&options.files, &options.dir)?;
        let mut me = VoterId { id: options.node_id, directory_id: options.directory_id };
        let standing = match (found, mark) {
            (Some(state), mark) => {
                me.directory_id = known_directory(&state, mark.as_ref(), &options)?;
                Standing::Member(state)
            }
            (None, Some(mark)) => {
                mark.check(&options)?;
                if snapshot::exists(&options.files, &dir)? || has_entries(&options, &dir)? {
                    return Err(OpenError::StateMissing(dir.join(FILE_NAME)));
                }
                if options.quorum == QuorumOptions::Alone {
                    return Err(OpenError::Wiped { cluster_id: mark.cluster_id });
                }
                // Whoever remembers the promises of the old directory must not take this one for it.
                me.directory_id = draw_id(&mut options.entropy);
                tracing::warn!(
                    node = %me, was = mark.directory_id, cluster = mark.cluster_id,
                    "the metadata log of a former member is gone: this node comes back as a new one"
                );
                Standing::Wiped { cluster_id: mark.cluster_id }
            }
            (None, None) => Standing::Empty,
        };
        Ok((Self { options, me, dir }, standing))
    }

    /// Where others reach this node.
    pub(crate) fn node(&self) -> VoterNode {
        VoterNode { endpoints: self.options.advertised.clone() }
    }

    /// This node as others see it.
    pub(crate) fn seat(&self, standing: &Standing) -> Seat {
        let (cluster_id, is_member) = match standing {
            Standing::Member(state) => (Some(state.cluster_id.clone()), true),
            Standing::Empty => (None, false),
            Standing::Wiped { cluster_id } => (Some(cluster_id.clone()), false),
        };
        Seat::new(self.me, self.node(), cluster_id, is_member)
    }

    /// An id for a cluster that this node founds.
    pub(crate) fn new_cluster_id(&mut self) -> String {
        let known = self.options.cluster_id.clone();
        known.unwrap_or_else(|| draw_id(&mut self.options.entropy).to_string())
    }

    /// The state of a node in its new role, and the first things on its disk.
    ///
    /// # Errors
    /// When they cannot be written, or the directory belongs to another cluster.
    fn settle(&self, role: Role) -> Result<HardState, OpenError> {
        let options = &self.options;
        let (cluster_id, founders) = match role {
            Role::Founder { cluster_id, voters } => {
                (cluster_id, Some(voters.iter().map(|(id, node)| Founder::new(*id, node)).collect()))
            }
            Role::Joiner { cluster_id } => (cluster_id, None),
        };
        if let Some(own) = options.cluster_id.as_ref().filter(|own| **own != cluster_id) {
            let name = |cluster: &str| format!("a node of cluster {cluster}");
            return Err(OpenError::OtherNode { found: name(own), own: name(&cluster_id) });
        }
        options.files.create_dir_all(&self.dir)?;
        options.files.sync_dir(&options.dir)?;
        if MetaProperties::read(options.files.as_ref(), &options.dir)?.is_none() {
            let meta = MetaProperties {
                cluster_id: cluster_id.clone(),
                node_id: BrokerId(options.node_id),
                directory_id: options.directory_id,
            };
            meta.write(options.files.as_ref(), &options.dir)?;
        }
        let is_founder = founders.is_some();
        let nobody = Uuid([0; 16]);
        let voted = if is_founder { self.me } else { VoterId { id: -1, directory_id: nobody } };
        Ok(HardState {
            cluster_id,
            node_id: self.me.id,
            directory_id: self.me.directory_id.to_string(),
            term: if is_founder { FIRST_TERM } else { 0 },
            voted_id: voted.id,
            voted_directory_id: voted.directory_id.to_string(),
            committed: -1,
            vote_granted: Some(is_founder),
            purged: None,
            founders,
        })
    }

    /// Opens the log of a node that never belonged to a cluster, in its new role.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub(crate) fn become_member(
        self,
        role: Role,
        published: Arc<Published>,
    ) -> Result<(Opened, Entropy), OpenError> {
        let is_founder = matches!(role, Role::Founder { .. });
        let hard_state = self.settle(role)?;
        // One that was a member before is not to be taken for a member without a mark, between the two files.
        if Mark::read(&self.options.files, &self.options.dir)?.is_some() {
            self.mark(&hard_state)?;
        }
        let log = self.open_log(&hard_state)?;
        if log.end() > 0 || snapshot::exists(&self.options.files, &self.dir)? {
            return Err(OpenError::StateMissing(self.dir.join(FILE_NAME)));
        }
        if is_founder {
            // The first entries bring it to disk.
            hard_state.write_unsynced(&self.options.files, &self.dir)?;
        } else {
            hard_state.write(&self.options.files, &self.dir)?;
        }
        self.read(log, hard_state, published)
    }

    /// Opens the log of a member.
    ///
    /// # Errors
    /// When something cannot be read or written.
    pub(crate) fn remain_member(
        self,
        hard_state: HardState,
        published: Arc<Published>,
    ) -> Result<(Opened, Entropy), OpenError> {
        let log = self.open_log(&hard_state)?;
        self.read(log, hard_state, published)
    }

    fn open_log(&self, hard_state: &HardState) -> Result<MetadataLog, OpenError> {
        MetadataLog::open(&self.options.files, self.dir.clone(), hard_state, (self.options.clock)())
    }

    fn mark(&self, hard_state: &HardState) -> Result<(), OpenError> {
        let is_drawn = hard_state.directory_id != self.options.directory_id.to_string();
        let mark = Mark::of(hard_state, is_drawn);
        if Mark::read(&self.options.files, &self.options.dir)?.as_ref() != Some(&mark) {
            mark.write(&self.options.files, &self.options.dir)?;
        }
        Ok(())
    }

    /// Reads the log up to what is committed.
    fn read(
        self,
        mut log: MetadataLog,
        hard_state: HardState,
        published: Arc<Published>,
    ) -> Result<(Opened, Entropy), OpenError> {
        if hard_state.is_founder() {
            self.write_first_entries(&mut log, &hard_state)?;
        }
        // Before this node answers anybody.
        self.mark(&hard_state)?;
        let Self { options, me, dir } = self;
        let current = Snapshot::read(&options.files, &dir)
            .map_err(|(path, error)| OpenError::Snapshot { path, error })?;
        let (replayed, grown) = recovery::replay(&log, current.as_ref(), &hard_state, me)?;
        let view = Mutex::new(recovery::view(&log, &hard_state)?);
        published.publish(replayed.image.clone(), Vec::new());
        let shared = Arc::new(Shared::new(options.files.clone(), dir.clone(), current));
        let committed = replayed.last;
        let limits = options.snapshots;
        let machine = Machine { replayed, published, shared, grown, limits };
        let cluster_id = hard_state.cluster_id.clone();
        let disk = Disk {
            reserve: Reserve::new(options.files.clone(), &options.dir),
            files: options.files,
            dir,
            log,
            hard_state,
            clock: options.clock,
            view: Arc::new(view),
            staged: None,
        };
        Ok((Opened { me, cluster_id, disk, machine, committed }, options.entropy))
    }

    /// The first entries of a cluster: who votes, then the finalized features. A crash may have left none, or the first alone.
    fn write_first_entries(&self, log: &mut MetadataLog, state: &HardState) -> Result<(), OpenError> {
        let mut kinds = Vec::new();
        if log.end() == 0 {
            let broken = |error| OpenError::Membership { index: 0, error };
            let members = self.first_members(state)?;
            kinds.push(EntryKind::Membership(membership::encode(&members).map_err(broken)?));
        }
        if log.end() <= 1 {
            let name = Str::from_static(OTTLA_FEATURE);
            let level = FeatureLevelRecord {
                name,
                feature_level: OTTLA_FEATURE_LEVEL,
                ..FeatureLevelRecord::default()
            };
            let record = MetadataRecord::from(level)
                .encode()
                .map_err(|error| OpenError::Record { index: 1, error })?;
            kinds.push(EntryKind::Records(vec![record]));
        }
        if kinds.is_empty() {
            return Ok(());
        }
        let now_ms = (self.options.clock)();
        for (index, kind) in (log.end()..).zip(kinds) {
            let entry = LogEntry { index, term: state.term, node_id: self.me.id, kind };
            let broken = |error: EntryError| OpenError::Entry { index, error };
            let (header, payload) = entry.encode(now_ms).map_err(broken)?;
            log.append(&header, &payload, now_ms)?;
        }
        Ok(log.sync()?)
    }

    /// Who votes first; a founder from before there were others is alone.
    fn first_members(&self, state: &HardState) -> Result<Membership, OpenError> {
        let mut nodes = BTreeMap::new();
        for founder in state.founders.iter().flatten() {
            nodes.insert(founder.voter()?, founder.node());
        }
        if nodes.is_empty() {
            nodes.insert(self.me, self.node());
        }
        let voters = nodes.keys().copied().collect();
        Membership::new(vec![voters], nodes).map_err(|error| OpenError::Raft(error.to_string()))
    }
}

/// Whether the configured voters can make a quorum with this node in it.
fn check_voters(options: &CoordinatorOptions) -> Result<(), OpenError> {
    let QuorumOptions::Voters(voters) = &options.quorum else { return Ok(()) };
    let refused = |why: String| Err(OpenError::Quorum(why));
    let ids: std::collections::BTreeSet<_> = voters.iter().map(|voter| voter.id).collect();
    if ids.len() != voters.len() {
        return refused("controller.quorum.voters has an id twice".to_owned());
    }
    if voters.len() % 2 == 0 {
        return refused(format!(
            "controller.quorum.voters has {count} voters: an even number survives no more failures than {fewer} would, \
             and stands still when it falls in two halves; configure 1, 3 or 5",
            count = voters.len(),
            fewer = voters.len().saturating_sub(1),
        ));
    }
    if !ids.contains(&options.node_id) {
        return refused(format!("controller.quorum.voters does not name this node, {}", options.node_id));
    }
    Ok(())
}

/// The directory that a member goes by: that of `meta.properties`, or the one that was drawn when its log had been lost.
fn known_directory(
    state: &HardState,
    mark: Option<&Mark>,
    options: &CoordinatorOptions,
) -> Result<Uuid, OpenError> {
    let name =
        |cluster: &str, node: i32, directory: &str| format!("node {node} ({directory}) of cluster {cluster}");
    let cluster_id = options.cluster_id.as_deref().unwrap_or(&state.cluster_id);
    let directory = options.directory_id.to_string();
    let directory = match mark {
        Some(mark) if mark.directory_id == state.directory_id && mark.is_drawn => &mark.directory_id,
        _ => &directory,
    };
    let own = name(cluster_id, options.node_id, directory);
    let found = name(&state.cluster_id, state.node_id, &state.directory_id);
    match Uuid::parse(directory) {
        Some(id) if own == found => Ok(id),
        _ => Err(OpenError::OtherNode { found, own }),
    }
}

fn has_entries(options: &CoordinatorOptions, dir: &Path) -> Result<bool, OpenError> {
    if !options.files.exists(dir)? {
        return Ok(false);
    }
    let entries = options.files.list(dir)?;
    Ok(entries.iter().any(|entry| entry.name.ends_with(".log") && entry.size_bytes > 0))
}

fn draw_id(entropy: &mut Entropy) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&entropy().to_be_bytes());
    bytes[8..].copy_from_slice(&entropy().to_be_bytes());
    Uuid(bytes)
}

impl Founder {
    fn new(id: VoterId, node: &VoterNode) -> Self {
        let endpoint = node.endpoints.first();
        Self {
            node_id: id.id,
            directory_id: id.directory_id.to_string(),
            listener: endpoint.map(|endpoint| endpoint.name.clone()).unwrap_or_default(),
            host: endpoint.map(|endpoint| endpoint.host.clone()).unwrap_or_default(),
            port: endpoint.map_or(0, |endpoint| endpoint.port),
        }
    }

    fn voter(&self) -> Result<VoterId, OpenError> {
        let directory_id = Uuid::parse(&self.directory_id)
            .ok_or_else(|| OpenError::Raft(format!("a founder has the directory {}", self.directory_id)))?;
        Ok(VoterId { id: self.node_id, directory_id })
    }

    fn node(&self) -> VoterNode {
        let endpoint =
            VoterEndpoint { name: self.listener.clone(), host: self.host.clone(), port: self.port };
        VoterNode { endpoints: if self.host.is_empty() { Vec::new() } else { vec![endpoint] } }
    }
}
