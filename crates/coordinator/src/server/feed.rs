//! The feed of committed metadata, for brokers and whoever else follows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ottla_cluster::image::{MetadataRecord, RecordError};
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::fetch_metadata::{
    FetchMetadataRequest, FetchMetadataResponse, MetadataEntry, MetadataNode,
};
use ottla_protocol::wire::Str;

use super::ServerState;
use crate::feed::FeedEntry;
use crate::leadership::Leadership;
use crate::limits::{FEED_BYTES_MAX, FEED_WAIT_MS_MAX};

/// The whole metadata that goes piece by piece over a connection: what it was when the first piece left. One for a connection.
#[derive(Debug, Default)]
pub(super) struct Wholes(Mutex<BTreeMap<u64, Arc<FeedEntry>>>);

impl Wholes {
    fn get(&self, connection: u64) -> Option<Arc<FeedEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&connection).cloned()
    }

    fn keep(&self, connection: u64, whole: Arc<FeedEntry>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(connection, whole);
    }

    /// A connection is over, or has got all.
    pub(super) fn forget(&self, connection: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
    }
}

/// Why there are no entries.
type Refused = (ErrorCode, String);

/// FetchMetadata.
pub(super) async fn fetch(
    state: Arc<ServerState>,
    connection: u64,
    request: FetchMetadataRequest,
) -> FetchMetadataResponse {
    let own = state.seat.cluster_id().borrow().clone();
    let fetched = match (request.cluster_id.as_deref(), own.as_deref()) {
        (_, None) => {
            let why = "this coordinator belongs to no cluster yet".to_owned();
            Err((ErrorCode::CoordinatorNotAvailable, why))
        }
        (Some(asked), Some(own)) if asked != own => {
            let why = format!("this is a coordinator of cluster {own}, not of {asked}");
            Err((ErrorCode::InconsistentClusterId, why))
        }
        (_, Some(_)) if request.from_index < 0 => Ok(Vec::new()),
        (_, Some(_)) => entries(&state, connection, &request).await,
    };
    let mut response = FetchMetadataResponse {
        cluster_id: Str::from(own.unwrap_or_default()),
        node_id: state.seat.me.id,
        committed_index: state.local.published.image().index(),
        ..FetchMetadataResponse::default()
    };
    match fetched {
        Ok(entries) => response.entries = entries,
        Err((code, why)) => {
            (response.error_code, response.error_message) = (code.code(), Some(Str::from(why)))
        }
    }
    let leadership = Leadership::of(&state.seat);
    response.leader_epoch = leadership.term;
    response.leader_id = leadership.leader.map_or(-1, |leader| leader.id);
    let nodes = leadership.nodes.into_iter().map(|node| MetadataNode {
        node_id: node.id,
        host: Str::from(node.host),
        port: node.port,
        ..MetadataNode::default()
    });
    response.nodes = nodes.collect();
    response
}

async fn entries(
    state: &ServerState,
    connection: u64,
    request: &FetchMetadataRequest,
) -> Result<Vec<MetadataEntry>, Refused> {
    let failed = |error: String| (ErrorCode::UnknownServerError, error);
    let bytes_max = usize::try_from(request.max_bytes.clamp(1, FEED_BYTES_MAX)).unwrap_or(1);
    let begun = state.wholes.get(connection).filter(|whole| whole.index == request.whole_index);
    if let Some(whole) = begun {
        let piece = piece(state, connection, &whole, request.whole_position, bytes_max);
        return piece.map(|piece| vec![piece]).map_err(|error| failed(error.to_string()));
    }
    let mut feed = state.local.feed(request.from_index);
    let wait_ms = u64::try_from(request.max_wait_ms.clamp(0, FEED_WAIT_MS_MAX)).unwrap_or(0);
    let Ok(read) = tokio::time::timeout(Duration::from_millis(wait_ms), feed.next()).await else {
        return Ok(Vec::new());
    };
    let read = read.map_err(|error| failed(error.to_string()))?;
    let (mut entries, mut left) = (Vec::new(), bytes_max);
    for entry in read {
        if left == 0 {
            break;
        }
        let encoded = if entry.is_whole {
            left = 0;
            piece(state, connection, &entry, 0, bytes_max)
        } else {
            encode(&entry).inspect(|encoded| left = left.saturating_sub(size(&encoded.records)))
        };
        entries.push(encoded.map_err(|error| failed(error.to_string()))?);
    }
    Ok(entries)
}

fn encode(entry: &FeedEntry) -> Result<MetadataEntry, RecordError> {
    let records: Result<Vec<_>, _> = entry.records.iter().map(MetadataRecord::encode).collect();
    Ok(MetadataEntry { index: entry.index, records: records?, ..MetadataEntry::default() })
}

fn size(records: &[Bytes]) -> usize {
    records.iter().map(Bytes::len).sum()
}

/// The records of the whole metadata from a position on, as many as fit, one at the least.
fn piece(
    state: &ServerState,
    connection: u64,
    whole: &Arc<FeedEntry>,
    position: i64,
    bytes_max: usize,
) -> Result<MetadataEntry, RecordError> {
    let position = usize::try_from(position).unwrap_or(0);
    let (mut records, mut bytes) = (Vec::new(), 0);
    for record in whole.records.iter().skip(position) {
        if bytes >= bytes_max {
            break;
        }
        let record = record.encode()?;
        bytes += record.len();
        records.push(record);
    }
    let is_last = position + records.len() >= whole.records.len();
    if is_last {
        state.wholes.forget(connection);
    } else {
        state.wholes.keep(connection, whole.clone());
    }
    Ok(MetadataEntry {
        index: whole.index,
        is_whole: true,
        position: i64::try_from(position).unwrap_or(0),
        is_last,
        records,
        ..MetadataEntry::default()
    })
}
