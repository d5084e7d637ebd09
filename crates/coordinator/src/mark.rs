//! The mark that a data directory gets when its node becomes a member of a quorum. It lies outside the metadata log's directory, so that
//! it outlives the loss of that: who has the mark and no log has forgotten its promises, and must not found a cluster or vote as the one
//! it was.

use std::path::Path;
use std::sync::Arc;

use ottla_protocol::ids::Uuid;
use ottla_storage::checkpoint;
use ottla_storage::files::Files;
use serde::{Deserialize, Serialize};

use crate::coordinator::CoordinatorOptions;
use crate::error::OpenError;
use crate::hard_state::{HardState, read_file};

/// Name of the file, beside `meta.properties`.
const FILE_NAME: &str = ".ottla-quorum-member";
/// Version of its contents.
const VERSION: u32 = 0;

/// The contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mark {
    version: u32,
    /// The cluster whose member it became.
    pub(crate) cluster_id: String,
    /// The node.
    pub(crate) node_id: i32,
    /// The directory as the quorum knows it.
    pub(crate) directory_id: String,
    /// Whether that id was drawn because the log was lost: it is not that of `meta.properties` then.
    #[serde(default)]
    pub(crate) is_drawn: bool,
}

impl Mark {
    /// The mark of a member.
    pub(crate) fn of(state: &HardState, is_drawn: bool) -> Self {
        Self {
            version: VERSION,
            cluster_id: state.cluster_id.clone(),
            node_id: state.node_id,
            directory_id: state.directory_id.clone(),
            is_drawn,
        }
    }

    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// When it is damaged, or a newer program wrote it.
    pub(crate) fn read(files: &Arc<dyn Files>, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(FILE_NAME);
        let bytes = match read_file(files, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |why: String| OpenError::Mark { path: path.clone(), why };
        let mark: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if mark.version > VERSION || Uuid::parse(&mark.directory_id).is_none() {
            return Err(damaged(format!("version {}, directory {}", mark.version, mark.directory_id)));
        }
        Ok(Some(mark))
    }

    /// Replaces it, durably.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(&self, files: &Arc<dyn Files>, dir: &Path) -> Result<(), OpenError> {
        let mut bytes = serde_json::to_vec(self).expect("a struct of numbers and strings has a JSON form");
        bytes.push(b'\n');
        Ok(checkpoint::write_atomically(files.as_ref(), &dir.join(FILE_NAME), &bytes)?)
    }

    /// Whether it is this node's.
    ///
    /// # Errors
    /// When it is another's: a directory cannot be moved between nodes.
    pub(crate) fn check(&self, options: &CoordinatorOptions) -> Result<(), OpenError> {
        let own_cluster = options.cluster_id.as_ref().unwrap_or(&self.cluster_id);
        if self.node_id == options.node_id && self.cluster_id == *own_cluster {
            return Ok(());
        }
        let name = |node: i32, cluster: &str| format!("node {node} of cluster {cluster}");
        let found = name(self.node_id, &self.cluster_id);
        Err(OpenError::OtherNode { found, own: name(options.node_id, own_cluster) })
    }
}
