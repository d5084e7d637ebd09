//! The log directories at the start: locked before the cluster is known, opened when it is.

use std::sync::Arc;

use ottla_protocol::ids::{BrokerId, Uuid};
use ottla_storage::directory::{Claim, Found, Identity, LogDirectory};
use ottla_storage::files::Files;

use crate::BrokerConfig;
use crate::broker::random_id;

/// Directories that are locked for this process.
pub struct Claimed {
    claims: Vec<Claim>,
    /// The directory that holds the metadata, where it is none of `log.dirs`.
    metadata: Option<Claim>,
    /// The cluster that one of them says it belongs to.
    pub cluster_id: Option<String>,
}

/// Directories that are open.
pub struct Opened {
    /// In the order of `log.dirs`.
    pub directories: Vec<LogDirectory>,
    /// What was found in each.
    pub found: Vec<Found>,
    /// Held until the end, where the metadata has a directory of its own.
    pub metadata: Option<Claim>,
}

impl Claimed {
    /// Locks every log directory and, with the role controller, the metadata's.
    ///
    /// # Errors
    /// One is in use, or cannot be read.
    pub fn take(config: &BrokerConfig, files: &Arc<dyn Files>) -> anyhow::Result<Self> {
        let take = |path: &std::path::PathBuf| Claim::take(files.clone(), path.clone());
        let claims = config.log_dirs.iter().map(take).collect::<Result<Vec<_>, _>>()?;
        let own = config.roles.controller && !config.log_dirs.contains(&config.metadata_log_dir);
        let metadata = own.then(|| take(&config.metadata_log_dir)).transpose()?;
        let mut cluster_id = None;
        for claim in &claims {
            if let Some(meta) = claim.meta()? {
                cluster_id.get_or_insert(meta.cluster_id);
            }
        }
        Ok(Self { claims, metadata, cluster_id })
    }

    /// The id by which the quorum knows this node: that of its first directory, which has one from now on.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn voter_directory_id(&self) -> anyhow::Result<Uuid> {
        Ok(self.claims[0].directory_id(random_id())?)
    }

    /// Opens them as this node's of that cluster.
    ///
    /// # Errors
    /// One belongs to another node or cluster, or is damaged.
    pub fn open(self, node_id: i32, cluster_id: &str) -> anyhow::Result<Opened> {
        let identity = || Identity {
            cluster_id: cluster_id.to_owned(),
            node_id: BrokerId(node_id),
            new_directory_id: random_id(),
        };
        let mut opened = Opened { directories: Vec::new(), found: Vec::new(), metadata: self.metadata };
        for claim in self.claims {
            let (directory, found) = claim.open(&identity())?;
            for warning in &found.warnings {
                tracing::warn!("{warning}");
            }
            opened.directories.push(directory);
            opened.found.push(found);
        }
        Ok(opened)
    }
}
