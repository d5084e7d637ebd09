//! DescribeLogDirs: where partitions lie and how large they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};

use crate::state::State;

/// Answers DescribeLogDirs. Opens logs that nobody has used since the start to learn their size.
pub async fn handle(state: Arc<State>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let described = tokio::task::spawn_blocking(move || describe(&state, &request)).await;
    let results = described.expect("describing log directories does not panic");
    DescribeLogDirsResponse { results, ..Default::default() }
}

fn describe(state: &State, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsResult> {
    let mut by_dir: BTreeMap<usize, BTreeMap<String, Vec<DescribeLogDirsPartition>>> = BTreeMap::new();
    let only_one = state.logs.directories().count() == 1;
    for topic in state.topics.all() {
        let asked = match &request.topics {
            None => None,
            Some(topics) => match topics.iter().find(|asked| *asked.topic == *topic.name) {
                Some(asked) => Some(&asked.partitions),
                None => continue,
            },
        };
        for (index, partition) in topic.partitions() {
            if asked.is_some_and(|asked| !asked.contains(&index)) {
                continue;
            }
            let (dir, size) = match state.logs.directory_of(partition.key()) {
                Some(dir) => (dir, partition.size_bytes(state.now_ms()).unwrap_or(0)),
                // Nothing was ever written, so it has no directory yet; with a single one it is clear where it will be.
                None if only_one => (0, 0),
                None => continue,
            };
            by_dir.entry(dir).or_default().entry(topic.name.to_string()).or_default().push(
                DescribeLogDirsPartition {
                    partition_index: index,
                    partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                    ..Default::default()
                },
            );
        }
    }
    let directories = state.logs.directories();
    directories
        .enumerate()
        .map(|(i, directory)| DescribeLogDirsResult {
            error_code: if directory.failed { ErrorCode::KafkaStorageError.code() } else { 0 },
            log_dir: directory.path.display().to_string().into(),
            topics: by_dir
                .remove(&i)
                .unwrap_or_default()
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic {
                    name: name.into(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            total_bytes: directory.total_bytes,
            usable_bytes: directory.usable_bytes,
            ..Default::default()
        })
        .collect()
}
